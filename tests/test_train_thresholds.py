"""The cascade simulator counts what it says; the threshold search keeps its budget and finds the obvious optimum."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from dhn_kit.hooks import NEVER
from dhn_kit.train.thresholds import Cascade, Stage, prune, search, simulate

Floats = npt.NDArray[np.float64]
FULL = 100.0


def exits_only(value: npt.ArrayLike, error: npt.ArrayLike, decide: float = 1.0) -> Cascade:
    values, wrong = np.asarray(value, np.int64)[None], np.asarray(error, bool)[None]
    stages = [Stage(f"e{s}", "exit", 10.0 * (s + 1), decide, 0.5) for s in range(values.shape[1])]
    return Cascade(stages, values, wrong, np.zeros((1, values.shape[2]), bool), FULL)


def random_cascade(n: int = 300, hooks: int = 3, skips: bool = True, seed: int = 0) -> Cascade:
    rng = np.random.default_rng(seed)
    stages = [Stage(f"e{s}", "exit", 20.0 * s, 2.0, 1.0) for s in range(hooks)]
    if skips:
        stages.insert(1, Stage("s", "skip", 5.0, 1.0, 2.0, saved=30.0))
    paths = 2 if skips else 1
    values = rng.integers(0, 100, (paths, len(stages), n))
    wrong = rng.random((paths, len(stages), n)) < np.exp(-values / 15)
    final = rng.random((paths, n)) < 0.1
    final[0] = False
    return Cascade(stages, values, wrong, final, FULL)


def one_by_one(c: Cascade, thresholds: Sequence[int]) -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """The same cascade, told sample by sample."""
    costs, wrongs, lefts = [], [], []
    for i in range(c.n):
        path, cost, left = 0, 0.0, -1
        for s, (g, t) in enumerate(zip(c.stages, thresholds, strict=True)):
            if t == NEVER:
                continue
            cost += g.decide
            if c.values[path, s, i] >= t:
                cost += g.act
                if g.action == "exit":
                    left = s
                    break
                path, cost = 1, cost - g.saved
        costs.append(cost + (FULL if left < 0 else c.stages[left].reach))
        wrongs.append(bool(c.final_wrong[path, i] if left < 0 else c.wrong[path, left, i]))
        lefts.append(left)
    return np.array(costs), np.array(wrongs), np.array(lefts)


@pytest.mark.parametrize("thresholds", [(0, 0, 0, 0), (50, 50, 50, 50), (90, NEVER, 30, 200), (NEVER, 20, NEVER, 60)])
def test_simulation_equals_the_same_story_told_sample_by_sample(thresholds: tuple[int, ...]) -> None:
    c = random_cascade()
    got, (cost, wrong, left) = simulate(c, thresholds), one_by_one(c, thresholds)
    np.testing.assert_allclose(got.cost, cost)
    np.testing.assert_array_equal(got.wrong, wrong)
    np.testing.assert_array_equal(got.left_at, left)


def test_several_threshold_vectors_at_once_equal_one_at_a_time() -> None:
    c = random_cascade()
    table = np.random.default_rng(1).integers(0, 110, (7, 4))
    batch = simulate(c, table)
    for row, thresholds in enumerate(table):
        single = simulate(c, thresholds)
        np.testing.assert_array_equal(batch.cost[row], single.cost)
        np.testing.assert_array_equal(batch.wrong[row], single.wrong)


def test_a_silent_cascade_costs_a_full_run_and_is_never_wrong() -> None:
    outcome = simulate(random_cascade(), (NEVER,) * 4)
    assert (outcome.cost == FULL).all() and not outcome.wrong.any() and (outcome.left_at == -1).all()


def test_search_keeps_every_budget_and_orders_candidates_from_cautious_to_thrifty() -> None:
    c = random_cascade()
    found = search(c, [0.0, 0.01, 0.05, 0.2])
    assert all(f.risk <= f.budget for f in found)
    assert [f.risk for f in found] == sorted(f.risk for f in found)
    assert [f.cost for f in found] == sorted((f.cost for f in found), reverse=True)
    for f in found:
        outcome = simulate(c, f.thresholds)
        assert (outcome.mean_cost, outcome.risk) == (f.cost, f.risk)


def test_search_comes_within_two_percent_of_brute_force() -> None:
    c = random_cascade(n=120, hooks=2, skips=False, seed=3)
    every = [(a, b) for a, b in itertools.product([*range(0, 101), NEVER], repeat=2)]
    outcome = simulate(c, every)
    best = outcome.cost.mean(1)[outcome.wrong.mean(1) <= 0.05].min()
    assert search(c, [0.05])[0].cost <= best + 0.02 * FULL


def test_guard_keeps_thresholds_away_from_wrong_answers() -> None:
    values = [[10, 20, 30, 40, 50, 60, 70, 80]]
    wrong = [[False, False, False, True, False, False, False, False]]
    c = exits_only(values, wrong)
    (plain,), (guarded,) = search(c, [0.0]), search(c.guarded(15), [0.0])
    assert 40 < plain.thresholds[0] <= 50
    assert 55 < guarded.thresholds[0] <= 60


def test_a_hook_that_costs_more_than_it_saves_is_pruned_with_its_numbers() -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(0, 100, (2, 400))
    wrong = np.zeros((2, 400), bool)
    c = exits_only(values, wrong)
    # The second exit leaves at 20 of 100 but asks 90 for its opinion.
    c.stages[1] = Stage("dear", "exit", 20.0, 90.0, 0.0)
    c.values[0, 0, :200] = -5
    c.wrong[0, 0, :200] = True
    kept, dropped = prune(c, 0.0, least_gain=0.5)
    assert kept == [0]
    assert dropped[0].name == "dear" and dropped[0].decide == 90.0 and dropped[0].gain < 0.5


def test_a_useful_hook_is_kept() -> None:
    c = exits_only([[50] * 100], [[False] * 100])
    assert prune(c, 0.0, least_gain=0.5) == ([0], [])


def test_hooks_are_pruned_until_they_fit_the_slot_and_the_better_one_stays() -> None:
    c = exits_only([[50] * 100, [50] * 100], [[False] * 100, [False] * 100])
    kept, dropped = prune(c, 0.0, least_gain=-1.0, sizes=[700, 500], room=1000)
    assert kept == [0] and [d.name for d in dropped] == ["e1"]
    assert prune(c, 0.0, least_gain=-1.0, sizes=[700, 300], room=1000)[0] == [0, 1]
