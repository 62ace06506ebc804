#!/usr/bin/env python
"""Runs the benchmark networks on every emulated board and puts the counts beside those of TFLite Micro."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))

import bench_networks

from dhn_kit.bench import bench, random_inputs
from dhn_kit.boards import Board, load_board
from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph
from dhn_kit.latency import load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack
from dhn_kit.playback import board_folder
from dhn_kit.quantize import quantize
from dhn_kit.strategy import Policy, board_policy
from dhn_kit.tflite_import import import_tflite

ROOT = Path(__file__).resolve().parents[1]
#: (file or builder, reference inputs and outputs). The first two are MLPerf Tiny's, of the reference folder.
NETWORKS = {
    "ic": ("ic_resnet8_int8.tflite", "ic_tflm.npz"),
    "kws": ("kws_dscnn_int8.tflite", "kws_tflm.npz"),
    "mobilenet": (bench_networks.mobilenet, None),
    "autoencoder": (bench_networks.autoencoder, None),
}
BOARDS = ("m4", "m7", "m33", "m55", "m3", "rv32", "xtensa")
CONFIGS = ("default", "fast", "lean", "ram-first", "ref")


@dataclass(frozen=True)
class Anchor:
    """Executed instructions of TFLite Micro 90b983c2 with CMSIS-NN 4ab83cc3 (arm-none-eabi-gcc 12.2.1 -O2, QEMU 7.2)
    for one inference of MLPerf Tiny's network of that kind; smallest arena that works; flash of the smallest build."""

    macs: int
    instructions: dict[str, int]
    arena: int
    code: int
    stack: int


ANCHORS = {
    "ic": Anchor(
        12_501_632,
        {"m4": 29_863_667, "m3": 41_847_436, "m7": 30_026_719, "m33": 29_962_621, "m55": 4_911_682},
        55_008, 52_676, 1_796,
    ),
    "kws": Anchor(
        2_656_768,
        {"m4": 7_697_384, "m3": 10_532_127, "m7": 7_643_151, "m33": 7_679_676, "m55": 1_813_137},
        22_832, 54_872, 1_796,
    ),
    "mobilenet": Anchor(
        7_489_664,
        {"m4": 24_101_871, "m3": 31_959_159, "m7": 24_025_497, "m33": 24_046_679, "m55": 6_558_237},
        100_720, 54_872, 1_796,
    ),
    "autoencoder": Anchor(
        264_192,
        {"m4": 582_915, "m3": 955_945, "m7": 583_221, "m33": 583_377, "m55": 149_972},
        3_024, 28_560, 1_300,
    ),
}  # fmt: skip

#: Most instructions, as a share of the anchor's, that we want to need: by network, then configuration (M4, M7, M33).
DSP_SHARE = {
    "ic": {"fast": 6_300_000 / 29_863_667, "lean": 11_500_000 / 29_863_667},
    "kws": {"fast": 2_700_000 / 7_697_384, "lean": 3_100_000 / 7_697_384},
    "mobilenet": {"fast": 0.4, "lean": 0.4},
    "autoencoder": {"fast": 0.5, "lean": 0.65},
}
#: The same for the other cores, any configuration; of the reference kernels on the same core where there is no anchor.
OTHER_SHARE = {"m55": 0.6, "m3": 0.6, "rv32": 0.35, "xtensa": 0.35}
ARENA_LIMIT = {"ic": {"fast": 40_000, "ram-first": 36_000}, "kws": {"fast": 11_000, "ram-first": 11_000}}
CODE_LIMIT = {"ic": 16_000, "kws": 12_000}
STACK_LIMIT = 1_000
#: Constants of a lean pack, as a share of what the .tflite holds for the same layers.
LEAN_SHARE = 1.1


def board_named(short: str) -> Board:
    return load_board(f"qemu-cortex-{short}" if short.startswith("m") else f"qemu-{short}")


def network(name: str, reference: Path) -> Graph | None:
    """The quantised network; None where the reference folder is absent."""
    source, _ = NETWORKS[name]
    if isinstance(source, str):
        path = reference / "models" / source
        return import_tflite(path) if path.is_file() else None
    graph = import_onnx(source(), name)
    shape = (16, *graph.inputs[0].user_shape)
    return quantize(graph, np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def inputs(name: str, packed: Pack, reference: Path) -> tuple[Any, Any]:
    """Canonical int8 inputs, and the outputs that TFLite Micro computed for them, None where there are none."""
    _, golden = NETWORKS[name]
    if golden is None:
        return random_inputs(packed, 2), None
    with np.load(reference / "golden" / golden) as file:
        q = packed.graph().quantize_input(np.concatenate([file["input_0"], file["input_1"]]))
        return q, np.stack([file["output_0"], file["output_1"]]).reshape(2, -1)


def tflite_constants(graph: Graph) -> int:
    """Bytes of weights, biases and per-channel quantisation (float32 scale, int64 zero point) in a .tflite."""
    arrays = [(n.attrs["weight"], n.attrs["bias"]) for n in graph.nodes if "weight" in n.attrs]
    return sum(np.asarray(w, np.int8).nbytes + 4 * len(b) + 12 * len(b) for w, b in arrays)


def policy_of(config: str, graph: Graph, board: Board) -> Policy:
    if config == "fast":
        return board_policy(board, "instructions")
    if config == "lean":
        budget = int(LEAN_SHARE * tflite_constants(graph))
        return dataclasses.replace(board_policy(board, "instructions"), flash_budget=budget)
    if config == "ram-first":
        return dataclasses.replace(board_policy(board), ram_first=True)
    return board_policy(board)


def measure(name: str, config: str, short: str, reference: Path) -> dict[str, Any] | None:
    """One row of the table; None where the reference folder is absent."""
    graph, board = network(name, reference), board_named(short)
    if graph is None:
        return None
    arch = "ref" if config == "ref" else board.flavour
    packed = pack(graph, arch, latency=load_latency(board.name), policy=policy_of(config, graph, board))
    q, golden = inputs(name, packed, reference)
    run = dataclasses.replace(board, flavour=arch)
    found = dataclasses.asdict(bench(packed, run, q, ROOT / board_folder(packed, board)))
    macs = sum(o.macs for o in packed.ops if o.op in ("conv2d", "depthwise_conv2d", "fully_connected"))
    constants = sum(o.flash for o in packed.ops)
    return {
        **found, "network": name, "config": config, "board": short, "macs": macs,
        "per_mac": found["instructions"] / macs,
        "constant_bytes": constants, "tflite_constant_bytes": tflite_constants(graph),
        "golden_equal": None if golden is None else golden_equal(packed, q, golden),
    }  # fmt: skip


def golden_equal(packed: Pack, q: Any, golden: Any) -> bool:
    from dhn_kit.twin import Twin

    return bool((Twin(packed).run(q, mode="detached").output.reshape(len(q), -1) == golden).all())


def anchored(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row with what it is compared with: the anchor per MAC, or the reference kernels on the same core."""
    anchor = ANCHORS[row["network"]].instructions.get(row["board"])
    per_mac = anchor / ANCHORS[row["network"]].macs if anchor else None
    if per_mac is None:
        same = [r for r in rows if all(r[k] == row[k] for k in ("network", "board")) and r["config"] == "ref"]
        per_mac = same[0]["per_mac"] if same else None
    share = row["per_mac"] / per_mac if per_mac else None
    limits = limits_of(row)
    reached = {
        "instructions": share, "arena": row["arena_bytes"], "code": row["flash_code_bytes"],
        "stack": row["stack_bytes"],
        "constants": row["constant_bytes"] / row["tflite_constant_bytes"],
    }  # fmt: skip
    missed = [k for k, limit in limits.items() if reached[k] is not None and reached[k] > limit]
    return {**row, "anchor_per_mac": per_mac, "share": share, "limits": limits, "missed": missed}


def limits_of(row: dict[str, Any]) -> dict[str, float]:
    name, config, board = row["network"], row["config"], row["board"]
    if config == "ref":
        return {}
    limits: dict[str, float] = {}
    if board in OTHER_SHARE:
        limits["instructions"] = OTHER_SHARE[board]
    elif config in DSP_SHARE[name]:
        limits["instructions"] = DSP_SHARE[name][config]
    if board == "m4":
        limits["stack"] = STACK_LIMIT
        if config in ARENA_LIMIT.get(name, {}):
            limits["arena"] = ARENA_LIMIT[name][config]
        if name in CODE_LIMIT:
            limits["code"] = CODE_LIMIT[name]
        if config == "lean":
            limits["constants"] = LEAN_SHARE
    return limits


COLUMNS = (
    ("network", 11), ("config", 9), ("board", -6), ("instructions", -13), ("per MAC", -7), ("share", -6), ("limit", -6),
    ("arena", -8), ("constants", -9), ("code", -7), ("stack", -6), ("equal", 5), ("", 0),
)  # fmt: skip


def show(*values: str) -> None:
    """One line; widths below zero are for numbers."""
    cells = [v.rjust(-w) if w < 0 else v.ljust(w) for v, (_, w) in zip(values, COLUMNS, strict=True)]
    print(" ".join(cells).rstrip(), flush=True)


def show_row(row: dict[str, Any]) -> None:
    limit = row["limits"].get("instructions")
    equal = row["output_equal"] and row["golden_equal"] in (True, None)
    show(
        row["network"],
        row["config"],
        row["board"],
        f"{row['instructions']:,.0f}",
        f"{row['per_mac']:.3f}",
        "-" if row["share"] is None else f"{row['share']:.3f}",
        "-" if limit is None else f"{limit:.3f}",
        f"{row['arena_bytes']:,}",
        f"{row['constant_bytes']:,}",
        f"{row['flash_code_bytes'] or 0:,}",
        f"{row['stack_bytes'] or 0:,}",
        "yes" if equal else "NO",
        f"above the limit: {', '.join(row['missed'])}" if row["missed"] else "",
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--board", nargs="*", default=list(BOARDS), choices=BOARDS)
    parser.add_argument("--config", nargs="*", default=list(CONFIGS), choices=CONFIGS)
    reference = Path(os.environ.get("DHN_REFERENCE") or ROOT.parent / "shared")
    parser.add_argument("--reference", type=Path, default=reference, help="folder with models and golden outputs")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench" / "kernels.json")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    print("share: instructions per MAC over TFLite Micro's with CMSIS-NN for that kind of network on that core;")
    print("       for rv32 and xtensa, of which there are none, over our reference kernels'")
    show(*(name for name, _ in COLUMNS))
    rows: list[dict[str, Any]] = []
    for board in args.board:
        for name in args.network:
            # The reference kernels come first where others are compared with them.
            for config in sorted(args.config, key=lambda c: c != "ref"):
                row = measure(name, config, board, args.reference)
                if row is None:
                    print(f"{name:11} left out: {args.reference} lacks it; set DHN_REFERENCE")
                    break
                rows.append(anchored(row, rows))
                show_row(rows[-1])
    args.output.parent.mkdir(parents=True, exist_ok=True)
    anchors = {k: dataclasses.asdict(a) for k, a in ANCHORS.items()}
    args.output.write_text(json.dumps({"anchors": anchors, "rows": rows}, indent=1) + "\n")
    missed = [r for r in rows if r["missed"]]
    print(f"{args.output}: {len(rows)} rows, {len(missed)} above a limit")
    return 0 if all(r["output_equal"] and r["golden_equal"] in (True, None) for r in rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DhnError as error:
        sys.exit(f"bench.py: {error}")
