"""Constants of the Helium kernels: weights in blocks of sixteen inputs, multipliers in quads of channels."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit.layouts.common import (
    Call,
    Int8Array,
    Int32Array,
    Layout,
    Prepared,
    Unfit,
    accumulator_bound,
    exponents,
    folded_bias,
)

#: Order of the quads of a group of 16 channels; quad q holds channels QUADS[q] + {0, 4, 8, 12} (see mve/gemm.h).
QUADS = (0, 2, 1, 3)
VECTOR = 16


def channel_order(out_c: int) -> Int32Array:
    """Channel of every accumulator, -1 for those that fill up the last quad."""
    whole = out_c // VECTOR * VECTOR
    group = [q + 4 * i for q in QUADS for i in range(4)]
    order = [base + c for base in range(0, whole, VECTOR) for c in group]
    order += range(whole, out_c)
    return np.array(order + [-1] * (-len(order) % 4), np.int32)


def _ordered(values: npt.NDArray[Any], order: Int32Array) -> npt.NDArray[Any]:
    """Rows of `values` in this order, zeros where there is no channel."""
    return np.where((order < 0).reshape(-1, *[1] * (values.ndim - 1)), values.dtype.type(0), values[order])


def fused_rounding(call: Call) -> Int32Array:
    """(2, out_c): multiplier and 2^(31 - e) + 1. Unfit: a channel's rounding needs the general way (see mve/gemm.h)."""
    assert call.mult is not None
    e, mult = exponents(call), call.mult.astype(np.int64)
    e = np.where(mult == 0, 1, e)
    product = (accumulator_bound(call) * np.abs(mult) >> 31) + 1
    exact = (e >= 1) & ((e <= 11) | (product < (1 << np.clip(31 - e, 0, 31))))
    if not exact.all():
        raise Unfit(f"a right shift of {e[~exact][0]}, this kernel takes 1 to 11")
    return np.stack([mult, (np.int64(1) << (31 - e)) + 1]).astype(np.int32)


def any_rounding(call: Call) -> Int32Array:
    """(3, out_c): multiplier, left shift, right shift as a negative number."""
    assert call.mult is not None and call.shift is not None
    shift = call.shift.astype(np.int32)
    return np.stack([call.mult.astype(np.int32), np.maximum(shift, 0), np.minimum(shift, 0)])


def _table(rounding: Int32Array, order: Int32Array) -> bytes:
    """Per quad of channels the rows of `rounding`, four numbers each."""
    columns = np.stack([_ordered(row, order) for row in rounding])
    return columns.reshape(len(rounding), -1, 4).transpose(1, 0, 2).astype("<i4").tobytes()


def _stream(weight: Int8Array, bias: Int32Array, order: Int32Array, per_tile: int) -> bytes:
    """Tiles of `per_tile` channels: their accumulators (once per pixel, eight in all), then blocks of 16 inputs."""
    order = np.concatenate([order, np.full(-len(order) % per_tile, -1, np.int32)])
    taps = weight.shape[1]
    blocks = -(-taps // VECTOR)
    rows = np.zeros((len(order), blocks * VECTOR), np.int8)
    rows[:, :taps] = _ordered(weight, order)
    tiles = rows.reshape(-1, per_tile, blocks, VECTOR).transpose(0, 2, 1, 3)
    starts = np.tile(_ordered(bias, order).reshape(-1, per_tile), (1, 8 // per_tile)).astype("<i4")
    return b"".join(s.tobytes() + t.tobytes() for s, t in zip(starts, tiles, strict=True))


def _prepare(call: Call, weight: Int8Array, rounding: Int32Array, per_tile: int) -> Prepared:
    order = channel_order(len(weight))
    consts = {"weight": _stream(weight, folded_bias(call), order, per_tile), "bias": _table(rounding, order)}
    return Prepared(call.record, call.values, consts)


def _conv_weight(call: Call) -> Int8Array:
    """(out_c, kw * kh * in_c): columns first, as conv_rows.c's strips lie."""
    assert call.weight is not None
    return call.weight.transpose(0, 2, 1, 3).reshape(call.weight.shape[0], -1)


def _fc_weight(call: Call) -> Int8Array:
    assert call.weight is not None
    return call.weight


def conv(call: Call) -> Prepared:
    return _prepare(call, _conv_weight(call), fused_rounding(call), 4)


def conv_any(call: Call) -> Prepared:
    return _prepare(call, _conv_weight(call), any_rounding(call), 4)


def fc(call: Call) -> Prepared:
    return _prepare(call, _fc_weight(call), fused_rounding(call), 8)


def fc_any(call: Call) -> Prepared:
    return _prepare(call, _fc_weight(call), any_rounding(call), 8)


def _planes(call: Call, rounding: Int32Array) -> Prepared:
    """Per channel the kernel with lanes of zeros around it, folded bias, rounding (see mve/depthwise.c)."""
    assert call.weight is not None
    kh, kw, channels = call.weight.shape
    lanes = 4 if call.values["stride_w"] == 1 else 5
    taps = np.zeros((channels, 24), np.int8)
    for y in range(kh):
        for x in range(kw):
            taps[:, 5 + y * lanes + x] = call.weight[y, x]
    numbers = np.zeros((channels, 4), "<i4")
    numbers[:, 0], numbers[:, 1 : 1 + len(rounding)] = folded_bias(call), rounding.T
    rows = b"".join(t.tobytes() + n.tobytes() for t, n in zip(taps, numbers, strict=True))
    return Prepared(call.record, call.values, {"weight": rows})


def depthwise(call: Call) -> Prepared:
    return _planes(call, fused_rounding(call))


def depthwise_any(call: Call) -> Prepared:
    return _planes(call, any_rounding(call))


LAYOUTS: dict[str, Layout] = {
    "mve_conv": conv,
    "mve_conv_any": conv_any,
    "mve_fc": fc,
    "mve_fc_any": fc_any,
    "mve_depthwise": depthwise,
    "mve_depthwise_any": depthwise_any,
}
