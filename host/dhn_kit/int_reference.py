"""Runs a quantised graph in NumPy with TFLite's integer semantics: an independent judge of the C kernels."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dhn_kit import luts
from dhn_kit import quant_math as qm
from dhn_kit.float_reference import convolve, depthwise, windows
from dhn_kit.graph import Array, Graph, Node, Quant

Int8 = npt.NDArray[np.int8]
Int64 = npt.NDArray[np.int64]


def run_int8(
    graph: Graph, q: Int8 | Sequence[Int8], shut: Mapping[str, npt.NDArray[np.bool_]] | None = None
) -> dict[str, Int8]:
    """Canonical int8 inputs (N, H, W, C), one per port, to every tensor (N, H, W, C) int8.

    ``shut``: per tensor what of it, broadcast to (N, H, W, C), a mask leaves out: real zero, clamped.
    """
    arrays = [q] if isinstance(q, np.ndarray) else list(q)
    tensors = {port.tensor: array for port, array in zip(graph.inputs, arrays, strict=True)}
    for node in graph.nodes:
        value = _OPS[node.op](graph, node, [tensors[t] for t in node.inputs])
        low, high = node.attrs.get("act_q", (-128, 127))
        if shut and node.output in shut:
            value = np.where(shut[node.output], _quant(graph, node.output).zero_point, value)
        tensors[node.output] = np.clip(value, low, high).astype(np.int8)
        assert tensors[node.output].shape[1:] == graph.tensors[node.output].shape, node.name
    return tensors


def _quant(graph: Graph, tensor: str) -> Quant:
    quant = graph.tensors[tensor].quant
    assert quant is not None
    return quant


def _centred(graph: Graph, node: Node, x: Int8) -> Array:
    """Input minus zero point, float64: sums of products stay below 2^53 and are exact."""
    return x.astype(np.float64) - _quant(graph, node.inputs[0]).zero_point


def _requantize_channels(graph: Graph, node: Node, acc: Array) -> Int64:
    x, y = _quant(graph, node.inputs[0]), _quant(graph, node.output)
    scales = np.broadcast_to(np.asarray(node.attrs["weight_scale"], np.float64), acc.shape[-1:])
    pairs = [qm.quantize_multiplier(x.scale * float(s) / y.scale) for s in scales]
    mult, shift = np.array([m for m, _ in pairs]), np.array([e for _, e in pairs])
    total = acc.astype(np.int64) + np.asarray(node.attrs["bias"], np.int64)
    return qm.multiply_by_quantized_multiplier(total, mult, shift) + y.zero_point


def _conv2d(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    shape = graph.tensors[node.output].shape
    weight = node.attrs["weight"].astype(np.float64)
    acc = convolve(_centred(graph, node, inputs[0]), weight, node.attrs, shape)
    return _requantize_channels(graph, node, acc)


def _depthwise_conv2d(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    shape = graph.tensors[node.output].shape
    weight = node.attrs["weight"].astype(np.float64)
    acc = depthwise(_centred(graph, node, inputs[0]), weight, node.attrs, shape)
    return _requantize_channels(graph, node, acc)


def _fully_connected(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    acc = _centred(graph, node, inputs[0]) @ node.attrs["weight"].astype(np.float64).T
    return _requantize_channels(graph, node, acc)


def _operands(graph: Graph, node: Node, inputs: list[Int8]) -> list[tuple[Int64, Quant]]:
    """Both sides minus their zero points, with their quantisations; a constant one takes its place."""
    sides = [(x, _quant(graph, name)) for x, name in zip(inputs, node.inputs, strict=True)]
    if "const" in node.attrs:
        const = (np.asarray(node.attrs["const"], np.int8)[None], node.attrs["const_quant"])
        sides.insert(0 if node.attrs.get("const_first") else 1, const)
    return [(x.astype(np.int64) - quant.zero_point, quant) for x, quant in sides]


def _sum(sign: int) -> Callable[[Graph, Node, list[Int8]], Int64]:
    def run(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
        (a, qa), (b, qb) = _operands(graph, node, inputs)
        y = _quant(graph, node.output)
        twice_max = 2.0 * max(qa.scale, qb.scale)
        left = qm.multiply_by_quantized_multiplier(a << 20, *qm.quantize_multiplier(qa.scale / twice_max))
        right = qm.multiply_by_quantized_multiplier(b << 20, *qm.quantize_multiplier(qb.scale / twice_max))
        out = qm.quantize_multiplier(twice_max / ((1 << 20) * y.scale))
        return qm.multiply_by_quantized_multiplier(left + sign * right, *out) + y.zero_point

    return run


def _mul(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    (a, qa), (b, qb) = _operands(graph, node, inputs)
    y = _quant(graph, node.output)
    pair = qm.quantize_multiplier(qa.scale * qb.scale / y.scale)
    return qm.multiply_by_quantized_multiplier(a * b, *pair) + y.zero_point


def _max_pool(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    shape = graph.tensors[node.output].shape
    view = windows(inputs[0], node.attrs["kernel"], node.attrs, shape, -128)
    highest: Int64 = view.max(axis=(3, 4)).astype(np.int64)
    return highest


def _avg_pool(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    shape, kernel = graph.tensors[node.output].shape, node.attrs["kernel"]
    total = windows(inputs[0].astype(np.int64), kernel, node.attrs, shape, 0).sum(axis=(3, 4))
    ones = np.ones((1, *inputs[0].shape[1:3], 1), np.int64)
    count = windows(ones, kernel, node.attrs, shape, 0).sum(axis=(3, 4))
    average: Int64 = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return average


def _mean(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    x, y = _quant(graph, node.inputs[0]), _quant(graph, node.output)
    pixels = inputs[0].shape[1] * inputs[0].shape[2]
    total = (inputs[0].astype(np.int64) - x.zero_point).sum(axis=(1, 2), keepdims=True)
    pair = qm.mean_multiplier(x.scale / y.scale, pixels)
    return qm.multiply_by_quantized_multiplier(total, *pair) + y.zero_point


def _table(table: Int8, x: Int8) -> Int64:
    return table[x.astype(np.int64) + 128].astype(np.int64)


def _to_output(graph: Graph, node: Node, name: str, x: Int8) -> Int64:
    source, target = _quant(graph, name), _quant(graph, node.output)
    if source == target:
        return x.astype(np.int64)
    return _table(luts.unary_table("requantize", {}, source, target, graph.source), x)


def _concat(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    parts = [_to_output(graph, node, name, x) for name, x in zip(node.inputs, inputs, strict=True)]
    return np.concatenate(parts, axis=1 + node.attrs["axis"])


def _pad(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    value = int(_quant(graph, node.output).quantize(np.asarray(node.attrs.get("value", 0.0))))
    return np.pad(inputs[0].astype(np.int64), ((0, 0), *node.attrs["pad"]), constant_values=value)


def _reshape(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    value = _to_output(graph, node, node.inputs[0], inputs[0])
    return value.reshape(len(value), *graph.tensors[node.output].shape)


def _transpose(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    return inputs[0].transpose(0, *(p + 1 for p in node.attrs["perm"])).astype(np.int64)


def _unary(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    x, y = _quant(graph, node.inputs[0]), _quant(graph, node.output)
    return _table(luts.unary_table(node.attrs["fn"], node.attrs.get("params", {}), x, y, graph.source), inputs[0])


def _softmax(graph: Graph, node: Node, inputs: list[Int8]) -> Int64:
    table = luts.softmax_table(node.attrs.get("beta", 1.0), _quant(graph, node.inputs[0]))
    return luts.softmax_int8(inputs[0], table).astype(np.int64)


_OPS: dict[str, Callable[[Graph, Node, list[Int8]], Int64]] = {
    "conv2d": _conv2d, "depthwise_conv2d": _depthwise_conv2d, "fully_connected": _fully_connected,
    "add": _sum(1), "sub": _sum(-1), "mul": _mul, "concat": _concat, "max_pool": _max_pool,
    "avg_pool": _avg_pool, "mean": _mean, "pad": _pad, "reshape": _reshape, "transpose": _transpose,
    "unary": _unary, "softmax": _softmax,
}  # fmt: skip
