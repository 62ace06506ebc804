"""TFLite's exact integer arithmetic, vectorised over int64 arrays."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dhn_kit.graph import Array

Int64 = npt.NDArray[np.int64]
INT32_MAX = 2**31 - 1
INT32_MIN = -(2**31)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(mult, shift) with real ~ mult * 2^(shift - 31), 2^30 <= mult < 2^31 (TFLite's QuantizeMultiplier)."""
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    mult = math.floor(abs(fraction) * 2**31 + 0.5) * (1 if fraction >= 0 else -1)
    if abs(mult) == 2**31:
        mult //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        return INT32_MAX, 30
    return int(mult), shift


def mean_multiplier(scale: float, pixels: int) -> tuple[int, int]:
    """scale / pixels as TFLite's reduction folds the division into the multiplier (QuantizedMeanOrSum)."""
    mult, shift = quantize_multiplier(scale)
    up = min(pixels.bit_length() - 1, 32, 31 + shift)
    return (mult << up) // pixels, shift - up


def saturating_rounding_doubling_high_mul(a: Array | np.int64, b: Array | np.int64) -> Int64:
    """High 32 bits of 2*a*b, halves away from zero; INT32_MIN squared saturates."""
    ab = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    nudged = ab + np.where(ab >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return np.minimum(high, INT32_MAX)


def rounding_divide_by_pot(x: Array, exponent: Array | int) -> Int64:
    """x / 2^exponent, halves away from zero."""
    x, e = np.asarray(x, np.int64), np.asarray(exponent, np.int64)
    mask = (np.int64(1) << e) - 1
    rest = x & mask
    threshold = (mask >> 1) + (x < 0)
    quotient: Int64 = (x >> e) + (rest > threshold)
    return quotient


def wrap32(x: Array) -> Int64:
    """The int32 that two's complement leaves of x."""
    return ((np.asarray(x, np.int64) + 2**31) & 0xFFFFFFFF) - 2**31


def multiply_by_quantized_multiplier(x: Array, mult: Array | int, shift: Array | int) -> Int64:
    """x * mult * 2^(shift - 31) with TFLite Micro's double rounding."""
    e = np.asarray(shift, np.int64)
    left, right = np.maximum(e, 0), np.maximum(-e, 0)
    shifted = wrap32(np.asarray(x, np.int64) << left)
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(shifted, np.asarray(mult)), right)


def saturating_left_shift(x: Array, bits: int) -> Int64:
    """x * 2^bits, saturated to int32 (gemmlowp's SaturatingRoundingMultiplyByPOT for positive exponents)."""
    shifted: Int64 = np.asarray(x, np.int64) << bits
    return np.clip(shifted, INT32_MIN, INT32_MAX)


def saturate_16(x: Array) -> Int64:
    return np.clip(np.asarray(x, np.int64), -(2**15), 2**15 - 1)


def saturating_rounding_doubling_high_mul_16(a: Array, b: int) -> Int64:
    """High 16 bits of 2*a*b for 16-bit numbers, halves rounded up (gemmlowp)."""
    ab = np.asarray(a, np.int64) * b
    nudged = ab + np.where(ab >= 0, 1 << 14, 1 - (1 << 14))
    return saturate_16(np.where(nudged >= 0, nudged >> 15, -((-nudged) >> 15)))


def downscale_multiplier(mult: int) -> int:
    """A Q0.31 multiplier as Q0.15, rounded, saturated (TFLite's DownScaleInt32ToInt16Multiplier)."""
    return min((mult + (1 << 15)) >> 16, 2**15 - 1)


def exp_on_interval(a: Array) -> Int64:
    """exp(a) for a in [-1/4, 0), Q0.31 in and out (gemmlowp)."""
    constant_term, third = 1895147668, 715827883
    x = np.asarray(a, np.int64) + (1 << 28)
    x2 = saturating_rounding_doubling_high_mul(x, x)
    x3 = saturating_rounding_doubling_high_mul(x2, x)
    x4 = saturating_rounding_doubling_high_mul(x2, x2)
    x4_over_4 = rounding_divide_by_pot(x4, 2)
    inner = rounding_divide_by_pot(saturating_rounding_doubling_high_mul(x4_over_4 + x3, np.int64(third)) + x2, 1)
    return np.minimum(
        constant_term + saturating_rounding_doubling_high_mul(np.int64(constant_term), x + inner), INT32_MAX
    )


#: exp(-2^k) in Q0.31 for k = -2 .. 4 (gemmlowp's barrel shifter).
_EXP_STEPS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}


def exp_on_negative_values(a: Array, integer_bits: int) -> Int64:
    """exp(a) for a <= 0 in Q(integer_bits).(31 - integer_bits), result Q0.31 (gemmlowp)."""
    a = np.asarray(a, np.int64)
    fractional = 31 - integer_bits
    one_quarter = 1 << (fractional - 2)
    mask = one_quarter - 1
    modulo = (a & mask) - one_quarter
    result = exp_on_interval(saturating_left_shift(modulo, integer_bits))
    remainder = modulo - a
    for exponent, factor in _EXP_STEPS.items():
        if integer_bits > exponent:
            bit = 1 << (fractional + exponent)
            stepped = saturating_rounding_doubling_high_mul(result, np.int64(factor))
            result = np.where(remainder & bit, stepped, result)
    if integer_bits > 5:
        clamp = -(1 << (36 - integer_bits))
        result = np.where(a < clamp, 0, result)
    return np.where(a == 0, INT32_MAX, result)


def _two_over_one_plus_x(a: Array) -> Int64:
    """2 / (1 + a) for a in [0, 1), Q0.31 in and Q2.29 out (gemmlowp: three Newton-Raphson steps)."""
    half = (np.asarray(a, np.int64) + INT32_MAX + 1) // 2
    x = 1515870810 + saturating_rounding_doubling_high_mul(half, np.int64(-1010580540))
    for _ in range(3):
        error = (1 << 29) - saturating_rounding_doubling_high_mul(half, x)
        x = x + saturating_left_shift(saturating_rounding_doubling_high_mul(x, error), 2)
    return x


def one_over_one_plus_x(a: Array) -> Int64:
    """1 / (1 + a) for a in [0, 1), Q0.31 in and out (gemmlowp)."""
    return saturating_left_shift(_two_over_one_plus_x(a), 1)


def logistic(a: Array, integer_bits: int) -> Int64:
    """1 / (1 + exp(-a)) in Q0.31 of a in Q(integer_bits) (gemmlowp)."""
    a = np.asarray(a, np.int64)
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits))
    result = np.where(a >= 0, positive, INT32_MAX - positive)
    return np.where(a == 0, 1 << 30, result)


def one_minus_over_one_plus_x(a: Array) -> Int64:
    """(1 - a) / (1 + a) for a in [0, 1), Q0.31 in and out (gemmlowp)."""
    return saturating_left_shift(_two_over_one_plus_x(a) - (1 << 29), 2)


def tanh(a: Array, integer_bits: int) -> Int64:
    """tanh(a) in Q0.31 of a in Q(integer_bits) (gemmlowp)."""
    a = np.asarray(a, np.int64)
    doubled = exp_on_negative_values(-np.abs(a), integer_bits + 1)
    positive = one_minus_over_one_plus_x(doubled)
    result = np.where(a < 0, -positive, positive)
    return np.where(a == 0, 0, result)
