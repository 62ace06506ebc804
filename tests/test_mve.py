"""Helium kernels: whole networks in the twin equal TFLite Micro; the two-instruction rounding equals TFLite's."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dhn_kit import records
from dhn_kit.latency import load_latency
from dhn_kit.layouts import Call, Unfit, mve
from dhn_kit.pack import pack
from dhn_kit.quant_math import multiply_by_quantized_multiplier as requantize
from dhn_kit.twin import Twin
from test_golden import NETWORKS, load


@pytest.mark.reference
@pytest.mark.parametrize("name", NETWORKS)
def test_twin_equals_tflite_micro(name: str, reference_dir: Path) -> None:
    graph, golden, q = load(name, reference_dir)
    packed = pack(graph, "mve", latency=load_latency("qemu-cortex-m55"))
    weighted = [op.kernel for op in packed.ops if op.macs and "pool" not in op.kernel]
    assert all(kernel.endswith("__mve") for kernel in weighted)
    output = Twin(packed).run(q).output
    for i, ours in enumerate(output):
        np.testing.assert_array_equal(ours.reshape(-1), golden[f"output_{i}"].reshape(-1))


def _call(weight: int, bias: int, mult: int, shift: int) -> Call:
    numbers = {"bias": np.array([bias], np.int32), "mult": np.array([mult], np.int32)}
    values = {"in_zp": 0, "out_zp": 0}
    w = np.full((1, 1), weight, np.int8)
    return Call("fully_connected", records.FC, values, {}, w, shift=np.array([shift], np.int8), **numbers)


def _vqrdmulh(a: np.ndarray, b: int) -> np.ndarray:
    return (2 * a * b + (1 << 31)) >> 32


@pytest.mark.parametrize("e", range(1, 12))
@pytest.mark.parametrize("mult", [1 << 30, (1 << 30) + 1, 1518500250, (1 << 31) - 2, (1 << 31) - 1])
def test_two_products_round_as_tflite_wherever_the_result_does_not_saturate(e: int, mult: int) -> None:
    """Every accumulator around a half of the last rounding, and the ends of the range."""
    rows = mve.fused_rounding(_call(127, 0, mult, -e))
    halves = (np.arange(-600, 600, dtype=np.int64) * 2 + 1) << (e - 1)
    around = (halves * (1 << 31) // mult)[:, None] + np.arange(-3, 4)
    acc = np.concatenate([around.ravel(), [-(1 << 31), -(1 << 31) + 1, -1, 0, 1, (1 << 31) - 1]])
    acc = acc[(acc >= -(1 << 31)) & (acc < 1 << 31)]
    fused = _vqrdmulh(_vqrdmulh(acc, int(rows[0, 0])), int(rows[1, 0]))
    exact = requantize(acc, mult, -e)
    np.testing.assert_array_equal(np.clip(fused, -383, 383), np.clip(exact, -383, 383))


def test_a_large_shift_needs_the_general_rounding_unless_the_sums_are_proven_small() -> None:
    assert mve.fused_rounding(_call(1, 100, 1 << 30, -16)).shape == (2, 1)
    for shift in (-16, 0, 1):
        with pytest.raises(Unfit, match=f"a right shift of {-shift}, this kernel takes 1 to 11"):
            mve.fused_rounding(_call(127, 1 << 20, 1 << 30, shift))
