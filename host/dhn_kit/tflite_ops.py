"""One function per .tflite operator: checks it and appends its canonical node."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tflite

from dhn_kit.graph import Node, Quant, Shape, Tensor
from dhn_kit.tflite_reader import CONVERT

if TYPE_CHECKING:
    from dhn_kit.tflite_import import Importer

_ACTIVATIONS: dict[int, tuple[float | None, float | None]] = {
    tflite.ActivationFunctionType.NONE: (None, None),
    tflite.ActivationFunctionType.RELU: (0.0, None),
    tflite.ActivationFunctionType.RELU6: (0.0, 6.0),
    tflite.ActivationFunctionType.RELU_N1_TO_1: (-1.0, 1.0),
}


def _act_q(at: Importer, options: type) -> tuple[int, int]:
    """The fused activation as a clamp of int8 values: CalculateActivationRangeQuantized, in single precision."""
    kind = at.op.option(options, "FusedActivationFunction")
    if kind not in _ACTIVATIONS:
        raise at.error("its fused activation is not supported; use none, relu, relu6 or relu_n1_to_1")
    low, high = _ACTIVATIONS[kind]
    quant = at.result()[1]
    return (
        -128 if low is None else max(-128, _quantize_f32(low, quant)),
        127 if high is None else min(127, _quantize_f32(high, quant)),
    )


def _weights(at: Importer, x: Tensor, axis: int) -> dict[str, Any]:
    raw = at.operand(1)
    weight = at.constant(1, "INT8")
    channels = weight.shape[axis] if weight.ndim else 0
    if len(raw.scale) not in (1, channels) or (len(raw.scale) > 1 and raw.axis != axis % weight.ndim):
        raise at.error(f"weight {raw} has {len(raw.scale)} scales for {channels} output channels; {CONVERT}")
    if np.any(raw.zero_point != 0):
        raise at.error(f"weight {raw} is not symmetric (zero point other than 0); {CONVERT}")
    bias = np.zeros(channels, np.int32)
    if len(at.op.inputs) > 2 and at.op.inputs[2] >= 0:
        bias = at.constant(2, "INT32").reshape(-1).astype(np.int32)
    if len(bias) != channels:
        raise at.error(f"bias has {len(bias)} values for {channels} output channels; convert the network again")
    scale = np.broadcast_to(raw.scale.astype(np.float64), (channels,)).copy()
    return {"weight": weight.astype(np.int8), "bias": bias, "weight_scale": scale}


def _window(
    at: Importer, options: type, x: Shape, kernel: tuple[int, int], dilation: tuple[int, int]
) -> dict[str, Any]:
    """Stride and explicit padding; the output's size must be what they give."""
    stride = (at.op.option(options, "StrideH"), at.op.option(options, "StrideW"))
    if min(*stride, *kernel, *dilation) < 1:
        raise at.error(f"stride {stride}, window {kernel}, dilation {dilation} must be positive")
    same = at.op.option(options, "Padding") == tflite.Padding.SAME
    axes = [_padding(*axis, same) for axis in zip(x, kernel, stride, dilation, strict=False)]
    (out_h, top, bottom), (out_w, left, right) = axes
    at.expect((out_h, out_w, at.result()[0][2]))
    return {"stride": stride, "pad": (top, left, bottom, right)}


def conv2d(at: Importer) -> None:
    options, x = tflite.Conv2DOptions, at.activation(0)
    attrs = _weights(at, x, 0)
    if attrs["weight"].ndim != 4:
        raise at.error("its weight must have four axes; convert the network again")
    out_c, kh, kw, depth = attrs["weight"].shape
    groups, rest = divmod(x.shape[2], max(1, depth))
    if rest or not groups or out_c % groups or at.result()[0][2] != out_c:
        raise at.error(f"{x.shape[2]} input channels do not fit weight {attrs['weight'].shape}")
    dilation = (at.op.option(options, "DilationHFactor"), at.op.option(options, "DilationWFactor"))
    attrs |= _window(at, options, x.shape, (kh, kw), dilation)
    at.emit("conv2d", [x.name], **attrs, dilation=dilation, groups=groups, act_q=_act_q(at, options))


def depthwise_conv2d(at: Importer) -> None:
    options, x = tflite.DepthwiseConv2DOptions, at.activation(0)
    attrs = _weights(at, x, -1)
    weight = attrs["weight"]
    channels_fit = weight.ndim == 4 and weight.shape[3] % x.shape[2] == 0
    if not channels_fit or weight.shape[0] != 1 or at.result()[0][2] != weight.shape[3]:
        raise at.error(f"{x.shape[2]} input channels do not fit weight {weight.shape}")
    attrs["weight"] = np.ascontiguousarray(weight[0])
    dilation = (at.op.option(options, "DilationHFactor"), at.op.option(options, "DilationWFactor"))
    attrs |= _window(at, options, x.shape, (weight.shape[1], weight.shape[2]), dilation)
    at.emit("depthwise_conv2d", [x.name], **attrs, dilation=dilation, act_q=_act_q(at, options))


def fully_connected(at: Importer) -> None:
    options, x = tflite.FullyConnectedOptions, at.activation(0)
    if at.op.option(options, "WeightsFormat") != 0:
        raise at.error(f"its weights are shuffled for another processor; {CONVERT}")
    attrs = _weights(at, x, 0)
    shape = at.result()[0]
    if attrs["weight"].ndim != 2 or shape[2] != attrs["weight"].shape[0]:
        raise at.error(f"output channels {shape[2]} do not fit weight {attrs['weight'].shape}")
    wanted = (shape[0], shape[1], attrs["weight"].shape[1])
    if x.size != math.prod(wanted):
        raise at.error(f"{x.size} inputs do not fit weight {attrs['weight'].shape}")
    source = x.name if x.shape == wanted else _rows(at, x, wanted)
    at.emit("fully_connected", [source], **attrs, act_q=_act_q(at, options))


def _rows(at: Importer, x: Tensor, shape: Shape) -> str:
    """The implied flattening in front of a dense layer, made a node."""
    name = f"{at.names[at.op.outputs[0]]}/rows"
    at.graph.tensors[name] = Tensor(name, shape, x.quant)
    at.graph.nodes.append(Node(name, "reshape", [x.name], name, {}))
    return name


def _binary(at: Importer, op: str, options: type) -> None:
    names: list[str] = []
    attrs: dict[str, Any] = {}
    shapes: list[Shape] = []
    for position in (0, 1):
        raw = at.operand(position)
        shapes.append(at.shape(raw))
        if raw.data is None:
            names.append(at.activation(position).name)
        else:
            const = at.constant(position, "INT8").reshape(shapes[-1]).astype(np.int8)
            attrs = {"const": const, "const_quant": at.quant(raw), "const_first": position == 0}
    if not names:
        raise at.error("both operands are constants; fold them before converting")
    try:
        at.expect(_as_shape(np.broadcast_shapes(*shapes)))
    except ValueError:
        raise at.error(f"shapes {shapes[0]} and {shapes[1]} do not broadcast; convert again") from None
    at.emit(op, names, **attrs, act_q=_act_q(at, options))


def add(at: Importer) -> None:
    _binary(at, "add", tflite.AddOptions)


def sub(at: Importer) -> None:
    _binary(at, "sub", tflite.SubOptions)


def mul(at: Importer) -> None:
    _binary(at, "mul", tflite.MulOptions)


def _same_quant(at: Importer, *inputs: Tensor) -> None:
    """What TFLite's specification demands of operators that only move values."""
    for x in inputs:
        if x.quant != at.result()[1]:
            text = f"input '{x.name}' and its output are quantised differently, which TFLite's int8"
            raise at.error(f"{text} specification forbids; convert again, or put a QUANTIZE between")


def concatenation(at: Importer) -> None:
    options = tflite.ConcatenationOptions
    inputs = [at.activation(i) for i in range(len(at.op.inputs))]
    if at.op.option(options, "FusedActivationFunction") != 0:
        raise at.error("a fused activation is not supported here; put it behind as an operator")
    _same_quant(at, *inputs)
    rank = len(at.raw.tensors[at.op.outputs[0]].shape)
    axis = _axis(at, at.op.option(options, "Axis"), rank)
    if axis < 0:
        raise at.error("joins along the batch; dhn-kit runs one at a time")
    shape = list(at.result()[0])
    shape[axis] = sum(x.shape[axis] for x in inputs)
    rest = [x.shape[:axis] + x.shape[axis + 1 :] for x in inputs]
    if any(r != tuple(shape[:axis] + shape[axis + 1 :]) for r in rest):
        raise at.error("its operands' shapes do not join; convert the network again")
    at.expect(_as_shape(shape))
    at.emit("concat", [x.name for x in inputs], axis=axis)


def _axis(at: Importer, axis: int, rank: int) -> int:
    """An axis of the file's tensor as one of (H, W, C); negative for what lies in front."""
    if not -rank <= axis < rank:
        raise at.error(f"axis {axis} does not exist in rank {rank}; convert the network again")
    return axis % rank - rank + 3


def _pool(at: Importer, op: str) -> None:
    options, x = tflite.Pool2DOptions, at.activation(0)
    _same_quant(at, x)
    kernel = (at.op.option(options, "FilterHeight"), at.op.option(options, "FilterWidth"))
    attrs = _window(at, options, x.shape, kernel, (1, 1))
    at.expect((*at.result()[0][:2], x.shape[2]))
    at.emit(op, [x.name], **attrs, kernel=kernel, act_q=_act_q(at, options))


def max_pool(at: Importer) -> None:
    _pool(at, "max_pool")


def average_pool(at: Importer) -> None:
    _pool(at, "avg_pool")


def mean(at: Importer) -> None:
    x = at.activation(0)
    rank = len(at.operand(0).shape)
    axes = {_axis(at, int(a), rank) for a in at.constant(1, "INT32").reshape(-1)}
    if 2 in axes or any(x.shape[a] > 1 and a not in axes for a in (0, 1)):
        raise at.error("only the mean over height and width together is supported")
    at.expect((1, 1, x.shape[2]))
    at.emit("mean", [x.name])


def pad(at: Importer) -> None:
    x = at.activation(0)
    _same_quant(at, x)
    widths = at.constant(1, "INT32", "INT64")
    if widths.size != 2 * len(at.operand(0).shape):
        raise at.error(f"{widths.size} widths do not fit {len(at.operand(0).shape)} axes; convert the network again")
    pairs = [(int(b), int(e)) for b, e in widths.reshape(-1, 2)]
    pairs = [(0, 0)] * (4 - len(pairs)) + pairs
    if any(p != (0, 0) for p in pairs[:-3]) or min(min(p) for p in pairs) < 0:
        raise at.error(f"padding {pairs} must not be negative nor touch the batch")
    at.expect(_as_shape([n + b + e for n, (b, e) in zip(x.shape, pairs[-3:], strict=True)]))
    at.emit("pad", [x.name], pad=tuple(pairs[-3:]), value=_pad_value(at))


def _pad_value(at: Importer) -> float:
    if at.op.code == "PAD":
        return 0.0
    if at.quant(at.operand(2)) != at.result()[1]:
        raise at.error("its value is quantised unlike its output; convert the network again")
    quant = at.result()[1]
    return quant.scale * (int(at.constant(2, "INT8").reshape(-1)[0]) - quant.zero_point)


def reshape(at: Importer) -> None:
    x = at.activation(0)
    _same_quant(at, x)
    if math.prod(at.result()[0]) != x.size:
        raise at.error(f"{x.size} values do not fit shape {at.result()[0]}; convert the network again")
    at.emit("reshape", [x.name])


def softmax(at: Importer) -> None:
    x = at.activation(0)
    _fixed_output(at, Quant(1 / 256, -128))
    at.expect(x.shape)
    at.emit("softmax", [x.name], beta=float(at.op.option(tflite.SoftmaxOptions, "Beta")))


def _fixed_output(at: Importer, quant: Quant) -> None:
    if at.result()[1] != quant:
        text = f"its output must have scale {quant.scale} and zero point {quant.zero_point}"
        raise at.error(f"{text}, as TFLite's int8 specification says; convert the network again")


def _unary(at: Importer, fn: str, **params: float) -> None:
    x = at.activation(0)
    at.expect(x.shape)
    at.emit("unary", [x.name], fn=fn, params=params)


def logistic(at: Importer) -> None:
    _fixed_output(at, Quant(1 / 256, -128))
    _unary(at, "sigmoid")


def tanh(at: Importer) -> None:
    _fixed_output(at, Quant(1 / 128, 0))
    _unary(at, "tanh")


def relu(at: Importer) -> None:
    _unary(at, "relu")


def relu6(at: Importer) -> None:
    _unary(at, "clip", low=0.0, high=6.0)


def leaky_relu(at: Importer) -> None:
    _unary(at, "leaky_relu", alpha=float(at.op.option(tflite.LeakyReluOptions, "Alpha")))


def hard_swish(at: Importer) -> None:
    x = at.activation(0)
    assert x.quant is not None
    if x.quant.scale / 128 / at.result()[1].scale >= 1:
        raise at.error("its output scale is too fine for TFLite's fixed-point hard-swish; convert again")
    _unary(at, "hard_swish")


def quantize(at: Importer) -> None:
    _unary(at, "requantize")


def _as_shape(values: npt.ArrayLike) -> Shape:
    h, w, c = (int(v) for v in np.asarray(values))
    return h, w, c


def _quantize_f32(value: float, quant: Quant) -> int:
    """Round half away from zero of value / scale in single precision, plus the zero point."""
    q = float(np.float32(value) / np.float32(quant.scale))
    return quant.zero_point + int(math.copysign(math.floor(abs(q) + 0.5), q))


def _padding(size: int, kernel: int, stride: int, dilation: int, same: bool) -> tuple[int, int, int]:
    """(output size, padding before, padding after) along one axis."""
    reach = (kernel - 1) * dilation + 1
    if not same:
        return (size - reach) // stride + 1, 0, 0
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + reach - size)
    return out, total // 2, total - total // 2


#: Operator of the schema -> what appends its node.
HANDLERS: dict[str, Callable[[Importer], None]] = {
    "CONV_2D": conv2d, "DEPTHWISE_CONV_2D": depthwise_conv2d,
    "FULLY_CONNECTED": fully_connected, "ADD": add, "SUB": sub, "MUL": mul,
    "CONCATENATION": concatenation, "MAX_POOL_2D": max_pool,
    "AVERAGE_POOL_2D": average_pool, "MEAN": mean, "PAD": pad, "PADV2": pad,
    "RESHAPE": reshape, "SQUEEZE": reshape, "EXPAND_DIMS": reshape,
    "SOFTMAX": softmax, "LOGISTIC": logistic, "TANH": tanh, "RELU": relu,
    "RELU6": relu6, "LEAKY_RELU": leaky_relu, "HARD_SWISH": hard_swish,
    "QUANTIZE": quantize,
}  # fmt: skip
