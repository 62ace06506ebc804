"""Constants of fully connected kernels."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np

from dhn_kit.layouts import common
from dhn_kit.layouts.common import Call, Prepared, Unfit

#: Inputs per turn of the inner loop, as in fc_tile.h; and their order, as unpacking bytes gives it.
STEP, ORDER = 16, (0, 2, 1, 3)


def fc_pairs(call: Call) -> Prepared:
    """Halfwords A + 256 * B of the weights of channels 2i and 2i + 1, padded with zeros to whole pairs and steps.

    B's sum over raw inputs of at most 128 must stay below 2^23, or the kernel could not tell it from A's.
    """
    assert call.weight is not None and call.shift is not None
    out_c, in_c = call.weight.shape
    padded = np.zeros((-(-out_c // 2) * 2, -(-in_c // STEP) * STEP), np.int64)
    padded[:out_c, :in_c] = call.weight
    pairs = padded.reshape(-1, 2, padded.shape[1])
    if (np.abs(pairs[:, 1]).sum(axis=1) * 128 >= 1 << 23).any():
        raise Unfit("a channel's sum may exceed 24 bits")
    halves = pairs[:, 0] + 256 * pairs[:, 1]
    if halves.min() < -(1 << 15):
        raise Unfit("a weight of -128 that has no room beside its neighbour")
    ordered = halves.reshape(len(halves), -1, 4)[:, :, ORDER].reshape(halves.shape)
    rows = common.rows_with_exceptions(call)
    table = np.zeros((len(pairs) * 2, 3), np.int32)
    table[:out_c] = rows[:, :3]
    consts = {"weight": ordered.astype("<i2").tobytes(), "bias": table.tobytes(), "shift": call.shift.tobytes()}
    # The kernel looks for channels beyond its fused arithmetic only where it is told that there are any.
    odd = int((rows[:, 2] == 0).any())
    return Prepared(call.record, {**call.values, "reserved": odd}, consts)
