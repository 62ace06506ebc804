"""Risk bounds: they hold as often as they promise, and agree with exact binomial tails."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhn_kit import risk
from dhn_kit.errors import DhnError


def test_zero_errors_give_the_closed_form() -> None:
    # With no error the bound solves (1 - p)^n = delta.
    assert risk.upper_bound(0, 300, 0.05) == pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-12)


def test_all_wrong_is_bounded_by_one() -> None:
    assert risk.upper_bound(7, 7, 0.05) == 1.0


@given(
    st.integers(1, 3000),
    st.integers(0, 40),
    st.sampled_from([0.001, 0.01, 0.05, 0.2]),
    st.sampled_from([0.01, 0.05, 0.1]),
)
@settings(max_examples=200, deadline=None)
def test_bound_below_epsilon_is_the_same_as_p_value_below_delta(
    n: int, errors: int, epsilon: float, delta: float
) -> None:
    errors = min(errors, n)
    bound, p = risk.upper_bound(errors, n, delta), risk.p_value(errors, n, epsilon)
    if abs(bound - epsilon) > 1e-9:
        assert (bound <= epsilon) == (p <= delta)


def test_p_value_sums_the_binomial_tail() -> None:
    exact = sum(math.comb(50, k) * 0.1**k * 0.9 ** (50 - k) for k in range(4))
    assert risk.p_value(3, 50, 0.1) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("epsilon, errors", [(0.01, 0), (0.01, 6), (0.002, 0), (0.05, 3), (0.5, 0)])
def test_needed_samples_is_the_smallest_number_that_suffices(epsilon: float, errors: int) -> None:
    n = risk.needed_samples(epsilon, 0.05, errors)
    assert risk.upper_bound(errors, n, 0.05) <= epsilon
    assert risk.upper_bound(errors, n - 1, 0.05) > epsilon


def test_allowed_errors_inverts_needed_samples() -> None:
    for errors in range(8):
        n = risk.needed_samples(0.01, 0.05, errors)
        assert risk.allowed_errors(n, 0.01, 0.05) == errors
        assert risk.allowed_errors(n - 1, 0.01, 0.05) == errors - 1


def test_too_few_samples_say_how_many_are_needed() -> None:
    with pytest.raises(DhnError, match="299 are needed"):
        risk.require_samples(100, 0.01, 0.05)
    risk.require_samples(299, 0.01, 0.05)


@pytest.mark.parametrize(
    "call",
    [lambda: risk.upper_bound(0, 0, 0.05), lambda: risk.needed_samples(0, 0.05), lambda: risk.upper_bound(0, 5, 1)],
)
def test_senseless_numbers_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(DhnError):
        call()


def test_fixed_sequence_stops_at_the_first_failure() -> None:
    # 1200 samples at 1 %: six errors pass, seven do not, and what comes after a failure is lost.
    assert risk.allowed_errors(1200, 0.01, 0.05) == 6
    assert risk.fixed_sequence([0, 3, 6, 7, 1], 1200, 0.01, 0.05) == 3
    assert risk.fixed_sequence([7, 0, 0], 1200, 0.01, 0.05) == 0


def test_selected_operating_point_breaks_its_promise_at_most_delta_of_the_time() -> None:
    # A cascade whose true risk grows along the ladder; each round draws a fresh calibration split, certifies, selects
    # the thriftiest certified candidate and looks up its TRUE risk.
    true = np.array([0.001, 0.002, 0.004, 0.007, 0.0095, 0.0105, 0.013, 0.02, 0.05])
    rng, rounds, n, epsilon, delta = np.random.default_rng(7), 4000, 1200, 0.01, 0.05
    broken = 0
    for _ in range(rounds):
        # Nested errors, as with thresholds: one uniform per sample decides all candidates.
        u = np.sort(rng.random(n))
        errors = np.searchsorted(u, true)
        certified = risk.fixed_sequence(errors.tolist(), n, epsilon, delta)
        broken += certified > 0 and true[certified - 1] > epsilon
    slack = 3 * math.sqrt(delta * (1 - delta) / rounds)
    assert broken / rounds <= delta + slack


def test_picking_the_best_without_the_sequence_would_break_the_promise() -> None:
    # The reason for the fixed sequence: with many risky candidates of independent errors, testing each at delta and
    # keeping any that passes fails far more often than delta.
    rng, rounds, n = np.random.default_rng(3), 500, 1200
    errors = rng.binomial(n, 0.011, (rounds, 20))
    any_passes = np.mean([(risk.allowed_errors(n, 0.01, 0.05) >= row).any() for row in errors])
    sequence = np.mean([risk.fixed_sequence(row.tolist(), n, 0.01, 0.05) > 0 for row in errors])
    assert any_passes > 0.2
    assert sequence <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)


def test_split_hash_changes_with_tags_and_bytes_and_nothing_else() -> None:
    x = np.arange(12, dtype=np.int8).reshape(3, 4)
    base = risk.split_hash([1, 2, 3], x)
    assert base == risk.split_hash(iter([1, 2, 3]), x.copy())
    assert base != risk.split_hash([1, 2, 4], x)
    assert base != risk.split_hash([1, 2, 3], x + np.int8(1))
    assert base != risk.split_hash([1, 2, 3], x.reshape(4, 3))
