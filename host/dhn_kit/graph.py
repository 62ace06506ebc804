"""The canonical network: what import produces, quantisation annotates and lowering consumes."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, int, int]

#: Canonical operators. Every activation tensor has shape (H, W, C); the batch is always one and
#: is not written. A vector of n features is (1, 1, n), a sequence of L steps and C channels
#: (1, L, C). Weights are plain attributes of the node, never inputs.
#:
#: ``act`` is a pair (low, high) of real numbers, either may be None: the clamp fused into the op.
#:
#: op                attributes
#: conv2d            weight (OC, KH, KW, IC / groups) f32|int8, bias (OC,) f32|int32, stride (h, w), dilation (h, w),
#:                   pad (top, left, bottom, right), groups, act
#: depthwise_conv2d  weight (KH, KW, OC), bias (OC,), stride, dilation, pad, act;
#:                   output channel o reads input channel o // (OC // IC)
#: fully_connected   weight (OC, IC), bias (OC,), act; acts on the last axis, H and W are rows
#: add sub mul       two inputs, or one input and attribute ``const`` (H, W, C) that broadcasts against it, with
#:                   ``const_first`` (bool) telling the order; act. Input shapes broadcast as in NumPy.
#: concat            n inputs, axis 0, 1 or 2
#: max_pool avg_pool kernel (h, w), stride (h, w), pad (top, left, bottom, right), act. Padding never
#:                   enters the average nor the maximum.
#: mean              no attributes: over H and W, result (1, 1, C)
#: pad               pad ((t, b), (l, r), (front, back)) over H, W, C; value (real number)
#: reshape           the same bytes in another shape
#: transpose         perm of (0, 1, 2); only where it could not be absorbed
#: unary             fn: relu, clip(low, high), leaky_relu(alpha), hard_swish, hard_sigmoid(alpha, beta), sigmoid, tanh,
#:                   requantize, neg, abs, exp ...; params is a dict of those named arguments
#: softmax           over C; beta
OPS = (
    "conv2d", "depthwise_conv2d", "fully_connected", "add", "sub", "mul", "concat", "max_pool", "avg_pool", "mean",
    "pad", "reshape", "transpose", "unary", "softmax",
)  # fmt: skip


@dataclass(frozen=True)
class Quant:
    """Affine int8 quantisation of an activation: real = scale * (q - zero_point)."""

    scale: float
    zero_point: int

    def quantize(self, x: Array) -> npt.NDArray[np.int8]:
        """Real values of any shape to int8, rounding half away from zero as TFLite does, saturating."""
        q = np.asarray(x, np.float64) / self.scale
        q = np.sign(q) * np.floor(np.abs(q) + 0.5) + self.zero_point
        return np.clip(q, -128, 127).astype(np.int8)

    def dequantize(self, q: Array) -> npt.NDArray[np.float32]:
        return ((np.asarray(q, np.float64) - self.zero_point) * self.scale).astype(np.float32)


@dataclass
class Tensor:
    """One activation. ``quant`` is None until quantisation (or .tflite import) sets it."""

    name: str
    shape: Shape
    quant: Quant | None = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


@dataclass
class Node:
    """One canonical operator. In a quantised graph ``weight`` is int8, ``bias`` int32 and
    ``weight_scale`` (OC,) float64 says real = weight_scale[o] * weight[o]."""

    name: str
    op: str
    inputs: list[str]
    output: str
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Port:
    """How the user's array becomes the canonical tensor, or the canonical tensor the user's array.

    ``user_shape`` leaves the batch out. ``perm`` permutes the axes of the user's array (batch left
    out) before it is reshaped to the tensor's (H, W, C). ``scale`` and ``offset`` are normalisation
    folded from the start of the network: canonical = user * scale + offset.
    ``dtype`` is what the model file declares: "float32" or "int8".
    """

    tensor: str
    name: str
    user_shape: tuple[int, ...]
    perm: tuple[int, ...] | None = None
    scale: float = 1.0
    offset: float = 0.0
    dtype: str = "float32"

    def to_canonical(self, x: Array, shape: Shape) -> Array:
        """User array (N, *user_shape) to (N, H, W, C), same dtype, normalisation NOT applied."""
        x = np.asarray(x)
        if self.perm is not None:
            x = x.transpose(0, *(p + 1 for p in self.perm))
        return np.ascontiguousarray(x.reshape(len(x), *shape))

    def to_user(self, y: Array) -> Array:
        """Canonical (N, H, W, C) to the user's layout (N, *user_shape)."""
        if self.perm is None:
            return y.reshape(len(y), *self.user_shape)
        inverse = np.argsort(self.perm)
        y = y.reshape(len(y), *(self.user_shape[p] for p in self.perm))
        return np.ascontiguousarray(y.transpose(0, *(int(p) + 1 for p in inverse)))


@dataclass
class Graph:
    """A network. ``nodes`` are in execution order; every tensor is written once."""

    name: str
    tensors: dict[str, Tensor]
    nodes: list[Node]
    inputs: list[Port]
    outputs: list[Port]
    #: "tflite" or "onnx": decides between TFLite's own and the canonical choice where both exist
    source: str = "onnx"

    @property
    def quantized(self) -> bool:
        return all(t.quant is not None for t in self.tensors.values())

    def producer(self, tensor: str) -> Node | None:
        return next((n for n in self.nodes if n.output == tensor), None)

    def consumers(self, tensor: str) -> list[Node]:
        return [n for n in self.nodes if tensor in n.inputs]

    def copy(self) -> Graph:
        """Deep in structure, shared in weight arrays (which nobody edits in place)."""
        return dataclasses.replace(
            self,
            tensors={k: dataclasses.replace(t) for k, t in self.tensors.items()},
            nodes=[dataclasses.replace(n, inputs=list(n.inputs), attrs=dict(n.attrs)) for n in self.nodes],
            inputs=[dataclasses.replace(p) for p in self.inputs],
            outputs=[dataclasses.replace(p) for p in self.outputs],
        )

    def quantize_input(self, x: Array, index: int = 0) -> npt.NDArray[np.int8]:
        """User array (N, *user_shape), float or already int8, to canonical int8 (N, H, W, C)."""
        port = self.inputs[index]
        tensor = self.tensors[port.tensor]
        x = port.to_canonical(x, tensor.shape)
        if x.dtype == np.int8:
            return x
        assert tensor.quant is not None
        return tensor.quant.quantize(np.asarray(x, np.float64) * port.scale + port.offset)

    def dequantize_output(self, q: Array, index: int = 0) -> npt.NDArray[np.float32]:
        """Canonical int8 (N, H, W, C) to the user's float array (N, *user_shape)."""
        port = self.outputs[index]
        quant = self.tensors[port.tensor].quant
        assert quant is not None
        return port.to_user(quant.dequantize(q))
