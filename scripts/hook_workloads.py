"""The workloads of the hooks benchmark: each recipe packs a network, trains hooks on its data, and keeps a test set."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench_hooks_cifar import Network, Track, cifar
from hook_streams import Recipe, fsdd, scene, smartwatch

from dhn_kit import resources, workflow
from dhn_kit.boards import load_board
from dhn_kit.bundle import BundleFile, bundle_file
from dhn_kit.datasets import load
from dhn_kit.latency import load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack
from dhn_kit.quantize import quantize
from dhn_kit.strategy import board_policy
from dhn_kit.train.certify import predicted_costs
from dhn_kit.train.data import split_from_inputs
from dhn_kit.train.trainer import Options, train

BOARD = "qemu-cortex-m4"


@dataclass
class Workload:
    """A pack with trained hooks, the operating point that counts, and test inputs ``q`` (N, H, W, C) int8 with labels.

    ``sequence``: the inputs follow one another in time, and hooks may remember. ``also``: other operating points to
    count.
    """

    pack: Pack
    hooks: BundleFile
    point: int
    q: npt.NDArray[np.int8]
    y: npt.NDArray[np.int64]
    sequence: bool = False
    also: tuple[int, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def mnist(folder: Path, reference: Path) -> Workload:
    """ResNet-8 on MNIST, as `dhn-kit demo` trains it: exits and skips, certified at a consistency risk of 1 %."""
    board, data = load_board(BOARD), load("mnist")
    graph = quantize(import_onnx(resources.path("zoo") / "mnist_resnet8.onnx"), data.x_train[:500])
    latency = load_latency(board.name)
    packed = pack(graph, board.flavour, latency=latency, policy=board_policy(board))
    hook = split_from_inputs(packed, graph.quantize_input(data.x_hook), data.y_hook)
    calibration = split_from_inputs(packed, graph.quantize_input(data.x_cal), data.y_cal)
    options = Options(slot_bytes=board.hook_flash.slot_bytes)
    result = train(packed, hook, calibration, predicted_costs(packed, latency), options)
    hooks = bundle_file(packed, result.bundle)
    point = workflow.best_point(hooks, 0.01)
    return Workload(packed, hooks, point, graph.quantize_input(data.x_test), data.y_test)


def cifar_recipe(network: Network, track: Track) -> Callable[[Path, Path], Workload]:
    """CIFAR with a side network: at the input, or on what the main network's first block computes."""

    def recipe(folder: Path, reference: Path) -> Workload:
        packed, hooks, test = cifar(network, track, reference)
        assert test.input is not None and test.label is not None
        others = tuple(range(1, len(hooks.operating_points)))
        return Workload(packed, hooks, 0, test.input, test.label, also=others, facts=dict(hooks.report))

    return recipe


def stream_recipe(make: Callable[[Path], Recipe]) -> Callable[[Path, Path], Workload]:
    """Sound and streams, as `hook_streams` makes them."""

    def recipe(folder: Path, reference: Path) -> Workload:
        r = make(reference)
        return Workload(r.pack, r.hooks, r.point, r.q, r.y, r.sequence)

    return recipe


RECIPES: dict[str, Callable[[Path, Path], Workload]] = {
    "mnist": mnist,
    "fsdd": stream_recipe(fsdd),
    "smartwatch": stream_recipe(lambda _: smartwatch()),
    "stream": stream_recipe(lambda _: scene()),
    "cifar_resnet20_features": cifar_recipe("resnet20", "features"),
    "cifar_resnet20_input": cifar_recipe("resnet20", "input"),
    "cifar_resnet8_features": cifar_recipe("resnet8", "features"),
    "cifar_resnet8_input": cifar_recipe("resnet8", "input"),
}
