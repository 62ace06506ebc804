"""Turns an int8 .tflite into the canonical graph, every quantisation parameter unchanged."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Graph, Node, Port, Quant, Shape, Tensor
from dhn_kit.onnx_import.order import schedule
from dhn_kit.tflite_ops import HANDLERS
from dhn_kit.tflite_reader import CONVERT, RawModel, RawOperator, RawTensor, read_model

#: Operators of the .tflite schema that import understands (DEQUANTIZE at a float output only).
SUPPORTED = tuple(sorted([*HANDLERS, "DEQUANTIZE"]))


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
    graph = Importer(read_model(data, title), title).run()
    schedule(graph)
    return graph


class Importer:
    """Walks the operators once, in file order; tflite_ops holds what each kind needs."""

    def __init__(self, raw: RawModel, name: str) -> None:
        self.raw = raw
        self.graph = Graph(name, {}, [], [], [], source="tflite")
        self.names = _unique_names(raw.tensors)
        #: tensor number -> tensor number, where a float border was dropped
        self.same: dict[int, int] = {}
        #: the operator at hand
        self.op = raw.operators[0]
        self.started = False

    def run(self) -> Graph:
        borders = self._input_borders()
        for number in self.raw.inputs:
            self._input(number, borders)
        for op in self.raw.operators:
            self.op, self.started = op, True
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
                if op.code == "QUANTIZE" and op.outputs and number not in borders:
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
        if raw.dtype not in ("INT8", "FLOAT32"):
            raise DhnError(
                f"output {raw} is {raw.dtype}; end the network at its int8 scores, before ARG_MAX and its kind"
            )
        if self.names[inner] not in self.graph.tensors:
            raise DhnError(f"output {raw} is made by no operator; convert the network again")
        self.graph.outputs.append(self._port(inner, raw))

    def _port(self, inner: int, raw: RawTensor) -> Port:
        user_shape = raw.shape[1:] if len(raw.shape) > 1 else raw.shape
        return Port(self.names[inner], self.names[raw.index], user_shape, dtype=raw.dtype.lower())

    # Tensors

    def _define(self, number: int) -> Tensor:
        raw = self.raw.tensors[number]
        tensor = Tensor(self.names[number], self.shape(raw), self.quant(raw))
        if tensor.name in self.graph.tensors:
            raise self.error(f"tensor {raw} is written twice; convert the network again")
        self.graph.tensors[tensor.name] = tensor
        return tensor

    def shape(self, raw: RawTensor) -> Shape:
        """The last three axes; whatever is in front of them must be one."""
        shape = (1,) * (4 - len(raw.shape)) + raw.shape
        if math.prod(shape[:-3]) != 1:
            raise self.error(f"tensor {raw} has shape {raw.shape}; dhn-kit takes batch 1 and at most three more axes")
        if min(shape) < 1:
            raise self.error(f"tensor {raw} has shape {raw.shape}; convert with every size fixed")
        return shape[-3], shape[-2], shape[-1]

    def quant(self, raw: RawTensor) -> Quant:
        if raw.dtype != "INT8":
            raise self.error(f"tensor {raw} is {raw.dtype}; dhn-kit runs int8 networks: {CONVERT}")
        if len(raw.scale) != 1 or len(raw.zero_point) != 1:
            raise self.error(f"tensor {raw} needs one scale and zero point, it has {len(raw.scale)}; {CONVERT}")
        scale, zero_point = float(raw.scale[0]), int(raw.zero_point[0])
        if not (math.isfinite(scale) and scale > 0 and -128 <= zero_point <= 127):
            raise self.error(f"tensor {raw} has scale {scale} and zero point {zero_point}; {CONVERT}")
        return Quant(scale, zero_point)

    def error(self, text: str) -> DhnError:
        where = f"operator {self.op.index} {self.op.code}: " if self.started else ""
        return DhnError(f"{where}{text}")

    def operand(self, position: int) -> RawTensor:
        if position >= len(self.op.inputs) or self.op.inputs[position] < 0:
            raise self.error(f"operand {position} is missing; convert the network again")
        number = self.op.inputs[position]
        return self.raw.tensors[self.same.get(number, number)]

    def activation(self, position: int) -> Tensor:
        raw = self.operand(position)
        name = self.names[raw.index]
        if raw.data is not None:
            raise self.error(f"operand {raw} is a constant, which is not supported here; fold it before converting")
        if name not in self.graph.tensors:
            self.quant(raw)  # names the type if that is the reason
            raise self.error(f"operand {raw} is made by no operator before it; convert the network again")
        return self.graph.tensors[name]

    def constant(self, position: int, *dtypes: str) -> Array:
        raw = self.operand(position)
        if raw.data is None:
            raise self.error(f"operand {raw} must be a constant; make it one before converting")
        if raw.dtype not in dtypes:
            raise self.error(f"constant {raw} is {raw.dtype}, supported is {' or '.join(dtypes)}; {CONVERT}")
        return raw.data

    # Operators

    def _convert(self, op: RawOperator) -> None:
        outputs = [self.raw.tensors[o] for o in op.outputs]
        if outputs and all(o.dtype in ("INT32", "INT64") for o in outputs):
            return  # computes a shape; every shape is known already
        if op.code in ("QUANTIZE", "DEQUANTIZE") and len(op.inputs) == len(outputs) == 1 and self._drop_border(op):
            return
        if op.code not in HANDLERS:
            where = f" (output {outputs[0]})" if outputs else ""
            raise self.error(f"not supported{where}; replace it by one of {', '.join(sorted(HANDLERS))}")
        if len(outputs) != 1:
            raise self.error(f"has {len(outputs)} outputs, one is supported; convert the network again")
        HANDLERS[op.code](self)

    def _drop_border(self, op: RawOperator) -> bool:
        """QUANTIZE of a float input, DEQUANTIZE into a float output: the port's business."""
        source, target = op.inputs[0], op.outputs[0]
        if op.code == "DEQUANTIZE":
            if target not in self.raw.outputs:
                raise self.error(f"the network computes in float behind {self.raw.tensors[source]}; {CONVERT}")
            self.activation(0)
            self.same[target] = self.same.get(source, source)
            return True
        if source not in self.raw.inputs or self.raw.tensors[source].dtype != "FLOAT32":
            return False
        first = next(o.outputs[0] for o in self.raw.operators if o.code == "QUANTIZE" and source in o.inputs)
        if target != first:
            if self.quant(self.raw.tensors[target]) != self.quant(self.raw.tensors[first]):
                raise self.error(f"input {self.raw.tensors[source]} is quantised in two ways; {CONVERT}")
            self.same[target] = first
        return True

    def emit(self, op: str, inputs: list[str], **attrs: Any) -> None:
        output = self._define(self.op.outputs[0])
        attrs |= {"tflite_index": self.op.index, "tflite_op": self.op.code}
        self.graph.nodes.append(Node(output.name, op, inputs, output.name, attrs))

    def result(self) -> tuple[Shape, Quant]:
        raw = self.raw.tensors[self.op.outputs[0]]
        return self.shape(raw), self.quant(raw)

    def expect(self, shape: Shape) -> None:
        if self.result()[0] != shape:
            text = f"output {self.raw.tensors[self.op.outputs[0]]} should have height, width, channels {shape}"
            raise self.error(f"{text}, not {self.result()[0]}; convert the network again")


def _unique_names(tensors: list[RawTensor]) -> list[str]:
    """TFLite does not need names, nor unique ones; the canonical graph does."""
    seen: set[str] = set()
    names = []
    for t in tensors:
        name = t.name if t.name and t.name not in seen else f"{t.name}#{t.index}"
        seen.add(name)
        names.append(name)
    return names
