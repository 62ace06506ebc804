"""Pools, means and padding."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np

from dhn_kit.onnx_import.align import align
from dhn_kit.onnx_import.builder import Builder, Handler, OnnxNode, as_image, image
from dhn_kit.onnx_import.layout import BATCH, Value
from dhn_kit.onnx_import.window import Window, window_of


def pool(b: Builder, n: OnnxNode) -> None:
    """Cases: MaxPool; AveragePool; with counted padding, as a ``pad`` before the pool; over the whole map, a mean."""
    if len(n.outputs) > 1 and n.outputs[1]:
        n.refuse("its second output (indices) is used", "only the pooled values are supported")
    tensor, v = as_image(b, n)
    kernel = [1] * (4 - v.rank) + [int(k) for k in n.attrs["kernel_shape"]]
    if len(kernel) != 2:
        n.refuse(f"kernel_shape {kernel} on an input of rank {v.rank}", "only 1-D and 2-D pools are supported")
    window = window_of(n, b.shape(tensor), (kernel[0], kernel[1]), v.rank - 2)
    if window.dilation != (1, 1):
        n.refuse(f"dilation {window.dilation}", "only pools without dilation are supported")
    pad = window.pad
    if n.op == "AveragePool" and n.attrs.get("count_include_pad", 0) and any(window.declared):
        tensor, pad = _padded(b, n, tensor, window)
    shape = (*window.output, b.shape(tensor)[2])
    if n.op == "AveragePool" and window.kernel == b.shape(tensor)[:2] and window.output == (1, 1) and not any(pad):
        # a mean may have a quantisation of its own, a pool has its input's: far too coarse for so long an average
        out = b.emit(n.name, "mean", [tensor], n.outputs[0], shape)
    else:
        op = "max_pool" if n.op == "MaxPool" else "avg_pool"
        out = b.emit(n.name, op, [tensor], n.outputs[0], shape, kernel=window.kernel, stride=window.stride, pad=pad)
    b.result(n, image(b, n, out, v.rank, v.batch_axis))


def _padded(b: Builder, n: OnnxNode, tensor: str, window: Window) -> tuple[str, tuple[int, int, int, int]]:
    """Zeros written out as far as a window reads the declared padding; what ceil_mode adds beyond stays uncounted."""
    top, left, bottom, right = (min(d, p) for d, p in zip(window.declared, window.pad, strict=True))
    h, w, c = b.shape(tensor)
    name = f"{n.outputs[0]}/pad"
    out = b.emit(
        f"{n.name}/pad", "pad", [tensor], name, (h + top + bottom, w + left + right, c),
        pad=((top, bottom), (left, right), (0, 0)), value=0.0,
    )  # fmt: skip
    return out, (0, 0, window.pad[2] - bottom, window.pad[3] - right)


def global_average_pool(b: Builder, n: OnnxNode) -> None:
    rank = b.value(n).rank
    if rank < 3:
        n.refuse(f"its input has rank {rank}", "feed it as (N, C, L) or (N, C, H, W)")
    _mean(b, n, list(range(2, rank)), keep=True)


def global_max_pool(b: Builder, n: OnnxNode) -> None:
    tensor, v = as_image(b, n)
    h, w, c = b.shape(tensor)
    out = b.emit(n.name, "max_pool", [tensor], n.outputs[0], (1, 1, c), kernel=(h, w), stride=(1, 1), pad=(0, 0, 0, 0))
    b.result(n, image(b, n, out, v.rank, v.batch_axis))


def reduce_mean(b: Builder, n: OnnxNode) -> None:
    """Axes as attribute (opset < 18) or as input."""
    v = b.value(n)
    axes = b.optional_constant(n, 1) if n.opset >= 18 else n.attrs.get("axes")
    if axes is None or np.size(axes) == 0:
        if n.attrs.get("noop_with_empty_axes", 0):
            return b.view(n, v)
        n.refuse("it averages over every axis, the batch among them", "name the axes, without the batch")
    _mean(b, n, sorted({int(a) % v.rank for a in np.ravel(axes)}), keep=bool(n.attrs.get("keepdims", 1)))


def _mean(b: Builder, n: OnnxNode, axes: list[int], keep: bool) -> None:
    """Cases: H and W of the tensor (mean); its W alone (avg_pool); anything else after a reshape or transpose."""
    v = b.value(n)
    if v.batch_axis in axes:
        n.refuse("it averages over the batch", "average over other axes")
    gone = {a for axis in axes for a in v.axes[axis]}
    rest = tuple(a for a in range(len(v.sizes)) if a not in gone)
    reduced = tuple(a for a in range(len(v.sizes)) if a in gone)
    groups = b.tensor_groups(v)
    if not gone:
        out = v.tensor
    elif groups is not None and reduced == groups[1] and groups[0]:
        h, w, c = b.shape(v.tensor)
        window = {"kernel": (1, w), "stride": (1, 1), "pad": (0, 0, 0, 0)}
        out = b.emit(n.name, "avg_pool", [v.tensor], n.outputs[0], (h, 1, c), **window)
    else:
        in_place = groups is not None and reduced == groups[0] + groups[1]
        tensor = v.tensor if in_place else b.place(v, (reduced, (), rest))
        out = b.emit(n.name, "mean", [tensor], n.outputs[0], (1, 1, b.shape(tensor)[2]))
    new_id = {a: i for i, a in enumerate(rest)} | {BATCH: BATCH}
    kept = [
        () if i in axes else tuple(new_id[a] for a in axis) for i, axis in enumerate(v.axes) if keep or i not in axes
    ]
    result = Value(out, tuple(v.sizes[a] for a in rest), tuple(kept), v.batch)
    if gone:
        b.result(n, result)
    else:
        b.view(n, result)


def pad(b: Builder, n: OnnxNode) -> None:
    """Constant padding of any axis but the batch."""
    v = b.value(n)
    mode = n.attrs.get("mode", "constant")
    if mode != "constant":
        n.refuse(f"mode '{mode}'", "only constant padding is supported")
    before, after = _pads(b, n, v.rank)
    if any(p < 0 for p in (*before, *after)):
        n.refuse("negative padding", "crop the input before the network")
    if v.batch_axis is not None and (before[v.batch_axis] or after[v.batch_axis]):
        n.refuse("it pads the batch", "pad other axes")
    changed = [i for i in range(v.rank) if before[i] or after[i]]
    if not changed:
        return b.view(n, v)
    value = b.optional_constant(n, 2)
    aligned = align(b, n, [v], changed)
    amounts = tuple((sum(before[i] for i in p), sum(after[i] for i in p)) for p in aligned.parts)
    shape = [d + sum(a) for d, a in zip(b.shape(aligned.tensors[0]), amounts, strict=True)]
    real = 0.0 if value is None else float(value.item())
    if not np.isfinite(real):
        n.refuse(f"padding with {real}", "pad with a finite value")
    out = b.emit(n.name, "pad", aligned.tensors, n.outputs[0], shape, pad=amounts, value=real)
    b.result(n, aligned.value(out, [s + x + y for s, x, y in zip(v.shape, before, after, strict=True)]))


def _pads(b: Builder, n: OnnxNode, rank: int) -> tuple[list[int], list[int]]:
    """Padding before and after every ONNX axis; opset 18 may name only some axes."""
    pads = [int(p) for p in b.constant(n, 1)]
    axes = b.optional_constant(n, 3)
    named = list(range(rank)) if axes is None else [int(a) % rank for a in np.ravel(axes)]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(named):
        before[axis], after[axis] = pads[i], pads[len(named) + i]
    return before, after


HANDLERS: dict[str, Handler] = {
    "MaxPool": pool, "AveragePool": pool, "GlobalAveragePool": global_average_pool, "GlobalMaxPool": global_max_pool,
    "ReduceMean": reduce_mean, "Pad": pad,
}  # fmt: skip
