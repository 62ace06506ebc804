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


def drawn(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a board that keeps every hard input but one easy input in five, true rate of errors 1.9 %.

    One input in ten is hard; hard ones fail with 10 %, easy ones with 1 %.
    """
    hard = rng.random(20 * n) < 0.1
    propensity = np.where(hard, 1.0, 0.2)
    kept = np.flatnonzero(rng.random(20 * n) < propensity)[:n]
    wrong = rng.random(n) < np.where(hard[kept], 0.1, 0.01)
    return wrong, propensity[kept]


def test_weighted_bound_holds_where_counting_kept_samples_would_mislead() -> None:
    rng, rounds, true = np.random.default_rng(5), 400, 0.1 * 0.1 + 0.9 * 0.01
    samples = [drawn(rng, 3000) for _ in range(rounds)]
    bounds = np.array([risk.weighted_bound(wrong, p, 0.05) for wrong, p in samples])
    assert (bounds < true).mean() <= 0.05
    assert np.median(bounds) < 2 * true, "a bound that says nothing holds as well"
    # Kept samples are harder than the board's inputs: their own rate is more than twice the truth.
    assert np.mean([wrong.mean() for wrong, _ in samples]) > 2 * true


def test_weighted_bound_corrects_a_design_that_hides_the_errors() -> None:
    rng = np.random.default_rng(6)
    wrong, propensity = drawn(rng, 4000)
    hidden = np.where(propensity == 1.0, 0.05, 1.0)  # the same inputs, hard ones kept rarely
    kept = rng.random(4000) < hidden
    assert risk.upper_bound(int(wrong[kept].sum()), int(kept.sum()), 0.05) < 0.03 < wrong.mean() + 0.01
    assert risk.weighted_bound(wrong[kept], hidden[kept], 0.05) > wrong.mean()


def test_equal_propensities_are_counted_exactly_and_unequal_ones_named() -> None:
    wrong = np.arange(1200) < 3
    same, mixed = np.full(1200, 0.1), np.where(np.arange(1200) % 2, 0.1, 1.0)
    assert risk.bound(wrong, 0.05, same) == risk.bound(wrong, 0.05) == risk.upper_bound(3, 1200, 0.05)
    assert risk.bound(wrong, 0.05, mixed) == risk.weighted_bound(wrong, mixed, 0.05) > risk.upper_bound(3, 1200, 0.05)
    assert risk.method(same) == risk.METHOD and "Maurer, Pontil 2009" in risk.method(mixed)
    assert risk.method(None, 7) == "Clopper-Pearson, Bonferroni over 7 candidates"


def test_weighted_bound_of_hopeless_samples_is_one_and_propensity_zero_is_refused() -> None:
    assert risk.weighted_bound(np.ones(50, bool), np.full(50, 0.5), 0.05) == 1.0
    assert risk.weighted_bound(np.zeros(1, bool), np.full(1, 0.5), 0.05) == 1.0
    with pytest.raises(DhnError, match="propensity 0"):
        risk.weighted_bound(np.zeros(9, bool), np.zeros(9), 0.05)
