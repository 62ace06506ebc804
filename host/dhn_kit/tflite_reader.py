"""Reads the flatbuffer of a .tflite into plain tensors and operators; understands none of them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from dhn_kit.errors import DhnError

IDENTIFIER = b"TFL3"
#: What to do about a network that is not int8.
CONVERT = (
    "convert with full integer quantisation (int8 inputs, outputs and weights) or import the float network as ONNX"
)
#: What the flatbuffer package raises on offsets that lead nowhere.
_DAMAGE = (struct.error, ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


OPERATOR_NAMES = _names(tflite.BuiltinOperator)
TYPE_NAMES = _names(tflite.TensorType)
DTYPES: dict[str, type[np.generic]] = {"INT8": np.int8, "INT32": np.int32, "INT64": np.int64, "FLOAT32": np.float32}


@dataclass(frozen=True)
class RawTensor:
    """``shape`` as in the file, batch included; ``dtype`` is TFLite's name; ``data`` holds a constant's values."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int
    data: npt.NDArray[Any] | None

    def __str__(self) -> str:
        return f"'{self.name}'"


@dataclass(frozen=True)
class RawOperator:
    """``inputs`` and ``outputs`` are tensor numbers, -1 for an operand left out."""

    index: int
    code: str
    inputs: list[int]
    outputs: list[int]
    table: Any

    def option(self, options: type, method: str) -> Any:
        """One field of the operator's option table; 0, the schema's usual default, where the file has no table."""
        if self.table is None:
            return 0
        reader = options()
        try:
            reader.Init(self.table.Bytes, self.table.Pos)
            return getattr(reader, method)()
        except _DAMAGE as problem:
            raise DhnError(f"operator {self.index} {self.code}: its options are damaged; convert it again") from problem


@dataclass(frozen=True)
class RawModel:
    tensors: list[RawTensor]
    operators: list[RawOperator]
    inputs: list[int]
    outputs: list[int]


def read_model(data: bytes, name: str) -> RawModel:
    """The main subgraph. Raises DhnError when the bytes are no .tflite, or a damaged one."""
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise DhnError(f"'{name}' is not a .tflite file (no {IDENTIFIER.decode()} mark); check the path")
    try:
        raw = _parse(data)
        _check_indices(raw)
    except _DAMAGE as problem:
        raise DhnError(f"'{name}' is truncated or damaged; copy or convert it again") from problem
    return raw


def _parse(data: bytes) -> RawModel:
    model = tflite.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(0)
    tensors = [_tensor(model, graph.Tensors(i), i) for i in range(graph.TensorsLength())]
    operators = [_operator(model, graph.Operators(i), i) for i in range(graph.OperatorsLength())]
    return RawModel(tensors, operators, _ints(graph.InputsAsNumpy()), _ints(graph.OutputsAsNumpy()))


def _check_indices(raw: RawModel) -> None:
    """Only operands may be left out (-1)."""
    made = [*raw.inputs, *raw.outputs, *(o for op in raw.operators for o in op.outputs)]
    used = [i for op in raw.operators for i in op.inputs]
    if not raw.operators or not raw.inputs or not raw.outputs:
        raise ValueError("empty graph")
    if min(made) < 0 or min(used, default=0) < -1 or max(*made, *used) >= len(raw.tensors):
        raise ValueError("tensor number out of range")


def _ints(vector: Any) -> list[int]:
    """Absent vectors read as the integer 0."""
    return [int(v) for v in vector] if isinstance(vector, np.ndarray) else []


def _tensor(model: Any, tensor: Any, index: int) -> RawTensor:
    quant = tensor.Quantization()
    scale = quant.ScaleAsNumpy() if quant is not None else 0
    zero_point = quant.ZeroPointAsNumpy() if quant is not None else 0
    dtype = TYPE_NAMES.get(tensor.Type(), f"type {tensor.Type()}")
    shape = tuple(_ints(tensor.ShapeAsNumpy()))
    if tensor.Sparsity() is not None:
        dtype += " (sparse)"
    return RawTensor(
        index=index,
        name=(tensor.Name() or b"").decode(),
        shape=shape,
        dtype=dtype,
        scale=np.array(scale, np.float32).reshape(-1) if isinstance(scale, np.ndarray) else np.zeros(0, np.float32),
        zero_point=np.array(_ints(zero_point), np.int64),
        axis=quant.QuantizedDimension() if quant is not None else 0,
        data=_constant(model.Buffers(tensor.Buffer()), shape, dtype),
    )


def _constant(buffer: Any, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any] | None:
    if buffer is None or buffer.DataLength() == 0:
        return None
    data = buffer.DataAsNumpy().tobytes()
    if dtype not in DTYPES:  # kept raw: whoever needs the values refuses the type by name
        return np.frombuffer(data, np.uint8)
    return np.frombuffer(data, np.dtype(DTYPES[dtype]).newbyteorder("<")).reshape(shape)


def _operator(model: Any, op: Any, index: int) -> RawOperator:
    code = model.OperatorCodes(op.OpcodeIndex())
    # Old files carry the number in the 8-bit field, new ones (also) in the wide one.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name = OPERATOR_NAMES.get(number, f"operator {number}")
    if name == "CUSTOM":
        name = f"CUSTOM {(code.CustomCode() or b'').decode()}"
    return RawOperator(index, name, _ints(op.InputsAsNumpy()), _ints(op.OutputsAsNumpy()), op.BuiltinOptions())
