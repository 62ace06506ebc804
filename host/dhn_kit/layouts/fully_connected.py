"""Constants of fully connected kernels."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dhn_kit.layouts import common
from dhn_kit.layouts.common import Call, Int8Array, Prepared, Unfit

#: Inputs per turn of the inner loop, as in fc_tile.h; and their order, as unpacking bytes gives it.
STEP, ORDER = 16, (0, 2, 1, 3)


def _halves(weight: Int8Array, channels: int, steps: int, largest: int) -> npt.NDArray[np.int64]:
    """Halfwords A + 256 * B of the weights of channels 2i and 2i + 1: (pairs, in_c), channels and inputs rounded up to
    multiples of `channels` and `steps` with zeros.

    B's sum over inputs of at most `largest` must stay below 2^23, or a kernel could not tell it from A's.
    """
    out_c, in_c = weight.shape
    padded = np.zeros((-(-out_c // channels) * channels, -(-in_c // steps) * steps), np.int64)
    padded[:out_c, :in_c] = weight
    pairs = padded.reshape(-1, 2, padded.shape[1])
    if (np.abs(pairs[:, 1]).sum(axis=1) * largest >= 1 << 23).any():
        raise Unfit("a channel's sum may exceed 24 bits")
    halves = pairs[:, 0] + 256 * pairs[:, 1]
    if halves.min() < -(1 << 15):
        raise Unfit("a weight of -128 that has no room beside its neighbour")
    return np.asarray(halves, np.int64)


def fc_pairs(call: Call) -> Prepared:
    """Halfwords A + 256 * B of the weights of channels 2i and 2i + 1, padded with zeros to whole pairs and steps.

    The kernel multiplies raw inputs, of at most 128.
    """
    assert call.weight is not None and call.shift is not None
    out_c = len(call.weight)
    halves = _halves(call.weight, 2, STEP, largest=128)
    ordered = halves.reshape(len(halves), -1, 4)[:, :, ORDER].reshape(halves.shape)
    rows = common.rows_with_exceptions(call)
    table = np.zeros((len(halves) * 2, 3), np.int32)
    table[:out_c] = rows[:, :3]
    consts = {"weight": ordered.astype("<i2").tobytes(), "bias": table.tobytes(), "shift": call.shift.tobytes()}
    # The kernel looks for channels beyond its fused arithmetic only where it is told that there are any.
    odd = int((rows[:, 2] == 0).any())
    return Prepared(call.record, {**call.values, "reserved": odd}, consts)


#: Output channels of a block and inputs of a step, as in fc_sparse_tile.h.
SPARSE_CHANNELS, SPARSE_STEP = 4, 4


def fc_sparse(call: Call) -> Prepared:
    """As `fc_pairs`, but block by block of four channels and in it item by item.

    Items are inputs 4i and 4i + 2, then 4i + 1 and 4i + 3, each with a word of channels A and B and one of C and D. The
    zero point is not folded into the bias, since the kernel subtracts it.
    """
    assert call.weight is not None and call.bias is not None
    zero = int(call.values["in_zp"])
    halves = _halves(call.weight, SPARSE_CHANNELS, SPARSE_STEP, largest=max(127 - zero, 128 + zero))
    blocks = halves.reshape(-1, 2, halves.shape[1] // 4, 2, 2)  # block, words, step, lane, item
    table = np.zeros((len(halves) * 2, 3), np.int32)
    table[: len(call.weight)] = common.rows_with_exceptions(call)[:, :3]
    table[: len(call.weight), 0] = call.bias
    if (table[: len(call.weight), 2] == 0).any():
        raise Unfit("a channel's scale lies outside the fused arithmetic")
    ordered = blocks.transpose(0, 2, 4, 1, 3).astype("<i2")
    return Prepared(call.record, call.values, {"weight": ordered.tobytes(), "bias": table.tobytes()})
