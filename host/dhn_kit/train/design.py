"""Searches where exits sit and what they look like: a small architecture search with the latency model in the loop."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from dhn_kit.errors import DhnError
from dhn_kit.hooks import NEVER, HookPoint, HookSpec
from dhn_kit.pack import Pack
from dhn_kit.train import exits, heads
from dhn_kit.train.certify import Costs, stage
from dhn_kit.train.data import Ints, Split
from dhn_kit.train.fitting import output_kind, pool_for
from dhn_kit.train.options import ExitShape, Options
from dhn_kit.train.thresholds import Bools, Cascade, Stage, search

#: Hidden units, and how often a feature's cells are averaged once more.
WIDTHS = (0, 16, 32, 64, 128)
POOLS = ((1, 1), (2, 2), (4, 4))
#: Share of a full fit's steps, and of its rows, in the rounds of the halving; each keeps the better third.
ROUNDS = (0.15, 0.4)
KEPT_SHARE = 1 / 3
#: Shapes per hook point that reach the last round, and exits that a design has at most.
FINALISTS = 2
MOST_EXITS = 4
#: Steps of a logit's margin, where it has no int8 scale yet.
FINE = 16
#: Risks at which designs are compared.
RISKS = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04)


@dataclass(frozen=True)
class Design:
    """Exits with what they are expected to do out of fold: mean cost in full runs, share of changed answers."""

    exits: tuple[ExitShape, ...]
    cost: float
    risk: float


@dataclass(frozen=True)
class _Tried:
    """A shape with its costs and what it says to held-out samples."""

    shape: ExitShape
    stage: Stage
    values: Ints
    wrong: Bools


def find_designs(pack: Pack, hook: Split, costs: Costs, options: Options, minutes: float) -> list[Design]:
    """The Pareto front of designs, thriftiest last: none has both less cost and less risk than another.

    Shapes (point, width, pooling) run through successive halving (Jamieson, Talwalkar 2016, "Non-stochastic best arm
    identification and hyperparameter optimization"): cheap fits on part of the samples, the better third goes on. What
    is left is cross-fitted, and designs grow exit by exit, each the one that lowers the mean cost most, thresholds
    searched anew. Costs are predicted instructions, the exits' own included. Same arguments, same result, unless
    ``minutes`` run out: then what has been found so far counts.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        kind = output_kind(pack, hook)
        deadline = time.monotonic() + 60 * minutes
        bench = _Bench(pack, hook, costs, options, kind, pool_for(pack, hook, kind, options), deadline)
        shapes = [shape for point in pack.points if not point.final for shape in bench.shapes(point)]
        for effort in ROUNDS:
            shapes = bench.better(shapes, effort)
        return _front(_grow(bench.finalists(shapes), costs, hook))


def pick(designs: Sequence[Design], budget: float) -> Design:
    """The least risky design whose mean cost is at most ``budget`` full runs. DhnError where none is."""
    fitting = [d for d in designs if d.cost <= budget]
    if not fitting:
        least = min((d.cost for d in designs), default=1.0)
        raise DhnError(
            f"no design was found at a mean cost of {budget:.2f} full runs, the least is {least:.2f}: "
            "raise --budget, give --minutes, or collect more samples"
        )
    return min(fitting, key=lambda d: (d.risk, d.cost))


def parse_budget(text: str) -> float:
    """ "2x" (twice as fast) or "0.5" (half of a full run) to a share of a full run. DhnError for anything else."""
    try:
        value = 1 / float(text[:-1]) if text.endswith("x") else float(text)
    except (ValueError, ZeroDivisionError):
        value = 0.0
    if not 0 < value <= 1:
        raise DhnError(f"budget '{text}' is not a speed-up such as 2x, nor a share of a full run such as 0.5")
    return value


@dataclass(frozen=True)
class _Bench:
    """Where shapes are tried: all that does not differ between them."""

    pack: Pack
    hook: Split
    costs: Costs
    options: Options
    kind: exits.OutputKind
    pool: exits.Pool
    deadline: float

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def shapes(self, point: HookPoint) -> list[ExitShape]:
        """What fits at one point: few weights beside the work behind it, pooling only where there are cells."""
        left = sum(o.macs for o in self.pack.full_run if o.node >= point.node)
        most, classes = exits.most_weights(left, self.options.slot_bytes), self.pool.target.shape[1]
        h, w, c = point.feature_shape
        found = []
        for pool, hidden in itertools.product(sorted({(min(a, h), min(b, w)) for a, b in POOLS}), WIDTHS):
            size = (h // pool[0]) * (w // pool[1]) * c
            if (hidden * (size + classes) if hidden else size * classes) <= most:
                found.append(ExitShape(point.index, hidden, pool))
        return found

    def better(self, shapes: Sequence[ExitShape], effort: float) -> list[ExitShape]:
        """The better third, and at least one shape of every point; best first."""
        scores = [float("inf") if self.late else _score([self._quick(s, effort)], self.costs) for s in shapes]
        ordered = [shapes[k] for k in np.argsort(scores, kind="stable")]
        best: dict[int, ExitShape] = {}
        for shape in ordered:
            best.setdefault(shape.point, shape)
        return list(dict.fromkeys([*ordered[: max(1, int(KEPT_SHARE * len(ordered)))], *best.values()]))

    def _quick(self, shape: ExitShape, effort: float) -> _Tried:
        """Fitted with part of the steps to part of the rows, judged by one fold that it did not see."""
        point, pool = self.pack.points[shape.point], self.pool
        rows, own = pool.parts(0)
        rows = rows[: int(effort * len(rows))]
        x = heads.pooled(point.tap_quant.dequantize(pool.features[shape.point]), point, shape.pool)
        recipe = exits.recipe_for(shape.hidden, "bp")
        recipe = replace(recipe, steps=int(effort * recipe.steps))
        head = heads.fit(x[rows], pool.target[rows], recipe, pool.weight[pool.group[rows]])
        logits = head(x[own])
        features = pool.features[shape.point][: pool.n]
        net, answer = exits.quantised(head, point, features, self.kind, "trial", shape.pool)
        cost = stage(HookSpec(shape.point, "exit", net, [NEVER], answer=answer), point, self.costs)
        wrong = logits.argmax(axis=1) != self.hook.answer[own]
        return _Tried(shape, cost, exits.margin(np.rint(FINE * logits).astype(np.int64)), wrong)

    def finalists(self, shapes: Sequence[ExitShape]) -> list[_Tried]:
        """Full fits, out of fold; of each point the first FINALISTS shapes."""
        tried: list[_Tried] = []
        for index in sorted({s.point for s in shapes}):
            point = self.pack.points[index]
            for shape in [s for s in shapes if s.point == index][:FINALISTS]:
                if self.late and tried:
                    break
                brief = exits.Brief(2**31, self.options.methods, None, (shape.hidden,), shape.pool)
                fit = exits.fit_exit(self.pool, point, self.kind, [self.hook.features[index]], brief)
                spec = HookSpec(index, "exit", fit.net, [NEVER], "margin", fit.answer, name=fit.net.name)
                wrong = fit.choices[0] != self.hook.answer
                tried.append(_Tried(shape, stage(spec, point, self.costs), fit.margins[0], wrong))
        return tried


def _score(tried: Sequence[_Tried], costs: Costs) -> float:
    """Mean cost over RISKS of exits by themselves, in full runs."""
    found = search(_cascade(tried, costs), RISKS, prices=(300, 100, 30, 10))
    return float(np.mean([min(f.cost for f in found if f.risk <= risk) for risk in RISKS])) / costs.full


def _cascade(tried: Sequence[_Tried], costs: Costs) -> Cascade:
    values, wrong = np.stack([t.values for t in tried])[None], np.stack([t.wrong for t in tried])[None]
    return Cascade([t.stage for t in tried], values, wrong, np.zeros((1, values.shape[2]), bool), costs.full)


def _grow(tried: Sequence[_Tried], costs: Costs, hook: Split) -> list[Design]:
    """Designs of one to MOST_EXITS exits, at every risk, each of which adds the best exit to the one before."""
    found = [Design((), 1.0, 0.0)]
    taken: list[_Tried] = []
    for _ in range(MOST_EXITS):
        free = [t for t in tried if t.shape.point not in {u.shape.point for u in taken}]
        if not free:
            break
        trials = [sorted([*taken, t], key=lambda u: u.shape.point) for t in free]
        taken = min(trials, key=lambda trial: _score(trial, costs))
        c = replace(_cascade(taken, costs), weight=hook.weight.astype(np.float64))
        found += [
            Design(tuple(t.shape for t in taken), f.cost / costs.full, f.risk) for f in search(c.guarded(4), RISKS)
        ]
    return found


def _front(designs: Sequence[Design]) -> list[Design]:
    """Those that nobody beats, cautious first; of equals the one with fewer exits."""
    ordered = sorted(designs, key=lambda d: (d.risk, d.cost, len(d.exits)))
    front: list[Design] = []
    for design in ordered:
        if not front or design.cost < front[-1].cost - 1e-9:
            front.append(design)
    return front
