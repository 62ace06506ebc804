"""Tables and fixed-point arithmetic equal the real functions as closely as their formats allow."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhn_kit import quant_math as qm
from dhn_kit.errors import DhnError
from dhn_kit.graph import Quant
from dhn_kit.luts import VALUES, real_unary, softmax_int8, softmax_table, unary_table

FUNCTIONS = {
    "relu": {}, "clip": {"low": -0.5, "high": 1.5}, "leaky_relu": {"alpha": 0.1}, "hard_swish": {},
    "hard_sigmoid": {"alpha": 0.2, "beta": 0.5}, "sigmoid": {}, "tanh": {}, "requantize": {}, "neg": {}, "abs": {},
}  # fmt: skip
IN, OUT = Quant(0.04, 11), Quant(0.05, -9)


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_table_of_an_onnx_network_is_the_nearest_int8_to_the_truth(fn: str) -> None:
    table = unary_table(fn, FUNCTIONS[fn], IN, OUT, "onnx").astype(float)
    truth = real_unary(fn, FUNCTIONS[fn], (VALUES - IN.zero_point) * IN.scale) / OUT.scale + OUT.zero_point
    assert np.abs(table - np.clip(truth, -128, 127)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("fn", ["relu", "leaky_relu", "hard_swish", "requantize"])
def test_table_of_a_tflite_network_is_within_one_step_of_the_truth(fn: str) -> None:
    exact = unary_table(fn, FUNCTIONS[fn], IN, OUT, "onnx").astype(int)
    assert np.abs(unary_table(fn, FUNCTIONS[fn], IN, OUT, "tflite") - exact).max() <= 1


@pytest.mark.parametrize("source", ["onnx", "tflite"])
def test_requantising_to_the_same_quantisation_changes_nothing(source: str) -> None:
    np.testing.assert_array_equal(unary_table("requantize", {}, IN, IN, source), VALUES)


def test_unknown_function_is_named() -> None:
    with pytest.raises(DhnError, match="'erf' is not supported"):
        unary_table("erf", {}, IN, OUT)


@given(st.floats(2.0**-30, 2.0**20))
def test_multiplier_is_normalised_and_within_31_bits_of_the_real_one(real: float) -> None:
    mult, shift = qm.quantize_multiplier(real)
    assert 2**30 <= mult < 2**31
    assert abs(mult * 2.0 ** (shift - 31) / real - 1) <= 2.0**-31


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 31))
def test_divide_by_power_of_two_rounds_halves_away_from_zero(x: int, exponent: int) -> None:
    magnitude = (2 * abs(x) + 2**exponent) // 2 ** (exponent + 1)
    assert int(qm.rounding_divide_by_pot(np.array(x), exponent)) == (magnitude if x >= 0 else -magnitude)


@given(st.integers(-(2**27), 2**27), st.floats(1e-4, 8.0))
def test_product_with_a_multiplier_is_within_one_of_the_real_product(x: int, real: float) -> None:
    mult, shift = qm.quantize_multiplier(real)
    assert abs(int(qm.multiply_by_quantized_multiplier(np.array(x), mult, shift)) - x * real) <= 1 + 2.0 ** max(
        shift, 0
    )


@pytest.mark.parametrize("scale", [0.01, 0.1, 0.5])
def test_softmax_table_falls_from_one_as_the_exponential_does(scale: float) -> None:
    table = softmax_table(1.0, Quant(scale, 0)).astype(np.float64) / 2**31
    truth = np.exp(-np.arange(256) * scale)
    assert (np.diff(table) <= 0).all()
    assert np.abs(table - truth).max() < 1e-6


@pytest.mark.parametrize("classes", [1, 2, 10, 200])
def test_softmax_is_within_one_step_of_the_real_one(classes: int) -> None:
    x = Quant(0.08, 3)
    q = np.random.default_rng(classes).integers(-128, 128, (50, 1, 1, classes)).astype(np.int8)
    e = np.exp(x.dequantize(q).astype(np.float64))
    truth = Quant(1 / 256, -128).quantize(e / e.sum(axis=-1, keepdims=True)).astype(int)
    assert np.abs(softmax_int8(q, softmax_table(1.0, x)) - truth).max() <= 1
