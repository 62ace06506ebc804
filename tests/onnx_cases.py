"""ONNX's own node tests for the operators that import supports, as models with constant weights."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

Array = npt.NDArray[np.generic]

#: Operator -> how many leading inputs are activations; the others (weights, shapes, bounds) become constants.
ACTIVATIONS = {
    "Conv": 1, "Gemm": 1, "MatMul": 1, "BatchNormalization": 1, "Relu": 1, "Clip": 1, "LeakyRelu": 1, "HardSwish": 1,
    "HardSigmoid": 1, "Sigmoid": 1, "Tanh": 1, "Abs": 1, "Exp": 1, "Neg": 1, "Add": 2, "Sub": 2, "Mul": 2, "Div": 1,
    "Concat": 9, "MaxPool": 1, "AveragePool": 1, "GlobalAveragePool": 1, "GlobalMaxPool": 1, "ReduceMean": 1, "Pad": 1,
    "Reshape": 1, "Flatten": 1, "Squeeze": 1, "Unsqueeze": 1, "Transpose": 1, "Softmax": 1, "Identity": 1, "Dropout": 1,
    "Constant": 0, "Cast": 1,
}  # fmt: skip

#: The newest version supported. The later ones of these operators only add number types.
OPSET = 21


@dataclass(frozen=True)
class OnnxCase:
    """One node test. ``inputs`` and ``outputs`` are the arrays of the remaining inputs, axis 0 being the batch."""

    name: str
    op: str
    model: onnx.ModelProto
    inputs: list[Array]
    outputs: list[Array]


@functools.cache
def node_cases() -> tuple[OnnxCase, ...]:
    """Every node test of an operator in ACTIVATIONS, in the order of names; the expanded forms left out."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # building the cases overflows on purpose
        from onnx.backend.test.loader import load_model_tests

        tests = load_model_tests(kind="node")
    cases = []
    for test in tests:
        nodes = test.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in ACTIVATIONS and not nodes[0].domain and "_expanded" not in test.name:
            cases += [_case(test.name, test.model, *data) for data in test.data_sets[:1]]
    cases.append(_no_op_cast())
    return tuple(sorted(cases, key=lambda c: c.name))


def _case(name: str, model: onnx.ModelProto, inputs: list[Array], outputs: list[Array]) -> OnnxCase:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.ir_version = min(fixed.ir_version, 10)
    op = fixed.graph.node[0].op_type
    for opset in fixed.opset_import:
        opset.version = min(opset.version, OPSET)
    keep = _activations(op, inputs)
    names = [i.name for i in fixed.graph.input]
    del fixed.graph.input[keep:]
    for constant, value in zip(names[keep:], inputs[keep:], strict=True):
        fixed.graph.initializer.append(numpy_helper.from_array(np.asarray(value), constant))
    if op == "Constant":
        _add_to_input(fixed, outputs[0])
        outputs = [outputs[0][None]]
        inputs, keep = [np.zeros_like(outputs[0])], 1
    return OnnxCase(name, op, fixed, [np.asarray(i) for i in inputs[:keep]], [np.asarray(o) for o in outputs])


def _no_op_cast() -> OnnxCase:
    """The one supported Cast, for which ONNX has no node test."""
    shape = (2, 3, 4)
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(shape)
    node = onnx.helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    ports = [onnx.helper.make_tensor_value_info(k, TensorProto.FLOAT, shape) for k in "xy"]
    graph = onnx.helper.make_graph([node], "cast", ports[:1], ports[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    return OnnxCase("own_cast_FLOAT_to_FLOAT", "Cast", model, [x], [x])


def _activations(op: str, inputs: list[Array]) -> int:
    """Operands that lack the batch of the first one (they broadcast) count as constants."""
    keep = 0
    for array in inputs[: ACTIVATIONS[op]]:
        if keep and (array.ndim != inputs[0].ndim or array.shape[:1] != inputs[0].shape[:1]):
            break
        keep += 1
    return keep


def _add_to_input(model: onnx.ModelProto, constant: Array) -> None:
    """A network needs an input: constant + x instead of the bare constant."""
    output = model.graph.output[0]
    result = onnx.helper.make_tensor_value_info("sum", TensorProto.FLOAT, (1, *constant.shape))
    model.graph.input.append(onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *constant.shape)))
    model.graph.node.append(onnx.helper.make_node("Add", ["x", output.name], ["sum"]))
    del model.graph.output[:]
    model.graph.output.append(result)
