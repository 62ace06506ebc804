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
