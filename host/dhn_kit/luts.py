"""256-entry tables: every unary operator on int8, and softmax's exponentials."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit import quant_math as qm
from dhn_kit.errors import DhnError
from dhn_kit.float_reference import UNARY
from dhn_kit.graph import Array, Quant

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]

#: Every int8 value, in table order.
VALUES = np.arange(-128, 128, dtype=np.int64)


def real_unary(fn: str, params: dict[str, Any], x: Array) -> Array:
    """A unary operator on real numbers, float64."""
    if fn not in UNARY:
        raise DhnError(f"unary function '{fn}' is not supported; known are {', '.join(sorted(UNARY))}")
    return np.asarray(UNARY[fn](np.asarray(x, np.float64), **params), np.float64)


def unary_table(fn: str, params: dict[str, Any], x: Quant, y: Quant, source: str = "onnx") -> Int8:
    """Output for every int8 input, indexed by input + 128.

    A network that comes from a .tflite gets what TFLite Micro's int8 kernel computes; any other gets the real function,
    rounded once (halves away from zero), which is the nearest int8 to the truth.
    """
    if source == "tflite" and fn in _TFLITE:
        return _TFLITE[fn](params, x, y)
    return y.quantize(real_unary(fn, params, (VALUES - x.zero_point) * x.scale))


def _requantized(value: Array, real: float, y: Quant) -> Int8:
    mult, shift = qm.quantize_multiplier(real)
    out = qm.multiply_by_quantized_multiplier(value, mult, shift) + y.zero_point
    return np.clip(out, -128, 127).astype(np.int8)


def _tflite_requantize(params: dict[str, Any], x: Quant, y: Quant) -> Int8:
    return _requantized(VALUES - x.zero_point, x.scale / y.scale, y)


def _tflite_relu(params: dict[str, Any], x: Quant, y: Quant) -> Int8:
    return np.maximum(_tflite_requantize(params, x, y), y.zero_point).astype(np.int8)


def _tflite_clip(params: dict[str, Any], x: Quant, y: Quant) -> Int8:
    """RELU6 and its kind as TFLite has it: requantised, then clamped on the output's scale.

    TFLite Micro leaves the requantisation out, which is the same only where input and output share a quantisation.
    """
    low = -128 if params.get("low") is None else int(y.quantize(np.asarray(params["low"])))
    high = 127 if params.get("high") is None else int(y.quantize(np.asarray(params["high"])))
    return np.clip(_tflite_requantize(params, x, y), low, high).astype(np.int8)


def _tflite_leaky_relu(params: dict[str, Any], x: Quant, y: Quant) -> Int8:
    value = VALUES - x.zero_point
    alpha = float(np.float32(params.get("alpha", 0.01)))
    identity = _requantized(value, x.scale / y.scale, y)
    return np.where(value >= 0, identity, _requantized(value, x.scale * alpha / y.scale, y)).astype(np.int8)


def _tflite_hard_swish(params: dict[str, Any], x: Quant, y: Quant) -> Int8:
    """x * relu6(x + 3) / 6 in 16 bits: the input, 7 bits up, times a value in [0, 1] that follows relu6(x + 3) / 6."""
    hires_scale = x.scale / 128
    out_mult, out_shift = qm.quantize_multiplier(hires_scale / y.scale)
    gate_mult, gate_shift = qm.quantize_multiplier(hires_scale / (3 / 32768))
    if out_shift > 0:
        raise DhnError(f"hard_swish: output scale {y.scale} is too fine for input scale {x.scale}; convert again")
    hires = (VALUES - x.zero_point) << 7
    scaled = qm.saturating_rounding_doubling_high_mul_16(hires, qm.downscale_multiplier(out_mult))
    gate = qm.saturate_16(hires << max(gate_shift - 1, 0))
    gate = qm.saturating_rounding_doubling_high_mul_16(gate, qm.downscale_multiplier(gate_mult))
    gate = qm.saturate_16(gate << 1) if gate_shift > 0 else qm.rounding_divide_by_pot(gate, -gate_shift)
    product = ((gate + (1 << 15)) >> 1) * scaled
    truncated = np.where(product >= 0, product >> 15, -((-product) >> 15))
    return np.clip(qm.rounding_divide_by_pot(truncated, -out_shift) + y.zero_point, -128, 127).astype(np.int8)


def _fixed_point(x: Quant) -> tuple[Array, Array]:
    """Inputs as Q4.27 for the fixed-point sigmoid and tanh, and a mask: -1 below, 1 above their range, 0 inside."""
    integer_bits = 4
    mult, shift = qm.quantize_multiplier(x.scale * (1 << (31 - integer_bits)))
    limit = math.floor(((1 << integer_bits) - 1) * 2.0 ** (31 - integer_bits) / 2.0**shift)
    value = VALUES - x.zero_point
    side = np.where(value <= -limit, -1, np.where(value >= limit, 1, 0))
    return qm.multiply_by_quantized_multiplier(np.where(side == 0, value, 0), mult, shift), side


def _tflite_sigmoid(params: dict[str, Any], x: Quant, y: Quant) -> Int8:
    value, side = _fixed_point(x)
    out = qm.rounding_divide_by_pot(qm.logistic(value, 4), 23)
    out = np.where(out == 256, 255, out) - 128
    return np.where(side < 0, -128, np.where(side > 0, 127, out)).astype(np.int8)


def _tflite_tanh(params: dict[str, Any], x: Quant, y: Quant) -> Int8:
    value, side = _fixed_point(x)
    out = np.clip(qm.rounding_divide_by_pot(qm.tanh(value, 4), 24), -128, 127)
    return np.where(side < 0, -128, np.where(side > 0, 127, out)).astype(np.int8)


_TFLITE: dict[str, Callable[[dict[str, Any], Quant, Quant], Int8]] = {
    "requantize": _tflite_requantize,
    "relu": _tflite_relu,
    "clip": _tflite_clip,
    "leaky_relu": _tflite_leaky_relu,
    "hard_swish": _tflite_hard_swish,
    "sigmoid": _tflite_sigmoid,
    "tanh": _tflite_tanh,
}


def softmax_table(beta: float, x: Quant) -> Int32:
    """exp(-diff * beta * scale) in Q0.31 for diff = 0 .. 255, as TFLite's int8 softmax computes it (5 integer bits)."""
    integer_bits = 5
    real = min(float(np.float32(beta)) * x.scale * (1 << (31 - integer_bits)), 2.0**31 - 1.0)
    mult, shift = qm.quantize_multiplier(real)
    radius = math.floor(((1 << integer_bits) - 1) * 2.0 ** (31 - integer_bits) / 2.0**shift)
    diff = -np.arange(256, dtype=np.int64)
    inside = diff >= -radius
    scaled = qm.multiply_by_quantized_multiplier(np.where(inside, diff, 0), mult, shift)
    return np.where(inside, qm.exp_on_negative_values(scaled, integer_bits), 0).astype(np.int32)


def softmax_int8(q: Int8, table: Int32) -> Int8:
    """TFLite Micro's int8 softmax over the last axis, with the exponentials of `softmax_table`; scale 1/256."""
    values = q.astype(np.int64)
    exps = table.astype(np.int64)[values.max(axis=-1, keepdims=True) - values]
    total = qm.rounding_divide_by_pot(exps, 12).sum(axis=-1, keepdims=True)
    headroom = 32 - np.ceil(np.log2(total.astype(np.float64) + 0.5)).astype(np.int64)
    scale = qm.one_over_one_plus_x((total << headroom) - (1 << 31))
    shift = 12 - headroom + 31 - 8
    out = qm.rounding_divide_by_pot(qm.saturating_rounding_doubling_high_mul(scale, exps), shift) - 128
    return np.clip(out, -128, 127).astype(np.int8)
