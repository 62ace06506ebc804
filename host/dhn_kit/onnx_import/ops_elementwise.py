"""Activations, arithmetic of two operands, Softmax and Concat."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dhn_kit.graph import Array
from dhn_kit.onnx_import import fold
from dhn_kit.onnx_import.align import align
from dhn_kit.onnx_import.builder import Builder, Handler, OnnxNode
from dhn_kit.onnx_import.layout import BATCH, Value, merged

#: ONNX activation -> (canonical function, its parameters as ONNX attribute and default)
UNARY: dict[str, tuple[str, dict[str, float]]] = {
    "LeakyRelu": ("leaky_relu", {"alpha": 0.01}),
    "HardSigmoid": ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    "HardSwish": ("hard_swish", {}),
    "Sigmoid": ("sigmoid", {}),
    "Tanh": ("tanh", {}),
    "Abs": ("abs", {}),
    "Exp": ("exp", {}),
}


def unary(b: Builder, n: OnnxNode) -> None:
    fn, params = UNARY[n.op]
    fold.unary(b, n, fn, **{k: float(n.attrs.get(k, default)) for k, default in params.items()})


def relu(b: Builder, n: OnnxNode) -> None:
    fold.clamp(b, n, 0.0, None)


def clip(b: Builder, n: OnnxNode) -> None:
    """Bounds are inputs since opset 11; a missing one does not bound."""
    low, high = (_bound(b, n, i) for i in (1, 2))
    if low is not None and high is not None and low > high:
        low = high  # ONNX: min(max(x, low), high)
    if low is None and high is None:
        b.view(n, b.value(n))
    else:
        fold.clamp(b, n, low, high)


def _bound(b: Builder, n: OnnxNode, index: int) -> float | None:
    constant = b.optional_constant(n, index)
    if constant is None or np.isinf(constant).all():
        return None
    if np.isnan(constant).any():
        n.refuse("a bound is NaN", "export the model again")
    return float(constant.item())


def neg(b: Builder, n: OnnxNode) -> None:
    fold.affine(b, n, np.array(-1.0), np.array(0.0))


def binary(b: Builder, n: OnnxNode) -> None:
    """Cases: activation with constant, an affine map; x * x-like pairs of one layout; broadcast pairs."""
    constants = [b.is_constant(n, i) for i in (0, 1)]
    if all(constants):
        n.refuse("both operands are constants", "fold constants before export")
    if any(constants):
        return _with_constant(b, n, constants.index(True))
    if n.op == "Div":
        n.refuse("it divides by an activation", "only division by a constant is supported")
    x, y = b.value(n, 0), b.value(n, 1)
    op = n.op.lower()
    if x.shape == y.shape and same_layout(x, y):
        tensors = [x.tensor, b.reshaped(y.tensor, b.shape(x.tensor))]
        out = b.emit(n.name, op, tensors, n.outputs[0], b.shape(x.tensor))
        return b.result(n, replace(x, tensor=out))
    aligned = align(b, n, [x, y])
    for v in (x, y):
        if any(s not in (1, f) for s, f in zip(v.shape[::-1], aligned.full[::-1], strict=False)):
            n.refuse(f"shapes {list(x.shape)} and {list(y.shape)} do not broadcast", "export the model again")
    shape = [max(dims) for dims in zip(*(b.shape(t) for t in aligned.tensors), strict=True)]
    out = b.emit(n.name, op, aligned.tensors, n.outputs[0], shape)
    b.result(n, aligned.value(out, aligned.full))


def same_layout(x: Value, y: Value) -> bool:
    a, c = merged(x), merged(y)
    return a.sizes == c.sizes and a.axes == c.axes


def _with_constant(b: Builder, n: OnnxNode, index: int) -> None:
    """x op c and c op x as x * scale + offset."""
    constant = b.constant(n, index)
    if constant.dtype not in (np.float32, np.float64):
        n.refuse(f"its constant is {constant.dtype}", "export the model in float32")
    c: Array = constant.astype(np.float64)
    one, zero = np.array(1.0), np.array(0.0)
    if n.op == "Add":
        scale, offset = one, c
    elif n.op == "Sub":
        scale, offset = (one, -c) if index == 1 else (-one, c)
    elif n.op == "Mul":
        scale, offset = c, zero
    else:
        if index == 0:
            n.refuse("it divides a constant by an activation", "only division by a constant is supported")
        if (c == 0).any():
            n.refuse("it divides by zero", "check the normalisation constants")
        scale, offset = 1.0 / c, zero
    fold.affine(b, n, scale, offset, index=1 - index)


def softmax(b: Builder, n: OnnxNode) -> None:
    """One axis (opset 13 and later), or all axes from ``axis`` on together (before)."""
    v = b.value(n)
    axis = int(n.attrs.get("axis", -1 if n.opset >= 13 else 1))
    if not -v.rank <= axis < v.rank:
        n.refuse(f"axis {axis} of an input of rank {v.rank}", "export the model again")
    axes = [axis % v.rank] if n.opset >= 13 else list(range(axis % v.rank, v.rank))
    classes = tuple(a for i in axes for a in v.axes[i])
    if BATCH in classes:
        n.refuse("it runs over the batch", "use the class axis")
    tensor, lead, last = b.with_last(v, classes)
    out = b.emit(n.name, "softmax", [tensor], n.outputs[0], b.shape(tensor), beta=1.0)
    new_id = {a: i for i, a in enumerate((*lead, *last))} | {BATCH: BATCH}
    sizes = tuple(v.sizes[a] for a in (*lead, *last))
    b.result(n, Value(out, sizes, tuple(tuple(new_id[a] for a in x) for x in v.axes), v.batch))


def concat(b: Builder, n: OnnxNode) -> None:
    """Activations along any axis but the batch."""
    if len(n.inputs) == 1:
        return b.view(n, b.value(n))
    values = [b.value(n, i) for i in range(len(n.inputs))]
    rank = values[0].rank
    axis = int(n.attrs["axis"]) % rank
    if any(v.batch_axis == axis for v in values):
        n.refuse("it joins along the batch", "use another axis")
    if len({(v.rank, v.shape[:axis], v.shape[axis + 1 :]) for v in values}) > 1:
        n.refuse(f"its inputs have shapes {[list(v.shape) for v in values]}", "they must agree but for the axis")
    aligned = align(b, n, values, [axis])
    canonical = next(i for i, part in enumerate(aligned.parts) if axis in part)
    shape = list(b.shape(aligned.tensors[0]))
    shape[canonical] = sum(b.shape(t)[canonical] for t in aligned.tensors)
    out = b.emit(n.name, "concat", aligned.tensors, n.outputs[0], shape, axis=canonical)
    full = list(values[0].shape)
    full[axis] = sum(v.shape[axis] for v in values)
    b.result(n, aligned.value(out, full))


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(UNARY, unary), **dict.fromkeys(("Add", "Sub", "Mul", "Div"), binary),
    "Relu": relu, "Clip": clip, "Neg": neg, "Softmax": softmax, "Concat": concat,
}  # fmt: skip
