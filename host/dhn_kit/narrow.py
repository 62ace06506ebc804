"""Weights of four or two bits for convolutions of a quantised network, rounded so that their outputs change least."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from dhn_kit.float_reference import windows
from dhn_kit.graph import Graph, Node
from dhn_kit.quantize import BIAS_LIMIT

Int8 = npt.NDArray[np.int8]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Widths below eight bits for which there are kernels.
WIDTHS = (4, 2)
#: Windows of a layer's input whose covariance says how much an error of each weight matters: a few per weight.
WINDOWS = 4096
#: Share of the mean variance that is added to each weight's own: inputs that never vary would allow any error.
DAMPING = 0.01
#: Steps of a channel's grid that are tried, as shares of the step with which nothing is cut off.
SHRINK = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.42, 0.35)


def may_narrow(node: Node) -> bool:
    """Whether the node's weights may have less than eight bits: convolutions without groups."""
    return node.op == "conv2d" and node.attrs.get("groups", 1) == 1


@dataclass(frozen=True)
class InputStatistics:
    """Of the windows that a layer multiplies with its weights: mean (taps,), covariance (taps, taps) with `DAMPING`,
    the order in which taps are rounded, and the upper Cholesky factor of the inverse covariance in that order."""

    mean: Doubles
    covariance: Doubles
    order: Indices
    factor: Doubles


def statistics(graph: Graph, node: Node, x: Int8) -> InputStatistics:
    """What rounding must know of a node's input; ``x``: some of it, (N, H, W, C)."""
    quant = graph.tensors[node.inputs[0]].quant
    assert quant is not None and may_narrow(node)
    rows = _windows(graph, node, x, quant.zero_point)
    mean = rows.mean(axis=0)
    with threadpool_limits(1):  # small matrices: more threads wait longer for each other than they work
        covariance = (rows - mean).T @ (rows - mean) / len(rows)
        damping = max(DAMPING * float(np.trace(covariance)) / len(covariance), 1e-9)
        covariance += damping * np.eye(len(covariance))
        order = np.argsort(-np.diag(covariance), kind="stable")
        factor = np.linalg.cholesky(np.linalg.inv(covariance[np.ix_(order, order)])).T
    return InputStatistics(mean, covariance, order, factor)


def narrow(graph: Graph, bits: Mapping[str, int], known: Mapping[str, InputStatistics]) -> Graph:
    """`graph` (int8) with weights of so many bits in the nodes named; ``known``: the statistics of their inputs.

    Activations keep their quantisation, biases take up what rounding does to the mean. Only `may_narrow` nodes.
    """
    copy = graph.copy()
    with threadpool_limits(1):
        for node in copy.nodes:
            if bits.get(node.name, 8) < 8:
                _narrow(node, bits[node.name], known[node.name])
    return copy


def _narrow(node: Node, bits: int, known: InputStatistics) -> None:
    """Replaces one node's weights, scales and bias.

    Rounds weight by weight, and moves the error of each to those not rounded yet, as far as the input's covariance lets
    them make up for it: "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (Frantar et
    al., 2023). Of several steps per channel the one with the least error of the output is taken. What is left of the
    mean error goes into the bias: "Data-Free Quantization Through Weight Equalization and Bias Correction" (Nagel et
    al., 2019).
    """
    scale = np.broadcast_to(np.asarray(node.attrs["weight_scale"], np.float64), len(node.attrs["weight"]))
    real = node.attrs["weight"].reshape(len(scale), -1) * scale[:, None]
    bias = node.attrs["bias"] * scale
    values, steps = _round(real, np.abs(bias) / BIAS_LIMIT, known, bits)
    bias = bias + (real - values * steps[:, None]) @ known.mean
    node.attrs.update(
        weight=values.astype(np.int8).reshape(node.attrs["weight"].shape),
        bias=np.rint(bias / steps).astype(np.int32),
        weight_scale=steps,
    )


def _windows(graph: Graph, node: Node, x: Int8, zero_point: int) -> Doubles:
    """(n, taps) windows of the input, centred, evenly spread over samples and positions."""
    _, kh, kw, ic = node.attrs["weight"].shape
    shape = graph.tensors[node.output].shape
    view = windows(x.astype(np.int64) - zero_point, (kh, kw), node.attrs, shape, 0)
    total = len(x) * shape[0] * shape[1]
    places = np.linspace(0, total - 1, min(WINDOWS, total)).astype(int)
    picked = view[np.unravel_index(places, (len(x), shape[0], shape[1]))]
    return np.asarray(picked.reshape(len(places), kh * kw * ic), np.float64)


def _round(real: Doubles, least_step: Doubles, known: InputStatistics, bits: int) -> tuple[Doubles, Doubles]:
    """Integers (OC, taps) and steps (OC,) that minimise the error's variance at the output, over `SHRINK`."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    widest = np.maximum(real.max(axis=1) / high, real.min(axis=1) / low).clip(0.0)
    steps = np.maximum(np.outer(SHRINK, np.where(widest == 0.0, 1.0, widest)), least_step)
    steps = steps.astype(np.float32).astype(np.float64)
    wanted = np.tile(real, (len(SHRINK), 1))
    tries = _compensated(wanted, steps.ravel(), known, low, high)
    error = wanted - tries * steps.reshape(-1, 1)
    best = ((error @ known.covariance) * error).sum(axis=1).reshape(steps.shape).argmin(axis=0)
    channels = np.arange(len(real))
    return tries.reshape(len(SHRINK), *real.shape)[best, channels], steps[best, channels]


def _compensated(real: Doubles, steps: Doubles, known: InputStatistics, low: int, high: int) -> Doubles:
    """Rounded (rows, taps) integers; the taps that vary most come first."""
    left, values = real[:, known.order].copy(), np.zeros_like(real)
    for i, tap in enumerate(known.order):
        values[:, tap] = np.clip(np.rint(left[:, i] / steps), low, high)
        error = (left[:, i] - values[:, tap] * steps) / known.factor[i, i]
        left[:, i + 1 :] -= np.outer(error, known.factor[i, i + 1 :])
    return values
