"""Judges a memory plan by the problem alone, without a line of the planner that made it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from itertools import combinations

from dhn_kit.plan import Buffer, Plan, Problem


def validate(problem: Problem, plan: Plan) -> None:
    """Raises ValueError with the first fault: a misplaced buffer, or two that share a byte and must not."""
    names = sorted(b.name for b in problem.buffers)
    if names != sorted(plan.offsets):
        raise ValueError(f"the plan places {sorted(plan.offsets)}, the problem has {names}")
    for buffer in problem.buffers:
        _validate_place(problem, plan, buffer)
    for first, second in combinations(problem.buffers, 2):
        if not _share_bytes(plan, first, second) or not _meet(problem, first, second):
            continue
        if not (_may_overlap(problem, plan, first, second) or _may_overlap(problem, plan, second, first)):
            raise ValueError(f"{_where(plan, first)} and {_where(plan, second)} overlap")
    if plan.lower_bound > plan.size:
        raise ValueError(f"the plan's {plan.size} bytes refute its lower bound of {plan.lower_bound}")
    if plan.size % problem.align:
        raise ValueError(f"the plan's {plan.size} bytes are not a multiple of {problem.align}")


def _validate_place(problem: Problem, plan: Plan, buffer: Buffer) -> None:
    offset = plan.offsets[buffer.name]
    if offset < 0 or offset % problem.align:
        raise ValueError(f"{_where(plan, buffer)} does not start at a multiple of {problem.align}")
    if offset + buffer.size > plan.size:
        raise ValueError(f"{_where(plan, buffer)} reaches beyond the plan's {plan.size} bytes")


def _in_conflict(problem: Problem, first: Buffer, second: Buffer) -> bool:
    pair = (first.name, second.name)
    return pair in problem.conflicts or pair[::-1] in problem.conflicts


def _meet(problem: Problem, first: Buffer, second: Buffer) -> bool:
    return _in_conflict(problem, first, second) or max(first.start, second.start) < min(first.end, second.end)


def _may_overlap(problem: Problem, plan: Plan, below: Buffer, above: Buffer) -> bool:
    least = problem.overlaps.get((below.name, above.name))
    if least is None or _in_conflict(problem, below, above):
        return False
    return plan.offsets[above.name] - plan.offsets[below.name] >= least


def _share_bytes(plan: Plan, first: Buffer, second: Buffer) -> bool:
    a, b = plan.offsets[first.name], plan.offsets[second.name]
    return max(a, b) < min(a + first.size, b + second.size)


def _where(plan: Plan, buffer: Buffer) -> str:
    offset = plan.offsets[buffer.name]
    return f"{buffer.name} [{offset}, {offset + buffer.size})"
