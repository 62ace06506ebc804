"""The validator names every fault that is planted in a good plan."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import pytest

from dhn_kit.plan import Buffer, Plan, Problem
from dhn_kit.plan_validator import validate

PROBLEM = Problem(
    (Buffer("a", 10, 0, 2), Buffer("b", 7, 1, 3), Buffer("c", 12, 2, 4), Buffer("d", 3, 6, 8)),
    conflicts=frozenset({("a", "d")}),
)
GOOD = Plan({"a": 0, "b": 12, "c": 0, "d": 12}, 20, 20, True)


def planted(**offsets: int) -> Plan:
    return replace(GOOD, offsets=GOOD.offsets | offsets)


def test_good_plan_passes() -> None:
    validate(PROBLEM, GOOD)


def test_buffers_may_share_bytes_one_after_the_other() -> None:
    validate(PROBLEM, planted(c=0, d=12))


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        (planted(b=8), r"a \[0, 10\) and b \[8, 15\) overlap"),
        (planted(c=8), r"c \[8, 20\) overlap"),
        (planted(d=8), r"a \[0, 10\) and d \[8, 11\) overlap"),
        (planted(b=13), "multiple of 4"),
        (planted(b=-4), "multiple of 4"),
        (planted(b=16), "beyond the plan's 20 bytes"),
        (replace(GOOD, size=16), "beyond the plan's 16 bytes"),
        (replace(GOOD, size=22), "not a multiple"),
        (replace(GOOD, lower_bound=24), "lower bound"),
        (planted(x=0), "places"),
        (replace(GOOD, offsets={"a": 0}), "places"),
    ],
)
def test_planted_fault_is_named(plan: Plan, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        validate(PROBLEM, plan)


def test_conflicts_bind_in_either_order_of_names() -> None:
    reversed_pair = replace(PROBLEM, conflicts=frozenset({("d", "a")}))
    with pytest.raises(ValueError, match="overlap"):
        validate(reversed_pair, planted(d=0))


OVERLAPPING = replace(PROBLEM, overlaps={("c", "b"): 4})
SLID = planted(b=12, c=8)


def test_buffers_may_share_bytes_as_the_lead_allows() -> None:
    validate(OVERLAPPING, SLID)


@pytest.mark.parametrize(
    ("problem", "offsets"),
    [
        (OVERLAPPING, {"c": 12}),
        (OVERLAPPING, {"c": 16}),
        (PROBLEM, {}),
        (replace(PROBLEM, overlaps={("b", "c"): 4}), {}),
        (replace(OVERLAPPING, conflicts=frozenset({("b", "c")})), {}),
    ],
)
def test_a_result_too_close_to_its_input_is_named(problem: Problem, offsets: dict[str, int]) -> None:
    placed = replace(SLID, offsets=SLID.offsets | offsets, size=28)
    with pytest.raises(ValueError, match="overlap"):
        validate(problem, placed)
