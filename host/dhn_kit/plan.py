"""Places buffers with known lifetimes in one arena of as few bytes as it can."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Buffer:
    """``size`` bytes that are alive in the steps [start, end), end excluded."""

    name: str
    size: int
    start: int
    end: int


@dataclass(frozen=True)
class Problem:
    """``conflicts`` are pairs of names that must lie apart, whatever their lifetimes and `overlaps` say.

    ``overlaps[below, above]`` loosens the rule for two buffers whose lifetimes meet: they may also share bytes if
    `above` starts at least so many bytes after the start of `below`.
    """

    buffers: tuple[Buffer, ...]
    conflicts: frozenset[tuple[str, str]] = frozenset()
    align: int = 4
    overlaps: Mapping[tuple[str, str], int] = field(default_factory=dict)


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
#: A chain of pairs is followed this often; stopping earlier only loses sharpness.
PASSES = 20
#: Deeper searches would exceed Python's stack and never finish anyway.
MAX_EXACT_BUFFERS = 600


def solve(problem: Problem, budget_s: float = 2.0, seed: int = 0) -> Plan:
    """The best plan that greedy orders, then an exact branch and bound find within the budget.

    ``lower_bound`` is the heaviest set of buffers that must all lie apart, less the bytes that its members may share,
    as far as it was looked for; no plan can be smaller. ``proven_optimal`` says that the bound was reached or that the
    search was exhausted. The exact search is after Moffitt, "MiniMalloc: A Lightweight Memory Allocator for
    Hardware-Accelerated Machine Learning" (ASPLOS 2023); overlaps are an addition.
    """
    model = _Model(problem)
    best = _best_greedy(model, random.Random(seed), int(budget_s * ORDERS_PER_SECOND))
    size, proven = model.height(best), False
    model.lower_bound = _raised_bound(model, size)
    if size > model.lower_bound and len(model.sizes) <= MAX_EXACT_BUFFERS:
        search = _Search(model, size, int(budget_s * NODES_PER_SECOND))
        proven = search.run()
        best = search.best or best
        size = model.height(best)
    unit = problem.align
    offsets = {b.name: o * unit for b, o in zip(model.buffers, best, strict=True)}
    return Plan(offsets, size * unit, model.lower_bound * unit, proven or size == model.lower_bound)


class _Model:
    """The problem in units of the alignment, with buffers as numbers.

    ``gap[i][j]`` is there for every pair that must not share all bytes: if j lies above i, it starts so far behind i's
    start. It is i's size, or less where the two may overlap. Buffers are numbered by falling start, so that of a pair
    that may overlap the lower one, a result, has the smaller number.
    """

    def __init__(self, problem: Problem) -> None:
        self.buffers = sorted(problem.buffers, key=lambda b: -b.start)
        index = {b.name: i for i, b in enumerate(self.buffers)}
        if len(index) != len(problem.buffers):
            raise ValueError("two buffers have the same name")
        self.sizes = [-(-b.size // problem.align) for b in self.buffers]
        self.gap: list[dict[int, int]] = [{} for _ in self.sizes]
        cliques = self._meet_in_time()
        for (below, above), least in problem.overlaps.items():
            i, j = index[below], index[above]
            if j in self.gap[i]:
                self.gap[i][j] = min(self.gap[i][j], -(-least // problem.align))
        for first, second in problem.conflicts:
            if first != second:
                self._keep_apart(index[first], index[second])
        pairs = ({index[a], index[b]} for a, b in sorted(problem.conflicts))
        self.cliques = self._extended([*cliques, *pairs])
        self.lower_bound = max((self.weight(c) for c in self.cliques), default=0)

    def _keep_apart(self, i: int, j: int) -> None:
        self.gap[i][j] = self.sizes[i]
        self.gap[j][i] = self.sizes[j]

    def _meet_in_time(self) -> list[set[int]]:
        # What is alive grows only where a buffer starts, so the starts are all the steps worth looking at.
        cliques = []
        for step in sorted({b.start for b in self.buffers}):
            alive = {i for i, b in enumerate(self.buffers) if b.start <= step < b.end}
            cliques.append(alive)
            for i in alive:
                for j in alive - {i}:
                    self._keep_apart(i, j)
        return cliques + [{i} for i, b in enumerate(self.buffers) if b.start >= b.end]

    def shared(self, i: int, j: int) -> int:
        """The most that i and j can have in common."""
        below = max(0, min(self.sizes[j], self.sizes[i] - self.gap[i][j]))
        above = max(0, min(self.sizes[i], self.sizes[j] - self.gap[j][i]))
        return max(below, above)

    def weight(self, clique: Iterable[int]) -> int:
        """No plan can put these into less: their sum, less what every two of them may share."""
        members = list(clique)
        twice = sum(self.shared(i, j) for i in members for j in members if i != j)
        return sum(self.sizes[i] for i in members) - twice // 2

    def _extended(self, seeds: Iterable[set[int]]) -> list[list[int]]:
        """Every set that must lie apart, grown by the largest buffers that conflict with all of it."""
        by_size = sorted(range(len(self.sizes)), key=lambda i: -self.sizes[i])
        grown: dict[frozenset[int], None] = {}
        for seed in seeds:
            common = set.intersection(*(set(self.gap[i]) for i in seed)) if seed else set()
            for i in by_size:
                if i in common and sum(self.shared(i, j) for j in seed) < self.sizes[i]:
                    seed.add(i)
                    common &= self.gap[i].keys()
            grown[frozenset(seed)] = None
        return [sorted(c) for c in grown]

    def height(self, offsets: Sequence[int]) -> int:
        return max((o + s for o, s in zip(offsets, self.sizes, strict=True)), default=0)


def _raised_bound(model: _Model, size: int) -> int:
    """The least height that `_refuted` leaves between the model's bound and `size`, which a plan has reached."""
    low, high = model.lower_bound, size
    while low < high:
        middle = (low + high) // 2
        if _refuted(model, middle):
            low = middle + 1
        else:
            high = middle
    return low


def _refuted(model: _Model, height: int) -> bool:
    """True if no plan is that small, as far as following each pair of which only one order fits can tell."""
    low, high = [0] * len(model.sizes), [height - s for s in model.sizes]
    pairs = [(i, j, least, model.gap[j][i]) for i, gap in enumerate(model.gap) for j, least in gap.items() if i < j]
    for _ in range(PASSES):
        before = (*low, *high)
        for i, j, up, down in pairs:
            if low[j] + down > high[i]:  # i cannot lie above j
                low[j] = max(low[j], low[i] + up)
                high[i] = min(high[i], high[j] - up)
            if low[i] + up > high[j]:
                low[i] = max(low[i], low[j] + down)
                high[j] = min(high[j], high[i] - down)
        if any(a > b for a, b in zip(low, high, strict=True)):
            return True
        if (*low, *high) == before:
            break
    return False


_Fit = Callable[[list[tuple[int, int]]], int]


def _first_fit(barred: list[tuple[int, int]]) -> int:
    """Lowest place outside the open spans, which are sorted."""
    low = 0
    for start, end in barred:
        if start >= low:
            return low
        low = max(low, end)
    return low


def _best_fit(barred: list[tuple[int, int]]) -> int:
    """Lowest place of the tightest gap between the open spans; above them all where there is none."""
    low, best, slack = 0, -1, 0
    for start, end in barred:
        if start >= low and (best < 0 or start - low < slack):
            best, slack = low, start - low
        low = max(low, end)
    return low if best < 0 else best


def _place(model: _Model, order: Sequence[int], fit: _Fit) -> list[int]:
    offsets = [-1] * len(order)
    for i in order:
        # Where i must not start: from too close below to too close above each of those that have their place.
        barred = [
            (offsets[j] - above, offsets[j] + model.gap[j][i]) for j, above in model.gap[i].items() if offsets[j] >= 0
        ]
        offsets[i] = fit(sorted(barred))
    return offsets


def _greedy_orders(model: _Model) -> list[list[int]]:
    """By size (as TFLite Micro does), lifetime, area, number of conflicts, and order of execution, to and fro."""
    sizes, buffers, apart = model.sizes, model.buffers, model.gap
    keys: list[Callable[[int], tuple[int, ...]]] = [
        lambda i: (-sizes[i], buffers[i].start),
        lambda i: (buffers[i].start - buffers[i].end, -sizes[i]),
        lambda i: (-sizes[i] * (buffers[i].end - buffers[i].start),),
        lambda i: (-len(apart[i]), -sizes[i]),
        lambda i: (-sum(sizes[j] for j in apart[i]) - sizes[i],),
        lambda i: (buffers[i].start, -sizes[i]),
        # Results below their inputs: what a chain of overlaps wants.
        lambda i: (-buffers[i].start, -sizes[i]),
        lambda i: (-sizes[i], -buffers[i].start),
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
    lies as low as those placed before it let it; equal offsets are tried in one order only.
    """

    def __init__(self, model: _Model, size: int, nodes: int) -> None:
        self.model = model
        self.shared = [
            [(i, j, model.shared(i, j)) for i in c for j in c if i < j and model.shared(i, j)] for c in model.cliques
        ]
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
        return sorted(allowed, key=lambda i: (floors[i], -sizes[i] * (1 + len(self.model.gap[i])), i))

    def _raised(self, floors: list[int], placed: int) -> list[int]:
        raised = list(floors)
        for j, least in self.model.gap[placed].items():
            raised[j] = max(raised[j], floors[placed] + least)
        return raised

    def _can_improve(self, floors: list[int], last: int) -> bool:
        """False where some set of buffers that must lie apart cannot stay below the best size any more."""
        for clique, shared in zip(self.model.cliques, self.shared, strict=True):
            lowest, remaining = self.size, 0
            for i in clique:
                if self.offsets[i] < 0:
                    lowest = min(lowest, floors[i])
                    remaining += self.model.sizes[i]
            for i, j, most in shared:
                if self.offsets[i] < 0 and self.offsets[j] < 0:
                    remaining -= most
            if remaining and max(lowest, last) + remaining >= self.size:
                return False
        return True
