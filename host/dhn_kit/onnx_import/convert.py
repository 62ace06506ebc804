"""Walks a prepared ONNX graph, turns every node into canonical ones, then closes the ports."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Graph, Port, Tensor
from dhn_kit.onnx_import import hard_swish, ops_elementwise, ops_pool, ops_shape, ops_weighted
from dhn_kit.onnx_import.builder import Builder, Handler, OnnxNode
from dhn_kit.onnx_import.layout import LayoutError, Value, axis_order, make_value
from dhn_kit.onnx_import.load import opset_of, real_inputs
from dhn_kit.onnx_import.order import schedule

HANDLERS: dict[str, Handler] = {
    **ops_weighted.HANDLERS, **ops_elementwise.HANDLERS, **ops_pool.HANDLERS, **ops_shape.HANDLERS,
}  # fmt: skip


def convert(model: onnx.ModelProto, name: str) -> Graph:
    """The canonical graph. Inputs are tried as channels first and as they are; the one that moves less data is kept."""
    results: list[Graph] = []
    refusal: DhnError | None = None
    for channels_first in (True, False):
        try:
            results.append(_convert(model, name, channels_first))
        except DhnError as error:
            refusal = refusal or error
    if not results:
        assert refusal is not None
        raise refusal
    return min(results, key=_moves)


def _moves(graph: Graph) -> tuple[int, int]:
    """How many nodes move data, and how many only rename a shape."""
    ops = Counter(n.op for n in graph.nodes)
    return ops["transpose"], ops["reshape"]


def _convert(model: onnx.ModelProto, name: str, channels_first: bool) -> Graph:
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    nodes = [_decode(n, opset_of(model)) for n in model.graph.node]
    for n in nodes:
        if n.op == "Constant":
            constants[n.outputs[0]] = _constant(n)
    nodes = [n for n in nodes if n.op != "Constant"]
    outputs = [o.name for o in model.graph.output]
    nodes = hard_swish.rewrite(nodes, constants, _uses(nodes, outputs))
    b = _start(model, constants, _uses(nodes, outputs), channels_first)
    inferred = _inferred_shapes(model)
    for n in nodes:
        _one(b, n, inferred)
    return _finish(b, name, outputs)


def _decode(n: onnx.NodeProto, opset: int) -> OnnxNode:
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute}
    attrs = {k: v.decode() if isinstance(v, bytes) else v for k, v in attrs.items()}
    name = n.name or (n.output[0] if n.output else "")
    return OnnxNode(name, n.op_type, tuple(n.input), tuple(n.output), attrs, opset)


def _constant(n: OnnxNode) -> Array:
    if isinstance(n.attrs.get("value"), TensorProto):
        return np.asarray(numpy_helper.to_array(n.attrs["value"]))
    for key, dtype in (("value_float", "f4"), ("value_floats", "f4"), ("value_int", "i8"), ("value_ints", "i8")):
        if key in n.attrs:
            return np.asarray(n.attrs[key], dtype)
    n.refuse("a sparse or text constant", "use a dense number")


def _uses(nodes: list[OnnxNode], outputs: list[str]) -> dict[str, int]:
    counts = Counter(i for n in nodes for i in n.inputs)
    counts.update(outputs)
    return counts


def _start(model: onnx.ModelProto, constants: dict[str, Array], uses: dict[str, int], channels_first: bool) -> Builder:
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in real_inputs(model)}
    batches = {shape[0] for shape in shapes.values()}
    if len(batches) != 1:
        raise DhnError(f"the inputs have batches {sorted(batches)}; give every input the same first axis, the batch")
    b = Builder(batches.pop(), uses, dict(constants))
    for name, shape in shapes.items():
        axes = list(range(1, len(shape)))
        memory = [*axes[1:], *axes[:1]] if channels_first else axes
        dims = [shape[a] for a in memory]
        fill = [1] * max(3 - len(dims), 0)
        canonical = [*fill, *dims[: 2 - len(fill)], math.prod(dims[2 - len(fill) :])] if len(fill) < 3 else fill
        b.tensors[name] = Tensor(name, (canonical[0], canonical[1], canonical[2]))
        value = make_value(name, memory, shape, b.batch, 0)
        b.values[name] = value
        b.ports.append(Port(name, name, tuple(shape[1:]), _port_perm(value)))
    return b


def _one(b: Builder, n: OnnxNode, inferred: dict[str, tuple[int, ...]]) -> None:
    handler = HANDLERS.get(n.op)
    if handler is None:
        n.refuse("this operator is not supported", "see docs/operators.md for those that are")
    try:
        handler(b, n)
    except LayoutError as error:
        n.refuse(str(error), "move the channels or the batch less")
    value = b.values.get(n.outputs[0])
    expected = inferred.get(n.outputs[0])
    if n.attrs.get("ceil_mode") and isinstance(value, Value) and value.shape != expected:
        inferred.clear()  # before opset 22 ONNX counts a last window that onnxruntime and we do not
    elif isinstance(value, Value) and expected is not None and value.shape != expected:
        n.refuse(
            f"its result was understood as {list(value.shape)} but ONNX says {list(expected)}", "report this model"
        )
    for extra in n.outputs[1:]:
        if extra and b.uses.get(extra, 0):
            n.refuse(f"its further output '{extra}' is used", "only the first output is supported")


def _inferred_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for info in (*model.graph.value_info, *model.graph.output):
        tensor = info.type.tensor_type
        dims = tuple(d.dim_value for d in tensor.shape.dim)
        if tensor.HasField("shape") and all(d > 0 for d in dims):
            shapes[info.name] = dims
    return shapes


def _port_perm(v: Value) -> tuple[int, ...] | None:
    """The user's axes (batch left out) in memory order; None where they are in it already."""
    order = axis_order(v)
    axes = [i for i in range(v.rank) if i != v.batch_axis]
    assert order is not None
    return None if order == axes else tuple(axes.index(i) for i in order)


def _finish(b: Builder, name: str, outputs: list[str]) -> Graph:
    ports = []
    for output in outputs:
        value = b.values.get(output)
        if not isinstance(value, Value):
            raise DhnError(f"output '{output}' does not depend on the input; export the model again")
        if value.batch_axis not in (None, 0):
            raise DhnError(f"output '{output}' does not have the batch as first axis; move it there")
        ports.append(_output_port(b, output, value))
    graph = Graph(name, b.tensors, b.nodes, b.ports, ports, source="onnx")
    schedule(graph)
    return graph


def _output_port(b: Builder, name: str, v: Value) -> Port:
    if axis_order(v) is None:
        try:
            v = ops_shape.in_onnx_order(b, v)
        except LayoutError as error:
            raise DhnError(f"output '{name}': {error}; output a tensor of rank 4 or less") from error
    user = v.shape[1:] if v.batch_axis == 0 else v.shape
    return Port(v.tensor, name, user, _port_perm(v))
