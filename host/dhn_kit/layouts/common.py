"""What a kernel's layout is given and returns, with the arithmetic that layouts share."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit import records
from dhn_kit.kernels import Kernel

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]


#: Largest right shift whose halves the fused arithmetic rounds rightly for any accumulator: beyond 2^(32 - e) the
#: rounded value may be off by one, but is then so large that it saturates (2^(32 - 2e) >= 256).
ANY_ACCUMULATOR = 12


class Unfit(Exception):
    """This layer's numbers rule the kernel out; the text is a short phrase that says why."""


@dataclass(frozen=True)
class Call:
    """One operator before a kernel is chosen.

    ``values`` are the record's fields without constants; ``consts`` the bytes of each constant field as the operator's
    own record wants them. ``weight`` int8: conv (out_c, kh, kw, in_c / groups), depthwise (kh, kw, out_c), fully
    connected (out_c, in_c); ``bias`` int32, ``mult`` int32, ``shift`` int8, all (out_c), as in dhn_kernels.h.
    """

    op: str
    record: records.Record
    values: Mapping[str, Any]
    consts: Mapping[str, bytes] = field(default_factory=dict)
    weight: Int8Array | None = None
    bias: Int32Array | None = None
    mult: Int32Array | None = None
    shift: Int8Array | None = None


@dataclass(frozen=True)
class Prepared:
    """What goes into the pack: ``consts[field]`` are bytes whose offset the field of ``record`` will hold."""

    record: records.Record
    values: Mapping[str, Any]
    consts: Mapping[str, bytes]

    @property
    def const_bytes(self) -> int:
        return sum(-(-len(data) // 4) * 4 for data in self.consts.values())


Layout = Callable[[Call], Prepared]


def tflite(call: Call) -> Prepared:
    """As the operator's own record says: weights in TFLite's order, bias, multipliers and shifts apart."""
    return Prepared(call.record, call.values, call.consts)


def _taps(call: Call) -> tuple[int, ...]:
    """Axes of the weights that one output channel sums over."""
    assert call.weight is not None
    return (0, 1) if call.op == "depthwise_conv2d" else tuple(range(1, call.weight.ndim))


def input_sums(call: Call) -> npt.NDArray[np.int64]:
    """Sum of each output channel's weights, (out_c): what one step of the input zero point adds to an accumulator."""
    assert call.weight is not None
    return np.asarray(call.weight.astype(np.int64).sum(axis=_taps(call)), np.int64)


def folded_bias(call: Call) -> Int32Array:
    """bias - zero point * sum(weights), wrapped to 32 bits: for kernels that pad with the zero point."""
    assert call.bias is not None
    exact = call.bias.astype(np.int64) - int(call.values["in_zp"]) * input_sums(call)
    return exact.astype(np.uint64).astype(np.uint32).view(np.int32)


def accumulator_bound(call: Call) -> npt.NDArray[np.int64]:
    """Largest |accumulator| of each output channel over all int8 inputs, bias included, zero point not folded."""
    assert call.weight is not None and call.bias is not None
    weights = np.abs(call.weight.astype(np.int64)).sum(axis=_taps(call))
    zero = int(call.values["in_zp"])
    return np.asarray(weights * max(127 - zero, 128 + zero) + np.abs(call.bias.astype(np.int64)), np.int64)


def exponents(call: Call) -> npt.NDArray[np.int64]:
    """Right shift of each output channel after the doubled high product; negative: a left shift before it."""
    assert call.shift is not None
    return -call.shift.astype(np.int64)


def fused_rows(call: Call, low: int = 2, high: int = 11) -> Int32Array:
    """(out_c, 3): folded bias, 2 * mult - 2^32, 2^(32 - e) + 1 for right shifts e in [low, high]; else Unfit.

    With t = (acc * 2^32 + acc * b + 2^31) >> 32 the doubled high product rounds as TFLite's; then (zp * 2^32 + t * c +
    2^31) >> 32 is the right shift with halves away from zero. For e >= 12 the kernel adds t >> 31 to t before, and c is
    2^(32 - e). Multipliers are in [2^30, 2^31), or 0 for a channel that is always its zero point.
    """
    assert call.mult is not None
    e, mult = exponents(call), call.mult.astype(np.int64)
    if (mult < (1 << 30)).any():
        raise Unfit("a channel's multiplier is zero or not normalised")
    if e.min() < low or e.max() > high:
        raise Unfit(f"right shifts from {e.min()} to {e.max()}, this kernel takes {low} to {high}")
    last = (np.int64(1) << (32 - e)) + (e < 12)
    rows = np.stack([folded_bias(call).astype(np.int64), 2 * mult - (1 << 32), last], axis=1)
    return rows.astype(np.int32)


def rows_with_exceptions(call: Call) -> Int32Array:
    """(out_c, 4): folded bias, scale, round, shift; round 0 marks a channel that the fused arithmetic does not cover.

    As `fused_rows`, but a channel's exponent may be anything: with |acc| <= B and right shift e >= 2 the product
    t * (2^(32 - e) + 1) rounds rightly while B < 2^(32 - e), and one whose every value rounds to zero has round 1.
    """
    assert call.mult is not None and call.shift is not None
    e, mult = exponents(call), call.mult.astype(np.int64)
    # One more than |acc| * mult / 2^31 rounded: what the right shift meets.
    bound = accumulator_bound(call)
    high = (bound * np.abs(mult) >> 31) + 1
    normal = (mult >= 1 << 30) & (e >= 2) & ((e <= ANY_ACCUMULATOR) | (bound + 1 < (np.int64(1) << (32 - e.clip(0)))))
    silent = (bound < 1 << 30) & ((mult == 0) | ((e >= 1) & (high < (np.int64(1) << (e.clip(1) - 1)))))
    rows = np.zeros((len(mult), 4), np.int64)
    rows[:, 0] = folded_bias(call)
    rows[:, 1] = np.where(silent, 0, np.where(normal, 2 * mult - (1 << 32), mult))
    rows[:, 2] = np.where(silent, 1, np.where(normal, (np.int64(1) << (32 - e.clip(2))) + 1, 0))
    rows[:, 3] = call.shift
    return rows.astype(np.int32)


def with_values(call: Call, **values: Any) -> Call:
    return replace(call, values={**call.values, **values})


def check(kernel: Kernel, prepared: Prepared) -> None:
    """A layout must deliver what kernels.toml promises to the loader."""
    for name, size in kernel.const_bytes(prepared.values).items():
        have = len(prepared.consts.get(name, b""))
        assert have == size, f"{kernel.name}: {name} has {have} bytes, kernels.toml says {size}"
