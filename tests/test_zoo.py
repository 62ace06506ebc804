"""The committed zoo networks: form, size, accuracy, and the script that makes them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, shape_inference

from dhn_kit import datasets

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "zoo"


@dataclass(frozen=True)
class Facts:
    """What is promised of a network; ``least`` is the least accuracy on the test split."""

    recipe: str
    data: str
    file: str
    input: str
    max_bytes: int
    max_macs: int
    least: float


FACTS = (
    Facts("mnist", "mnist", "mnist_resnet8.onnx", "image", 400_000, 2_600_000, 0.975),
    Facts("mnist-small", "mnist", "mnist_small.onnx", "image", 50_000, 200_000, 0.965),
    Facts("smartwatch", "smartwatch", "smartwatch_cnn.onnx", "motion", 150_000, 700_000, 0.85),
)
EVERY = pytest.mark.parametrize("facts", FACTS, ids=lambda facts: facts.recipe)


def right_answers(facts: Facts, split: str) -> float:
    x, y = datasets.load(facts.data).split(split)
    session = onnxruntime.InferenceSession(str(ZOO / facts.file), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {facts.input: x})
    assert np.isfinite(logits).all()
    return float((logits.argmax(1) == y).mean())


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of convolutions and dense layers for one input."""
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {v.name: v.type.tensor_type.shape.dim for v in [*inferred.graph.value_info, *inferred.graph.output]}
    sizes = {w.name: numpy_helper.to_array(w).size for w in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            positions = np.prod([d.dim_value for d in shapes[node.output[0]][2:]], dtype=int)
            total += sizes[node.input[1]] * int(positions)
    return total


@EVERY
def test_the_network_reaches_its_accuracy_on_the_test_split(facts: Facts) -> None:
    reached = right_answers(facts, "test")
    print(f"{facts.file}: float accuracy on test {reached:.4f}")
    assert reached >= facts.least


@EVERY
def test_the_readme_states_the_measured_accuracies(facts: Facts) -> None:
    row = re.search(rf"^\| `{re.escape(facts.file)}` \|(.*)\|$", (ZOO / "README.md").read_text(), re.MULTILINE)
    assert row is not None
    stated = [float(cell.strip(" %")) for cell in row[1].split("|") if "%" in cell]
    # Half a unit of the last digit printed, and one input for a different processor's float sums.
    measured = [100 * right_answers(facts, split) for split in datasets.SPLITS]
    slack = [0.05 + 100 / len(datasets.load(facts.data).split(split)[0]) for split in datasets.SPLITS]
    assert len(stated) == 4
    assert all(abs(a - b) <= c for a, b, c in zip(stated, measured, slack, strict=True)), (stated, measured)


@EVERY
def test_the_file_is_small_float32_opset_17_with_a_dynamic_batch(facts: Facts) -> None:
    path = ZOO / facts.file
    assert path.stat().st_size < facts.max_bytes
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert {w.data_type for w in model.graph.initializer} == {onnx.TensorProto.FLOAT}
    (entry,), (exit_,) = model.graph.input, model.graph.output
    assert (entry.name, exit_.name) == (facts.input, "logits")
    batch, *shape = entry.type.tensor_type.shape.dim
    assert batch.dim_param == "batch"
    assert tuple(d.dim_value for d in shape) == datasets.load(facts.data).x_test.shape[1:]


@EVERY
def test_the_network_is_residual_and_within_its_work(facts: Facts) -> None:
    model = onnx.load(ZOO / facts.file)
    assert sum(node.op_type == "Add" for node in model.graph.node) == 3
    work = macs(model)
    print(f"{facts.file}: {work} MACs")
    assert work <= facts.max_macs


@EVERY
def test_a_batch_gives_what_single_inputs_give(facts: Facts) -> None:
    x = datasets.load(facts.data).x_test[:8]
    session = onnxruntime.InferenceSession(str(ZOO / facts.file), providers=["CPUExecutionProvider"])
    (together,) = session.run(None, {facts.input: x})
    alone = np.concatenate([session.run(None, {facts.input: row[None]})[0] for row in x])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.zoo
@EVERY
def test_one_epoch_of_the_script_writes_a_network_of_the_same_form(facts: Facts, tmp_path: Path) -> None:
    assert importlib.util.find_spec("torch"), "training needs PyTorch: run .venv/bin/pip install -e '.[zoo]'"
    result = subprocess.run(
        [sys.executable, str(ZOO / "train.py"), facts.recipe, "--epochs", "1", "--output", str(tmp_path)],
        env={"PYTHONPATH": str(ROOT / "host")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    fresh, committed = onnx.load(tmp_path / facts.file), onnx.load(ZOO / facts.file)
    for model in (fresh, committed):
        for weight in model.graph.initializer:
            weight.raw_data = b""
    assert fresh == committed


@dataclass(frozen=True)
class Side:
    """A side network for CIFAR: what it reads, its exits' accuracies on the test images, and the main network's."""

    file: str
    channels: int
    exits: tuple[float, ...]
    max_bytes: int = 100_000


SIDES = (
    Side("cifar_input.onnx", 3, (0.787, 0.825)),
    Side("cifar_block0_resnet20.onnx", 16, (0.780, 0.815)),
    Side("cifar_block0_resnet8.onnx", 16, (0.802,)),
)


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.file)
def test_a_side_network_is_small_and_gives_logits_per_exit(side: Side) -> None:
    path = ZOO / side.file
    assert path.stat().st_size < side.max_bytes
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    assert (port.name, port.shape[1:]) == ("tap", [side.channels, 32, 32])
    x = np.random.default_rng(0).normal(size=(3, side.channels, 32, 32)).astype(np.float32)
    assert [y.shape for y in session.run(None, {"tap": x})] == [(3, 10)] * len(side.exits)


@pytest.mark.reference
def test_the_input_network_stays_three_points_below_the_networks_it_serves(reference_dir: Path) -> None:
    """An input network that is as good as the main network would replace it."""
    test = np.load(reference_dir / "data" / "cifar10_jpeg_test5k.npz")
    x, y = test["x"].transpose(0, 3, 1, 2).astype(np.float32) / 255, test["y"]
    session = onnxruntime.InferenceSession(str(ZOO / "cifar_input.onnx"), providers=["CPUExecutionProvider"])
    first, second = (float((z.argmax(1) == y).mean()) for z in session.run(None, {"tap": (x - 0.4734) / 0.2516}))
    assert abs(first - SIDES[0].exits[0]) < 0.005 and abs(second - SIDES[0].exits[1]) < 0.005
    assert first <= 0.8188 - 0.03, "ResNet-8"
    assert second <= 0.8560 - 0.03, "ResNet-20"
