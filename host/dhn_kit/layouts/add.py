"""Tables for additions and subtractions of equal shapes: TFLite's three roundings, or all of them in one shift."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit import records
from dhn_kit.layouts.common import Call, Prepared, Unfit
from dhn_kit.quant_math import multiply_by_quantized_multiplier as requantize
from dhn_kit.quant_math import wrap32

Int64Array = npt.NDArray[np.int64]

VALUES: Int64Array = np.arange(-128, 128, dtype=np.int64)
#: Bits below the result in variant 0x40: |sum| < 2^31 leaves results up to +-511 before saturation.
SHIFT = 22


@dataclass(frozen=True)
class _Terms:
    """``left[i]``, ``right[i]``: what the operands' values i - 128 add to TFLite's sum."""

    left: Int64Array
    right: Int64Array

    @property
    def swapped(self) -> _Terms:
        return _Terms(self.right, self.left)


def _terms(v: Mapping[str, Any]) -> _Terms:
    left = requantize((VALUES - v["a_zp"]) << v["left_shift"], v["a_mult"], v["a_shift"])
    right = requantize((VALUES - v["b_zp"]) << v["left_shift"], v["b_mult"], v["b_shift"])
    return _Terms(left, -right if v["negate_b"] else right)


def _same_shape(call: Call) -> int:
    """Number of values. Unfit: an operand is broadcast."""
    shape = call.values["shape"]
    dense = (shape[1] * shape[2], shape[2], 1)
    for strides in (call.values["a_stride"], call.values["b_stride"]):
        if any(n > 1 and s != d for n, s, d in zip(shape, strides, dense, strict=True)):
            raise Unfit("an operand is broadcast")
    return int(np.prod(shape))


def _prepared(count: int, table: Int64Array, **fields: int) -> Prepared:
    """The table is indexed by the operand's byte: -128 is at 128."""
    data = np.roll(table, 128).astype(np.int32).tobytes()
    return Prepared(records.ADD_TABLE, {"count": count, **fields}, {"table": data})


def _shifted_table(results: Int64Array, factor: int) -> Int64Array | None:
    """T with (T[y] + x * factor) >> SHIFT = results[x, y] for all 65,536 pairs, saturated; None: there is none.

    Every pair bounds T[y] from both sides, but for a result that saturation makes of anything beyond.
    """
    product = (VALUES * factor)[:, None]
    low = np.where(results > -128, (results << SHIFT) - product, -(1 << 40)).max(axis=0)
    high = np.where(results < 127, ((results + 1) << SHIFT) - 1 - product, 1 << 40).min(axis=0)
    if (low > high).any():
        return None
    # A side without a bound must still not overflow the sum.
    table = np.where(low < -(1 << 39), high, np.where(high > 1 << 39, low, (low + high) >> 1))
    sums = table[None, :] + product
    return table if np.abs(sums).max() < 1 << 31 else None


def add_shifted(call: Call) -> Prepared:
    """sum >> 22: as long as one line per table entry separates all results, TFLite's roundings included."""
    v, count = call.values, _same_shape(call)
    terms = _terms(v)
    for swap in (0, 1):
        t = terms.swapped if swap else terms
        sums = wrap32(t.left[:, None] + t.right[None, :])
        results = np.clip(requantize(sums, v["out_mult"], v["out_shift"]) + v["out_zp"], v["act_min"], v["act_max"])
        real = (t.left[-1] - t.left[0]) / 255 * v["out_mult"] * 2.0 ** (v["out_shift"] - 31)
        for factor in round(real * 2**SHIFT) + np.array([0, -1, 1, -2, 2, -4, 4, -8, 8]):
            table = _shifted_table(results, int(factor))
            if table is not None:
                return _prepared(count, table, factor=int(factor), swap=swap)
    raise Unfit("no table rounds all pairs as TFLite does")


def add_exact(call: Call) -> Prepared:
    """The sum as TFLite has it, where one operand's term is a multiple of its value, then the fused requantisation.

    The kernel adds t >> 31 before the last rounding, so any right shift from 2 to 31 is exact (t - 1 < 0 at a half).
    """
    v, count = call.values, _same_shape(call)
    shift = -v["out_shift"]
    if (v["act_min"], v["act_max"]) != (-128, 127):
        raise Unfit("its activation cuts the int8 range")
    if v["out_mult"] < (1 << 30) or not 2 <= shift <= 31:
        raise Unfit(f"multiplier {v['out_mult']} with right shift {shift}, this kernel takes 2 to 31")
    for swap in (0, 1):
        t = _terms(v).swapped if swap else _terms(v)
        factor = int(t.left[129] - t.left[128])
        table = t.right + t.left[128]
        if (t.left == t.left[128] + factor * VALUES).all() and np.abs(table).max() + 128 * abs(factor) < 1 << 31:
            fused = {"scale": 2 * v["out_mult"] - (1 << 32), "round": 1 << (32 - shift), "out_zp": v["out_zp"]}
            return _prepared(count, table, factor=factor, swap=swap, **fused)
    raise Unfit("neither operand's term is a multiple of its value")
