"""Builds small ONNX models and compares their import with onnxruntime."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from dhn_kit.float_reference import float_outputs
from dhn_kit.graph import Graph
from dhn_kit.onnx_import import import_onnx

Floats = npt.NDArray[np.float32]
Dims = Sequence[int | str]


class Net:
    """A chain of nodes that remembers its last tensor. Weights are random with a fixed seed."""

    def __init__(self, shape: Dims = ("N", 3, 8, 8), opset: int = 17, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.inputs = [("x", shape)]
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last = "x"

    def const(self, array: npt.ArrayLike, dtype: type = np.float32) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def ints(self, array: npt.ArrayLike) -> str:
        return self.const(array, np.int64)

    def randn(self, *shape: int) -> str:
        return self.const(self.rng.standard_normal(shape))

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        """Append a node; its first input is the last tensor unless inputs are given with '@' for it."""
        names = [self.last if i == "@" else i for i in inputs] if "@" in inputs else [self.last, *inputs]
        self.last = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [self.last], name=f"{op}_{len(self.nodes)}", **attrs))
        return self.last

    def conv(self, out: int, channels: int, kernel: Sequence[int], bias: bool = True, **attrs: Any) -> str:
        weight = self.randn(out, channels // attrs.get("group", 1), *kernel)
        return self.add("Conv", weight, *([self.randn(out)] if bias else []), **attrs)

    def batch_norm(self, channels: int) -> str:
        variance = self.const(self.rng.uniform(0.5, 2, channels))
        return self.add(
            "BatchNormalization", self.randn(channels), self.randn(channels), self.randn(channels), variance
        )

    def model(self, *outputs: str) -> onnx.ModelProto:
        ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in self.inputs]
        results = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs or [self.last]]
        graph = helper.make_graph(self.nodes, "net", ports, results, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)

    def graph(self, *outputs: str) -> Graph:
        return import_onnx(self.model(*outputs).SerializeToString())


def random_inputs(graph: Graph, batch: int, seed: int = 1) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((batch, *p.user_shape)).astype(np.float32) for p in graph.inputs]


def onnxruntime_outputs(model: onnx.ModelProto, arrays: Sequence[Floats]) -> list[Floats]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {i.name: a for i, a in zip(session.get_inputs(), arrays, strict=True)}))


def assert_equal_to_onnxruntime(graph: Graph, model: onnx.ModelProto, batch: int = 2) -> None:
    """Outputs agree in shape, and in value to 1e-4 of the largest magnitude."""
    arrays = random_inputs(graph, batch)
    for mine, theirs in zip(float_outputs(graph, arrays), onnxruntime_outputs(model, arrays), strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4 * (1e-3 + float(np.abs(theirs).max())))


def assert_same(net: Net, batch: int = 2) -> Graph:
    graph = net.graph()
    assert_equal_to_onnxruntime(graph, net.model(), batch)
    return graph


def ops(graph: Graph) -> Counter[str]:
    return Counter(n.op for n in graph.nodes)
