"""Heads whose layers learn alone are nearly as good as those that learn by back-propagation."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from dhn_kit import datasets, resources
from dhn_kit.graph import Quant
from dhn_kit.hooks import HookPoint
from dhn_kit.int_reference import run_int8
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import pack
from dhn_kit.quantize import quantize
from dhn_kit.train import Split, back_propagation, forward_forward, heads, split_from_inputs
from dhn_kit.train.heads import Method, Recipe

#: Hook points, the output's quantisation and the splits (training, test) of one network.
Problem = tuple[list[HookPoint], Quant, Split, Split]


def problem(model: Path, x: datasets.Floats, train: int, test: int) -> Problem:
    """Features of the first `train` and the last `test` inputs (N, C, H, W)."""
    graph = quantize(import_onnx(model), x[:100])
    packed = pack(graph)
    q = graph.quantize_input(np.concatenate([x[:train], x[-test:]]))
    quant = packed.tensors[packed.outputs[0].tensor].quant
    assert quant is not None
    return packed.points, quant, split_from_inputs(packed, q[:train]), split_from_inputs(packed, q[train:])


@pytest.fixture(scope="module")
def mnist() -> Problem:
    data = datasets.load("mnist")
    x = np.concatenate([data.x_hook, data.x_test[:600]])
    return problem(resources.path("zoo") / "mnist_resnet8.onnx", x, 800, 600)


@pytest.fixture(scope="module")
def fsdd(reference_dir: Path) -> Problem:
    data = np.load(reference_dir / "data" / "fsdd_mfcc.npz")
    x = np.random.default_rng(0).permutation(data["x_train"])[:1200]
    return problem(reference_dir / "models" / "fsdd_dscnn.onnx", np.concatenate([x, data["x_test"]]), 1200, 600)


def agreement(found: Problem, point: HookPoint, method: Method) -> float:
    """Share of the test inputs to which an int8 head gives the full network's answer."""
    _, quant, train, test = found
    x = point.tap_quant.dequantize(train.features[point.index])
    target = heads.targets(quant.dequantize(train.output), None, 0.0, False)
    with threadpool_limits(limits=1, user_api="blas"):
        head = heads.centred(heads.fit(x, target, Recipe(32, method=method)))
    graph = heads.int8_graph(head, point, train.features[point.index], None, "head")
    scores = run_int8(graph, test.features[point.index].reshape(-1, *point.feature_shape))["score"]
    return float((scores.reshape(len(test), -1).argmax(axis=1) == test.answer).mean())


def assert_within_two_points(found: Problem) -> None:
    point = found[0][2]
    local, chain = agreement(found, point, "ff"), agreement(found, point, "bp")
    assert local >= chain - 0.02, f"{point.name}: {local:.1%} against {chain:.1%}"
    assert local > 0.9


def test_forward_forward_is_within_two_points_of_back_propagation_on_mnist(mnist: Problem) -> None:
    assert_within_two_points(mnist)


@pytest.mark.reference
def test_forward_forward_is_within_two_points_of_back_propagation_on_spoken_digits(fsdd: Problem) -> None:
    assert_within_two_points(fsdd)


def parameters(rng: np.random.Generator) -> list[heads.Floats]:
    shapes = [(5, 8), (8,), (8, 3), (3,)]
    return [rng.normal(size=s).astype(np.float32) for s in shapes]


def test_no_layer_hears_from_the_one_above() -> None:
    rng = np.random.default_rng(0)
    x, rows = rng.normal(size=(20, 5)).astype(np.float32), np.arange(20)
    target = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 20)]
    weights = np.ones(20, np.float32)
    one = parameters(rng)
    other = [*one[:2], -one[2], one[3] + 1]
    for rule, hears in ((forward_forward, False), (back_propagation, True)):
        of = rule.gradients(x, target, weights)
        assert np.allclose(of(one, rows)[0], of(other, rows)[0]) != hears


def test_a_step_along_the_local_gradient_raises_the_right_groups_goodness() -> None:
    rng = np.random.default_rng(1)
    x, rows = rng.normal(size=(20, 5)).astype(np.float32), np.arange(20)
    label = rng.integers(0, 3, 20)
    target = np.eye(3, dtype=np.float32)[label]
    before = parameters(rng)
    g = forward_forward.gradients(x, target, np.ones(20, np.float32))(before, rows)
    group = forward_forward.groups(8, 3)

    def lead(weight: heads.Floats, bias: heads.Floats) -> float:
        good = forward_forward.goodness(np.maximum(x @ weight + bias, 0), group)
        return float(np.log(heads.softmax(good)[rows, label]).mean())

    assert lead(before[0] - 0.01 * g[0], before[1] - 0.01 * g[1]) > lead(before[0], before[1])


def test_every_class_owns_the_same_share_of_goodness() -> None:
    np.testing.assert_allclose(forward_forward.groups(16, 10).sum(axis=0), 1, rtol=1e-6)
    assert (forward_forward.groups(4, 10).sum(axis=0) <= 1).all(), "more classes than units: some have none"
