"""Tables of the DSP kernels: requantisation rows with exceptions, additions by table, weights in pairs of channels."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import kernel_cases as kc
from dhn_kit import records
from dhn_kit.layouts import Call, Prepared, Unfit
from dhn_kit.layouts.add import add_exact, add_shifted
from dhn_kit.layouts.common import accumulator_bound, rows_with_exceptions
from dhn_kit.layouts.depthwise import depthwise_any
from dhn_kit.layouts.fully_connected import fc_pairs
from dhn_kit.quant_math import multiply_by_quantized_multiplier

BYTES = np.arange(-128, 128, dtype=np.int64)


def weighted(weight: Any, shift: int, mult: int = 1518500250, bias: int = 0) -> Call:
    n = len(weight)
    values = {"rows": 1, "in_c": weight.shape[1], "out_c": n, "in_zp": -128, "out_zp": 3}
    biases, mults, shifts = np.full(n, bias, np.int32), np.full(n, mult, np.int32), np.full(n, shift, np.int8)
    return Call("fully_connected", records.FC, values, {}, np.asarray(weight, np.int8), biases, mults, shifts)


def fused(acc: Any, row: Any) -> Any:
    """What three instructions make of an accumulator, saturated, with zero point 0."""
    t = (acc * 2**32 + acc * int(row[1]) + 2**31) >> 32
    return np.clip((t * int(row[2]) + 2**31) >> 32, -128, 127)


@pytest.mark.parametrize("inputs", [1, 9, 640])
@pytest.mark.parametrize("mult", [1 << 30, 1518500250, 2**31 - 1])
def test_every_channel_rounds_right_or_is_an_exception(inputs: int, mult: int) -> None:
    kinds = set()
    for e in range(-3, 32):
        call = weighted(np.full((1, inputs), 127), -e, mult, bias=77)
        row = rows_with_exceptions(call)[0]
        kinds.add("exception" if row[2] == 0 else "fused")
        if row[2] == 0:
            assert (row[1], row[3]) == (mult, -e)
            continue
        bound = int(accumulator_bound(call)[0])
        halves = (np.arange(-300, 300) * 2 + 1) * 2 ** max(e - 1, 0)  # near these the rounding is decided
        near = (halves[:, None] * 2**31 // mult + np.arange(-3, 4)).ravel()
        acc = np.unique(
            np.clip(np.concatenate([near, np.linspace(-bound, bound, 999).astype(np.int64)]), -bound, bound)
        )
        right = np.clip(multiply_by_quantized_multiplier(acc, mult, -e), -128, 127)
        assert (fused(acc, row) == right).all(), e
    assert kinds == {"exception", "fused"}


def test_a_channel_without_multiplier_is_silent() -> None:
    row = rows_with_exceptions(weighted(np.full((1, 9), 127), 0, mult=0))[0]
    acc = np.arange(-300000, 300000, 7, dtype=np.int64)
    assert row[2] != 0 and (fused(acc, row) == 0).all()


def results(call: Call) -> Any:
    """TFLite's sum of all pairs: first operand down, second across."""
    v = call.values
    left = multiply_by_quantized_multiplier((BYTES - v["a_zp"]) << v["left_shift"], v["a_mult"], v["a_shift"])
    right = multiply_by_quantized_multiplier((BYTES - v["b_zp"]) << v["left_shift"], v["b_mult"], v["b_shift"])
    sums = left[:, None] + (-right if v["negate_b"] else right)[None, :]
    y = multiply_by_quantized_multiplier(sums, v["out_mult"], v["out_shift"]) + v["out_zp"]
    return np.clip(y, v["act_min"], v["act_max"])


def table_sums(prepared: Prepared) -> Any:
    """What the kernel adds up for all pairs, in the same order."""
    v = prepared.values
    table = np.roll(np.frombuffer(prepared.consts["table"], np.int32).astype(np.int64), 128)
    sums = table[None, :] + (BYTES * v["factor"])[:, None]
    assert np.abs(sums).max() < 2**31
    return sums.T if v["swap"] else sums


@pytest.mark.parametrize("negate", [False, True])
@pytest.mark.parametrize("scales", [(0.05, 0.03, 0.06), (0.02, 0.09, 0.1), (0.04, 0.04, 0.05)])
def test_one_shift_makes_all_pairs_of_an_addition(scales: tuple[float, float, float], negate: bool) -> None:
    call = kc.binary("add", (2, 3, 4), scales=scales, negate=negate).call
    prepared = add_shifted(call)
    assert (np.clip(table_sums(prepared) >> 22, -128, 127) == results(call)).all()


@pytest.mark.parametrize("scales", [(0.05, 0.03, 0.06), (0.01, 0.09, 0.03), (0.04, 0.04, 0.3)])
def test_the_exact_table_makes_all_pairs_of_an_addition(scales: tuple[float, float, float]) -> None:
    call = kc.binary("add", (2, 3, 4), scales=scales).call
    prepared = add_exact(call)
    sums = table_sums(prepared)
    t = (sums * 2**32 + sums * prepared.values["scale"] + 2**31) >> 32
    t -= t < 0
    y = ((t * prepared.values["round"] + 2**31) >> 32) + prepared.values["out_zp"]
    assert (np.clip(y, -128, 127) == results(call)).all()


def test_broadcast_operands_and_cut_activations_are_refused() -> None:
    with pytest.raises(Unfit, match="broadcast"):
        add_shifted(kc.binary("add", (2, 3, 4), (1, 1, 4)).call)
    call = kc.binary("add", (2, 3, 4)).call
    cut = dataclasses.replace(call, values={**call.values, "act_max": 60})
    with pytest.raises(Unfit, match="no table"):
        add_shifted(cut)
    with pytest.raises(Unfit, match="activation"):
        add_exact(cut)


def test_a_pair_of_channels_needs_room_in_its_halfword_and_24_bits() -> None:
    with pytest.raises(Unfit, match="-128"):
        fc_pairs(weighted(np.array([[-1], [-128]]), -8))
    with pytest.raises(Unfit, match="24 bits"):
        fc_pairs(weighted(np.full((2, 640), 127), -8))
    assert fc_pairs(weighted(np.array([[-128], [-127]]), -8)).values["reserved"] == 0
    assert fc_pairs(weighted(np.array([[5], [6]]), 2)).values["reserved"] == 1


def test_filters_higher_than_wide_are_stored_transposed() -> None:
    call = kc.depthwise((9, 5, 2), (5, 2)).call
    assert call.weight is not None
    words = np.frombuffer(depthwise_any(call).consts["weight"], np.int16).reshape(2, 2, 6)
    assert (words[:, :, :5] == call.weight.transpose(2, 1, 0)).all() and (words[:, :, 5] == 0).all()
