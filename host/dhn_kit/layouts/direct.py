"""Constants of the direct convolutions on cores with DSP instructions: weights in the order of the register tiles."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dhn_kit.layouts.common import Call, Int8Array, Int32Array, Prepared, Unfit, fused_rows

#: Depths of four neighbouring bytes in the order in which SXTB16 unpacks them.
_QUAD = (0, 2, 1, 3)


def _quads(values: Int8Array) -> Int8Array:
    """(out_c, n), n a multiple of 4, with the depths of each quad in the order of unpacking."""
    return values.reshape(len(values), -1, 4)[:, :, _QUAD].reshape(len(values), -1)


def _by_depth(call: Call) -> Int8Array:
    """(out_c, depths): the weights in the order of the gathered window of taps, with zeros up to a quad."""
    assert call.weight is not None
    flat = call.weight.reshape(len(call.weight), -1)
    return _quads(np.pad(flat, ((0, 0), (0, -flat.shape[1] % 4))))


def _pairs(call: Call) -> Int32Array:
    """(out_c / 2, 6): both biases, then scale and rounding of each channel."""
    rows = fused_rows(call).reshape(-1, 2, 3)
    return np.concatenate([rows[:, :, 0], rows[:, :, 1:].reshape(-1, 4)], axis=1)


def _check_sums(weight: Int8Array) -> None:
    """The second channel's sum is what 256 times it, modulo 2^32, leaves: it must fit 24 bits."""
    bound = int(128 * np.abs(weight.astype(np.int64)).sum(axis=1).max())
    if bound >= 1 << 23:
        raise Unfit(f"sums of up to {bound} need more than 24 bits")


def _merged(by_channel: Int8Array) -> npt.NDArray[np.int16]:
    """(out_c / 2, depths): halfwords A + 256 * B of neighbouring channels A and B."""
    wide = by_channel.astype(np.int32)
    halves = wide[0::2] + 256 * wide[1::2]
    if halves.min() < -32768:
        raise Unfit("a weight of -128 in a second channel")
    return halves.astype("<i2")


def conv_s8(call: Call) -> Prepared:
    """int8 weights, pairs of channels in a halfword."""
    by_depth = _by_depth(call)
    _check_sums(by_depth)
    consts = {"weight": _merged(by_depth).tobytes(), "bias": _pairs(call).astype("<i4").tobytes()}
    return Prepared(call.record, call.values, consts)


def conv_w16(call: Call) -> Prepared:
    """int16 weights (out_c / 2, depths / 2, channel, depth): each word holds two depths of one channel."""
    by_depth = _by_depth(call)
    pairs = by_depth.reshape(len(by_depth) // 2, 2, -1, 2).transpose(0, 2, 1, 3).astype("<i2")
    consts = {"weight": pairs.tobytes(), "bias": _pairs(call).astype("<i4").tobytes()}
    return Prepared(call.record, call.values, consts)
