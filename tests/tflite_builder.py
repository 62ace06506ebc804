"""Writes small .tflite files, tensor by tensor, for tests of the importer and of TFLite Micro's arithmetic."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import tflite

from dhn_kit.graph import Array, Quant

#: The option table of each operator that has options.
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "SOFTMAX": "SoftmaxOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "EXPAND_DIMS": "ExpandDimsOptions",
    "SQUEEZE": "SqueezeOptions",
}


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    data: bytes


@dataclass(frozen=True)
class _Operator:
    code: str
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Any]


class ModelBuilder:
    """Tensors are numbers in order of their making; buffer 0 is the empty one, as the schema wants."""

    def __init__(self) -> None:
        self.tensors: list[_Tensor] = []
        self.operators: list[_Operator] = []

    def activation(
        self, shape: tuple[int, ...], quant: Quant | None = None, dtype: str = "INT8", name: str | None = None
    ) -> int:
        scale = (quant.scale,) if quant else ()
        zero_point = (quant.zero_point,) if quant else ()
        return self._add(_Tensor(name or f"t{len(self.tensors)}", shape, dtype, scale, zero_point, 0, b""))

    def constant(self, values: Array, scale: Any = (), zero_point: Any = None, axis: int = 0) -> int:
        """``scale`` a number or one per channel along ``axis``; zero points are 0 unless given."""
        scales = tuple(float(s) for s in np.atleast_1d(scale))
        zeros = np.zeros(len(scales), int) if zero_point is None else np.atleast_1d(zero_point)
        dtype = values.dtype.name.upper()
        data = np.ascontiguousarray(values).tobytes()
        zero_points = tuple(int(z) for z in zeros)
        return self._add(_Tensor(f"t{len(self.tensors)}", values.shape, dtype, scales, zero_points, axis, data))

    def _add(self, tensor: _Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def op(self, code: str, inputs: list[int], output: int, **options: Any) -> int:
        """``options`` by the schema's names: StrideH=1, Padding=tflite.Padding.SAME. Returns ``output``."""
        self.operators.append(_Operator(code, inputs, [output], options))
        return output

    def build(self, inputs: list[int], outputs: list[int]) -> bytes:
        fb = flatbuffers.Builder(1024)
        buffers = [_table(fb, "Buffer")]
        tensors = []
        for tensor in self.tensors:
            tensors.append(_tensor(fb, tensor, len(buffers) if tensor.data else 0))
            if tensor.data:
                buffers.append(_table(fb, "Buffer", Data=_buffer(fb, tensor.data)))
        codes = sorted({op.code for op in self.operators})
        operators = [_operator(fb, op, codes.index(op.code)) for op in self.operators]
        graph = _table(
            fb,
            "SubGraph",
            Tensors=_tables(fb, tensors),
            Inputs=_ints(fb, inputs),
            Outputs=_ints(fb, outputs),
            Operators=_tables(fb, operators),
        )
        model = _table(
            fb,
            "Model",
            Version=3,
            OperatorCodes=_tables(fb, [_code(fb, code) for code in codes]),
            Subgraphs=_tables(fb, [graph]),
            Buffers=_tables(fb, buffers),
        )
        fb.Finish(model, b"TFL3")
        return bytes(fb.Output())


def _table(fb: Any, name: str, **fields: Any) -> int:
    """One table through the schema's generated functions NameStart, NameAddField, NameEnd.

    The functions are taken from the table's own module: the package lets a few of its constants shadow them.
    """
    module = __import__(f"tflite.{name}", fromlist=[name])
    getattr(module, name + "Start")(fb)
    for field, value in fields.items():
        getattr(module, f"{name}Add{field}")(fb, value)
    return int(getattr(module, name + "End")(fb))


def _buffer(fb: Any, data: bytes) -> int:
    """Constants lie at multiples of 16, as the schema forces; TFLite Micro reads them in place."""
    fb.StartVector(1, len(data), 16)
    for byte in reversed(data):
        fb.PrependByte(byte)
    return int(fb.EndVector())


def _tables(fb: Any, offsets: list[int]) -> int:
    fb.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        fb.PrependUOffsetTRelative(offset)
    return int(fb.EndVector())


def _ints(fb: Any, values: Any, dtype: type = np.int32) -> int:
    return int(fb.CreateNumpyVector(np.asarray(values, dtype)))


def _tensor(fb: Any, tensor: _Tensor, buffer: int) -> int:
    name = fb.CreateString(tensor.name)
    fields = {"Shape": _ints(fb, tensor.shape), "Buffer": buffer, "Name": name}
    if tensor.scale:
        scale, zero_point = _ints(fb, tensor.scale, np.float32), _ints(fb, tensor.zero_point, np.int64)
        fields["Quantization"] = _table(
            fb, "QuantizationParameters", Scale=scale, ZeroPoint=zero_point, QuantizedDimension=tensor.axis
        )
    return _table(fb, "Tensor", Type=getattr(tflite.TensorType, tensor.dtype), **fields)


def _code(fb: Any, code: str) -> int:
    number = getattr(tflite.BuiltinOperator, code)
    return _table(fb, "OperatorCode", DeprecatedBuiltinCode=min(number, 127), BuiltinCode=number, Version=1)


def _operator(fb: Any, op: _Operator, code: int) -> int:
    fields = {"OpcodeIndex": code, "Inputs": _ints(fb, op.inputs), "Outputs": _ints(fb, op.outputs)}
    name = OPTIONS.get(op.code)
    if name:
        values = {k: _ints(fb, v) if isinstance(v, list) else v for k, v in op.options.items()}
        fields["BuiltinOptions"] = _table(fb, name, **values)
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, name)
    return _table(fb, "Operator", **fields)
