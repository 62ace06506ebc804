#!/usr/bin/env python
"""Measures what narrow weights and a second network do to answers and to predicted instructions."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))

import numpy as np

from dhn_kit import datasets, precision, resources, streams
from dhn_kit.boards import load_board
from dhn_kit.graph import Graph
from dhn_kit.latency import load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack
from dhn_kit.quantize import quantize
from dhn_kit.selections import narrow_name
from dhn_kit.strategy import Policy, board_policy
from dhn_kit.train import Options, Split, select, split_from_inputs, train
from dhn_kit.train.bits import propose
from dhn_kit.train.certify import predicted_costs, run_gated
from dhn_kit.train.kinds import Context
from dhn_kit.twin import Twin

ROOT = Path(__file__).resolve().parents[1]
BOARD = load_board("qemu-cortex-m4")
MODEL = load_latency(BOARD.name)
POLICY = board_policy(BOARD)
#: Budgets for the constants, bytes.
BUDGETS = {"mnist": (None, 110000, 46243, 26975), "fsdd": (None, 21898)}


@dataclasses.dataclass
class Subject:
    """A quantised network with inputs it was calibrated on and test inputs with labels, all canonical."""

    graph: Graph
    calibration: precision.Int8
    q: precision.Int8
    y: np.ndarray

    def answers(self, graph: Graph) -> np.ndarray:
        return np.asarray(Twin(pack(graph, precision.HOST_ARCH)).run(self.q).output.argmax(axis=1))

    def accuracy(self, graph: Graph) -> float:
        return float(np.mean(self.answers(graph) == self.y))


def subject(name: str, reference: Path) -> Subject:
    if name == "mnist":
        data = datasets.load("mnist")
        model, x, test, y = resources.path("zoo") / "mnist_resnet8.onnx", data.x_train[:500], data.x_test, data.y_test
    elif name == "fsdd":
        stream = streams.fsdd(reference / "data" / "fsdd_mfcc.npz")
        model, x = reference / "models" / "fsdd_dscnn.onnx", stream.calibration
        test, y = stream.x["test"], stream.y["test"]
    else:
        held = np.load(reference / "data" / "cifar10_jpeg_train10k.npz")["x"][:500]
        tests = np.load(reference / "data" / "cifar10_jpeg_test5k.npz")
        model = reference / "models" / "cifar_resnet8.onnx"
        x, test = ((p.transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32) for p in (held, tests["x"][:1000]))
        y = tests["y"][:1000]
    graph = quantize(import_onnx(model), x)
    return Subject(graph, graph.quantize_input(x), graph.quantize_input(test), np.asarray(y))


def nearest(graph: Graph, bits: Mapping[str, int]) -> Graph:
    """Weights of these nodes rounded each by itself, one step per channel from its largest."""
    copy = graph.copy()
    for node in (n for n in copy.nodes if n.name in bits):
        high = (1 << bits[node.name] - 1) - 1
        weight = node.attrs["weight"].astype(np.float64)
        rows = weight.reshape(len(weight), -1)
        steps = np.maximum(np.maximum(rows.max(axis=1) / high, rows.min(axis=1) / (-high - 1)), 1e-9)
        scale = np.broadcast_to(np.asarray(node.attrs["weight_scale"], np.float64), len(rows))
        node.attrs.update(
            weight=np.clip(np.rint(rows / steps[:, None]), -high - 1, high).astype(np.int8).reshape(weight.shape),
            bias=np.rint(node.attrs["bias"] / steps).astype(np.int32),
            weight_scale=(scale * steps).astype(np.float32),
        )
    return copy


def uniform(reference: Path) -> None:
    """`pack --bits 2` and `4`: accuracy on test data, and with the same weights rounded to nearest."""
    for name in ("mnist", "fsdd", "cifar"):
        s = subject(name, reference)
        said = [f"8 bits {s.accuracy(s.graph):.1%}"]
        widths: tuple[precision.Bits, ...] = ("2", "4")
        for width in widths:
            found = precision.choose_bits(s.graph, s.calibration, width, BOARD.flavour, MODEL, POLICY)
            narrowed = {name: w.bits for name, w in found.widths.items() if w.bits < 8}
            plain, packed = s.accuracy(nearest(s.graph, narrowed)), s.accuracy(found.graph)
            said.append(f"{width} bits in {len(narrowed)} layers: to nearest {plain:.1%}, as packed {packed:.1%}")
        print(f"{name}, {len(s.y)} inputs: " + "; ".join(said), flush=True)


def budgets(reference: Path) -> None:
    """`pack --bits auto` under budgets: constants, predicted instructions, layers by bits, agreement, accuracy."""
    for name, limits in BUDGETS.items():
        s = subject(name, reference)
        study = precision.Study(s.graph, s.calibration, BOARD.flavour, MODEL, POLICY)
        full = s.answers(s.graph)
        for limit in limits:
            found = study.within(limit)
            policy = dataclasses.replace(POLICY, kernels=found.kernels)
            packed = pack(found.graph, BOARD.flavour, latency=MODEL, policy=_limited(policy, limit))
            answers = s.answers(found.graph)
            layers = {b: sum(w.bits == b for w in found.widths.values()) for b in (8, 4, 2)}
            print(
                f"{name}, budget {limit}: constants {sum(op.flash for op in packed.ops):,} bytes, "
                f"{sum(op.instructions for op in packed.ops):,.0f} instructions, layers by bits {layers}, "
                f"agreement {np.mean(answers == full):.1%}, accuracy {np.mean(answers == s.y):.1%}",
                flush=True,
            )


def _limited(policy: Policy, limit: int | None) -> Policy:
    return policy if limit is None else dataclasses.replace(policy, flash_budget=limit)


def bits(reference: Path) -> None:
    """What each bit controller would select, always: bytes not read, instructions, answers kept on test images."""
    s, data = subject("mnist", reference), datasets.load("mnist")
    found = precision.choose_bits(s.graph, s.calibration, "4", BOARD.flavour, MODEL, POLICY)
    kernels = {narrow_name(n): k for n, k in found.kernels.items()}
    policy = dataclasses.replace(POLICY, kernels={**kernels, **POLICY.kernels})
    packed = pack(s.graph, BOARD.flavour, latency=MODEL, policy=policy, hooks=("bits",), narrow=found.graph)
    test = split_from_inputs(packed, s.q, data.y_test)
    for p in propose(Context(packed, test, predicted_costs(packed, MODEL))):
        print(f"{p.spec.name}: {p.note}")


def selector(reference: Path) -> None:
    """The small network beside the large one: its cost, and trained points with and without it."""
    s, data = subject("mnist", reference), datasets.load("mnist")
    small = import_onnx(resources.path("zoo") / "mnist_small.onnx")
    pairs = zip((*small.inputs, *small.outputs), (*s.graph.inputs, *s.graph.outputs), strict=True)
    fixed = {m.tensor: q for m, i in pairs if (q := s.graph.tensors[i.tensor].quant) is not None}
    small = quantize(small, data.x_train[:500], fixed=fixed)
    both = pack(s.graph, BOARD.flavour, latency=MODEL, policy=POLICY, hooks=("select",), small=small)
    alone = pack(s.graph, BOARD.flavour, latency=MODEL, policy=POLICY)
    print(f"flash {len(alone.data):,} -> {len(both.data):,} bytes, arena {alone.arena_bytes:,} -> {both.arena_bytes:,}")
    for packed, kind in ((both, "select"), (alone, "exit")):
        hook, calibration, test = (
            split_from_inputs(packed, s.graph.quantize_input(x), y)
            for x, y in ((data.x_hook, data.y_hook), (data.x_cal, data.y_cal), (data.x_test, data.y_test))
        )
        if kind == "select":
            _always(packed, test)
        options = Options(kinds=("select",) if kind == "select" else ("exit",), risks=(0.01, 0.02), prune_at=0.01)
        result = train(packed, hook, calibration, predicted_costs(packed, MODEL), options)
        for risk, why in result.refused.items():
            print(f"{kind} at {risk:.0%}: {why}")
        if not result.bundle.hooks:
            continue
        outcomes = run_gated(packed, result.bundle, test, predicted_costs(packed, MODEL))
        for name, o in zip(result.bundle.operating_points, outcomes, strict=True):
            right = np.mean(o.answer == test.label)
            print(
                f"{kind}, {name}: cost {o.mean_cost / result.full_cost:.2f}, changed {o.risk:.1%}, accuracy {right:.1%}"
            )


def _always(packed: Pack, test: Split) -> None:
    assert test.input is not None
    chosen = next(s for s in packed.selections if s.kind == "select")
    answer = select.run_selecting(packed, chosen, test.input).argmax(axis=1)
    print(
        f"small network alone: keeps {np.mean(answer == test.answer):.1%}, accuracy {np.mean(answer == test.label):.1%}"
    )


PARTS = {"uniform": uniform, "budgets": budgets, "bits": bits, "select": selector}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}")
    reference = Path(os.environ.get("DHN_REFERENCE") or ROOT.parent / "shared")
    parser.add_argument("--reference", type=Path, default=reference, help="folder with networks and data sets")
    args = parser.parse_args(argv)
    for part in args.part:
        PARTS[part](args.reference)


if __name__ == "__main__":
    main()
