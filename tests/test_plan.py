"""The planner's plans are valid, as small as brute force finds, and the same every time."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhn_kit.plan import Buffer, Problem, solve
from dhn_kit.plan_validator import validate


@st.composite
def problems(draw: st.DrawFn, max_buffers: int, max_size: int) -> Problem:
    count = draw(st.integers(0, max_buffers))
    buffers = []
    for i in range(count):
        start = draw(st.integers(0, 8))
        size, life = draw(st.integers(0, max_size)), draw(st.integers(0, 5))
        buffers.append(Buffer(f"b{i}", size, start, start + life))
    names = [b.name for b in buffers]
    pairs = st.tuples(st.sampled_from(names), st.sampled_from(names)).filter(lambda p: p[0] != p[1])
    conflicts = draw(st.frozensets(pairs, max_size=4)) if count > 1 else frozenset()
    # An operator's result starts in the step in which its input ends.
    chained = [(b.name, a.name) for a in buffers for b in buffers if a.start < b.start == a.end - 1 and b.end > b.start]
    chosen = draw(st.lists(st.sampled_from(chained), unique=True)) if chained else []
    overlaps = {pair: draw(st.integers(0, max_size + 4)) for pair in chosen}
    return Problem(tuple(buffers), conflicts, draw(st.sampled_from([1, 4, 8])), overlaps)


def clash(problem: Problem, a: Buffer, at: int, b: Buffer, bt: int) -> bool:
    """Whether a at `at` and b at `bt` break the problem's rules."""
    in_conflict = bool({(a.name, b.name), (b.name, a.name)} & problem.conflicts)
    if at >= bt + b.size or bt >= at + a.size or not (in_conflict or max(a.start, b.start) < min(a.end, b.end)):
        return False
    for low, low_at, high, high_at in ((a, at, b, bt), (b, bt, a, at)):
        least = problem.overlaps.get((low.name, high.name))
        if least is not None and high_at - low_at >= least and not in_conflict:
            return False
    return True


def brute_force(problem: Problem) -> int:
    """Smallest arena over all orders in which buffers are stacked, each as low as it goes; bytes, aligned."""
    best = None
    for order in permutations(problem.buffers):
        placed: list[tuple[Buffer, int]] = []
        for b in order:
            offset = 0
            while any(clash(problem, b, offset, c, at) for c, at in placed):
                offset += problem.align
            placed.append((b, offset))
        top = max((at + b.size for b, at in placed), default=0)
        size = -(-top // problem.align) * problem.align
        best = size if best is None else min(best, size)
    assert best is not None
    return best


@settings(max_examples=150, deadline=None)
@given(problems(max_buffers=20, max_size=200))
def test_every_plan_passes_the_validator(problem: Problem) -> None:
    validate(problem, solve(problem, budget_s=0.02))


@settings(max_examples=150, deadline=None)
@given(problems(max_buffers=5, max_size=30))
def test_small_plans_are_as_small_as_brute_force(problem: Problem) -> None:
    plan = solve(problem, budget_s=5)
    assert plan.proven_optimal
    assert plan.size == brute_force(problem)
    assert plan.lower_bound <= plan.size


def random_problem(seed: int, count: int) -> Problem:
    rng = random.Random(seed)
    buffers = []
    for i in range(count):
        start = rng.randrange(count)
        buffers.append(Buffer(f"t{i}", rng.randrange(16, 4096), start, start + 1 + rng.randrange(4)))
    return Problem(tuple(buffers))


def test_same_problem_and_seed_give_the_same_plan() -> None:
    problem = random_problem(3, 40)
    assert solve(problem, budget_s=0.1, seed=7) == solve(problem, budget_s=0.1, seed=7)


@pytest.mark.parametrize("seed", range(5))
def test_plans_of_sixty_tensors_stay_within_a_tenth_of_the_lower_bound(seed: int) -> None:
    plan = solve(random_problem(seed, 60), budget_s=0.2)
    assert plan.size <= 1.1 * plan.lower_bound


def test_search_beats_every_greedy_order() -> None:
    spans = [(8, 0, 4), (12, 1, 3), (16, 5, 9), (8, 3, 6), (16, 2, 4), (12, 5, 6)]
    problem = Problem(tuple(Buffer(f"t{i}", *span) for i, span in enumerate(spans)))
    assert solve(problem, budget_s=0).size == 40
    assert solve(problem).size == 36


def test_exact_search_proves_an_optimum_above_the_lower_bound() -> None:
    # An odd ring of neighbours that may not share needs three levels, though no three of them conflict pairwise.
    buffers = tuple(Buffer(f"t{i}", 4, i, i + 1) for i in range(5))
    ring = frozenset((f"t{i}", f"t{(i + 1) % 5}") for i in range(5))
    plan = solve(Problem(buffers, ring))
    assert (plan.size, plan.lower_bound, plan.proven_optimal) == (12, 8, True)


def test_a_chain_needs_its_two_largest_neighbours() -> None:
    sizes = [100, 64, 36, 80, 8]
    problem = Problem(tuple(Buffer(f"t{i}", s, i, i + 2) for i, s in enumerate(sizes)))
    plan = solve(problem)
    assert (plan.size, plan.lower_bound, plan.proven_optimal) == (164, 164, True)


def test_a_conflict_keeps_buffers_apart_whose_lifetimes_do_not_meet() -> None:
    pair = (Buffer("a", 10, 0, 1), Buffer("b", 10, 5, 6))
    assert solve(Problem(pair)).size == 12
    plan = solve(Problem(pair, frozenset({("b", "a")})))
    assert (plan.size, plan.lower_bound) == (24, 24)


def chain(leads: dict[tuple[str, str], int], conflicts: frozenset[tuple[str, str]] = frozenset()) -> Problem:
    """A tensor that stays, and three of one size after each other, each made from the one before."""
    buffers = [Buffer("stays", 100, 0, 4), *(Buffer(f"t{i}", 100, i, i + 2) for i in range(3))]
    return Problem(tuple(buffers), conflicts, overlaps=leads)


def test_a_result_may_trail_its_input_by_the_lead() -> None:
    plan = solve(chain({("t1", "t0"): 10, ("t2", "t1"): 8}))
    # 10 rounded up to the alignment, and 8, below the first one.
    assert (plan.size, plan.lower_bound, plan.proven_optimal) == (220, 212, True)
    assert plan.offsets["t0"] - plan.offsets["t1"] >= 10 and plan.offsets["t1"] - plan.offsets["t2"] >= 8


def test_the_bound_adds_up_the_leads_of_a_chain() -> None:
    buffers = tuple(Buffer(f"t{i}", 800, i, i + 2) for i in range(9))
    leads = {(f"t{i + 1}", f"t{i}"): 64 for i in range(8)}
    plan = solve(Problem(buffers, overlaps=leads), budget_s=0)
    assert (plan.size, plan.lower_bound, plan.proven_optimal) == (800 + 8 * 64, 800 + 8 * 64, True)


def test_a_result_may_take_its_inputs_place_where_the_lead_is_zero() -> None:
    plan = solve(chain({("t1", "t0"): 0, ("t2", "t1"): 0}))
    assert (plan.size, plan.lower_bound) == (200, 200)


def test_a_lead_beyond_the_result_is_no_worse_than_lying_apart() -> None:
    assert solve(chain({("t1", "t0"): 500})).size == solve(chain({})).size == 300


def test_a_conflict_outweighs_a_lead() -> None:
    plan = solve(chain({("t1", "t0"): 0, ("t2", "t1"): 0}, frozenset({("t0", "t1")})))
    assert plan.size == 300


def test_an_empty_problem_needs_no_bytes() -> None:
    plan = solve(Problem(()))
    assert (plan.offsets, plan.size, plan.proven_optimal) == ({}, 0, True)


def test_two_buffers_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        solve(Problem((Buffer("a", 1, 0, 1), Buffer("a", 2, 0, 1))))
