"""Simulates a cascade of hooks on recorded scores and searches thresholds for a risk budget."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dhn_kit.hooks import NEVER, Action

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Thresholds = tuple[int, ...]

#: Thresholds tried per hook in one sweep: quantiles of its values.
GRID = 32
#: Prices of being wrong once, in runs of the full network, from "never be wrong" to "save".
PRICES = tuple(float(p) for p in np.geomspace(300, 1.0, 13))
SWEEPS = 3


@dataclass(frozen=True)
class Stage:
    """One hook in program order, with costs in instructions."""

    name: str
    action: Action
    reach: float  #: main network's cost before the hook's point
    decide: float
    act: float
    saved: float = 0.0  #: skip only: cost of the nodes that are left out
    off: int = NEVER  #: what silences it: SILENT where later hooks read what it keeps, which then still costs


@dataclass
class Cascade:
    """What every hook would say to each of N samples.

    Path p stands for a set of skips that have acted: bit k is the k-th skip in program order.
    ``values`` and ``wrong`` are (P, hooks, N): the compared value, and whether an exit's answer differs from the full
    network's. ``final_wrong`` is (P, N), for runs to the end.
    """

    stages: list[Stage]
    values: Ints
    wrong: Bools
    final_wrong: Bools
    full: float
    weight: Floats | None = None  #: (N,), mean 1: of how many inputs each sample speaks
    # What differs from sample to sample where other hooks change the computation.
    reach: Floats | None = None  #: (hooks, N), instead of the stages' own
    ends: Floats | None = None  #: (N,), instead of ``full``
    reused: Ints | None = None  #: (N,) the sample whose answer this one repeats, at a cost of ``ends``; -1: none

    @property
    def n(self) -> int:
        return int(self.values.shape[2])

    def guarded(self, guard: int) -> Cascade:
        """Wrong answers look `guard` steps surer than they were, so that thresholds keep a distance from them."""
        return replace(self, values=self.values + guard * self.wrong)


@dataclass
class Outcome:
    """Per sample: executed cost, whether the answer differs from the full network's, the exit taken (-1: none),
    how many skips acted. Shape (N,), or (T, N) for T threshold vectors. ``answer`` is the class where it is known."""

    cost: Floats
    wrong: Bools
    left_at: Ints
    skipped: Ints
    answer: Ints | None = None

    @property
    def mean_cost(self) -> float:
        return float(self.cost.mean())

    @property
    def risk(self) -> float:
        return float(self.wrong.mean())


def simulate(c: Cascade, thresholds: npt.ArrayLike) -> Outcome:
    """Runs all samples through the hooks, for one threshold vector (hooks,) or several (T, hooks).

    A hook at NEVER is not evaluated and costs nothing.
    """
    table = np.atleast_2d(np.asarray(thresholds, np.int64))
    shape, rows = (len(table), c.n), np.arange(c.n)[None, :]
    path, skipped, left_at = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    ran = np.ones(c.n, bool) if c.reused is None else c.reused < 0
    alive, wrong = np.tile(ran, (len(table), 1)), np.zeros(shape, bool)
    extra, cost = np.zeros(shape), np.zeros(shape)
    bit = 1
    for s, stage in enumerate(c.stages):
        threshold = table[:, s, None]
        values = c.values[0, s][None, :] if len(c.values) == 1 else c.values[path, s, rows]
        asked = alive & (threshold < NEVER)
        acts = asked & (values >= threshold)
        extra += stage.decide * asked + (stage.act - stage.saved) * acts
        if stage.action == "exit":
            np.copyto(cost, (stage.reach if c.reach is None else c.reach[s]) + extra, where=acts)
            np.copyto(wrong, c.wrong[path, s, rows], where=acts)
            left_at[acts] = s
            alive &= ~acts
        else:
            path += bit * acts
            skipped += acts
            bit *= 2
    alive |= ~ran
    np.copyto(cost, (c.full if c.ends is None else c.ends) + extra, where=alive)
    np.copyto(wrong, c.final_wrong[path, rows], where=alive)
    if c.reused is not None:
        # A repeated answer may also be wrong because the one that it repeats is.
        wrong |= wrong[:, c.reused] & ~ran
    results = (cost, wrong, left_at, skipped)
    return Outcome(*(r[0] for r in results)) if np.ndim(thresholds) == 1 else Outcome(*results)


@dataclass(frozen=True)
class Candidate:
    """One threshold vector with what tuning saw of it."""

    budget: float
    thresholds: Thresholds
    cost: float
    risk: float


class _Search:
    """Remembers every threshold vector that was simulated: all of them compete for every budget."""

    def __init__(self, c: Cascade, active: Sequence[int], grid: int = GRID) -> None:
        self.c = c
        ran = np.ones(c.n, bool) if c.reused is None else c.reused < 0
        grids = [_grid(c.values[:, s, ran], g.off, grid) for s, g in enumerate(c.stages)]
        self.grids = [levels if s in active else [c.stages[s].off] for s, levels in enumerate(grids)]
        self.seen: dict[Thresholds, tuple[float, float]] = {}

    def look(self, trials: list[Thresholds]) -> list[tuple[float, float]]:
        new = [t for t in trials if t not in self.seen]
        if new:
            outcome = simulate(self.c, new)
            weight = np.ones(self.c.n) if self.c.weight is None else self.c.weight
            costs, risks = ((a @ weight / self.c.n).tolist() for a in (outcome.cost, outcome.wrong))
            self.seen.update(zip(new, zip(costs, risks, strict=True), strict=True))
        return [self.seen[t] for t in trials]

    def descend(self, best: Thresholds, price: float) -> Thresholds:
        """Improves one hook's threshold at a time, as long as that lowers cost + price x risk."""
        for _ in range(SWEEPS):
            before = best
            for s, grid in enumerate(self.grids):
                trials = [best, *((*best[:s], t, *best[s + 1 :]) for t in grid)]
                costs = [cost / self.c.full + price * risk for cost, risk in self.look(trials)]
                best = trials[int(np.argmin(costs))]
            if best == before:
                break
        return best

    def kicked(self, best: Thresholds, price: float) -> Thresholds:
        """The best of descending from here and from here with one hook silenced: leaves shallow local optima."""
        off = [stage.off for stage in self.c.stages]
        starts = [best, *((*best[:s], off[s], *best[s + 1 :]) for s, t in enumerate(best) if t != off[s])]
        ends = [self.descend(start, price) for start in starts]
        return min(ends, key=lambda t: self.seen[t][0] / self.c.full + price * self.seen[t][1])

    def best(self, budget: float) -> Candidate:
        # Other hooks may have spent more than the budget already; then the least risk is the best there is.
        least = max(budget, min(risk for _, risk in self.seen.values()))
        best = min((t for t, (_, risk) in self.seen.items() if risk <= least), key=lambda t: self.seen[t])
        return Candidate(budget, best, *self.seen[best])


def search(
    c: Cascade,
    budgets: Sequence[float],
    active: Sequence[int] | None = None,
    prices: Sequence[float] = PRICES,
    grid: int = GRID,
) -> list[Candidate]:
    """For each risk budget the cheapest thresholds found, for hooks in `active` (all); cautious first.

    Coordinate descent on cost + price x risk, for prices from high to low, each starting where the last one ended.
    Equal vectors are merged. ``grid``: how many thresholds are tried per hook. A budget of 0 is met by silent hooks,
    unless others that are not searched have spent more.
    """
    looked = _Search(c, range(len(c.stages)) if active is None else active, grid)
    current: Thresholds = tuple(stage.off for stage in c.stages)
    looked.look([current])
    for price in prices:
        current = looked.kicked(current, price)
    found: dict[Thresholds, Candidate] = {}
    for budget in sorted(budgets):
        candidate = looked.best(budget)
        found.setdefault(candidate.thresholds, candidate)
    return sorted(found.values(), key=lambda f: (f.risk, -f.cost))


def _grid(values: Ints, off: int, count: int) -> list[int]:
    """Quantiles of a hook's values, just above the highest one, and what silences it."""
    levels = np.quantile(values, np.linspace(0, 1, count), method="nearest")
    return [*sorted({int(v) for v in levels} | {int(values.max()) + 1}), off]


@dataclass(frozen=True)
class Worth:
    """Mean cost at one risk budget with a hook and with it removed (the others tuned anew)."""

    name: str
    cost_with: float
    cost_without: float
    decide: float
    useful: bool  #: it would pay, but the flash slot is too small

    @property
    def gain(self) -> float:
        return self.cost_without - self.cost_with


def prune(
    c: Cascade, budget: float, least_gain: float, sizes: Sequence[int] = (), room: int = 0
) -> tuple[list[int], list[Worth]]:
    """Removes hooks one by one, the least useful first, until each one left saves at least `least_gain` instructions
    and all together, of `sizes` bytes each, fit `room`.

    Returns the indices kept and what was found out about those removed.
    """
    prices = PRICES[::4]

    def cost(active: Sequence[int]) -> float:
        return search(c, [budget], active, prices)[0].cost

    kept, dropped = list(range(len(c.stages))), []
    now = cost(kept)
    while kept:
        without, weakest = min((cost([k for k in kept if k != s]), s) for s in kept)
        useful, fits = without - now >= least_gain, sum(sizes[k] for k in kept) <= room if sizes else True
        if useful and fits:
            break
        stage = c.stages[weakest]
        dropped.append(Worth(stage.name, now, without, stage.decide, useful))
        kept.remove(weakest)
        now = without
    return kept, dropped
