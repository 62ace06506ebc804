"""Places buffers with known lifetimes in one arena of as few bytes as it can."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Buffer:
    """``size`` bytes that are alive in the steps [start, end), end excluded."""

    name: str
    size: int
    start: int
    end: int


@dataclass(frozen=True)
class Problem:
    """``conflicts`` are pairs of names that must lie apart although their lifetimes do not meet."""

    buffers: tuple[Buffer, ...]
    conflicts: frozenset[tuple[str, str]] = frozenset()
    align: int = 4


@dataclass(frozen=True)
class Plan:
    """Byte offset of every buffer; ``size`` and ``lower_bound`` are bytes, multiples of the alignment."""

    offsets: dict[str, int]
    size: int
    lower_bound: int
    proven_optimal: bool


#: What one second of budget means. The budget counts work, not time, so that the same problem gets the same plan on
#: every machine; a node or an order costs about this share of a second for a network of 60 tensors.
NODES_PER_SECOND = 10_000
ORDERS_PER_SECOND = 500
#: Deeper searches would exceed Python's stack and never finish anyway.
MAX_EXACT_BUFFERS = 600


def solve(problem: Problem, budget_s: float = 2.0, seed: int = 0) -> Plan:
    """The best plan that greedy orders, then an exact branch and bound find within the budget.

    ``lower_bound`` is the heaviest set of buffers that must all lie apart, as far as it was looked for; no plan can
    be smaller. ``proven_optimal`` says that the bound was reached or that the search was exhausted.
    The exact search is after Moffitt, "MiniMalloc: A Lightweight Memory Allocator for Hardware-Accelerated Machine
    Learning" (ASPLOS 2023).
    """
    model = _Model(problem)
    best = _best_greedy(model, random.Random(seed), int(budget_s * ORDERS_PER_SECOND))
    size, proven = model.height(best), False
    if size > model.lower_bound and len(model.sizes) <= MAX_EXACT_BUFFERS:
        search = _Search(model, size, int(budget_s * NODES_PER_SECOND))
        proven = search.run()
        best = search.best or best
        size = model.height(best)
    unit = problem.align
    offsets = {b.name: o * unit for b, o in zip(problem.buffers, best, strict=True)}
    return Plan(offsets, size * unit, model.lower_bound * unit, proven or size == model.lower_bound)


class _Model:
    """The problem in units of the alignment, with buffers as numbers and who must lie apart from whom."""

    def __init__(self, problem: Problem) -> None:
        index = {b.name: i for i, b in enumerate(problem.buffers)}
        if len(index) != len(problem.buffers):
            raise ValueError("two buffers have the same name")
        self.buffers = problem.buffers
        self.sizes = [-(-b.size // problem.align) for b in problem.buffers]
        self.apart: list[set[int]] = [set() for _ in self.sizes]
        self.cliques: list[list[int]] = []
        self._meet_in_time(problem.buffers)
        for first, second in problem.conflicts:
            if first != second:
                self.apart[index[first]].add(index[second])
                self.apart[index[second]].add(index[first])
        self._extend_cliques((index[a], index[b]) for a, b in sorted(problem.conflicts))
        self.lower_bound = max((sum(self.sizes[i] for i in c) for c in self.cliques), default=0)

    def _meet_in_time(self, buffers: Sequence[Buffer]) -> None:
        # What is alive grows only where a buffer starts, so the starts are all the steps worth looking at.
        for step in sorted({b.start for b in buffers}):
            alive = [i for i, b in enumerate(buffers) if b.start <= step < b.end]
            self.cliques.append(alive)
            for i in alive:
                self.apart[i].update(j for j in alive if j != i)
        self.cliques += [[i] for i, b in enumerate(buffers) if b.start >= b.end]

    def _extend_cliques(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Every set that must lie apart, grown by the largest buffers that conflict with all of it."""
        by_size = sorted(range(len(self.sizes)), key=lambda i: -self.sizes[i])
        seeds = [set(c) for c in self.cliques] + [{a, b} for a, b in pairs]
        grown: dict[frozenset[int], None] = {}
        for seed in seeds:
            common = set.intersection(*(self.apart[i] for i in seed)) if seed else set()
            for i in by_size:
                if i in common:
                    seed.add(i)
                    common &= self.apart[i]
            grown[frozenset(seed)] = None
        self.cliques = [sorted(c) for c in grown]

    def height(self, offsets: Sequence[int]) -> int:
        return max((o + s for o, s in zip(offsets, self.sizes, strict=True)), default=0)


_Fit = Callable[[list[tuple[int, int]], int], int]


def _first_fit(taken: list[tuple[int, int]], size: int) -> int:
    """Lowest place for ``size`` between the sorted (start, end) spans."""
    low = 0
    for start, end in taken:
        if start - low >= size:
            return low
        low = max(low, end)
    return low


def _best_fit(taken: list[tuple[int, int]], size: int) -> int:
    """Tightest gap that holds ``size``; above everything where there is none."""
    low, best, slack = 0, -1, 0
    for start, end in taken:
        gap = start - low
        if gap >= size and (best < 0 or gap - size < slack):
            best, slack = low, gap - size
        low = max(low, end)
    return low if best < 0 else best


def _place(model: _Model, order: Sequence[int], fit: _Fit) -> list[int]:
    offsets = [-1] * len(order)
    for i in order:
        taken = sorted((offsets[j], offsets[j] + model.sizes[j]) for j in model.apart[i] if offsets[j] >= 0)
        offsets[i] = fit(taken, model.sizes[i])
    return offsets


def _greedy_orders(model: _Model) -> list[list[int]]:
    """By size (as TFLite Micro does), lifetime, area, number of conflicts, and order of execution."""
    sizes, buffers, apart = model.sizes, model.buffers, model.apart
    keys: list[Callable[[int], tuple[int, ...]]] = [
        lambda i: (-sizes[i], buffers[i].start),
        lambda i: (buffers[i].start - buffers[i].end, -sizes[i]),
        lambda i: (-sizes[i] * (buffers[i].end - buffers[i].start),),
        lambda i: (-len(apart[i]), -sizes[i]),
        lambda i: (-sum(sizes[j] for j in apart[i]) - sizes[i],),
        lambda i: (buffers[i].start, -sizes[i]),
    ]
    return [sorted(range(len(sizes)), key=key) for key in keys]


def _best_greedy(model: _Model, rng: random.Random, tries: int) -> list[int]:
    """The best of the fixed orders, then of ``tries`` random moves within the best order."""
    candidates = [(_place(model, o, fit), o) for o in _greedy_orders(model) for fit in (_first_fit, _best_fit)]
    best, order = min(candidates, key=lambda c: model.height(c[0]))
    size = model.height(best)
    for _ in range(tries if len(order) > 1 else 0):
        if size == model.lower_bound:
            break
        trial = list(order)
        trial.insert(rng.randrange(len(order)), trial.pop(rng.randrange(len(order))))
        placed = _place(model, trial, _first_fit)
        # Sideways moves leave plateaus, on which most of the orders lie.
        if model.height(placed) <= size:
            best, order, size = placed, trial, model.height(placed)
    return best


class _Search:
    """Depth-first search over the plans in which every buffer rests on the floor or on another one.

    Any plan can be pushed down into that form without growing. Buffers are placed by rising offset, so that a buffer
    lies exactly on the highest of those placed before it that it must be apart from; equal offsets are tried in
    one order only.
    """

    def __init__(self, model: _Model, size: int, nodes: int) -> None:
        self.model = model
        self.size = size
        self.nodes = nodes
        self.best: list[int] | None = None
        self.offsets = [-1] * len(model.sizes)

    def run(self) -> bool:
        """True if nothing was left unsearched."""
        self._descend([0] * len(self.offsets), 0, -1)
        return self.nodes > 0

    def _descend(self, floors: list[int], last: int, last_index: int) -> None:
        """``floors`` are the lowest offsets that the placed buffers leave to each of the others."""
        self.nodes -= 1
        todo = [i for i, offset in enumerate(self.offsets) if offset < 0]
        if not todo:
            self.best = list(self.offsets)
            self.size = self.model.height(self.best)
            return
        for i in self._candidates(todo, floors, last, last_index):
            if self.nodes <= 0 or self.size == self.model.lower_bound:
                return
            self.offsets[i] = floors[i]
            below = self._raised(floors, i)
            if self._can_improve(below, floors[i]):
                self._descend(below, floors[i], i)
            self.offsets[i] = -1

    def _candidates(self, todo: list[int], floors: list[int], last: int, last_index: int) -> list[int]:
        sizes = self.model.sizes
        # A buffer that fits wholly below another's place can be moved there in any plan that puts it higher.
        ceiling = min(floors[i] + max(sizes[i], 1) for i in todo)
        allowed = (i for i in todo if last <= floors[i] < ceiling and (floors[i] > last or i > last_index))
        return sorted(allowed, key=lambda i: (floors[i], -sizes[i] * (1 + len(self.model.apart[i])), i))

    def _raised(self, floors: list[int], placed: int) -> list[int]:
        top = floors[placed] + self.model.sizes[placed]
        raised = list(floors)
        for j in self.model.apart[placed]:
            raised[j] = max(raised[j], top)
        return raised

    def _can_improve(self, floors: list[int], last: int) -> bool:
        """False where some set of buffers that must lie apart cannot stay below the best size any more."""
        for clique in self.model.cliques:
            lowest, remaining = self.size, 0
            for i in clique:
                if self.offsets[i] < 0:
                    lowest = min(lowest, floors[i])
                    remaining += self.model.sizes[i]
            if remaining and max(lowest, last) + remaining >= self.size:
                return False
        return True
