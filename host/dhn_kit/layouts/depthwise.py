"""Constants of depthwise 3x3 kernels: one row of filter, bias and requantisation per channel."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np

from dhn_kit.layouts import common
from dhn_kit.layouts.common import Call, Int32Array, Prepared

#: Largest right shift whose halves the fused arithmetic rounds rightly for any accumulator: beyond 2^(32 - e) the
#: rounded value may be off by one, but is then so large that it saturates (2^(32 - 2e) >= 256).
ANY_ACCUMULATOR = 12


def rows_with_exceptions(call: Call) -> Int32Array:
    """(out_c, 4): folded bias, scale, round, shift; round 0 marks a channel that the fused arithmetic does not cover.

    As `common.fused_rows`, but a channel's exponent may be anything: with |acc| <= B and right shift e >= 2 the product
    t * (2^(32 - e) + 1) rounds rightly while B < 2^(32 - e), and one whose every value rounds to zero has round 1.
    """
    assert call.mult is not None and call.shift is not None
    e, mult = common.exponents(call), call.mult.astype(np.int64)
    # One more than |acc| * mult / 2^31 rounded: what the right shift meets.
    bound = common.accumulator_bound(call)
    high = (bound * np.abs(mult) >> 31) + 1
    normal = (mult >= 1 << 30) & (e >= 2) & ((e <= ANY_ACCUMULATOR) | (bound + 1 < (np.int64(1) << (32 - e.clip(0)))))
    silent = (bound < 1 << 30) & ((mult == 0) | ((e >= 1) & (high < (np.int64(1) << (e.clip(1) - 1)))))
    rows = np.zeros((len(mult), 4), np.int64)
    rows[:, 0] = common.folded_bias(call)
    rows[:, 1] = np.where(silent, 0, np.where(normal, 2 * mult - (1 << 32), mult))
    rows[:, 2] = np.where(silent, 1, np.where(normal, (np.int64(1) << (32 - e.clip(2))) + 1, 0))
    rows[:, 3] = call.shift
    return rows.astype(np.int32)


def transposed(call: Call) -> bool:
    """Whether the kernel's lines run along the height, as the kernel decides it too."""
    return bool(call.values["out_h"] > call.values["out_w"])


def depthwise_3x3(call: Call) -> Prepared:
    """Per channel 24 bytes: three lines of (w0, w1, w2, extra), bias, scale, round; extra of line 0 is the shift."""
    assert call.weight is not None
    kh, kw, channels = call.weight.shape
    assert (kh, kw) == (3, 3)
    rows = rows_with_exceptions(call)
    table = np.zeros(channels, np.dtype([("w", "i1", (3, 4)), ("row", "<i4", 3)]))
    table["w"][:, :, :3] = call.weight.transpose(2, 1, 0) if transposed(call) else call.weight.transpose(2, 0, 1)
    table["w"][:, 0, 3] = rows[:, 3]
    table["row"] = rows[:, :3]
    return Prepared(call.record, call.values, {"weight": table.tobytes()})
