"""Turns an int8 .tflite into the canonical graph, every quantisation parameter unchanged."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Graph, Node, Port, Quant, Shape, Tensor
from dhn_kit.onnx_import.order import schedule
from dhn_kit.tflite_reader import RawModel, RawOperator, RawTensor, read_model

CONVERT = (
    "convert with full integer quantisation (int8 inputs, outputs and weights) or import the float network as ONNX"
)


def import_tflite(source: str | Path | bytes, name: str | None = None) -> Graph:
    """A path, or the file's bytes, to a quantised Graph with ``source="tflite"``.

    Operators keep the file's order, except that the cheaper side of a residual comes first. A node is named after its
    output tensor; ``attrs["tflite_index"]`` and ``attrs["tflite_op"]`` say which operator of the file it was. QUANTIZE
    and DEQUANTIZE at a float border become a float32 port. Raises DhnError for anything but int8 networks of batch one
    made of operators listed in SUPPORTED.
    """
    if isinstance(source, bytes):
        data, title = source, name or "model"
    else:
        path = Path(source)
        title = name or path.stem
        try:
            data = path.read_bytes()
        except OSError as problem:
            raise DhnError(f"cannot read '{path}': {problem.strerror}; check the path") from problem
    graph = _Importer(read_model(data, title), title).run()
    schedule(graph)
    return graph


class _Importer:
    """Walks the operators once, in file order; every method below `_convert` handles one kind."""

    def __init__(self, raw: RawModel, name: str) -> None:
        self.raw = raw
        self.graph = Graph(name, {}, [], [], [], source="tflite")
        self.names = _unique_names(raw.tensors)
        #: tensor number -> tensor number, where a float border was dropped
        self.same: dict[int, int] = {}
        self.op = raw.operators[0]

    def run(self) -> Graph:
        borders = self._input_borders()
        for number in self.raw.inputs:
            self._input(number, borders)
        for op in self.raw.operators:
            self.op = op
            self._convert(op)
        for number in self.raw.outputs:
            self._output(number)
        return self.graph

    # Ports

    def _input_borders(self) -> dict[int, int]:
        """Float inputs whose reader is a QUANTIZE, with the int8 tensor it makes."""
        floats = {i for i in self.raw.inputs if self.raw.tensors[i].dtype == "FLOAT32"}
        borders: dict[int, int] = {}
        for op in self.raw.operators:
            for number in floats.intersection(op.inputs):
                if op.code == "QUANTIZE" and number not in borders:
                    borders[number] = op.outputs[0]
        return borders

    def _input(self, number: int, borders: dict[int, int]) -> None:
        raw = self.raw.tensors[number]
        if len(raw.shape) > 1 and raw.shape[0] != 1:
            raise DhnError(f"input {raw} has batch {raw.shape[0]}; dhn-kit runs one at a time: convert with batch 1")
        if raw.dtype not in ("INT8", "FLOAT32"):
            raise DhnError(f"input {raw} is {raw.dtype}; inputs may be int8 or float32: {CONVERT}")
        if raw.dtype == "FLOAT32" and number not in borders:
            raise DhnError(f"the network computes in float: input {raw} is not quantised; {CONVERT}")
        inner = borders.get(number, number)
        self._define(inner)
        self.graph.inputs.append(self._port(inner, raw))

    def _output(self, number: int) -> None:
        inner = self.same.get(number, number)
        raw = self.raw.tensors[number]
        if self.names[inner] not in self.graph.tensors:
            raise DhnError(f"output {raw} is made by no operator; convert the network again")
        self.graph.outputs.append(self._port(inner, raw))

    def _port(self, inner: int, raw: RawTensor) -> Port:
        user_shape = raw.shape[1:] if len(raw.shape) > 1 else raw.shape
        return Port(self.names[inner], self.names[raw.index], user_shape, dtype=raw.dtype.lower())

    # Tensors

    def _define(self, number: int) -> Tensor:
        raw = self.raw.tensors[number]
        tensor = Tensor(self.names[number], self._shape(raw), self._quant(raw))
        self.graph.tensors[tensor.name] = tensor
        return tensor

    def _shape(self, raw: RawTensor) -> Shape:
        """The last three axes; whatever is in front of them must be one."""
        shape = (1,) * (4 - len(raw.shape)) + raw.shape
        if math.prod(shape[:-3]) != 1:
            raise self._error(f"tensor {raw} has shape {raw.shape}; dhn-kit takes batch 1 and at most three more axes")
        if min(shape) < 1:
            raise self._error(f"tensor {raw} has shape {raw.shape}; convert with every size fixed")
        return shape[-3], shape[-2], shape[-1]

    def _quant(self, raw: RawTensor) -> Quant:
        if raw.dtype != "INT8":
            raise self._error(f"tensor {raw} is {raw.dtype}; dhn-kit runs int8 networks: {CONVERT}")
        if len(raw.scale) != 1 or len(raw.zero_point) != 1:
            raise self._error(f"tensor {raw} needs one scale and zero point, it has {len(raw.scale)}; {CONVERT}")
        scale, zero_point = float(raw.scale[0]), int(raw.zero_point[0])
        if not (math.isfinite(scale) and scale > 0 and -128 <= zero_point <= 127):
            raise self._error(f"tensor {raw} has scale {scale} and zero point {zero_point}; {CONVERT}")
        return Quant(scale, zero_point)

    def _error(self, text: str) -> DhnError:
        return DhnError(f"operator {self.op.index} {self.op.code}: {text}")

    def _operand(self, position: int) -> RawTensor:
        if position >= len(self.op.inputs) or self.op.inputs[position] < 0:
            raise self._error(f"operand {position} is missing; convert the network again")
        number = self.op.inputs[position]
        return self.raw.tensors[self.same.get(number, number)]

    def _activation(self, position: int) -> Tensor:
        raw = self._operand(position)
        name = self.names[raw.index]
        if raw.data is not None:
            raise self._error(f"operand {raw} is a constant, which is not supported here; fold it before converting")
        if name not in self.graph.tensors:
            self._quant(raw)  # names the type if that is the reason
            raise self._error(f"operand {raw} is made by no operator before it; convert the network again")
        return self.graph.tensors[name]

    def _constant(self, position: int, *dtypes: str) -> Array:
        raw = self._operand(position)
        if raw.data is None:
            raise self._error(f"operand {raw} must be a constant; make it one before converting")
        if raw.dtype not in dtypes:
            raise self._error(f"constant {raw} is {raw.dtype}, supported is {' or '.join(dtypes)}; {CONVERT}")
        return raw.data

    # Operators

    def _convert(self, op: RawOperator) -> None:
        outputs = [self.raw.tensors[o] for o in op.outputs]
        if outputs and all(o.dtype in ("INT32", "INT64") for o in outputs):
            return  # computes a shape; every shape is known already
        if op.code in ("QUANTIZE", "DEQUANTIZE") and self._drop_border(op):
            return
        if op.code not in _HANDLERS:
            where = f" (output {outputs[0]})" if outputs else ""
            raise self._error(f"not supported{where}; replace it by one of {', '.join(sorted(_HANDLERS))}")
        if len(outputs) != 1:
            raise self._error(f"has {len(outputs)} outputs, one is supported; convert the network again")
        _HANDLERS[op.code](self)

    def _drop_border(self, op: RawOperator) -> bool:
        """QUANTIZE of a float input, DEQUANTIZE into a float output: the port's business."""
        source, target = op.inputs[0], op.outputs[0]
        if op.code == "DEQUANTIZE":
            if target not in self.raw.outputs:
                raise self._error(f"the network computes in float behind {self.raw.tensors[source]}; {CONVERT}")
            self._activation(0)
            self.same[target] = self.same.get(source, source)
            return True
        if source not in self.raw.inputs or self.raw.tensors[source].dtype != "FLOAT32":
            return False
        first = next(o.outputs[0] for o in self.raw.operators if o.code == "QUANTIZE" and source in o.inputs)
        if target != first:
            if self._quant(self.raw.tensors[target]) != self._quant(self.raw.tensors[first]):
                raise self._error(f"input {self.raw.tensors[source]} is quantised in two ways; {CONVERT}")
            self.same[target] = first
        return True

    def _emit(self, op: str, inputs: list[str], **attrs: Any) -> None:
        output = self._define(self.op.outputs[0])
        attrs |= {"tflite_index": self.op.index, "tflite_op": self.op.code}
        self.graph.nodes.append(Node(output.name, op, inputs, output.name, attrs))

    def _result(self) -> tuple[Shape, Quant]:
        raw = self.raw.tensors[self.op.outputs[0]]
        return self._shape(raw), self._quant(raw)

    def _expect(self, shape: Shape) -> None:
        if self._result()[0] != shape:
            text = f"output {self.raw.tensors[self.op.outputs[0]]} should have height, width, channels {shape}"
            raise self._error(f"{text}, not {self._result()[0]}; convert the network again")

    def _act_q(self, options: type) -> tuple[int, int]:
        """The fused activation as a clamp of int8 values: CalculateActivationRangeQuantized, in single precision."""
        kind = self.op.option(options, "FusedActivationFunction")
        if kind not in _ACTIVATIONS:
            raise self._error("its fused activation is not supported; use none, relu, relu6 or relu_n1_to_1")
        low, high = _ACTIVATIONS[kind]
        quant = self._result()[1]
        return (
            -128 if low is None else max(-128, _quantize_f32(low, quant)),
            127 if high is None else min(127, _quantize_f32(high, quant)),
        )

    def _weights(self, x: Tensor, axis: int) -> dict[str, Any]:
        raw = self._operand(1)
        weight = self._constant(1, "INT8")
        channels = weight.shape[axis] if weight.ndim else 0
        if len(raw.scale) not in (1, channels) or (len(raw.scale) > 1 and raw.axis != axis % weight.ndim):
            raise self._error(f"weight {raw} has {len(raw.scale)} scales for {channels} output channels; {CONVERT}")
        if np.any(raw.zero_point != 0):
            raise self._error(f"weight {raw} is not symmetric (zero point other than 0); {CONVERT}")
        bias = np.zeros(channels, np.int32)
        if len(self.op.inputs) > 2 and self.op.inputs[2] >= 0:
            bias = self._constant(2, "INT32").reshape(-1).astype(np.int32)
        if len(bias) != channels:
            raise self._error(f"bias has {len(bias)} values for {channels} output channels; convert the network again")
        scale = np.broadcast_to(raw.scale.astype(np.float64), (channels,)).copy()
        return {"weight": weight.astype(np.int8), "bias": bias, "weight_scale": scale}

    def _window(self, options: type, x: Shape, kernel: tuple[int, int], dilation: tuple[int, int]) -> dict[str, Any]:
        """Stride and explicit padding; the output's size must be what they give."""
        stride = (self.op.option(options, "StrideH"), self.op.option(options, "StrideW"))
        if min(*stride, *kernel, *dilation) < 1:
            raise self._error(f"stride {stride}, window {kernel}, dilation {dilation} must be positive")
        same = self.op.option(options, "Padding") == tflite.Padding.SAME
        axes = [_padding(*axis, same) for axis in zip(x, kernel, stride, dilation, strict=False)]
        (out_h, top, bottom), (out_w, left, right) = axes
        self._expect((out_h, out_w, self._result()[0][2]))
        return {"stride": stride, "pad": (top, left, bottom, right)}

    def conv2d(self) -> None:
        options, x = tflite.Conv2DOptions, self._activation(0)
        attrs = self._weights(x, 0)
        if attrs["weight"].ndim != 4:
            raise self._error("its weight must have four axes; convert the network again")
        out_c, kh, kw, depth = attrs["weight"].shape
        groups, rest = divmod(x.shape[2], max(1, depth))
        if rest or not groups or out_c % groups or self._result()[0][2] != out_c:
            raise self._error(f"{x.shape[2]} input channels do not fit weight {attrs['weight'].shape}")
        dilation = (self.op.option(options, "DilationHFactor"), self.op.option(options, "DilationWFactor"))
        attrs |= self._window(options, x.shape, (kh, kw), dilation)
        self._emit("conv2d", [x.name], **attrs, dilation=dilation, groups=groups, act_q=self._act_q(options))

    def depthwise_conv2d(self) -> None:
        options, x = tflite.DepthwiseConv2DOptions, self._activation(0)
        attrs = self._weights(x, -1)
        weight = attrs["weight"]
        channels_fit = weight.ndim == 4 and weight.shape[3] % x.shape[2] == 0
        if not channels_fit or weight.shape[0] != 1 or self._result()[0][2] != weight.shape[3]:
            raise self._error(f"{x.shape[2]} input channels do not fit weight {weight.shape}")
        attrs["weight"] = np.ascontiguousarray(weight[0])
        dilation = (self.op.option(options, "DilationHFactor"), self.op.option(options, "DilationWFactor"))
        attrs |= self._window(options, x.shape, (weight.shape[1], weight.shape[2]), dilation)
        self._emit("depthwise_conv2d", [x.name], **attrs, dilation=dilation, act_q=self._act_q(options))

    def fully_connected(self) -> None:
        options, x = tflite.FullyConnectedOptions, self._activation(0)
        if self.op.option(options, "WeightsFormat") != 0:
            raise self._error(f"its weights are shuffled for another processor; {CONVERT}")
        attrs = self._weights(x, 0)
        shape = self._result()[0]
        if attrs["weight"].ndim != 2 or shape[2] != attrs["weight"].shape[0]:
            raise self._error(f"output channels {shape[2]} do not fit weight {attrs['weight'].shape}")
        wanted = (shape[0], shape[1], attrs["weight"].shape[1])
        if x.size != math.prod(wanted):
            raise self._error(f"{x.size} inputs do not fit weight {attrs['weight'].shape}")
        source = x.name if x.shape == wanted else self._rows(x, wanted)
        # One scale for all: TFLite multiplies input and weight scale in single precision here, and only here.
        single = len(self._operand(1).scale) == 1
        self._emit("fully_connected", [source], **attrs, single_precision_scale=single, act_q=self._act_q(options))

    def _rows(self, x: Tensor, shape: Shape) -> str:
        """The implied flattening in front of a dense layer, made a node."""
        name = f"{self.names[self.op.outputs[0]]}/rows"
        self.graph.tensors[name] = Tensor(name, shape, x.quant)
        self.graph.nodes.append(Node(name, "reshape", [x.name], name, {}))
        return name

    def _binary(self, op: str, options: type) -> None:
        names: list[str] = []
        attrs: dict[str, Any] = {}
        shapes: list[Shape] = []
        for position in (0, 1):
            raw = self._operand(position)
            shapes.append(self._shape(raw))
            if raw.data is None:
                names.append(self._activation(position).name)
            else:
                const = self._constant(position, "INT8").reshape(shapes[-1]).astype(np.int8)
                attrs = {"const": const, "const_quant": self._quant(raw), "const_first": position == 0}
        if not names:
            raise self._error("both operands are constants; fold them before converting")
        try:
            self._expect(_as_shape(np.broadcast_shapes(*shapes)))
        except ValueError:
            raise self._error(f"shapes {shapes[0]} and {shapes[1]} do not broadcast; convert again") from None
        self._emit(op, names, **attrs, act_q=self._act_q(options))

    def add(self) -> None:
        self._binary("add", tflite.AddOptions)

    def sub(self) -> None:
        self._binary("sub", tflite.SubOptions)

    def mul(self) -> None:
        self._binary("mul", tflite.MulOptions)

    def _same_quant(self, *inputs: Tensor) -> None:
        """What TFLite's specification demands of operators that only move values."""
        for x in inputs:
            if x.quant != self._result()[1]:
                text = f"input '{x.name}' and its output are quantised differently, which TFLite's int8"
                raise self._error(f"{text} specification forbids; convert again, or put a QUANTIZE between")

    def concatenation(self) -> None:
        options = tflite.ConcatenationOptions
        inputs = [self._activation(i) for i in range(len(self.op.inputs))]
        if self.op.option(options, "FusedActivationFunction") != 0:
            raise self._error("a fused activation is not supported here; put it behind as an operator")
        self._same_quant(*inputs)
        rank = len(self.raw.tensors[self.op.outputs[0]].shape)
        axis = self._axis(self.op.option(options, "Axis"), rank)
        if axis < 0:
            raise self._error("joins along the batch; dhn-kit runs one at a time")
        shape = list(self._result()[0])
        shape[axis] = sum(x.shape[axis] for x in inputs)
        rest = [x.shape[:axis] + x.shape[axis + 1 :] for x in inputs]
        if any(r != tuple(shape[:axis] + shape[axis + 1 :]) for r in rest):
            raise self._error("its operands' shapes do not join; convert the network again")
        self._expect(_as_shape(shape))
        self._emit("concat", [x.name for x in inputs], axis=axis)

    def _axis(self, axis: int, rank: int) -> int:
        """An axis of the file's tensor as one of (H, W, C); negative for what lies in front."""
        if not -rank <= axis < rank:
            raise self._error(f"axis {axis} does not exist in rank {rank}; convert the network again")
        return axis % rank - rank + 3

    def _pool(self, op: str) -> None:
        options, x = tflite.Pool2DOptions, self._activation(0)
        self._same_quant(x)
        kernel = (self.op.option(options, "FilterHeight"), self.op.option(options, "FilterWidth"))
        attrs = self._window(options, x.shape, kernel, (1, 1))
        self._expect((*self._result()[0][:2], x.shape[2]))
        self._emit(op, [x.name], **attrs, kernel=kernel, act_q=self._act_q(options))

    def max_pool(self) -> None:
        self._pool("max_pool")

    def average_pool(self) -> None:
        self._pool("avg_pool")

    def mean(self) -> None:
        x = self._activation(0)
        rank = len(self._operand(0).shape)
        axes = {self._axis(int(a), rank) for a in self._constant(1, "INT32").reshape(-1)}
        if 2 in axes or any(x.shape[a] > 1 and a not in axes for a in (0, 1)):
            raise self._error("only the mean over height and width together is supported")
        self._expect((1, 1, x.shape[2]))
        self._emit("mean", [x.name])

    def pad(self) -> None:
        x = self._activation(0)
        self._same_quant(x)
        pairs = [(int(b), int(e)) for b, e in self._constant(1, "INT32", "INT64").reshape(-1, 2)]
        pairs = [(0, 0)] * (4 - len(pairs)) + pairs
        if any(p != (0, 0) for p in pairs[:-3]) or min(min(p) for p in pairs) < 0:
            raise self._error(f"padding {pairs} must not be negative nor touch the batch")
        self._expect(_as_shape([n + b + e for n, (b, e) in zip(x.shape, pairs[-3:], strict=True)]))
        self._emit("pad", [x.name], pad=tuple(pairs[-3:]), value=self._pad_value())

    def _pad_value(self) -> float:
        if self.op.code == "PAD":
            return 0.0
        if self._quant(self._operand(2)) != self._result()[1]:
            raise self._error("its value is quantised unlike its output; convert the network again")
        quant = self._result()[1]
        return quant.scale * (int(self._constant(2, "INT8").reshape(-1)[0]) - quant.zero_point)

    def reshape(self) -> None:
        x = self._activation(0)
        self._same_quant(x)
        if math.prod(self._result()[0]) != x.size:
            raise self._error(f"{x.size} values do not fit shape {self._result()[0]}; convert the network again")
        self._emit("reshape", [x.name])

    def softmax(self) -> None:
        x = self._activation(0)
        self._fixed_output(Quant(1 / 256, -128))
        self._expect(x.shape)
        self._emit("softmax", [x.name], beta=float(self.op.option(tflite.SoftmaxOptions, "Beta")))

    def _fixed_output(self, quant: Quant) -> None:
        if self._result()[1] != quant:
            text = f"its output must have scale {quant.scale} and zero point {quant.zero_point}"
            raise self._error(f"{text}, as TFLite's int8 specification says; convert the network again")

    def _unary(self, fn: str, **params: float) -> None:
        x = self._activation(0)
        self._expect(x.shape)
        self._emit("unary", [x.name], fn=fn, params=params)

    def logistic(self) -> None:
        self._fixed_output(Quant(1 / 256, -128))
        self._unary("sigmoid")

    def tanh(self) -> None:
        self._fixed_output(Quant(1 / 128, 0))
        self._unary("tanh")

    def relu(self) -> None:
        self._unary("relu")

    def relu6(self) -> None:
        self._unary("clip", low=0.0, high=6.0)

    def leaky_relu(self) -> None:
        self._unary("leaky_relu", alpha=float(self.op.option(tflite.LeakyReluOptions, "Alpha")))

    def hard_swish(self) -> None:
        x = self._activation(0)
        assert x.quant is not None
        if np.float32(x.quant.scale) / np.float32(128) / np.float32(self._result()[1].scale) >= 1:
            raise self._error("its output scale is too fine for TFLite's fixed-point hard-swish; convert again")
        self._unary("hard_swish")

    def quantize(self) -> None:
        self._unary("requantize")


_HANDLERS: dict[str, Callable[[_Importer], None]] = {
    "CONV_2D": _Importer.conv2d, "DEPTHWISE_CONV_2D": _Importer.depthwise_conv2d,
    "FULLY_CONNECTED": _Importer.fully_connected, "ADD": _Importer.add, "SUB": _Importer.sub, "MUL": _Importer.mul,
    "CONCATENATION": _Importer.concatenation, "MAX_POOL_2D": _Importer.max_pool,
    "AVERAGE_POOL_2D": _Importer.average_pool, "MEAN": _Importer.mean, "PAD": _Importer.pad, "PADV2": _Importer.pad,
    "RESHAPE": _Importer.reshape, "SQUEEZE": _Importer.reshape, "EXPAND_DIMS": _Importer.reshape,
    "SOFTMAX": _Importer.softmax, "LOGISTIC": _Importer.logistic, "TANH": _Importer.tanh, "RELU": _Importer.relu,
    "RELU6": _Importer.relu6, "LEAKY_RELU": _Importer.leaky_relu, "HARD_SWISH": _Importer.hard_swish,
    "QUANTIZE": _Importer.quantize,
}  # fmt: skip

#: Operators of the .tflite schema that import understands (DEQUANTIZE at a float output only).
SUPPORTED = tuple(sorted([*_HANDLERS, "DEQUANTIZE"]))

_ACTIVATIONS: dict[int, tuple[float | None, float | None]] = {
    tflite.ActivationFunctionType.NONE: (None, None),
    tflite.ActivationFunctionType.RELU: (0.0, None),
    tflite.ActivationFunctionType.RELU6: (0.0, 6.0),
    tflite.ActivationFunctionType.RELU_N1_TO_1: (-1.0, 1.0),
}


def _unique_names(tensors: list[RawTensor]) -> list[str]:
    """TFLite does not need names, nor unique ones; the canonical graph does."""
    seen: set[str] = set()
    names = []
    for t in tensors:
        name = t.name if t.name and t.name not in seen else f"{t.name}#{t.index}"
        seen.add(name)
        names.append(name)
    return names


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
