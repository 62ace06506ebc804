"""Constants of the exact integer Winograd kernels, with the proof per layer that their arithmetic does not overflow."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dhn_kit.layouts import scalar
from dhn_kit.layouts.common import Call, Int8Array, Prepared, Unfit, exponents, folded_bias, rows_with_exceptions

Int64Array = npt.NDArray[np.int64]

#: mcu_kernels/armv7em/winograd_4x4_tiles.h: the weights' transform, with the factors of its rows left to the outputs.
TRANSFORM_4X4 = np.array([[3, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 3]], np.int64)
#: mcu_kernels/armv7em/winograd_2x2_tiles.h: the weights' transform, doubled.
TRANSFORM_2X2 = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], np.int64)
#: What all outputs of F(2x2) are multiplied by.
SCALE_2X2 = 4
#: What all outputs of F(4x4) are multiplied by, and how much of it is left in the sums of frequency (1, 1).
SCALE_4X4, BIAS_4X4 = 576, 36
#: Added to four pixels' lower lanes so that no lane lends to its neighbour, and the taps through which outputs (2,2),
#: (3,2), (2,3), (3,3) see them.
LIFT = 12750
LIFTED_TAPS = (((2, 2),), ((1, 2), (2, 2)), ((2, 1), (2, 2)), ((1, 1), (1, 2), (2, 1), (2, 2)))


def accumulator_range(call: Call) -> tuple[int, int]:
    """Smallest and largest accumulator over all int8 inputs and all output channels, bias included."""
    assert call.weight is not None and call.bias is not None
    weight, bias, zero = call.weight.astype(np.int64), call.bias.astype(np.int64), int(call.values["in_zp"])
    up = np.where(weight > 0, weight, 0).sum(axis=(1, 2, 3))
    down = np.where(weight < 0, weight, 0).sum(axis=(1, 2, 3))
    low, high = -128 - zero, 127 - zero
    return int((bias + up * low + down * high).min()), int((bias + up * high + down * low).max())


def padded(weight: Int8Array) -> Int8Array:
    """Zero input channels up to a multiple of four."""
    return np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, -weight.shape[3] % 4)))


def transformed(weight: Int8Array, rows: Int64Array) -> Int64Array:
    """(out_c, n, n, in_c): `rows` (n, 3) applied along both kernel axes of (out_c, 3, 3, in_c)."""
    return np.asarray(np.einsum("iu,jv,ouvc->oijc", rows, rows, weight.astype(np.int64)), np.int64)


def _interleave(lanes: Int64Array) -> bytes:
    """(out_c, frequencies, in_c) as int16 (out_c / 4, frequencies, in_c / 2, 4 output channels, 2 lanes).

    The lanes of each four channels are 0 and 2, then 1 and 3: what SXTAB16 takes from a word of bytes. Missing output
    channels of the last four are zero.
    """
    lanes = np.pad(lanes, ((0, -len(lanes) % 4), (0, 0), (0, 0)))
    out_c, count, in_c = lanes.shape
    split = lanes.reshape(out_c // 4, 4, count, in_c // 4, 2, 2)  # four of o, o, f, c / 4, lane, word
    return np.ascontiguousarray(split.transpose(0, 2, 3, 5, 1, 4)).astype("<i2").tobytes()


def _sums_4x4(call: Call) -> list[Int64Array]:
    """What makes up for bias, zero point and lifted pixels, (5) of (out_c): bias and unlift of dhn_wino_channel_t."""
    assert call.weight is not None and call.bias is not None
    weight = call.weight.astype(np.int64)
    zero = int(call.values["in_zp"]) + 128  # pixels are x + 128
    bias = call.bias.astype(np.int64) - zero * weight.sum(axis=(1, 2, 3))
    lower = (
        padded(call.weight).astype(np.int64).reshape(*weight.shape[:3], -1, 4)[..., :2].sum(axis=(3, 4))
    )  # lanes 0: channels 0 and 1 of four
    taps = [sum(lower[:, u, v] for u, v in seen) for seen in LIFTED_TAPS]
    return [BIAS_4X4 * bias, *(-BIAS_4X4 * LIFT * np.asarray(t) for t in taps)]


def _table(columns: list[Int64Array]) -> bytes:
    """(out_c, columns) int32, wrapped."""
    return np.stack(columns, axis=1).astype(np.uint64).astype("<u4").tobytes()


def _requantize(call: Call, scale: int, tile: str) -> list[Int64Array]:
    """Multiplier and last factor of each output channel, (2) of (out_c); Unfit if a range proof fails.

    |scale * accumulator| < 2^31 for every input, which also keeps the doubled accumulator within 32 bits. Right shifts:
    see common.rows_with_exceptions; a channel that is always its zero point has multiplier 0.
    """
    assert call.mult is not None
    bound = max(abs(n) for n in accumulator_range(call))
    if scale * bound >= 1 << 31:
        raise Unfit(f"accumulators up to {bound}, F({tile}) holds {((1 << 31) - 1) // scale}")
    _, factor, last, _ = rows_with_exceptions(call).astype(np.int64).T
    if (last == 0).any():
        e = exponents(call)
        raise Unfit(f"right shifts from {e.min()} to {e.max()} or an unusual multiplier, for sums up to {bound}")
    silent = (factor == 0) & (last == 1)
    return [np.where(silent, 0, call.mult), last]


def channel_rows_4x4(call: Call) -> bytes:
    """armv7em's dhn_wino_channel_t of F(4x4) per output channel; Unfit as `_requantize` says."""
    requantize = _requantize(call, SCALE_4X4, "4x4")
    return _table([*_sums_4x4(call), *requantize])


def channel_rows_2x2(call: Call) -> bytes:
    """armv7em's dhn_wino_channel_t of F(2x2) per output channel; Unfit as `_requantize` says."""
    requantize = _requantize(call, SCALE_2X2, "2x2")
    return _table([SCALE_2X2 * folded_bias(call).astype(np.int64), *requantize])


def _weights(call: Call, transform: Int64Array) -> bytes:
    assert call.weight is not None
    lanes = transformed(padded(call.weight), transform)
    out_c, _, _, in_c = lanes.shape
    return _interleave(lanes.reshape(out_c, -1, in_c))


def winograd_2x2(call: Call) -> Prepared:
    """Transformed weights: 32 / 9 of the bytes of the weights."""
    consts = {"weight": _weights(call, TRANSFORM_2X2), "bias": channel_rows_2x2(call), "mult": b"", "shift": b""}
    return Prepared(call.record, call.values, consts)


def winograd_4x4(call: Call) -> Prepared:
    """Transformed weights: eight times the bytes of the weights."""
    rows = channel_rows_4x4(call)
    return Prepared(
        call.record, call.values, {"weight": _weights(call, TRANSFORM_4X4), "bias": rows, "mult": b"", "shift": b""}
    )


def _taps(weight: Int8Array) -> bytes:
    """int8 weights as (out_c, in_c / 4, 9 taps, 4)."""
    weight = padded(weight)
    out_c, _, _, in_c = weight.shape
    return np.ascontiguousarray(weight.reshape(out_c, 9, in_c // 4, 4).transpose(0, 2, 1, 3)).tobytes()


def winograd_4x4_lean(call: Call) -> Prepared:
    """int8 weights: the kernel transforms them during the call."""
    assert call.weight is not None
    rows = channel_rows_4x4(call)
    consts = {"weight": _taps(call.weight), "bias": rows, "mult": b"", "shift": b""}
    return Prepared(call.record, call.values, consts)


def _scalar(call: Call) -> tuple[Call, bytes]:
    """The call with channels that are always their zero point emptied, and its table for plain C; Unfit.

    64 accumulators fit 32 bits: the transform back leaves 576 of them modulo 2^32, times 1 / 9.
    """
    assert call.bias is not None
    requantize, weight = scalar.rows(call)
    constant = requantize[:, 1] == 0  # always the zero point: nothing may be added to its sums
    kept = replace(call, weight=weight, bias=np.where(constant, 0, call.bias))
    bound = max(abs(n) for n in accumulator_range(kept))
    if bound >= 1 << 25:
        raise Unfit(f"accumulators up to {bound}, F(4x4) holds {(1 << 25) - 1}")
    return kept, _table([*_sums_4x4(kept), *requantize[:, 1:].astype(np.int64).T])


def winograd_4x4_scalar(call: Call) -> Prepared:
    """For plain C: wider accumulators, and requantisation as in layouts/scalar.py."""
    kept, table = _scalar(call)
    consts = {"weight": _weights(kept, TRANSFORM_4X4), "bias": table, "mult": b"", "shift": b""}
    return Prepared(call.record, call.values, consts)


def winograd_4x4_lean_scalar(call: Call) -> Prepared:
    """The same with int8 weights, which the kernel transforms during the call."""
    kept, table = _scalar(call)
    assert kept.weight is not None
    consts = {"weight": _taps(kept.weight), "bias": table, "mult": b"", "shift": b""}
    return Prepared(call.record, call.values, consts)
