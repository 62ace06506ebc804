"""Builds the CIFAR workloads: a main network, side networks at its input or first block, blended answers."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from dhn_kit import resources
from dhn_kit.bundle import BundleFile, bundle_file
from dhn_kit.graph import Graph
from dhn_kit.hooks import ALWAYS, Bundle, HookSpec
from dhn_kit.latency import LatencyModel, load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack
from dhn_kit.quantize import quantize
from dhn_kit.train import Split, split_from_inputs
from dhn_kit.train.cascade import Fitted, fit_blend, labelled_cascade, observed
from dhn_kit.train.certify import Costs, error_certificate, predicted_costs, run_gated, with_thresholds
from dhn_kit.train.exits import OutputKind
from dhn_kit.train.input_net import Answer, side_hooks
from dhn_kit.train.thresholds import Candidate, Cascade, search
from dhn_kit.twin import Twin

Network = Literal["resnet20", "resnet8"]
Track = Literal["features", "input"]
BOARD = "qemu-cortex-m4"
#: Images that calibrate quantisation.
CALIBRATION = 500
#: Of the 10,000 images that no network was trained on, so many tune blends and thresholds; the rest certify them.
TUNING = 7500
DELTA = 0.05
#: Levels of each threshold that the search tries, and accuracies that it aims at beside the full network's.
GRID = 64
GAINS = tuple(float(g) for g in np.arange(-0.02, 0.012, 0.0005))


@dataclass(frozen=True)
class Side:
    """A side network of the zoo, the hook point whose tap it reads, and how many of its exits are used."""

    file: str
    point: str
    exits: int = 1


@dataclass(frozen=True)
class Setup:
    """Side networks in program order, and the bytes that their hooks keep.

    ``budgets``: per operating point the most that a run may cost on average, as a share of the full network.
    """

    sides: tuple[Side, ...]
    keep: int
    budgets: tuple[float, ...]


SETUPS: dict[tuple[Network, Track], Setup] = {
    ("resnet20", "input"): Setup((Side("cifar_input.onnx", "input", 2),), 4608, (0.41, 0.295)),
    ("resnet8", "input"): Setup(
        (Side("cifar_input.onnx", "input"), Side("cifar_block0_resnet8.onnx", "block1")), 320, (0.53,)
    ),
    ("resnet20", "features"): Setup((Side("cifar_block0_resnet20.onnx", "block1.branch", 2),), 4608, (0.65,)),
    ("resnet8", "features"): Setup((Side("cifar_block0_resnet8.onnx", "block1"),), 256, (0.73,)),
}


@dataclass
class Workload:
    """Everything that tuning and judging look at."""

    pack: Pack
    graph: Graph
    tuning: Split
    calibration: Split
    test: Split
    costs: Costs
    kind: OutputKind


def cifar(network: Network, track: Track, folder: Path) -> tuple[Pack, BundleFile, Split]:
    """The pack, its hooks with thresholds and certificates, and the test split; `folder` holds data and models."""
    setup = SETUPS[(network, track)]
    w = load(network, folder, setup.keep)
    specs = side_specs(w, setup)
    found = observed(w.pack, specs, w.tuning)
    bundle = tuned(w, found, blended(w, found), setup.budgets)
    bundle.report |= on_test(w, bundle, specs)
    return w.pack, bundle_file(w.pack, bundle), w.test


def on_test(w: Workload, bundle: Bundle, specs: list[HookSpec]) -> dict[str, object]:
    """Every operating point by predicted costs, and what each exit of the side network would reach alone."""
    label = w.test.label
    alone = {f.spec.name: float((f.choices == label).mean()) for f in observed(w.pack, specs, w.test)}
    outcomes = run_gated(w.pack, bundle, w.test, w.costs)
    points = [
        {"point": name, "ratio": o.mean_cost / w.costs.full, "accuracy": float(np.mean(o.answer == label))}
        for name, o in zip(bundle.operating_points, outcomes, strict=True)
    ]
    return {"side network alone": alone, "operating points": points}


def load(network: Network, folder: Path, keep: int) -> Workload:
    """Packs the network for the board and runs it on the images that no network was trained on."""
    model = load_latency(BOARD)
    held = np.load(folder / "data" / "cifar10_jpeg_train10k.npz")
    test = np.load(folder / "data" / "cifar10_jpeg_test5k.npz")
    graph = import_onnx(folder / "models" / f"cifar_{network}.onnx")
    graph = quantize(graph, pictures(held["x"][:CALIBRATION]))
    packed = pack(graph, "armv7em", latency=model, hooks=("input",), keep=keep)
    tuning, calibration = (
        split_of(packed, graph, held["x"][part], held["y"][part]) for part in (slice(TUNING), slice(TUNING, None))
    )
    return _workload(packed, graph, (tuning, calibration, split_of(packed, graph, test["x"], test["y"])), model)


def _workload(packed: Pack, graph: Graph, splits: tuple[Split, Split, Split], model: LatencyModel) -> Workload:
    tensor = packed.tensors[packed.outputs[0].tensor]
    assert tensor.quant is not None
    centre = float(tensor.quant.dequantize(splits[0].output).mean())
    kind = OutputKind(tensor.quant, splits[0].output.shape[1], False, centre)
    return Workload(packed, graph, *splits, predicted_costs(packed, model), kind)


def pictures(x: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, 32, 32, 3) bytes to the models' (N, 3, 32, 32) in 0..1."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


def split_of(packed: Pack, graph: Graph, x: npt.NDArray[np.uint8], y: npt.NDArray[np.integer]) -> Split:
    return split_from_inputs(packed, graph.quantize_input(pictures(x)), y)


def side_specs(w: Workload, setup: Setup) -> list[HookSpec]:
    """The exits of all side networks, in program order."""
    return [spec for side in setup.sides for spec in _exits(w, side)]


def _exits(w: Workload, side: Side) -> list[HookSpec]:
    net = import_onnx(resources.path("zoo") / side.file)
    net.outputs = net.outputs[: side.exits]
    point = next(p for p in w.pack.points if p.name == side.point)
    assert w.tuning.input is not None
    taps = Twin(w.pack).run(w.tuning.input[:CALIBRATION], mode="detached", taps=[point.tap]).layers[point.tap]
    name = "input" if side.point == "input" else "branch"
    return side_hooks(net, point, taps, Answer(w.kind.quant, w.kind.centre), name)


def blended(w: Workload, found: list[Fitted]) -> Fitted:
    assert w.tuning.label is not None
    return fit_blend(w.pack.points[-1], w.kind, w.tuning.output, found, w.tuning.label)


def tuned(w: Workload, found: list[Fitted], blend: Fitted, budgets: tuple[float, ...]) -> Bundle:
    """Thresholds from the tuning images, certificates from the calibration images."""
    cascade = labelled_cascade(w.pack, found, blend, w.tuning, w.costs)
    chosen = candidates(cascade, w.tuning, [b * w.costs.full for b in budgets])
    specs = [with_thresholds(f.spec, [c.thresholds[k] for c in chosen]) for k, f in enumerate(found)]
    specs.append(with_thresholds(blend.spec, [ALWAYS] * len(chosen)))
    bundle = Bundle(specs, [f"at most {b:.1%} of a full run" for b in budgets])
    outcomes = run_gated(w.pack, bundle, w.calibration, w.costs)
    bundle.certificates = [error_certificate(k, o, w.calibration, DELTA) for k, o in enumerate(outcomes)]
    return bundle


def candidates(cascade: Cascade, split: Split, budgets: list[float]) -> list[Candidate]:
    """The most accurate thresholds found of each mean cost, on the images that were recorded."""
    error = float((split.answer != split.label).mean())
    least = float(cascade.final_wrong.mean())
    risks = [error - g for g in GAINS if error - g >= least]
    found = search(cascade, risks, grid=GRID)
    return [min((c for c in found if c.cost <= budget), key=lambda c: c.risk) for budget in budgets]
