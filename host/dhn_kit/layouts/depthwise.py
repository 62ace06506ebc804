"""Constants of depthwise 3x3 kernels: one row of filter, bias and requantisation per channel."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np

from dhn_kit.layouts import common
from dhn_kit.layouts.common import Call, Prepared


def depthwise_3x3(call: Call) -> Prepared:
    """Per channel 24 bytes: three rows of (w0, w1, w2, extra), bias, scale, round; extra of row 0 is the shift."""
    assert call.weight is not None
    kh, kw, channels = call.weight.shape
    assert (kh, kw) == (3, 3)
    rows = common.rows_with_exceptions(call)
    table = np.zeros(channels, np.dtype([("w", "i1", (3, 4)), ("row", "<i4", 3)]))
    table["w"][:, :, :3] = call.weight.transpose(2, 0, 1)
    table["w"][:, 0, 3] = rows[:, 3]
    table["row"] = rows[:, :3]
    return Prepared(call.record, call.values, {"weight": table.tobytes()})


def depthwise_any(call: Call) -> Prepared:
    """Per output channel words of two int16 weights, rows along the filter's longer side ending in a zero if odd."""
    assert call.weight is not None and call.shift is not None
    kh, kw, channels = call.weight.shape
    filters = call.weight.transpose(2, 0, 1) if kw >= kh else call.weight.transpose(2, 1, 0)
    words = np.zeros((channels, min(kh, kw), -(-max(kh, kw) // 2) * 2), np.dtype("<i2"))
    words[:, :, : max(kh, kw)] = filters
    rows = common.rows_with_exceptions(call)
    consts = {"weight": words.tobytes(), "bias": rows[:, :3].tobytes(), "shift": call.shift.tobytes()}
    return Prepared(call.record, call.values, consts)
