"""Operators that only change how a tensor is seen: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Identity."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from dhn_kit.graph import Array
from dhn_kit.onnx_import import layout
from dhn_kit.onnx_import.builder import Builder, Handler, OnnxNode
from dhn_kit.onnx_import.layout import BATCH, LayoutError, NeedsCopyError, Value


def reshape(b: Builder, n: OnnxNode) -> None:
    v = b.value(n)
    _reshape(b, n, v, _target(n, v.shape, [int(d) for d in b.constant(n, 1)]))


def _target(n: OnnxNode, shape: Sequence[int], wanted: list[int]) -> list[int]:
    """The wanted shape with 0 (copy) and -1 (infer) replaced."""
    if not n.attrs.get("allowzero", 0):
        wanted = [shape[i] if d == 0 and i < len(shape) else d for i, d in enumerate(wanted)]
    if wanted.count(-1) > 1 or 0 in wanted:
        n.refuse(f"target shape {wanted}", "export with fixed shapes")
    known = math.prod(d for d in wanted if d != -1)
    return [math.prod(shape) // known if d == -1 else d for d in wanted]


def flatten(b: Builder, n: OnnxNode) -> None:
    v = b.value(n)
    axis = int(n.attrs.get("axis", 1))
    axis = axis + v.rank if axis < 0 else axis
    _reshape(b, n, v, [math.prod(v.shape[:axis]), math.prod(v.shape[axis:])])


def _reshape(b: Builder, n: OnnxNode, v: Value, shape: Sequence[int]) -> None:
    try:
        try:
            b.view(n, layout.reshape(v, shape))
        except NeedsCopyError:
            b.result(n, layout.reshape(in_onnx_order(b, v), shape))
    except LayoutError as error:
        n.refuse(str(error), "keep the batch as first axis and reshape fewer axes at once")


def in_onnx_order(b: Builder, v: Value) -> Value:
    """The data moved so that its memory is the row-major order of the ONNX shape."""
    order = tuple(a for axis in v.axes for a in axis if a != BATCH)
    new_id = {a: i for i, a in enumerate(order)} | {BATCH: BATCH}
    tensor = b.place(v, ((), (), order))
    axes = tuple(tuple(new_id[a] for a in axis) for axis in v.axes)
    return replace(v, tensor=tensor, sizes=tuple(v.sizes[a] for a in order), axes=axes)


def squeeze(b: Builder, n: OnnxNode) -> None:
    v = b.value(n)
    axes = _axes(b, n)
    gone = {i for i, s in enumerate(v.shape) if s == 1} if axes is None else {int(a) % v.rank for a in axes}
    if v.batch_axis in gone:
        n.refuse("it removes the batch axis", "name other axes")
    if any(v.shape[i] != 1 for i in gone):
        n.refuse(f"axes {sorted(gone)} of {list(v.shape)} are not all 1", "export the model again")
    b.view(n, replace(v, axes=tuple(axis for i, axis in enumerate(v.axes) if i not in gone)))


def unsqueeze(b: Builder, n: OnnxNode) -> None:
    v = b.value(n)
    axes = _axes(b, n)
    if axes is None:
        n.refuse("no axes are given", "export the model again")
    rank = v.rank + len(axes)
    added = {int(a) % rank for a in axes}
    rest = iter(v.axes)
    axes_out = [() if i in added else next(rest) for i in range(rank)]
    if v.batch_axis is None and v.batch == 1 and 0 in added:
        axes_out[0] = (BATCH,)  # an earlier reshape took it in
    b.view(n, replace(v, axes=tuple(axes_out)))


def _axes(b: Builder, n: OnnxNode) -> Array | None:
    """The axes, an input since opset 13 and an attribute before."""
    if n.opset >= 13:
        return b.optional_constant(n, 1)
    return np.asarray(n.attrs["axes"]) if "axes" in n.attrs else None


def transpose(b: Builder, n: OnnxNode) -> None:
    v = b.value(n)
    b.view(n, layout.transpose(v, [int(p) for p in n.attrs.get("perm", range(v.rank)[::-1])]))


def identity(b: Builder, n: OnnxNode) -> None:
    b.view(n, b.value(n))


def dropout(b: Builder, n: OnnxNode) -> None:
    training = b.optional_constant(n, 2)
    if training is not None and training.any():
        n.refuse("training_mode is true", "export the model in evaluation mode")
    b.view(n, b.value(n))


def cast(b: Builder, n: OnnxNode) -> None:
    """Only the cast that changes nothing: activations are float32."""
    if n.attrs["to"] != TensorProto.FLOAT:
        n.refuse(f"it casts to {TensorProto.DataType.Name(n.attrs['to'])}", "keep activations in float32")
    b.view(n, b.value(n))


HANDLERS: dict[str, Handler] = {
    "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose,
    "Identity": identity, "Dropout": dropout, "Cast": cast,
}  # fmt: skip
