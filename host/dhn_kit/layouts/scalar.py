"""Constants of the plain C kernels: requantisation rows and weights in the order of the loops."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

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

#: portable/scalar.h: |acc| for which dhn_scale_high is exact, and shifts for which dhn_row_t.half fits.
ACC_LIMIT, MAX_SHIFT = 1 << 29, 22
#: portable/conv_pairs.c: two sums share 64 bits as long as the lower one stays within its 23.
PAIR_LIMIT = 1 << 22
#: portable/fc_halves.h: |w0| + |w1| for which two steps with any inputs fit 16 bits.
HALVES_LIMIT = 255


def rows(call: Call) -> tuple[Int32Array, Int8Array]:
    """(out_c, 4) as in dhn_row_t, and the weights, with those channels zero whose output is always the zero point."""
    assert call.mult is not None and call.weight is not None
    bound, e, mult = accumulator_bound(call), exponents(call), call.mult.astype(np.int64)
    if bound.max() >= ACC_LIMIT:
        raise Unfit("sums may reach 2^29")
    # The doubled high product is at most the sum itself; half a unit of the last place rounds away from zero.
    constant = (mult == 0) | ((e > 0) & (bound + 1 < np.int64(1) << np.maximum(e - 1, 0)))
    if ((mult < (1 << 30)) & ~constant).any():
        raise Unfit("a channel's multiplier is not normalised")
    e = np.where(constant, 1, e)
    if e.min() < 1 or e.max() > MAX_SHIFT:
        raise Unfit(f"right shifts from {e.min()} to {e.max()}, this kernel takes 1 to {MAX_SHIFT}")
    half = (np.int64(1) << (e - 1)) + int(call.values["out_zp"]) * (np.int64(1) << e)
    bias = np.where(constant, 0, folded_bias(call))
    multiplier = np.where(constant, 0, 2 * mult - (1 << 32))
    out_axis = 0 if call.op != "depthwise_conv2d" else call.weight.ndim - 1
    keep = np.expand_dims(~constant, tuple(i for i in range(call.weight.ndim) if i != out_axis))
    return np.stack([bias, multiplier, half, e], axis=1).astype(np.int32), call.weight * keep.astype(np.int8)


def interleaved(weight: Int8Array, channels: int, steps: int) -> Int8Array:
    """(out_c, ...) -> (ceil(out_c / channels), K, channels), K rounded up to `steps`; what is added is zero."""
    flat = weight.reshape(weight.shape[0], -1)
    padded = np.zeros((-(-flat.shape[0] // channels) * channels, -(-flat.shape[1] // steps) * steps), np.int8)
    padded[: flat.shape[0], : flat.shape[1]] = flat
    grouped = padded.reshape(-1, channels, padded.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(grouped)


def padded_rows(table: Int32Array, channels: int) -> bytes:
    """Rows for the channels that fill up the last group; their results are not stored."""
    extra: npt.NDArray[np.int32] = np.zeros((-table.shape[0] % channels, 4), np.int32)
    return np.concatenate([table, extra]).astype(np.int32).tobytes()


def sums(call: Call) -> tuple[int, int]:
    """Least and largest accumulator of any output channel over all int8 inputs, bias included."""
    assert call.weight is not None and call.bias is not None
    weight = call.weight.astype(np.int64)
    weight = (
        weight.reshape(-1, weight.shape[-1]).T if call.op == "depthwise_conv2d" else weight.reshape(len(weight), -1)
    )
    down, up = -128 - int(call.values["in_zp"]), 127 - int(call.values["in_zp"])
    low = np.minimum(weight * down, weight * up).sum(axis=1) + call.bias
    high = np.maximum(weight * down, weight * up).sum(axis=1) + call.bias
    return int(low.min()), int(high.max())


def _prepared(call: Call, weight: Int8Array, table: bytes) -> Prepared:
    return Prepared(call.record, call.values, {"weight": weight.tobytes(), "bias": table})


def conv_pairs(call: Call) -> Prepared:
    """portable/conv_pairs.c: two channels side by side, steps filled up to four."""
    table, weight = rows(call)
    low, high = sums(call)
    if low < -PAIR_LIMIT or high >= PAIR_LIMIT:
        raise Unfit(f"sums from {low} to {high}; two share 64 bits up to {PAIR_LIMIT}")
    return _prepared(call, interleaved(weight, 2, 4), padded_rows(table, 2))


def conv_quads(call: Call) -> Prepared:
    """rv32imc/conv.c: four channels side by side."""
    table, weight = rows(call)
    return _prepared(call, interleaved(weight, 4, 4), padded_rows(table, 4))


def conv_quads_biased(call: Call) -> Prepared:
    """xtensa/conv.c, fc_bytes.c: four channels side by side as w + 128, what that adds taken from the bias."""
    table, weight = rows(call)
    flat = interleaved(weight, 4, 4)
    sums = weight.reshape(len(weight), -1).astype(np.int64).sum(axis=1)
    table[:, 0] = (table[:, 0] - 128 * sums).astype(np.uint64).astype(np.uint32).view(np.int32)
    return _prepared(call, (flat.astype(np.int16) + 128).astype(np.uint8).view(np.int8), padded_rows(table, 4))


def depthwise_taps(call: Call) -> Prepared:
    """portable/depthwise.c: a channel's taps together, line by line of the plane (along the longer side)."""
    table, weight = rows(call)
    by_channel = weight.transpose(2, 0, 1)
    if call.values["out_h"] > call.values["out_w"]:
        by_channel = by_channel.transpose(0, 2, 1)
    return _prepared(call, np.ascontiguousarray(by_channel), table.tobytes())


def fc_quads(call: Call) -> Prepared:
    """portable/fc.c: four channels side by side."""
    table, weight = rows(call)
    return _prepared(call, interleaved(weight, 4, 1), padded_rows(table, 4))


def fc_fields(call: Call) -> Prepared:
    """portable/fc_fields.c: four channels side by side, as bytes a + 128, d, c + 128, b."""
    table, weight = rows(call)
    words = interleaved(weight, 4, 1)[:, :, [0, 3, 2, 1]]
    words[:, :, ::2] ^= -128
    return _prepared(call, words, padded_rows(table, 4))


def fc_sparse(call: Call) -> Prepared:
    """portable/fc_sparse.c: as `fc_quads`, but the zero point is not folded into the bias: the kernel subtracts it."""
    table, weight = rows(call)
    assert call.bias is not None
    constant = table[:, 1] == 0
    table[:, 0] = np.where(constant, 0, call.bias)
    return _prepared(call, interleaved(weight, 4, 1), padded_rows(table, 4))


def fc_word_pairs(call: Call) -> Prepared:
    """portable/fc.c: words w0 + w1 * 2^23 of two channels, four words per input."""
    table, weight = rows(call)
    grouped = interleaved(weight, 8, 1).astype(np.int32)
    words = (grouped[:, :, 0::2] + grouped[:, :, 1::2] * (1 << 23)).astype(np.int32)
    return Prepared(call.record, call.values, {"weight": words.tobytes(), "bias": padded_rows(table, 8)})


def fc_halves(call: Call, channels: int) -> Prepared:
    """portable/fc_halves.h: words w1 + w0 * 2^16 of two steps, `channels` words per two inputs."""
    table, weight = rows(call)
    grouped = interleaved(weight, channels, 8).astype(np.int32)
    first, second = grouped[:, 0::2], grouped[:, 1::2]
    if (np.abs(first) + np.abs(second)).max() > HALVES_LIMIT:
        raise Unfit("two neighbouring weights of -128")
    words = (second + first * (1 << 16)).astype(np.int32)
    return Prepared(call.record, call.values, {"weight": words.tobytes(), "bias": padded_rows(table, channels)})
