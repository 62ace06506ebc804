"""Turns a float graph into an int8 one by TFLite's int8 quantisation specification."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit.calibration import Range, check_calibration, observe_ranges
from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Graph, Node, Quant
from dhn_kit.quant_quality import Agreement, agreement, sqnr_table

__all__ = ["Agreement", "agreement", "check_calibration", "quantize", "sqnr_table"]

#: The calibration method where the user names none. Measured on four reference networks: see tests/test_quantize.py.
DEFAULT_METHOD = "mse"

#: Outputs whose quantisation the specification prescribes.
SOFTMAX_QUANT = Quant(1 / 256, -128)
UNARY_QUANT = {"sigmoid": Quant(1 / 256, -128), "tanh": Quant(1 / 128, 0)}
#: Operators that only move or compare values: their output has the quantisation of their input.
SAME_QUANT = ("max_pool", "avg_pool", "pad", "reshape", "transpose")
#: Axis of the output channels in ``weight``.
CHANNEL_AXIS = {"conv2d": 0, "fully_connected": 0, "depthwise_conv2d": 2}
#: Keeps a bias far from int32's end, so that the products have room beside it.
BIAS_LIMIT = 2**30


def quantize(
    graph: Graph,
    x: Array | Sequence[Array],
    method: str = DEFAULT_METHOD,
    fixed: Mapping[str, Quant] | None = None,
) -> Graph:
    """A quantised copy of a float graph, calibrated on the user's samples x (N, *user_shape) float.

    ``method`` is "minmax", "percentile" or "mse". ``fixed`` prescribes the quantisation of some tensors (a hook's tap
    has that of the main network). Activations are per-tensor asymmetric, weights per-channel symmetric in [-127, 127],
    biases int32 at input scale times weight scale. DhnError on data that does not fit the network.
    """
    ranges = observe_ranges(graph, x, method)
    result = graph.copy()
    for name, quant in _activations(result, ranges, dict(fixed or {})).items():
        result.tensors[name].quant = quant
    for node in result.nodes:
        _quantize_node(result, node)
    return result


def affine_quant(low: float, high: float) -> Quant:
    """The asymmetric int8 quantisation of a range, widened to include zero, zero exactly representable.

    The scale is a float32, as a pack and a .tflite store it."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / 255))
    if scale < float(np.finfo(np.float32).tiny):
        return Quant(1.0, 0)  # a tensor that is always zero
    return Quant(scale, int(np.clip(round(-128 - low / scale), -128, 127)))


class _Groups:
    """Union-find over tensors that share one quantisation."""

    def __init__(self, names: Sequence[str]) -> None:
        self.parent = {n: n for n in names}

    def root(self, name: str) -> str:
        while self.parent[name] != name:
            name = self.parent[name]
        return name

    def join(self, a: str, b: str) -> None:
        self.parent[self.root(b)] = self.root(a)


def _activations(graph: Graph, ranges: dict[str, Range], fixed: dict[str, Quant]) -> dict[str, Quant]:
    preset = {**_prescribed(graph), **fixed}
    groups = _groups(graph, preset)
    chosen: dict[str, Quant] = {}
    for name, quant in preset.items():
        root = groups.root(name)
        if chosen.setdefault(root, quant) != quant:
            raise DhnError(
                f"tensor '{name}' must share two quantisations, {chosen[root]} and {quant}; fix only one of them"
            )
    spans: dict[str, Range] = {}
    for name, (low, high) in ranges.items():
        before = spans.get(groups.root(name), (0.0, 0.0))
        spans[groups.root(name)] = min(before[0], low), max(before[1], high)
    return {name: chosen.get(groups.root(name)) or affine_quant(*spans[groups.root(name)]) for name in graph.tensors}


def _prescribed(graph: Graph) -> dict[str, Quant]:
    preset = {n.output: SOFTMAX_QUANT for n in graph.nodes if n.op == "softmax"}
    for node in graph.nodes:
        if node.op == "unary" and node.attrs["fn"] in UNARY_QUANT:
            preset[node.output] = UNARY_QUANT[node.attrs["fn"]]
    return preset


def _groups(graph: Graph, preset: Mapping[str, Quant]) -> _Groups:
    """A concatenation shares its quantisation with its inputs, except with those that have a prescribed one: these are
    requantised on the way in."""
    groups = _Groups(list(graph.tensors))
    for node in graph.nodes:
        if node.op in SAME_QUANT:
            groups.join(node.inputs[0], node.output)
    for node in graph.nodes:
        if node.op == "concat":
            bound = {groups.root(name) for name in preset}
            for name in node.inputs:
                if groups.root(name) not in bound and groups.root(node.output) not in bound:
                    groups.join(node.output, name)
    return groups


def _quantize_node(graph: Graph, node: Node) -> None:
    out = _quant(graph, node.output)
    node.attrs["act_q"] = activation_range(node.attrs.get("act"), out)
    if node.op in CHANNEL_AXIS:
        node.attrs.update(_quantize_weights(node, _quant(graph, node.inputs[0]).scale))
    elif "const" in node.attrs:
        const = np.asarray(node.attrs["const"], np.float64)
        quant = affine_quant(float(const.min()), float(const.max()))
        node.attrs.update(const=quant.quantize(const), const_quant=quant)


def _quant(graph: Graph, tensor: str) -> Quant:
    quant = graph.tensors[tensor].quant
    assert quant is not None
    return quant


def activation_range(act: tuple[float | None, float | None] | None, out: Quant) -> tuple[int, int]:
    """int8 (min, max) of a fused clamp, in float32 as TFLite's CalculateActivationRangeQuantized."""
    low, high = act or (None, None)
    return (
        -128 if low is None else max(-128, min(127, _to_int(low, out))),
        127 if high is None else max(-128, min(127, _to_int(high, out))),
    )


def _to_int(real: float, quant: Quant) -> int:
    ratio = float(np.float32(real) / np.float32(quant.scale))
    return quant.zero_point + int(np.copysign(np.floor(abs(ratio) + 0.5), ratio))


def _quantize_weights(node: Node, input_scale: float) -> dict[str, Any]:
    axis = CHANNEL_AXIS[node.op]
    weight = np.asarray(node.attrs["weight"], np.float64)
    bias = np.asarray(node.attrs["bias"], np.float64)
    scale = _weight_scale(np.moveaxis(weight, axis, 0).reshape(len(bias), -1), bias, input_scale)
    shaped = scale.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    return {
        "weight": np.clip(np.rint(weight / shaped), -127, 127).astype(np.int8),
        "bias": np.rint(bias / (input_scale * scale)).astype(np.int32),
        "weight_scale": scale,
    }


def _weight_scale(rows: Array, bias: Array, input_scale: float) -> npt.NDArray[np.float64]:
    """Per channel max |w| / 127 as float32; larger where the bias would not fit int32 (a channel of tiny weights)."""
    scale = np.abs(rows).max(axis=1) / 127
    scale = np.maximum(scale, np.abs(bias) / (input_scale * BIAS_LIMIT))
    scale = np.where(scale < float(np.finfo(np.float32).tiny), 1.0, scale)  # a channel that is always zero
    return scale.astype(np.float32).astype(np.float64)
