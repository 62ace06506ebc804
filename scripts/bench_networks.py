"""The benchmark's own networks, as ONNX with random weights: shapes of published ones, values that mean nothing."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

#: (output channels, stride) of the depthwise-separable blocks of MobileNet v1 at a quarter of its width.
MOBILENET_BLOCKS = (
    (16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2),
    (128, 1), (128, 1), (128, 1), (128, 1), (128, 1), (256, 2), (256, 1),
)  # fmt: skip
AUTOENCODER = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)


class Builder:
    """Appends nodes to a chain. Weights keep the spread of the activations about as it is."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.rng = np.random.default_rng(1)
        self.shape = [1, *shape]
        self.nodes: list[onnx.NodeProto] = []
        self.consts: list[onnx.TensorProto] = []
        self.last = "x"

    def const(self, array: Any) -> str:
        self.consts.append(numpy_helper.from_array(np.asarray(array, np.float32), f"c{len(self.consts)}"))
        return str(self.consts[-1].name)

    def node(self, op: str, *inputs: str, **attrs: Any) -> None:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.last, *inputs], [output], name=f"{op}{len(self.nodes)}", **attrs))
        self.last = output

    def weight(self, *shape: int) -> str:
        return self.const(self.rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:])))

    def bias(self, size: int) -> str:
        return self.const(self.rng.standard_normal(size) * 0.1)

    def conv(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        weight, bias = self.weight(outputs, inputs // groups, kernel, kernel), self.bias(outputs)
        # As TensorFlow pads: the odd row and column go to the end.
        pads = [0, 0, 0, 0] if kernel == 1 else [0, 0, 1, 1] if stride == 2 else [1, 1, 1, 1]
        self.node("Conv", weight, bias, strides=[stride, stride], pads=pads, group=groups)
        self.node("Clip", self.const(0.0), self.const(6.0))

    def dense(self, inputs: int, outputs: int, relu: bool) -> None:
        self.node("Gemm", self.weight(outputs, inputs), self.bias(outputs), transB=1)
        if relu:
            self.node("Relu")

    def model(self, name: str, outputs: int) -> bytes:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, [1, outputs])
        graph = helper.make_graph(self.nodes, name, [x], [y], self.consts)
        opset = [helper.make_opsetid("", 17)]
        return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def mobilenet() -> bytes:
    """96 x 96 x 3 to two classes: 7.5 million MACs in 1x1 and depthwise layers from 48x48x8 to 3x3x256."""
    b = Builder([3, 96, 96])
    b.conv(3, 8, 3, 2)
    channels = 8
    for outputs, stride in MOBILENET_BLOCKS:
        b.conv(channels, channels, 3, stride, groups=channels)
        b.conv(channels, outputs, 1)
        channels = outputs
    b.node("GlobalAveragePool")
    b.node("Flatten")
    b.dense(channels, 2, relu=False)
    b.node("Softmax", axis=1)
    return b.model("mobilenet", 2)


def autoencoder() -> bytes:
    """Ten fully connected layers, 264,192 MACs."""
    b = Builder([AUTOENCODER[0]])
    for number, (inputs, outputs) in enumerate(itertools.pairwise(AUTOENCODER)):
        b.dense(inputs, outputs, relu=number < len(AUTOENCODER) - 2)
    return b.model("autoencoder", AUTOENCODER[-1])


def digits(x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], hidden: int = 256) -> bytes:
    """Fully connected, 28 x 28 pixels to `hidden` units with ReLU to ten digits.

    The first layer's weights are random, the second's fitted by least squares to images ``x`` (N, 1, H, W) and their
    digits ``y``. Dark pixels and silent units are zeros that kernels may leave out.
    """
    b = Builder(x.shape[1:])
    pixels, classes = int(np.prod(x.shape[1:])), int(y.max()) + 1
    first = b.rng.standard_normal((hidden, pixels)) * np.sqrt(2.0 / pixels)
    offset = -np.quantile(x.reshape(len(x), -1) @ first.T, 0.5, axis=0)
    active = np.maximum(x.reshape(len(x), -1) @ first.T + offset, 0)
    second = np.linalg.solve(active.T @ active + np.eye(hidden), active.T @ (np.eye(classes)[y] - 1 / classes))
    b.node("Flatten")
    b.node("Gemm", b.const(first), b.const(offset), transB=1)
    b.node("Relu")
    b.node("Gemm", b.const(second), b.const(np.zeros(classes)))
    return b.model("digits", classes)
