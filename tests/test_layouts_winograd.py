"""The Winograd layouts: transforms that are exact, and range proofs that refuse what does not fit."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dhn_kit import records
from dhn_kit.kernels import all_by_name
from dhn_kit.layouts import Call, Unfit, prepare, winograd

INPUT_4X4 = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
INPUT_2X2 = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
OUTPUT_2X2 = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
OUTPUT_4X4 = np.array([[2, -4, -4, 1, 1, 0], [0, -4, 4, 2, -2, 0], [0, -4, -4, 4, 4, 0], [0, -4, 4, 8, -8, 8]])


def call_of(weight: Any, shift: int = -8, in_zp: int = -128, **values: int) -> Call:
    out_c, _, _, in_c = weight.shape
    fields = {"in_h": 8, "in_w": 8, "in_c": in_c, "out_h": 8, "out_w": 8, "out_c": out_c, "kh": 3, "kw": 3}
    fields |= {"stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "pad_t": 1, "pad_l": 1, "groups": 1}
    fields |= {"in_zp": in_zp, "out_zp": 0, "act_min": -128, "act_max": 127, **values}
    arrays = {
        "weight": weight.astype(np.int8),
        "bias": np.zeros(out_c, np.int32),
        "mult": np.full(out_c, 1 << 30, np.int32),
        "shift": np.full(out_c, shift, np.int8),
    }
    return Call("conv2d", records.PARAMS[1], fields, {k: a.tobytes() for k, a in arrays.items()}, **arrays)


def test_f4x4_is_576_times_the_correlation() -> None:
    rng = np.random.default_rng(1)
    d, g = rng.integers(0, 256, (6, 6)), rng.integers(-128, 128, (3, 3))
    direct = [[(d[i : i + 3, j : j + 3] * g).sum() for j in range(4)] for i in range(4)]
    u = winograd.transformed(g[None, :, :, None].astype(np.int8), winograd.TRANSFORM_4X4)[0, :, :, 0]
    sums = u * (INPUT_4X4 @ d @ INPUT_4X4.T)
    assert np.array_equal(OUTPUT_4X4 @ sums @ OUTPUT_4X4.T, winograd.SCALE_4X4 * np.array(direct))


def test_f2x2_is_four_times_the_correlation() -> None:
    rng = np.random.default_rng(1)
    d, g = rng.integers(-128, 128, (4, 4)), rng.integers(-128, 128, (3, 3))
    direct = [[(d[i : i + 3, j : j + 3] * g).sum() for j in range(2)] for i in range(2)]
    u = winograd.transformed(g[None, :, :, None].astype(np.int8), winograd.TRANSFORM_2X2)[0, :, :, 0]
    sums = u * (INPUT_2X2 @ d @ INPUT_2X2.T)
    assert np.array_equal(OUTPUT_2X2 @ sums @ OUTPUT_2X2.T, winograd.SCALE_2X2 * np.array(direct))


def test_f2x2_fits_int16_lanes() -> None:
    largest = [int(np.abs(m).sum(axis=1).max()) for m in (INPUT_2X2, winograd.TRANSFORM_2X2)]
    assert [128 * n * n for n in largest] == [512, 1152]


def test_lifted_pixels_add_the_same_to_every_frequency() -> None:
    d = np.zeros((6, 6), np.int64)
    d[4:, 4:] = winograd.LIFT
    assert (INPUT_4X4 @ d @ INPUT_4X4.T == winograd.LIFT).all()
    low = np.minimum(INPUT_4X4, 0).sum(axis=1), np.maximum(INPUT_4X4, 0).sum(axis=1)
    smallest = 255 * (np.outer(low[0], low[1]) + np.outer(low[1], low[0]))
    largest = 255 * (np.outer(low[0], low[0]) + np.outer(low[1], low[1]))
    assert smallest.min() + winograd.LIFT >= 0
    assert largest.max() + winograd.LIFT < 1 << 15


def test_accumulators_that_f4x4_cannot_hold_are_refused() -> None:
    kernel = all_by_name()["dhn_conv_winograd_4x4_s8__armv7em"]
    weight = np.full((2, 3, 3, 64), 100, np.int8)
    prepare(kernel, call_of(weight[..., :12]))
    with pytest.raises(Unfit, match="accumulators up to 14688000, F\\(4x4\\) holds 3728270"):
        prepare(kernel, call_of(weight))


def test_accumulators_that_f4x4_cannot_hold_are_for_f2x2() -> None:
    kernel = all_by_name()["dhn_conv_winograd_2x2_s8__armv7em"]
    call = call_of(np.full((2, 3, 3, 64), 127, np.int8))
    prepare(kernel, call)
    call.bias[1] = 1 << 29  # type: ignore[index]
    with pytest.raises(Unfit, match="accumulators up to 555524672, F\\(2x2\\) holds 536870911"):
        prepare(kernel, call)


@pytest.mark.parametrize("shift", [-1, 0, 3])
def test_shifts_that_the_fused_arithmetic_cannot_do_are_refused(shift: int) -> None:
    with pytest.raises(Unfit, match="right shifts from"):
        prepare(all_by_name()["dhn_conv_winograd_4x4_s8__armv7em"], call_of(np.ones((2, 3, 3, 4)), shift))


def test_a_channel_that_rounds_to_nothing_has_multiplier_0() -> None:
    prepared = prepare(all_by_name()["dhn_conv_winograd_4x4_s8__armv7em"], call_of(np.ones((2, 3, 3, 4)), -20))
    assert not np.frombuffer(prepared.consts["bias"], np.int32).reshape(2, 7)[:, 5].any()


@pytest.mark.parametrize(("tile", "frequencies"), [("4x4", 36), ("2x2", 16)])
def test_transformed_weights_take_two_bytes_per_frequency(tile: str, frequencies: int) -> None:
    kernel = all_by_name()[f"dhn_conv_winograd_{tile}_s8__armv7em"]
    prepared = prepare(kernel, call_of(np.ones((6, 3, 3, 8), np.int8)))
    assert len(prepared.consts["weight"]) == 2 * frequencies * 8 * 8  # output channels go in fours


def test_missing_output_channels_of_four_have_weights_of_zero() -> None:
    kernel = all_by_name()["dhn_conv_winograd_2x2_s8__armv7em"]
    weight = np.frombuffer(prepare(kernel, call_of(np.ones((6, 3, 3, 8)))).consts["weight"], np.int16)
    by_channel = weight.reshape(2, 16, 4, 4, 2)[1].swapaxes(0, 2).reshape(4, -1)
    assert by_channel[:2].any(axis=1).all() and not by_channel[2:].any()


@pytest.mark.parametrize("different", [{"out_w": 7}, {"out_h": 6}, {"in_c": 8}])
def test_the_output_may_trail_the_input_by_one_row_of_equal_images_only(different: dict[str, int]) -> None:
    kernel = all_by_name()["dhn_conv_winograd_4x4_s8__armv7em"]
    values = dict(call_of(np.ones((4, 3, 3, 4), np.int8)).values)
    assert kernel.lead_bytes(values) == 8 * 4
    values |= different
    far = kernel.lead_bytes(values)
    assert far is not None and far >= values["out_h"] * values["out_w"] * values["out_c"]


def test_missing_channels_of_four_are_zero() -> None:
    kernel = all_by_name()["dhn_conv_winograd_4x4_lean_s8__armv7em"]
    weight = np.frombuffer(prepare(kernel, call_of(np.ones((2, 3, 3, 5)))).consts["weight"], np.int8)
    assert np.array_equal(weight.reshape(2, 2, 9, 4)[0, :, 0], [[1, 1, 1, 1], [1, 0, 0, 0]])


def test_lean_weights_take_no_more_bytes() -> None:
    kernel = all_by_name()["dhn_conv_winograd_4x4_lean_s8__armv7em"]
    prepared = prepare(kernel, call_of(np.ones((6, 3, 3, 8), np.int8)))
    assert len(prepared.consts["weight"]) == 6 * 3 * 3 * 8


def test_plain_c_holds_wider_accumulators_up_to_2_to_25() -> None:
    kernel = all_by_name()["dhn_conv_winograd_4x4_s8__portable"]
    prepare(kernel, call_of(np.full((2, 3, 3, 64), 100, np.int8)))
    with pytest.raises(Unfit, match="accumulators up to 37307520, F\\(4x4\\) holds 33554431"):
        prepare(kernel, call_of(np.full((2, 3, 3, 128), 127, np.int8)))


def test_a_channel_that_is_always_its_zero_point_has_empty_sums() -> None:
    call = call_of(np.ones((2, 3, 3, 4), np.int8), in_zp=0)
    call.mult[1], call.bias[1] = 0, 77  # type: ignore[index]
    table = np.frombuffer(winograd.winograd_4x4_scalar(call).consts["bias"], np.int32).reshape(2, 8)
    assert table[0, 0] == -36 * 128 * 36
    assert not table[1, :6].any()


def test_lean_weights_for_plain_c_take_no_more_bytes_and_the_same_table() -> None:
    fast, lean = (
        prepare(all_by_name()[f"dhn_conv_winograd_4x4{kind}_s8__portable"], call_of(np.full((6, 3, 3, 8), 5, np.int8)))
        for kind in ("", "_lean")
    )
    assert len(lean.consts["weight"]) == 6 * 3 * 3 * 8
    assert lean.consts["bias"] == fast.consts["bias"]
