"""Folds clamps and affine maps into the node that produced their input, or emits the cheapest node for them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dhn_kit.graph import Array, Node
from dhn_kit.onnx_import.builder import Builder, OnnxNode
from dhn_kit.onnx_import.layout import Groups, LayoutError, Value, constant_in_memory

Act = tuple[float | None, float | None]

#: Producers that can take a per-channel affine map into weight and bias, and those that can clamp.
WEIGHTED = ("conv2d", "depthwise_conv2d", "fully_connected")
CLAMPING = (*WEIGHTED, "add", "sub", "mul", "max_pool", "avg_pool")


UNIT_WINDOW = {"stride": (1, 1), "dilation": (1, 1), "pad": (0, 0, 0, 0)}


def clamp(b: Builder, n: OnnxNode, low: float | None, high: float | None) -> None:
    """max(low, min(high, x)): into the producer where this is its only reader, else a unary node."""
    v = b.value(n)
    producer = b.producers.get(v.tensor)
    if producer is not None and producer.op in CLAMPING and b.sole(n):
        producer.attrs["act"] = compose(producer.attrs.get("act"), (low, high))
        b.result(n, replace(v, tensor=b.rename(v.tensor, n.outputs[0])))
    elif (low, high) == (0.0, None):
        unary(b, n, "relu")
    else:
        unary(b, n, "clip", low=low, high=high)


def unary(b: Builder, n: OnnxNode, fn: str, **params: float | None) -> None:
    v = b.value(n)
    out = b.emit(n.name, "unary", [v.tensor], n.outputs[0], b.shape(v.tensor), fn=fn, params=params)
    b.result(n, replace(v, tensor=out))


def affine(b: Builder, n: OnnxNode, scale: Array, offset: Array, index: int = 0) -> None:
    """x * scale + offset with constants in ONNX axes, in the cheapest form.

    1. Both scalar, x a graph input read here alone: into the Port. 2. Constant within each channel: into the
    weights of the producer, or a 1x1 depthwise convolution. 3. Varying over the last axes of memory: those axes
    become C, as 2. 4. Anything else: ``mul`` and ``add`` with a constant.
    """
    v = b.value(n, index)
    try:
        factors = constant_in_memory(v, np.asarray(scale, np.float64))
        terms = constant_in_memory(v, np.asarray(offset, np.float64))
    except LayoutError as error:
        n.refuse(str(error), "use a constant per channel")
    if not (np.isfinite(factors).all() and np.isfinite(terms).all()):
        n.refuse("its constants are not finite", "export the model again with finite parameters")
    port = next((p for p in b.ports if p.tensor == v.tensor), None)
    if port is not None and factors.size == terms.size == 1 and b.sole(n, index) and factors.item() != 0.0:
        port.scale, port.offset = port.scale * factors.item(), port.offset * factors.item() + terms.item()
        b.result(n, v)
    elif (start := _channels_from(b, v, factors, terms)) is None:
        _broadcast_constants(b, n, v, factors, terms)
    else:
        _per_channel(b, n, v, start, factors, terms, b.sole(n, index))


def _channels_from(b: Builder, v: Value, factors: Array, terms: Array) -> int | None:
    """The first atom of the axes to be treated as channels, or None where that would not be cheap."""
    varies = [a > 1 or b > 1 for a, b in zip(factors.shape, terms.shape, strict=True)]
    if not any(varies):
        return len(v.sizes)
    channels = b.shape(v.tensor)[2]
    for start in range(len(v.sizes) + 1):
        if math.prod(v.sizes[start:]) == channels and not any(varies[:start]):
            return start
    first = varies.index(True)
    return first if first > 0 and all(varies[first:]) else None


def _per_channel(b: Builder, n: OnnxNode, v: Value, start: int, factors: Array, terms: Array, sole: bool) -> None:
    height, width, c = b.shape(v.tensor)
    sizes = v.sizes[start:] if start < len(v.sizes) else (c,)
    channels = math.prod(sizes)
    weight = np.broadcast_to(factors.reshape(factors.shape[start:] or (1,)), sizes).reshape(channels)
    bias = np.broadcast_to(terms.reshape(terms.shape[start:] or (1,)), sizes).reshape(channels)
    producer = b.producers.get(v.tensor)
    if sole and producer is not None and producer.op in WEIGHTED and c == channels and "act" not in producer.attrs:
        scale_producer(producer, weight, bias)
        out = b.rename(v.tensor, n.outputs[0])
    else:
        shape = (height, width, c) if c == channels else (math.prod(v.sizes[:start]), 1, channels)
        source = b.reshaped(v.tensor, shape)
        attrs = {"weight": weight.astype(np.float32).reshape(1, 1, -1), "bias": bias.astype(np.float32)}
        out = b.emit(n.name, "depthwise_conv2d", [source], n.outputs[0], shape, **attrs, **UNIT_WINDOW)
    b.result(n, replace(v, tensor=out))


def _broadcast_constants(b: Builder, n: OnnxNode, v: Value, factors: Array, terms: Array) -> None:
    tensor = v.tensor
    for op, constant, neutral in (("mul", factors, 1.0), ("add", terms, 0.0)):
        if np.array_equal(constant, np.full_like(constant, neutral)):
            continue
        parts = _three_axes(b, n, v, constant.shape)
        shape = (v.product(parts[0]), v.product(parts[1]), v.product(parts[2]))
        cut = [math.prod(constant.shape[a] for a in part) for part in parts]
        tensor = b.emit(
            f"{n.name}/{op}", op, [b.reshaped(tensor, shape)], n.outputs[0], shape,
            const=constant.reshape(cut).astype(np.float32), const_first=False,
        )  # fmt: skip
    b.result(n, replace(v, tensor=tensor))


def _three_axes(b: Builder, n: OnnxNode, v: Value, pattern: Sequence[int]) -> Groups:
    """Atoms grouped into H, W, C such that each group either varies or does not."""
    varies = [p > 1 for p in pattern]
    pieces: list[list[int]] = []
    for a in range(len(v.sizes)):
        if pieces and varies[pieces[-1][-1]] == varies[a]:
            pieces[-1].append(a)
        else:
            pieces.append([a])
    if len(pieces) > 3:
        n.refuse("its constant varies over too many separate axes", "use a constant per channel")
    if b.tensor_groups(v) is not None and all(len({varies[a] for a in g}) <= 1 for g in b.tensor_groups(v) or ()):
        return b.tensor_groups(v) or ((), (), ())
    padded = [()] * (3 - len(pieces)) + [tuple(p) for p in pieces]
    return (padded[0], padded[1], padded[2])


def compose(first: Act | None, then: Act) -> Act:
    """The clamp equal to ``first`` followed by ``then``."""
    low, high = then

    def limit(x: float) -> float:
        return min(max(x, -math.inf if low is None else low), math.inf if high is None else high)

    a, b = first or (None, None)
    new = limit(-math.inf if a is None else a), limit(math.inf if b is None else b)
    return (None if math.isinf(new[0]) else new[0], None if math.isinf(new[1]) else new[1])


def scale_producer(node: Node, scale: Array, offset: Array) -> None:
    """Fold y * scale + offset, both (OC,), into weight and bias; computed in double precision."""
    weight = np.asarray(node.attrs["weight"], np.float64)
    shape = (-1,) if node.op == "depthwise_conv2d" else (-1,) + (1,) * (weight.ndim - 1)
    node.attrs["weight"] = (weight * scale.reshape(shape)).astype(np.float32)
    node.attrs["bias"] = (np.asarray(node.attrs["bias"], np.float64) * scale + offset).astype(np.float32)
