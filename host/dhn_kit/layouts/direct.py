"""Constants of the direct convolutions on cores with DSP instructions: weights in the order of the register tiles."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dhn_kit.layouts.common import (
    Call,
    Int8Array,
    Int32Array,
    Prepared,
    Unfit,
    accumulator_bound,
    exponents,
    folded_bias,
)

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


def _without_dead(call: Call) -> Call:
    """Channels that always give their zero point, as channels without weights: multiplier zero, or sums below half of
    the last place."""
    assert call.weight is not None and call.bias is not None and call.mult is not None and call.shift is not None
    e = exponents(call)
    dead = (call.mult == 0) | ((e > 1) & (accumulator_bound(call) < np.int64(1) << np.maximum(e - 1, 0)))
    return replace(
        call,
        weight=np.where(dead.reshape(-1, 1, 1, 1), 0, call.weight).astype(np.int8),
        bias=np.where(dead, 0, call.bias).astype(np.int32),
        mult=np.where(dead, 1 << 30, call.mult).astype(np.int32),
        shift=np.where(dead, -7, call.shift).astype(np.int8),
    )


def _fused(call: Call) -> Int32Array:
    """(out_c, 3): folded bias, 2 * mult - 2^32, 2^(32 - e) + 1 for right shifts by e.

    For e = 12 the doubled high product t stays below 2^20, where adding t / 2^32 moves nothing but halves, or the
    output saturates. For a larger e, the sums must stay below 2^(32 - e).
    """
    assert call.mult is not None
    e = exponents(call)
    if (call.mult < 1 << 30).any():
        raise Unfit("a channel's multiplier is not normalised")
    small = accumulator_bound(call) < np.int64(1) << np.maximum(32 - e, 0)
    if not ((e >= 2) & ((e <= 12) | small)).all():
        raise Unfit(f"right shifts from {e.min()} to {e.max()}, this kernel takes 2 to 12 and more for small sums")
    scale, rounding = 2 * call.mult.astype(np.int64) - (1 << 32), (np.int64(1) << (32 - e)) + 1
    return np.stack([folded_bias(call), scale, rounding], axis=1).astype(np.int32)


def _pairs(call: Call) -> Int32Array:
    """(out_c / 2, 6): both biases, then scale and rounding of each channel."""
    rows = _fused(call).reshape(-1, 2, 3)
    return np.concatenate([rows[:, :, 0], rows[:, :, 1:].reshape(-1, 4)], axis=1)


def _check_sums(weight: Int8Array, largest: int = 128) -> None:
    """The second channel's sum is what 256 times it, modulo 2^32, leaves: it must fit 24 bits for inputs up to
    `largest`."""
    bound = int(largest * np.abs(weight.astype(np.int64)).sum(axis=1).max())
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
    call = _without_dead(call)
    by_depth = _by_depth(call)
    _check_sums(by_depth)
    consts = {"weight": _merged(by_depth).tobytes(), "bias": _pairs(call).astype("<i4").tobytes()}
    return Prepared(call.record, call.values, consts)


def conv_s8_gated(call: Call) -> Prepared:
    """The weights of `conv_s8`; biases that are not folded, for inputs less their zero point."""
    zero = int(call.values["in_zp"])
    call = _without_dead(call)
    by_depth = _by_depth(call)
    _check_sums(by_depth, max(127 - zero, 128 + zero))
    pairs = _pairs(call)
    assert call.bias is not None
    pairs[:, :2] = call.bias.reshape(-1, 2)
    return Prepared(
        call.record, call.values, {"weight": _merged(by_depth).tobytes(), "bias": pairs.astype("<i4").tobytes()}
    )


def conv_w16(call: Call) -> Prepared:
    """int16 weights (out_c / 2, depths / 2, channel, depth): each word holds two depths of one channel."""
    call = _without_dead(call)
    by_depth = _by_depth(call)
    pairs = by_depth.reshape(len(by_depth) // 2, 2, -1, 2).transpose(0, 2, 1, 3).astype("<i2")
    consts = {"weight": pairs.tobytes(), "bias": _pairs(call).astype("<i4").tobytes()}
    return Prepared(call.record, call.values, consts)


def _any_rows(call: Call) -> Int32Array:
    """(out_c, 5): folded bias, 2 * mult - 2^32, half of the last place, sign mask, left and right shift in bytes."""
    assert call.mult is not None
    e = exponents(call)
    left, right = np.maximum(-e, 0), np.maximum(e, 0)
    if ((accumulator_bound(call) << left) >= 1 << 30).any():
        raise Unfit("sums, shifted left, may reach 2^30")
    if (call.mult < 1 << 30).any():
        raise Unfit("a channel's multiplier is not normalised")
    half, sign = (1 << right) >> 1, -(right > 0).astype(np.int64)
    scale = 2 * call.mult.astype(np.int64) - (1 << 32)
    return np.stack([folded_bias(call), scale, half, sign, left | right << 8], axis=1).astype(np.int32)


def conv_any(call: Call) -> Prepared:
    """int8 weights as in `conv_s8`, with a partner of zeros for an odd channel, and a row for any exponent."""
    call = _without_dead(call)
    by_depth, rows = _by_depth(call), _any_rows(call)
    odd = ((0, len(by_depth) % 2), (0, 0))
    by_depth, rows = np.pad(by_depth, odd), np.pad(rows, odd)
    _check_sums(by_depth)
    consts = {"weight": _merged(by_depth).tobytes(), "bias": rows.astype("<i4").tobytes()}
    return Prepared(call.record, call.values, consts)


def _packed(call: Call, bits: int) -> Prepared:
    """Words of fields from the highest bits of each lane down: channels A and B of two depths, then of the next two."""
    call = _without_dead(call)
    by_depth = _by_depth(call).astype(np.int64)
    if by_depth.min() < -(1 << bits - 1) or by_depth.max() >= 1 << bits - 1:
        raise Unfit(f"weights from {by_depth.min()} to {by_depth.max()} need more than {bits} bits")
    bound = int(128 * np.abs(by_depth).sum(axis=1).max()) << 16 - bits
    if bound >= 1 << 31:
        raise Unfit(f"sums of up to {bound >> 16 - bits} need more than {16 + bits} bits")
    depths = 32 // (2 * bits)
    by_depth = np.pad(by_depth, ((0, 0), (0, -by_depth.shape[1] % depths)))
    # (pairs of channels, steps, pairs of depths, lane, channel)
    fields = by_depth.reshape(len(by_depth) // 2, 2, -1, depths // 2, 2).transpose(0, 2, 3, 4, 1)
    place = 16 * np.arange(2).reshape(2, 1) + 16 - bits * (1 + np.arange(2))
    place = place - 2 * bits * np.arange(depths // 2).reshape(-1, 1, 1)
    words = ((fields & (1 << bits) - 1) << place).sum(axis=(2, 3, 4)).astype("<u4")
    return Prepared(call.record, call.values, {"weight": words.tobytes(), "bias": _pairs(call).astype("<i4").tobytes()})


def conv_w4(call: Call) -> Prepared:
    """Weights of four bits, four depths of two channels in a word."""
    return _packed(call, 4)


def conv_w2(call: Call) -> Prepared:
    """Weights of two bits, eight depths of two channels in a word."""
    return _packed(call, 2)
