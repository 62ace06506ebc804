"""Conv, Gemm, MatMul and BatchNormalization to nodes that carry weights."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dhn_kit.graph import Array
from dhn_kit.onnx_import import fold
from dhn_kit.onnx_import.builder import Builder, Handler, OnnxNode, as_image, image
from dhn_kit.onnx_import.layout import BATCH, Value
from dhn_kit.onnx_import.window import Window, window_of


def conv(b: Builder, n: OnnxNode) -> None:
    """Cases: 1-D as height 1; groups == channels > 1 is depthwise; anything else is conv2d with ``groups``.

    Zeros padded by a node of their own become padding of the convolution.
    """
    tensor, v = as_image(b, n)
    tensor, n = _absorb_pad(b, n, tensor, v)
    weight = _float_constant(b, n, 1)
    if weight.ndim != v.rank:
        n.refuse(
            f"weight of rank {weight.ndim} on an input of rank {v.rank}", "only 1-D and 2-D convolution is supported"
        )
    if weight.ndim == 3:
        weight = weight[:, :, None, :]
    groups = int(n.attrs.get("group", 1))
    channels = b.shape(tensor)[2]
    out_channels = len(weight)
    if weight.shape[1] * groups != channels or out_channels % groups:
        n.refuse(f"weight {list(weight.shape)} in {groups} groups on {channels} channels", "export the model again")
    bias = _float_constant(b, n, 2) if b.has(n, 2) else np.zeros(out_channels, np.float32)
    window = window_of(n, b.shape(tensor), (weight.shape[2], weight.shape[3]), v.rank - 2)
    out = _emit_conv(b, n, tensor, weight, bias, groups, window)
    b.result(n, image(b, n, out, v.rank, v.batch_axis))


def _absorb_pad(b: Builder, n: OnnxNode, tensor: str, v: Value) -> tuple[str, OnnxNode]:
    """The tensor before a ``pad`` that only this convolution reads, and the convolution with that much more padding."""
    pad = b.producers.get(tensor)
    if pad is None or pad.op != "pad" or pad.attrs["value"] != 0.0 or tensor != v.tensor or not b.sole(n):
        return tensor, n
    (top, bottom), (left, right), channels = pad.attrs["pad"]
    if channels != (0, 0) or n.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return tensor, n
    more = [top, left, bottom, right] if v.rank == 4 else [left, right]
    own = n.attrs.get("pads") if n.attrs.get("auto_pad", "NOTSET") == "NOTSET" else None
    pads = [x + y for x, y in zip(more, own or [0] * len(more), strict=True)]
    return pad.inputs[0], replace(n, attrs={**n.attrs, "pads": pads, "auto_pad": "NOTSET"})


def _emit_conv(b: Builder, n: OnnxNode, tensor: str, weight: Array, bias: Array, groups: int, window: Window) -> str:
    attrs: dict[str, Any] = {
        "bias": bias, "stride": window.stride, "dilation": window.dilation, "pad": window.pad,
    }  # fmt: skip
    shape = (*window.output, len(weight))
    if groups > 1 and weight.shape[1] == 1:
        attrs["weight"] = np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))
        return b.emit(n.name, "depthwise_conv2d", [tensor], n.outputs[0], shape, **attrs)
    attrs["weight"] = np.ascontiguousarray(weight.transpose(0, 2, 3, 1))
    return b.emit(n.name, "conv2d", [tensor], n.outputs[0], shape, **attrs, groups=groups)


def gemm(b: Builder, n: OnnxNode) -> None:
    """alpha * A B + beta * C with constant B and C; A (N, F), not transposed."""
    if n.attrs.get("transA", 0):
        n.refuse("transA = 1 would mix the batch with the features", "feed the input as (N, features)")
    weight = _float_constant(b, n, 1)
    if weight.ndim != 2:
        n.refuse(f"weight of rank {weight.ndim}", "use a matrix")
    weight = weight if n.attrs.get("transB", 0) else weight.T
    weight = weight * np.float32(n.attrs.get("alpha", 1.0))
    bias = np.zeros(len(weight), np.float32)
    if b.has(n, 2):
        c = _float_constant(b, n, 2) * np.float32(n.attrs.get("beta", 1.0))
        if c.size not in (1, len(weight)) or (c.ndim and c.shape[-1] != c.size):
            n.refuse(f"bias of shape {list(c.shape)}", "use one bias per output")
        bias = bias + c.reshape(-1)
    _fully_connected(b, n, weight, bias)


def matmul(b: Builder, n: OnnxNode) -> None:
    """Activation (N, ..., F) by a constant (F, O)."""
    if b.is_constant(n, 0):
        n.refuse("the first operand is a constant", "write it as x @ W with the weight second")
    if not b.is_constant(n, 1):
        n.refuse("both operands are activations", "attention-like products are not supported; use a constant weight")
    weight = _float_constant(b, n, 1)
    while weight.ndim > 2 and len(weight) == 1:
        weight = weight[0]
    if weight.ndim != 2:
        n.refuse(f"weight of shape {list(weight.shape)}", "use one matrix (features, outputs)")
    _fully_connected(b, n, weight.T, np.zeros(weight.shape[1], np.float32))


def _fully_connected(b: Builder, n: OnnxNode, weight: Array, bias: Array) -> None:
    """``weight`` (OC, F) in ONNX feature order; its columns are permuted to the memory order of the input."""
    v = b.value(n)
    if v.rank < 2 or BATCH in v.axes[-1]:
        n.refuse(f"its input of shape {list(v.shape)} has no feature axis beside the batch", "feed it as (N, features)")
    if v.shape[-1] != weight.shape[1]:
        n.refuse(f"weight for {weight.shape[1]} features on {v.shape[-1]}", "export the model again")
    features = v.axes[-1]
    tensor, lead, last = b.with_last(v, features)
    onnx_sizes = [v.sizes[a] for a in features]
    columns = weight.reshape(len(weight), *onnx_sizes).transpose(0, *(1 + features.index(a) for a in last))
    height, width, _ = b.shape(tensor)
    out = b.emit(
        n.name, "fully_connected", [tensor], n.outputs[0], (height, width, len(weight)),
        weight=np.ascontiguousarray(columns.reshape(len(weight), -1), np.float32), bias=bias.astype(np.float32),
    )  # fmt: skip
    new_id = {a: i for i, a in enumerate(lead)} | {BATCH: BATCH}
    rows = [tuple(new_id[a] for a in axis) for axis in v.axes[:-1]]
    sizes = tuple(v.sizes[a] for a in lead)
    if len(weight) > 1:
        b.result(n, Value(out, (*sizes, len(weight)), (*rows, (len(sizes),)), v.batch))
    else:
        b.result(n, Value(out, sizes, (*rows, ()), v.batch))


def batch_normalization(b: Builder, n: OnnxNode) -> None:
    """Inference form: one scale and one offset per channel (axis 1), folded as any affine map."""
    if n.attrs.get("training_mode", 0):
        n.refuse("training_mode = 1", "export the model in evaluation mode")
    v = b.value(n)
    if v.rank < 2 or BATCH in v.axes[1]:
        n.refuse(f"its input of shape {list(v.shape)} has no channel axis", "feed it as (N, C, ...)")
    gamma, beta, mean, variance = (np.asarray(b.constant(n, i), np.float64) for i in range(1, 5))
    scale = gamma / np.sqrt(variance + n.attrs.get("epsilon", 1e-5))
    shape = (1, -1) + (1,) * (v.rank - 2)
    fold.affine(b, n, scale.reshape(shape), (beta - mean * scale).reshape(shape))


def _float_constant(b: Builder, n: OnnxNode, index: int) -> Array:
    array = b.constant(n, index)
    if array.dtype != np.float32:
        n.refuse(f"weight '{n.inputs[index]}' is {array.dtype}", "export the model in float32")
    if not np.isfinite(array).all():
        n.refuse(f"weight '{n.inputs[index]}' holds NaN or infinity", "check the training run")
    return array


HANDLERS: dict[str, Handler] = {
    "Conv": conv, "Gemm": gemm, "MatMul": matmul, "BatchNormalization": batch_normalization,
}  # fmt: skip
