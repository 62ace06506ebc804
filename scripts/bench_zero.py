#!/usr/bin/env python
"""Counts what leaving out zeros saves on the emulated Cortex-M4F, and shows how many zeros other networks have."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))

import bench_networks
import numpy as np
import numpy.typing as npt

from dhn_kit import datasets
from dhn_kit.bench import bench
from dhn_kit.boards import load_board
from dhn_kit.graph import Graph
from dhn_kit.int_reference import run_int8
from dhn_kit.latency import load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import pack
from dhn_kit.quantize import quantize
from dhn_kit.sparsity import PAIRS, nonzero_inputs
from dhn_kit.strategy import board_policy
from dhn_kit.tflite_import import import_tflite

ROOT = Path(__file__).resolve().parents[1]


def dense_and_sparse(count: int) -> None:
    """The digits network twice, on test images that nothing was fitted to."""
    data, board = datasets.load("mnist"), load_board("qemu-cortex-m4")
    graph = quantize(import_onnx(bench_networks.digits(data.x_train, data.y_train)), data.x_train[:500])
    nonzero = nonzero_inputs(graph, graph.quantize_input(data.x_train[:64]))
    tests = graph.quantize_input(data.x_test[:count])
    for name, known in (("dense", {}), ("--hooks zero", nonzero)):
        policy = dataclasses.replace(board_policy(board), nonzero=known)
        packed = pack(graph, board.flavour, latency=load_latency(board.name), policy=policy)
        counted = bench(packed, board, tests, ROOT / "build" / "bench" / f"zero-{len(known)}")
        assert counted.output_equal
        print(f"digits, {name}: {counted.instructions:,.0f} instructions, arena {counted.arena_bytes:,} bytes")
        for op in counted.ops:
            print(f"  {op.name}: {op.kernel} {op.instructions:,} (predicted {op.predicted:,})")


def shares(name: str, graph: Graph, q: npt.NDArray[np.int8]) -> None:
    """Of the inputs of 1x1 convolutions and fully connected layers: pairs, and whole pixels, that are zero."""
    tensors = run_int8(graph, q)
    for node in graph.nodes:
        pointwise = node.op == "conv2d" and node.attrs["weight"].shape[1:3] == (1, 1)
        if not pointwise and node.op != "fully_connected":
            continue
        quant = graph.tensors[node.inputs[0]].quant
        assert quant is not None
        zero = tensors[node.inputs[0]] == quant.zero_point
        quads = zero.reshape(-1, zero.shape[-1])
        quads = quads[:, : quads.shape[1] // 4 * 4].reshape(len(quads), -1, 4)
        pairs = np.mean([quads[:, :, pair].all(axis=2).mean() for pair in PAIRS])
        pixels = zero.reshape(-1, zero.shape[-1]).all(axis=1).mean()
        print(f"{name} {node.name}: inputs zero {zero.mean():.1%}, pairs {pairs:.1%}, whole pixels {pixels:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="test images to run on the emulated board")
    parser.add_argument("--reference", type=Path, help="folder with models/ and golden/: shares of zeros in IC and KWS")
    arguments = parser.parse_args()
    dense_and_sparse(arguments.count)
    if arguments.reference is None:
        return
    for name, file in (("ic", "ic_resnet8_int8.tflite"), ("kws", "kws_dscnn_int8.tflite")):
        graph = import_tflite(arguments.reference / "models" / file)
        with np.load(arguments.reference / "golden" / f"{name}_tflm.npz") as golden:
            inputs = [golden[key] for key in sorted(golden.files) if key.startswith("input_")]
        shape = graph.tensors[graph.inputs[0].tensor].shape
        shares(name, graph, np.stack([x.reshape(shape) for x in inputs]))


if __name__ == "__main__":
    main()
