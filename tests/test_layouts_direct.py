"""Constants of the direct convolutions: what their layouts refuse, and how weights are laid out."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dhn_kit import records
from dhn_kit.kernels import all_by_name
from dhn_kit.layouts import Call, Unfit, prepare


def call(weight: Any, **changes: int) -> Call:
    weight = np.asarray(weight, np.int8)
    out_c, kh, kw, in_c = weight.shape
    values = {"in_h": 8, "in_w": 8, "in_c": in_c, "out_h": 8, "out_w": 8, "out_c": out_c, "kh": kh, "kw": kw}
    values |= dict.fromkeys(("stride_h", "stride_w", "dilation_h", "dilation_w", "groups"), 1)
    values |= {"pad_t": kh // 2, "pad_l": kw // 2, "in_zp": -3, "out_zp": 4, "act_min": -128, "act_max": 127, **changes}
    bias, mult = np.arange(out_c, dtype=np.int32), np.full(out_c, 1 << 30, np.int32)
    shift = np.full(out_c, -7, np.int8)
    return Call("conv2d", records.CONV, values, {}, weight, bias, mult, shift)


def test_two_channels_share_a_halfword_in_the_order_of_unpacking() -> None:
    made = prepare(all_by_name()["dhn_conv_s8__armv7em"], call([[[[1, 2, 3, 4]]], [[[-5, 6, 7, -8]]]]))
    words = np.frombuffer(made.consts["weight"], "<i2").astype(int)
    assert words.tolist() == [1 - 5 * 256, 3 + 7 * 256, 2 + 6 * 256, 4 - 8 * 256]
    table = np.frombuffer(made.consts["bias"], "<i4")
    assert table.tolist() == [0 + 3 * 10, 1 + 3 * 0, -(1 << 31), (1 << 25) + 1, -(1 << 31), (1 << 25) + 1]


def test_sums_beyond_24_bits_are_refused() -> None:
    kernel = all_by_name()["dhn_conv_s8__armv7em"]
    with pytest.raises(Unfit, match="24 bits"):
        prepare(kernel, call(np.full((2, 3, 3, 64), 127)))
    prepare(kernel, call(np.full((2, 3, 3, 56), 127)))


def test_a_second_channel_holds_no_minus_128() -> None:
    kernel = all_by_name()["dhn_conv_1x1_s8__armv7em"]
    weight = np.zeros((2, 1, 1, 4))
    weight[0] = -128
    prepare(kernel, call(weight))
    weight[1] = -128
    with pytest.raises(Unfit, match="-128"):
        prepare(kernel, call(weight))


@pytest.mark.parametrize("name", ["dhn_conv_s8__armv7em", "dhn_conv_bytes_s8__armv7em"])
def test_exponents_and_activations_out_of_range_are_refused(name: str) -> None:
    kernel = all_by_name()[name]
    weight = np.ones((2, 3, 3, 4))
    with pytest.raises(Unfit, match="shape"):
        prepare(kernel, call(weight, act_min=-100))
    shifted = call(weight)
    assert shifted.shift is not None
    shifted.shift[1] = -1
    with pytest.raises(Unfit, match="right shifts from 1 to 7"):
        prepare(kernel, shifted)


def test_large_exponents_are_taken_where_sums_are_small() -> None:
    kernel = all_by_name()["dhn_conv_s8__armv7em"]
    few, many = call(np.full((2, 1, 1, 4), 127)), call(np.full((2, 3, 3, 32), 127))
    for layer in (few, many):
        assert layer.shift is not None
        layer.shift[1] = -14
    rows = np.frombuffer(prepare(kernel, few).consts["bias"], "<i4")
    assert rows[5] == (1 << 18) + 1
    with pytest.raises(Unfit, match="right shifts from 7 to 14"):
        prepare(kernel, many)


def test_channels_that_never_leave_their_zero_point_lose_their_weights() -> None:
    layer = call(np.full((2, 1, 1, 4), 127))
    assert layer.shift is not None and layer.mult is not None
    layer.shift[0], layer.mult[1] = -25, 0
    made = prepare(all_by_name()["dhn_conv_s8__armv7em"], layer)
    assert not any(made.consts["weight"])


def test_packed_weights_must_fit_their_bits() -> None:
    four, two = (all_by_name()[f"dhn_conv_{w}_s8__armv7em"] for w in ("w4", "w2"))
    weight = np.zeros((2, 1, 1, 4))
    weight[0, 0, 0] = (-8, 7, 1, 2)
    made = prepare(four, call(weight))
    assert made.consts["weight"] == (0x10208070).to_bytes(4, "little")
    with pytest.raises(Unfit, match="weights from -8 to 7 need more than 2 bits"):
        prepare(two, call(weight))
    weight[1, 0, 0, 3] = 8
    with pytest.raises(Unfit, match="more than 4 bits"):
        prepare(four, call(weight))
