"""Constants of the plain C kernels: rows that requantise as TFLite does, refusals, and the order of weights."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhn_kit import records
from dhn_kit.kernels import all_by_name
from dhn_kit.layouts import Call, Unfit, prepare, scalar
from dhn_kit.quant_math import multiply_by_quantized_multiplier as requantize
from test_layouts_direct import call


def scaled(acc: int, row: np.ndarray) -> int:
    """dhn_scale of portable/scalar.h."""
    _, multiplier, half, shift = (int(v) for v in row)
    t = (acc * (multiplier + (1 << 32)) + (1 << 31)) >> 32
    return (t + (-1 if t < 0 else 0) + half) >> shift


@given(
    st.integers(-(1 << 22) + 1, (1 << 22) - 1),
    st.integers(1 << 30, (1 << 31) - 1),
    st.integers(1, 22),
    st.integers(-128, 127),
)
def test_a_row_requantises_as_tflite_does(acc: int, mult: int, shift: int, zero: int) -> None:
    one = call([[[[1]]]], out_zp=zero)
    # A bias that keeps the channel from being constant.
    made = dataclasses.replace(
        one,
        bias=np.array([1 << 22], np.int32),
        mult=np.array([mult], np.int32),
        shift=np.array([-shift], np.int8),
    )
    table, _ = scalar.rows(made)
    assert scaled(acc, table[0]) == int(requantize(np.array([acc]), mult, -shift)[0]) + zero


def numbers(weight: object, mult: int, shift: int) -> Call:
    one = call(weight)
    channels = len(np.asarray(weight))
    return dataclasses.replace(one, mult=np.full(channels, mult, np.int32), shift=np.full(channels, shift, np.int8))


@pytest.mark.parametrize(("mult", "shift"), [(0, 0), (1 << 30, -31), (0, -5)])
def test_a_channel_that_is_always_its_zero_point_has_no_weights(mult: int, shift: int) -> None:
    table, weight = scalar.rows(numbers([[[[1, 2]]]], mult, shift))
    assert not weight.any()
    assert scaled(int(table[0, 0]), table[0]) == 4


@pytest.mark.parametrize("shift", [0, 3])
def test_left_shifts_are_refused(shift: int) -> None:
    with pytest.raises(Unfit, match=f"right shifts from {-shift} "):
        scalar.rows(numbers([[[[1, 2]]]], 1 << 30, shift))


def test_sums_are_bounded_from_both_sides() -> None:
    rng = np.random.default_rng(3)
    one = call(rng.integers(-128, 128, (5, 3, 3, 4)))
    low, high = scalar.sums(one)
    assert one.weight is not None and one.bias is not None
    flat = one.weight.reshape(5, -1).astype(int)
    # The zero point is -3: inputs count as -125 to 130.
    lows = np.where(flat > 0, flat * -125, flat * 130).sum(axis=1) + one.bias
    highs = np.where(flat > 0, flat * 130, flat * -125).sum(axis=1) + one.bias
    assert (low, high) == (lows.min(), highs.max())


def test_two_sums_that_do_not_share_64_bits_are_refused() -> None:
    kernel = all_by_name()["dhn_conv_pairs_s8__portable"]
    with pytest.raises(Unfit, match="share 64 bits"):
        prepare(kernel, call(np.full((2, 3, 3, 64), 127)))
    prepare(kernel, call(np.full((2, 3, 3, 16), 127)))


def test_channels_stand_side_by_side_and_fill_up_with_zeros() -> None:
    weight = np.arange(1, 7, dtype=np.int8).reshape(3, 1, 1, 2)
    assert scalar.interleaved(weight, 2, 4).tolist() == [
        [[1, 3], [2, 4], [0, 0], [0, 0]],
        [[5, 0], [6, 0], [0, 0], [0, 0]],
    ]


def test_biased_weights_keep_the_sum() -> None:
    rng = np.random.default_rng(1)
    one = call(rng.integers(-128, 128, (4, 1, 1, 8)))
    made = prepare(all_by_name()["dhn_conv_1x1_s8__xtensa"], one)
    weights = np.frombuffer(made.consts["weight"], np.uint8).reshape(8, 4).astype(int)
    bias = np.frombuffer(made.consts["bias"], "<i4").reshape(4, 4)[:, 0].astype(int)
    x = rng.integers(-128, 128, 8)
    assert one.weight is not None and one.bias is not None
    exact = one.weight.reshape(4, 8).astype(int) @ (x + 3) + one.bias
    assert ((x + 128) @ weights - 128 * (x + 128).sum() + bias).tolist() == exact.tolist()


def dense(weight: list[list[int]]) -> Call:
    """A fully connected layer's call with these weights, none of whose channels is constant."""
    array = np.array(weight, np.int8)
    one = call(array.reshape(*array.shape, 1, 1))
    values = {"rows": 1, "in_c": array.shape[1], "out_c": len(array), "in_zp": 3, "out_zp": -5}
    return dataclasses.replace(
        one, op="fully_connected", record=records.FC, values={**values, "act_min": -128, "act_max": 127}, weight=array
    )


@given(st.lists(st.sampled_from([-128, -127, -1, 0, 1, 127]), min_size=4, max_size=4))
def test_the_upper_half_of_a_product_is_two_steps(numbers: list[int]) -> None:
    x0, x1, w0, w1 = numbers
    if abs(w0) + abs(w1) > scalar.HALVES_LIMIT:
        return
    product = np.array([(x0 + (x1 << 16)) * (w1 + (w0 << 16)) + (1 << 15)]).astype(np.uint64).astype(np.uint32)
    assert int(product.view(np.int32)[0]) >> 16 == x0 * w0 + x1 * w1


def test_two_neighbouring_weights_of_minus_128_do_not_share_a_product() -> None:
    made = scalar.fc_halves(dense([[-128, -127, 5]]), 4)
    words = np.frombuffer(made.consts["weight"], np.int32).reshape(4, 4)
    assert words[:, 0].tolist() == [-127 - (128 << 16), 5 << 16, 0, 0]
    assert not words[:, 1:].any()
    scalar.fc_halves(dense([[0, -128, -128, 0]]), 4)
    with pytest.raises(Unfit, match="-128"):
        scalar.fc_halves(dense([[-128, -128]]), 4)


def test_the_outer_bytes_of_a_word_and_of_its_turn_hold_four_weights() -> None:
    made = scalar.fc_fields(dense([[-128, 7], [127, -1], [0, 5], [-3, 2]]))
    outer = 0xFF0000FF
    for word, (a, b, c, d) in zip(
        np.frombuffer(made.consts["weight"], np.uint32).tolist(), [(-128, 127, 0, -3), (7, -1, 5, 2)], strict=True
    ):
        turned = (word >> 16 | word << 16) & outer
        assert np.uint32(word & outer).view(np.int32) == a + 128 + (b << 24)
        assert np.uint32(turned).view(np.int32) == c + 128 + (d << 24)
