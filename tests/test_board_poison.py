"""Garbage in every byte that the memory plan calls dead changes no output, on the twin and on an emulated board."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

from dhn_kit import datasets
from dhn_kit.board_session import open_board
from dhn_kit.boards import load_board
from dhn_kit.bundle import pack_bundle
from dhn_kit.firmware_build import build_firmware
from dhn_kit.graph import Array, Graph
from dhn_kit.hooks import ALWAYS, NEVER, Bundle, HookSpec
from dhn_kit.kernels import list_architectures
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack
from dhn_kit.poison import dead_ranges, poisoned
from dhn_kit.quantize import quantize
from dhn_kit.tflite_import import import_tflite
from dhn_kit.train.skips import fit_repair
from dhn_kit.twin import Mode, Twin
from nets import residual_net
from test_runtime import exit_net, gate_net

BOARD = "qemu-cortex-m4"
ZOO = Path(__file__).resolve().parents[1] / "zoo"
#: What a board runs: (operating point, mode). The points: nothing acts, the skip, the exit, both when they are sure.
RUNS: tuple[tuple[int, Mode], ...] = ((0, "detached"), (0, "gated"), (1, "gated"), (2, "gated"), (3, "gated"))


def small_net() -> tuple[Graph, Array]:
    """A residual network whose skips may copy: both sides of each addition have one quantisation."""
    graph, net = residual_net(3)
    for add in (n for n in graph.nodes if n.op == "add"):
        graph.tensors[add.output].quant = graph.tensors[add.inputs[1]].quant
    return graph, net.inputs(24)


def gates(main: Pack, x: Array) -> Bundle:
    """A skip at the first residual branch, an exit at a point behind it; thresholds in the middle of the scores."""
    skip = next(p for p in main.points if p.skip)
    assert skip.skip is not None
    source, target, landing = skip.skip
    late = next(p for p in main.points if p.node >= landing)
    copy = main.tensors[source].quant == main.tensors[target].quant
    repair = None if copy else fit_repair(main, skip, x, mixing=False)
    hooks = [
        HookSpec(skip.index, "skip", gate_net(main, skip.index), [NEVER], decide="value", repair=repair),
        HookSpec(late.index, "exit", exit_net(main, late.index), [NEVER]),
    ]
    scores = Twin(main, pack_bundle(main, Bundle(hooks, ["off"]))).run(x, mode="shadow").scores
    some = [int(np.median(s)) + 1 for s in scores.T]
    hooks[0].thresholds, hooks[1].thresholds = [NEVER, ALWAYS, NEVER, some[0]], [NEVER, NEVER, ALWAYS, some[1]]
    return Bundle(hooks, ["off", "skip", "exit", "some"])


def dead_share(main: Pack) -> float:
    """Mean share of the arena that is filled before a step."""
    dead = [sum(end - start for start, end in dead_ranges(main, step)) for step in range(len(main.steps))]
    return float(np.mean(dead)) / main.arena_bytes


def compare_on_twin(graph: Graph, x: Array, gated: bool = True, arch: str = "ref") -> None:
    main = pack(graph, arch)
    poison = poisoned(main)
    assert dead_share(main) > 0.05 and poison.arena_bytes == main.arena_bytes
    assert (Twin(poison).run(x).output == Twin(main).run(x).output).all()
    if gated:
        hooks = gates(main, x)
        plain, spoiled = Twin(main, pack_bundle(main, hooks)), Twin(poison, pack_bundle(poison, hooks))
        for point, mode in RUNS:
            expected, found = plain.run(x, point, mode), spoiled.run(x, point, mode)
            assert (found.output == expected.output).all() and (found.decisions == expected.decisions).all()


def compare_on_board(graph: Graph, x: Array, folder: Path) -> None:
    """The board with the poisoned pack answers as the twin with the plain one, detached, skipping and leaving early."""
    main = pack(graph)
    poison = poisoned(main)
    hooks = gates(main, x)
    plain = Twin(main, pack_bundle(main, hooks))
    board = load_board(BOARD)
    image = build_firmware(poison.data, board, folder / "build")
    with open_board(board, image.elf, folder) as session:
        bare = Twin(main).run(x)
        for i in range(len(x)):
            assert (session.client.run(x[i], mode="gated").output == bare.output[i]).all()
        session.client.push(pack_bundle(poison, hooks))
        session.client.trial()
        taken = set()
        for point, mode in RUNS:
            expected = plain.run(x, point, mode)
            for i in range(len(x)):
                reply = session.client.run(x[i], mode=mode, point=point)
                assert (reply.output == expected.output[i]).all() and reply.exit_hook == expected.exit_hook[i]
                taken |= {(hook, int(d)) for hook, d in enumerate(reply.decisions)} if mode == "gated" else set()
        assert {(0, 2), (1, 2)} <= taken, "skip and exit have both acted"


@pytest.mark.parametrize("arch", list_architectures())
def test_the_small_network_survives_poison_with_gates_on_the_twin(arch: str) -> None:
    compare_on_twin(*small_net(), arch=arch)


def test_the_small_network_survives_poison_with_gates_on_the_board(tmp_path: Path) -> None:
    graph, x = small_net()
    compare_on_board(graph, x[:6], tmp_path)


def test_a_plan_that_is_wrong_is_caught_on_the_board(tmp_path: Path) -> None:
    graph, x = small_net()
    main = pack(graph)
    shortcut = graph.nodes[0].output
    start, _, size = main.lifetimes[shortcut]
    wrong = dataclasses.replace(main, lifetimes={**main.lifetimes, shortcut: (start, start + 2, size)})
    board = load_board(BOARD)
    image = build_firmware(poisoned(wrong).data, board, tmp_path / "build")
    with open_board(board, image.elf, tmp_path) as session:
        answers = [session.client.run(sample).output for sample in x[:6]]
    right = Twin(main).run(x[:6]).output
    assert any(a is not None and (a != b).any() for a, b in zip(answers, right, strict=True))


@pytest.mark.parametrize(("data", "file"), [("mnist", "mnist_resnet8.onnx"), ("smartwatch", "smartwatch_cnn.onnx")])
def test_the_zoo_survives_poison(data: str, file: str) -> None:
    x, _ = datasets.load(data).split("cal")
    graph = quantize(import_onnx(ZOO / file), x[:32])
    compare_on_twin(graph, graph.quantize_input(x[32:64]), gated=False)


#: Reference network -> what calibrates it, where it is not quantised already.
REFERENCE = {
    "ic_resnet8_int8.tflite": "", "kws_dscnn_int8.tflite": "", "ic_resnet8.onnx": "cifar",
    "cifar_resnet8.onnx": "cifar", "cifar_resnet20.onnx": "cifar", "kws_dscnn.onnx": "noise", "fsdd_dscnn.onnx": "fsdd",
}  # fmt: skip


@functools.cache
def samples(folder: Path, data: str) -> Array:
    if data == "fsdd":
        with np.load(folder / "data" / "fsdd_mfcc.npz") as file:
            return np.asarray(file["x_cal"][:32], np.float32)
    with np.load(folder / "data" / "cifar10_jpeg_test5k.npz") as file:
        return np.asarray(file["x"][:32], np.float32)


def reference_net(name: str, folder: Path) -> tuple[Graph, Array]:
    path, rng = folder / "models" / name, np.random.default_rng(0)
    if name.endswith(".tflite"):
        graph = import_tflite(path)
        shape = graph.tensors[graph.inputs[0].tensor].shape
        return graph, rng.integers(-128, 128, (16, *shape)).astype(np.int8)
    real = import_onnx(path)
    if REFERENCE[name] == "noise":
        x = rng.normal(0, 1, (32, *real.inputs[0].user_shape)).astype(np.float32)
    else:
        x = samples(folder, REFERENCE[name])
        if x.shape[1:] != real.inputs[0].user_shape:
            x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) / np.float32(255)
    graph = quantize(real, x)
    return graph, graph.quantize_input(x[:16])


@pytest.mark.reference
@pytest.mark.parametrize("name", REFERENCE)
def test_reference_networks_survive_poison(name: str, reference_dir: Path) -> None:
    compare_on_twin(*reference_net(name, reference_dir), gated=False)


@pytest.mark.reference
@pytest.mark.parametrize("name", REFERENCE)
def test_every_architectures_kernels_share_bytes_without_changing_an_answer(name: str, reference_dir: Path) -> None:
    graph, x = reference_net(name, reference_dir)
    expected = Twin(pack(graph)).run(x[:4]).output
    for arch in list_architectures():
        main = pack(graph, arch)
        for packed in (main, poisoned(main)):
            assert (Twin(packed).run(x[:4]).output == expected).all(), arch


@pytest.mark.reference
def test_image_classification_survives_poison_with_gates_on_the_board(reference_dir: Path, tmp_path: Path) -> None:
    graph, x = reference_net("ic_resnet8_int8.tflite", reference_dir)
    compare_on_board(graph, x[:2], tmp_path)
