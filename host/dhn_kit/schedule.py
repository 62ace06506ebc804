"""Finds the order of a program's operators that needs the fewest bytes at once."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from dhn_kit.hooks import HookPoint
from dhn_kit.lower import Lowered, Op
from dhn_kit.memory import arena_bytes, root

#: Sets of executed operators that are kept per length; below this the search is exact. A chain needs one.
BEAM = 200


def reorder(lowered: Lowered, points: list[HookPoint]) -> Lowered:
    """The same program in a better order, if a plan for it turns out to be smaller too. Variants come after this."""
    assert not any(op.group for op in lowered.ops), "variants of an op stay together"
    order = best_order(lowered, points)
    if order == sorted(order):
        return lowered
    other = dataclasses.replace(lowered, ops=[lowered.ops[i] for i in order])
    return other if arena_bytes(other, points)[0] < arena_bytes(lowered, points)[0] else lowered


def best_order(lowered: Lowered, points: Sequence[HookPoint]) -> list[int]:
    """Numbers of the ops in the order with the smallest peak; the order as it is where none is smaller.

    Peaks are sums of live tensors and scratch, less what a kernel's lead lets a result share with its input, over the
    sets of operators that may come first: exact by dynamic programming, up to `BEAM` sets. A hook point and a skip's
    landing stay where they are: what comes before them still does, so that a skip leaves out the same operators and an
    exit saves the same work. After Liberis and Lane, "Neural networks on microcontrollers: saving memory at inference
    via operator reordering" (2019).
    """
    costs = _Costs(lowered)
    order: list[int] = []
    for segment in _segments(lowered.ops, points):
        order += _best_segment(costs, order, segment)
    return order


def _segments(ops: Sequence[Op], points: Sequence[HookPoint]) -> Iterator[list[int]]:
    """Ops between two places that nothing may cross."""
    borders = {p.node for p in points} | {p.skip[2] for p in points if p.skip is not None}
    segment: list[int] = []
    for number, op in enumerate(ops):
        if segment and any(ops[segment[-1]].node < b <= op.node for b in borders):
            yield segment
            segment = []
        segment.append(number)
    yield segment


class _Costs:
    """Who needs whom, and how many bytes are alive while an operator runs."""

    def __init__(self, lowered: Lowered) -> None:
        self.ops = lowered.ops
        self.sizes: dict[str, int] = {}
        for name, tensor in lowered.tensors.items():
            top = root(lowered.aliases, name)
            self.sizes[top] = max(self.sizes.get(top, 0), tensor.size)
        self.out = [root(lowered.aliases, op.out.tensor) for op in self.ops]
        self.reads = [self._read_by(lowered, op) for op in self.ops]
        #: bit sets of ops: who writes and who reads each tensor
        self.writers = {t: sum(1 << i for i, o in enumerate(self.out) if o == t) for t in self.sizes}
        self.readers = {t: sum(1 << i for i, r in enumerate(self.reads) if t in r) for t in self.sizes}
        self.inputs = {root(lowered.aliases, p.tensor) for p in lowered.graph.inputs}
        self.outputs = {root(lowered.aliases, p.tensor) for p in lowered.graph.outputs}
        self.needs = [self._before(i) for i in range(len(self.ops))]

    @staticmethod
    def _read_by(lowered: Lowered, op: Op) -> tuple[str, ...]:
        sides = [x.tensor for x in (op.in0, op.in1) if x is not None and x.const is None]
        out = root(lowered.aliases, op.out.tensor)
        return tuple(dict.fromkeys(t for t in (root(lowered.aliases, s) for s in sides) if t != out))

    def _before(self, number: int) -> int:
        """Ops that must have run: writers of what it reads, and earlier writers of what it writes."""
        needs = self.writers[self.out[number]] & ((1 << number) - 1)
        for tensor in self.reads[number]:
            needs |= self.writers[tensor]
        return needs

    def alive(self, done: int) -> set[str]:
        """Tensors that hold something which is still needed once these ops have run."""
        return {
            t
            for t in self.sizes
            if (self.writers[t] & done or t in self.inputs) and (self.readers[t] & ~done or t in self.outputs)
        }

    def during(self, done: int, alive: set[str], number: int) -> int:
        """Bytes while op `number` runs after `done`."""
        op, out = self.ops[number], self.out[number]
        total = sum(self.sizes[t] for t in alive | {out}) + op.scratch_bytes
        fresh = out not in alive and not self.writers[out] & done
        dying = [
            t
            for t in self.reads[number]
            if t in alive and t not in self.outputs and not self.readers[t] & ~(done | 1 << number)
        ]
        return total - (self._shared(op, out, dying) if fresh else 0)

    def _shared(self, op: Op, out: str, dying: Sequence[str]) -> int:
        """Bytes that a new result has in common with the inputs that it replaces."""
        if op.in_place and op.kernel.in_place:
            return max((self.sizes[t] for t in dying if self.sizes[t] == self.sizes[out]), default=0)
        if op.lead is None or not dying:
            return 0
        return max(0, min(self.sizes[dying[0]], self.sizes[out] - op.lead)) if op.in1 is None else 0


def _best_segment(costs: _Costs, before: Sequence[int], segment: Sequence[int]) -> list[int]:
    done = sum(1 << i for i in before)
    own = _peak(costs, done, segment)
    # Set of executed ops -> (peak on the best way there, that way).
    front: dict[int, tuple[int, tuple[int, ...]]] = {done: (0, ())}
    for _ in segment:
        following: dict[int, tuple[int, tuple[int, ...]]] = {}
        for state, (peak, way) in front.items():
            alive = costs.alive(state)
            for i in segment:
                if state >> i & 1 or costs.needs[i] & ~state:
                    continue
                found = (max(peak, costs.during(state, alive, i)), (*way, i))
                after = state | 1 << i
                if after not in following or found < following[after]:
                    following[after] = found
        front = dict(sorted(following.items(), key=lambda item: item[1])[:BEAM])
    ((peak, way),) = front.values()
    return list(way) if peak < own else list(segment)


def _peak(costs: _Costs, done: int, order: Sequence[int]) -> int:
    peak = 0
    for i in order:
        peak = max(peak, costs.during(done, costs.alive(done), i))
        done |= 1 << i
    return peak
