"""Counts how many inputs of fully connected layers are zero, which some kernels leave out."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dhn_kit.graph import Graph
from dhn_kit.int_reference import run_int8

#: Samples that are looked at: a share is known to a percent long before.
SAMPLES = 64
#: Which inputs of every four a kernel takes together (mcu_kernels/armv7em/fc_sparse.c).
PAIRS = ((0, 2), (1, 3))


def nonzero_inputs(graph: Graph, q: npt.NDArray[np.int8]) -> dict[str, dict[str, int]]:
    """By name of each fully connected node: mean number of inputs of a row that differ from the zero point
    ("nonzero") and of pairs in which either does ("nonzero_pairs"), both rounded up.

    ``q``: canonical int8 inputs (N, H, W, C) like those in use. `Policy.nonzero` takes the result.
    """
    tensors = run_int8(graph, q[:SAMPLES])
    found = {}
    for node in graph.nodes:
        if node.op == "fully_connected":
            quant = graph.tensors[node.inputs[0]].quant
            assert quant is not None
            x = tensors[node.inputs[0]]
            found[node.name] = _counts(x.reshape(-1, x.shape[-1]) != quant.zero_point)
    return found


def _counts(used: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Of rows (N, inputs)."""
    quads = np.zeros((len(used), -(-used.shape[1] // 4), 4), bool)
    quads.reshape(len(used), -1)[:, : used.shape[1]] = used
    pairs = np.stack([quads[:, :, pair].any(axis=2) for pair in PAIRS])
    return {
        "nonzero": int(np.ceil(used.sum() / len(used))),
        "nonzero_pairs": int(np.ceil(pairs.sum() / len(used))),
    }
