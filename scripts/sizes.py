#!/usr/bin/env python
"""Prints what the device application takes of flash and RAM: whole programs on emulated cores, packs on real boards."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))

from bench import ROOT, board_named, network

from dhn_kit.boards import Board, list_boards, load_board
from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph
from dhn_kit.latency import load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack_within
from dhn_kit.playback import board_folder, firmware_of
from dhn_kit.quantize import quantize
from dhn_kit.strategy import board_policy

#: Cores on which whole programs are built, and what they stand for.
CORES = {"m4": "Cortex-M4", "m3": "Cortex-M3", "rv32": "RV32IMC", "xtensa": "Xtensa LX106"}


def networks(reference: Path) -> dict[str, Graph]:
    """MLPerf Tiny's two where the reference folder is there, and the zoo's two smallest, calibrated on noise."""
    import numpy as np

    found = {name: graph for name in ("ic", "kws") if (graph := network(name, reference)) is not None}
    for name in ("mnist_resnet8", "smartwatch_cnn"):
        graph = import_onnx(ROOT / "zoo" / f"{name}.onnx")
        noise = np.random.default_rng(0).standard_normal((16, *graph.inputs[0].user_shape)).astype(np.float32)
        found[name] = quantize(graph, noise)
    return found


def packed_for(graph: Graph, board: Board) -> Pack:
    """As 'dhn-kit pack --board' does it."""
    made = {"latency": load_latency(board.latency_board), "policy": board_policy(board)}
    return pack_within(graph, board.flavour, board.memory.ram_bytes, **made)


def print_programs(graphs: dict[str, Graph]) -> None:
    print("| network | core | code | pack | flash | arena | samples | state | RAM |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, graph in graphs.items():
        for short, core in CORES.items():
            board = board_named(short)
            packed = packed_for(graph, board)
            image = firmware_of(packed, board, ROOT / board_folder(packed, board) / "firmware")
            flash = image.flash_code_bytes + image.flash_weight_bytes
            cells = (image.flash_code_bytes, image.flash_weight_bytes, flash, packed.arena_bytes, image.sample_bytes)
            cells += (image.state_bytes, image.ram_bytes)
            print(f"| {name} | {core} | " + " | ".join(f"{c:,}" for c in cells) + " |", flush=True)


def print_packs(graphs: dict[str, Graph]) -> None:
    print("| board | flash | RAM | " + " | ".join(f"{name}: pack, arena" for name in graphs) + " |")
    print("|---|---|---|" + "---|" * len(graphs))
    for name in list_boards():
        board = load_board(name)
        if board.platformio is None:
            continue
        cells = []
        for graph in graphs.values():
            try:
                packed = packed_for(graph, board)
                cells.append(f"{len(packed.data):,}, {packed.arena_bytes:,}")
            except DhnError:
                cells.append("does not fit")
        memory = board.memory
        print(f"| `{name}` | {memory.flash_bytes:,} | {memory.ram_bytes:,} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--reference", type=Path, default=Path(os.environ.get("DHN_REFERENCE") or ROOT.parent / "shared")
    )
    graphs = networks(parser.parse_args().reference)
    print("Whole application, bytes (flash and static RAM; the stack, below 2 KB, comes on top):\n")
    print_programs(graphs)
    print("\nPacks for real boards, bytes (the framework's own share of flash and RAM comes on top):\n")
    print_packs(graphs)


if __name__ == "__main__":
    main()
