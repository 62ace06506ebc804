"""Small quantised networks made by hand, for tests that need no import."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import numpy as np

from dhn_kit.graph import Graph, Node, Port, Quant, Shape, Tensor


class Net:
    """Appends quantised nodes; every activation gets a plausible random quantisation."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = Graph("net", {}, [], [Port("x", "x", shape, dtype="int8")], [])
        self.tensor("x", shape, Quant(0.05, -3))

    def tensor(self, name: str, shape: Shape, quant: Quant | None = None) -> str:
        quant = quant or Quant(float(self.rng.uniform(0.02, 0.08)), int(self.rng.integers(-20, 20)))
        self.graph.tensors[name] = Tensor(name, shape, quant)
        return name

    def node(self, op: str, inputs: list[str], shape: Shape, quant: Quant | None = None, **attrs: object) -> str:
        name = f"{op}{len(self.graph.nodes)}"
        self.tensor(name, shape, quant)
        self.graph.nodes.append(Node(name, op, inputs, name, dict(attrs)))
        return name

    def weights(self, shape: tuple[int, ...], channels: int, fan_in: int) -> dict[str, Any]:
        return {
            "weight": self.rng.integers(-127, 128, shape).astype(np.int8),
            "bias": self.rng.integers(-2000, 2000, channels).astype(np.int32),
            "weight_scale": self.rng.uniform(0.5, 1.5, channels) * 0.008 / np.sqrt(fan_in),
        }

    def conv(self, x: str, channels: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> str:
        h, w, c = self.graph.tensors[x].shape
        pad = kernel // 2
        shape = ((h + 2 * pad - kernel) // stride + 1, (w + 2 * pad - kernel) // stride + 1, channels)
        quant = Quant(float(self.rng.uniform(0.02, 0.08)), -128 if relu else 5)
        weights = self.weights((channels, kernel, kernel, c), channels, kernel * kernel * c)
        return self.node(
            "conv2d",
            [x],
            shape,
            quant,
            stride=(stride, stride),
            dilation=(1, 1),
            pad=(pad, pad, pad, pad),
            groups=1,
            act_q=(-128, 127),
            **weights,
        )

    def depthwise(self, x: str, stride: int = 1) -> str:
        h, w, c = self.graph.tensors[x].shape
        shape = ((h - 1) // stride + 1, (w - 1) // stride + 1, c)
        return self.node(
            "depthwise_conv2d",
            [x],
            shape,
            Quant(float(self.rng.uniform(0.02, 0.08)), -128),
            stride=(stride, stride),
            dilation=(1, 1),
            pad=(1, 1, 1, 1),
            act_q=(-128, 127),
            **self.weights((3, 3, c), c, 9),
        )

    def add(self, a: str, b: str) -> str:
        return self.node("add", [a, b], self.graph.tensors[a].shape, act_q=(-128, 127))

    def block(self, x: str, channels: int, stride: int = 1) -> str:
        """A residual block; a 1 x 1 convolution in the shortcut where the shape changes."""
        same = stride == 1 and channels == self.graph.tensors[x].shape[2]
        shortcut = x if same else self.conv(x, channels, 1, stride, relu=False)
        return self.add(self.conv(self.conv(x, channels, 3, stride), channels, relu=False), shortcut)

    def mean(self, x: str) -> str:
        return self.node("mean", [x], (1, 1, self.graph.tensors[x].shape[2]))

    def fc(self, x: str, channels: int, quant: Quant | None = None) -> str:
        c = self.graph.tensors[x].shape[2]
        weights = self.weights((channels, c), channels, c)
        return self.node("fully_connected", [x], (1, 1, channels), quant, act_q=(-128, 127), **weights)

    def done(self, *outputs: str) -> Graph:
        self.graph.outputs = [
            Port(o, o, self.graph.tensors[o].shape, dtype="int8") for o in (outputs or (self.graph.nodes[-1].output,))
        ]
        return self.graph

    def inputs(self, count: int) -> np.ndarray:
        return self.rng.integers(-128, 128, (count, *self.graph.tensors["x"].shape)).astype(np.int8)


def residual_net(seed: int = 0) -> tuple[Graph, Net]:
    """Stem, an identity block, a projection block, mean, classifier: 8 x 8 x 3 to 5 classes."""
    net = Net((8, 8, 3), seed)
    x = net.conv("x", 8)
    x = net.block(x, 8)
    x = net.block(x, 12, 2)
    net.fc(net.mean(x), 5)
    return net.done(), net
