"""Quantises a float graph to int8 by TFLite's specification, with ranges observed on the user's data."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dhn_kit.errors import DhnError
from dhn_kit.float_reference import float_outputs, run_float
from dhn_kit.graph import Array, Graph, Node, Quant
from dhn_kit.int_reference import run_int8

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse")
#: Samples in memory at a time while ranges are observed.
BATCH = 32
#: Bins of the histograms that percentile and MSE calibration read, over the range seen by min-max.
BINS = 2048
#: Share of values that percentile calibration keeps on each side.
PERCENTILE = 0.9999
#: Operators whose result is the very values of their first input: one quantisation for both.
SAME_SCALE = ("max_pool", "avg_pool", "pad", "reshape", "transpose")
#: Results with a fixed quantisation in TFLite's specification.
FIXED_UNARY = {"sigmoid": Quant(1 / 256, -128), "tanh": Quant(1 / 128, 0)}
SOFTMAX = Quant(1 / 256, -128)
#: A bias leaves half of int32 to the products that are added to it.
BIAS_LIMIT = 2**30


def check_calibration(graph: Graph, x: Array, y: Array | None = None, what: str = "calibration data") -> None:
    """DhnError when x is not numbers of shape (N, *user_shape), N >= 1, all finite, with y (N,) if there is one."""
    want = graph.inputs[0].user_shape
    x = np.asarray(x)
    if x.dtype.kind not in "fiu":
        raise DhnError(f"{what}: x has dtype {x.dtype}; give numbers (float32 in the model's input layout)")
    if x.ndim != len(want) + 1 or tuple(x.shape[1:]) != tuple(want):
        raise DhnError(f"{what}: x has shape {list(x.shape)}, the model takes (N, {', '.join(map(str, want))})")
    if len(x) == 0:
        raise DhnError(f"{what}: x is empty; give at least one sample, better some hundred")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = int(np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))[0])
        raise DhnError(f"{what}: sample {bad} has NaN or infinite values; clean the data first")
    if y is not None:
        _check_labels(graph, np.asarray(y), len(x), what)


def _check_labels(graph: Graph, y: Array, count: int, what: str) -> None:
    """DhnError unless y (count,) are class numbers of the network's first output; -1 is a class that nobody knows."""
    if y.shape != (count,):
        raise DhnError(f"{what}: y has shape {list(y.shape)}, expected ({count},) to go with x")
    if y.dtype.kind not in "iu":
        raise DhnError(f"{what}: y has dtype {y.dtype}; give class numbers as integers")
    classes = int(np.prod(graph.tensors[graph.outputs[0].tensor].shape))
    bad = np.flatnonzero((y < -1) | (y >= classes))
    if len(bad):
        raise DhnError(
            f"{what}: label {y[bad[0]]} of sample {bad[0]} is out of range; '{graph.name}' has the classes 0 to "
            f"{classes - 1} (-1 where the class is unknown)"
        )


def quantize(
    graph: Graph,
    x: Array | Sequence[Array],
    method: Method = "minmax",
    fixed: Mapping[str, Quant] | None = None,
) -> Graph:
    """An int8 copy of `graph`. `x`: user arrays (N, *user_shape), one per input. `fixed` sets some tensors' Quant.

    Activations: per tensor, asymmetric, the range holds zero and zero is exact. Weights: per output channel, symmetric
    in [-127, 127]. Biases: int32 at input scale times weight scale. After "Quantization and Training of Neural Networks
    for Efficient Integer-Arithmetic-Only Inference" (Jacob et al., 2018) and TFLite's int8 quantisation specification.
    """
    if method not in METHODS:
        raise DhnError(f"calibration method '{method}' is unknown; choose one of {', '.join(METHODS)}")
    q = graph.copy()
    arrays = [x] if isinstance(x, np.ndarray) else [np.asarray(a) for a in x]
    for name, quant in _activation_quants(graph, arrays, method, dict(fixed or {})).items():
        q.tensors[name].quant = quant
    for node in q.nodes:
        _quantize_node(q, node)
    return q


def _batches(arrays: list[Array]) -> Iterator[list[Array]]:
    for start in range(0, len(arrays[0]), BATCH):
        yield [a[start : start + BATCH] for a in arrays]


@dataclass
class _Range:
    low: float = 0.0
    high: float = 0.0
    histogram: npt.NDArray[np.int64] | None = None

    def widen(self, values: Array) -> None:
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    def count(self, values: Array) -> None:
        if self.high > self.low:
            counts = np.histogram(values, BINS, (self.low, self.high))[0]
            self.histogram = counts if self.histogram is None else self.histogram + counts


def _observe(graph: Graph, arrays: list[Array], names: list[str], histograms: bool) -> dict[str, _Range]:
    ranges = {name: _Range() for name in names}
    for batch in _batches(arrays):
        for name, values in run_float(graph, batch, names).items():
            if name in ranges:
                ranges[name].widen(values)
    if histograms:  # a second pass: bins need the final range
        for batch in _batches(arrays):
            for name, values in run_float(graph, batch, names).items():
                if name in ranges:
                    ranges[name].count(values)
    return ranges


def affine(low: float, high: float) -> Quant:
    """The int8 quantisation of a real range; the range is widened to hold zero, the zero point is an integer."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        return Quant(1.0, 0)
    scale = float(np.float32((high - low) / 255.0))
    zero_point = int(np.clip(round(-128 - low / scale), -128, 127))
    return Quant(scale, zero_point)


def _clipped(r: _Range, keep: float) -> Quant:
    assert r.histogram is not None
    share = np.cumsum(r.histogram) / r.histogram.sum()
    edges = np.linspace(r.low, r.high, BINS + 1)
    low = edges[int(np.searchsorted(share, 1 - keep))]
    high = edges[int(np.searchsorted(share, keep)) + 1] if keep < share[-1] else r.high
    return affine(float(low), float(high))


def _least_error(r: _Range) -> Quant:
    """The best of many ranges cut on either side, by mean squared error over the histogram."""
    assert r.histogram is not None
    centers = (np.linspace(r.low, r.high, BINS + 1)[:-1] + np.linspace(r.low, r.high, BINS + 1)[1:]) / 2
    best, best_error = affine(r.low, r.high), np.inf
    for low_cut in np.linspace(0.0, 0.6, 13) if r.low < 0 else (0.0,):
        for high_cut in np.linspace(0.0, 0.6, 25) if r.high > 0 else (0.0,):
            quant = affine(r.low * (1 - low_cut), r.high * (1 - high_cut))
            error = float((r.histogram * (quant.dequantize(quant.quantize(centers)) - centers) ** 2).sum())
            if error < best_error:
                best, best_error = quant, error
    return best


_CHOOSE: dict[str, Callable[[_Range], Quant]] = {
    "minmax": lambda r: affine(r.low, r.high),
    "percentile": lambda r: affine(r.low, r.high) if r.histogram is None else _clipped(r, PERCENTILE),
    "mse": lambda r: affine(r.low, r.high) if r.histogram is None else _least_error(r),
}


def _tied(graph: Graph, fixed: dict[str, Quant]) -> dict[str, str]:
    """Tensors that take another's quantisation. A fixed tensor is never tied.

    Ties follow the data forwards through operators that copy values, and backwards from a concat to what only it reads:
    there the values end up at the joint scale anyway, and so need no requantisation on the way.
    """
    copies = {n.output: n.inputs[0] for n in graph.nodes if n.op in SAME_SCALE and n.output not in fixed}
    joins = {}
    for node in graph.nodes:
        if node.op == "concat":
            for name in node.inputs:
                source = _private_source(graph, name, copies, fixed)
                if source is not None:
                    joins[source] = node.output
    return copies | joins


def _private_source(graph: Graph, name: str, copies: dict[str, str], fixed: dict[str, Quant]) -> str | None:
    """The tensor that gives `name` its quantisation, if that matters to nothing but `name`'s only reader."""
    outputs = {port.tensor for port in graph.outputs}
    while name not in fixed and name not in outputs and len(graph.consumers(name)) == 1:
        if name not in copies:
            return name
        name = copies[name]
    return None


def _root(name: str, ties: dict[str, str]) -> str:
    while name in ties:
        name = ties[name]
    return name


def _hold_pad_values(graph: Graph, quants: dict[str, Quant], ties: dict[str, str], fixed: dict[str, Quant]) -> None:
    """What a pad writes is seen by no calibration of the tensor that it shares its quantisation with."""
    for node in graph.nodes:
        value = float(node.attrs.get("value", 0.0)) if node.op == "pad" else 0.0
        source = _root(node.output, ties)
        quant = quants[source]
        low, high = (float(v) for v in quant.dequantize(np.array([-128, 127])))
        if low <= value <= high:
            continue
        if source in fixed and not low - quant.scale <= value <= high + quant.scale:
            raise DhnError(
                f"node '{node.name}' (pad): pads with {value:g}, but its tensor's int8 range is fixed to "
                f"[{low:g}, {high:g}]; pad with a value in that range"
            )
        if source not in fixed:
            quants[source] = affine(min(low, value), max(high, value))


def _activation_quants(graph: Graph, arrays: list[Array], method: Method, fixed: dict[str, Quant]) -> dict[str, Quant]:
    for node in graph.nodes:
        if node.op == "softmax":
            fixed.setdefault(node.output, SOFTMAX)
        elif node.op == "unary" and node.attrs["fn"] in FIXED_UNARY:
            fixed.setdefault(node.output, FIXED_UNARY[node.attrs["fn"]])
    quants = dict(fixed)
    ties = _tied(graph, fixed)
    open_ = [t for t in graph.tensors if t not in quants and t not in ties]
    ranges = _observe(graph, arrays, open_, method != "minmax") if open_ else {}
    for name, r in ranges.items():
        quants[name] = _CHOOSE[method](r)
    _hold_pad_values(graph, quants, ties, fixed)
    return {name: quants[_root(name, ties)] for name in graph.tensors}


def _clamp(quant: Quant, bound: float) -> int:
    """A bound of a fused activation as TFLite rounds it: divided in single precision, halves away from zero."""
    with np.errstate(over="ignore"):  # a bound such as the largest float32 stands for none
        steps = float(np.float32(bound) / np.float32(quant.scale))
    return int(np.clip(np.copysign(np.floor(abs(steps) + 0.5), steps) + quant.zero_point, -128, 127))


def _quantize_node(q: Graph, node: Node) -> None:
    if node.op in ("conv2d", "depthwise_conv2d", "fully_connected"):
        _quantize_weights(q, node)
    if "const" in node.attrs:
        const = np.asarray(node.attrs["const"], np.float64)
        quant = affine(float(const.min()), float(const.max()))
        node.attrs.update(const=quant.quantize(const), const_quant=quant)
    act = node.attrs.pop("act", None)
    out = q.tensors[node.output].quant
    assert out is not None
    low, high = act or (None, None)
    node.attrs["act_q"] = (
        -128 if low is None else _clamp(out, low),
        127 if high is None else _clamp(out, high),
    )


def _quantize_weights(q: Graph, node: Node) -> None:
    weight = np.asarray(node.attrs["weight"], np.float64)
    axis = weight.ndim - 1 if node.op == "depthwise_conv2d" else 0
    others = tuple(a for a in range(weight.ndim) if a != axis)
    x = q.tensors[node.inputs[0]].quant
    assert x is not None
    real_bias = np.asarray(node.attrs["bias"], np.float64)
    # A dead channel may have a bias far beyond its tiny weights: coarser weights cost it nothing, a cut bias all.
    for_bias = np.abs(real_bias) / (x.scale * BIAS_LIMIT)
    scale = np.maximum(np.abs(weight).max(axis=others) / 127.0, for_bias).astype(np.float32).astype(np.float64)
    scale = np.where(scale == 0.0, 1.0, scale)
    shape = [1] * weight.ndim
    shape[axis] = -1
    scaled = weight / scale.reshape(shape)
    node.attrs.update(
        weight=np.clip(np.rint(scaled), -127, 127).astype(np.int8),
        bias=np.rint(real_bias / (x.scale * scale)).astype(np.int32),
        weight_scale=scale,
    )


@dataclass(frozen=True)
class Sqnr:
    """Signal to quantisation noise of one node's output, in decibels."""

    node: str
    op: str
    db: float


def sqnr_table(graph: Graph, quantized: Graph, x: Array) -> list[Sqnr]:
    """Per node, over `x` (N, *user_shape): 10 log10(sum of squares / sum of squared int8 errors)."""
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for start in range(0, len(x), BATCH):
        batch = x[start : start + BATCH]
        real = run_float(graph, batch)
        ints = run_int8(quantized, quantized.quantize_input(batch))
        for node in quantized.nodes:
            quant = quantized.tensors[node.output].quant
            assert quant is not None
            truth = real[node.output].astype(np.float64)
            error = quant.dequantize(ints[node.output]) - truth
            signal[node.output] = signal.get(node.output, 0.0) + float((truth**2).sum())
            noise[node.output] = noise.get(node.output, 0.0) + float((error**2).sum())
    return [
        Sqnr(n.name, n.op, float(10 * np.log10(max(signal[n.output], 1e-30) / max(noise[n.output], 1e-30))))
        for n in quantized.nodes
    ]


@dataclass(frozen=True)
class Agreement:
    """How often int8 and float answer the same, and with labels, how often each is right (None without)."""

    n: int
    same_top1: float
    accuracy_float: float | None
    accuracy_int8: float | None


def top1(values: Array) -> npt.NDArray[np.int64]:
    return np.asarray(values.reshape(len(values), -1).argmax(axis=1), np.int64)


def agreement(graph: Graph, int8_outputs: Array, x: Array, y: Array | None = None) -> Agreement:
    """Compare the float graph's answers on `x` (N, *user_shape) with int8 outputs (N, ...) of the same inputs."""
    real = np.concatenate([top1(float_outputs(graph, x[i : i + BATCH])[0]) for i in range(0, len(x), BATCH)])
    ints = top1(int8_outputs)
    accuracy: list[Any] = [None, None] if y is None else [float((a == y).mean()) for a in (real, ints)]
    return Agreement(len(x), float((real == ints).mean()), accuracy[0], accuracy[1])
