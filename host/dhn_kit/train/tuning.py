"""Tunes hooks that change the computation: the twin runs every threshold, and what does not pay is dropped."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dhn_kit.bundle import hook_order, pack_bundle
from dhn_kit.hooks import Bundle, HookSpec
from dhn_kit.pack import Pack
from dhn_kit.train import certify
from dhn_kit.train.certify import Costs
from dhn_kit.train.data import Int8, Split
from dhn_kit.train.kinds import Context, Proposal
from dhn_kit.train.options import Dropped
from dhn_kit.train.thresholds import Floats, Ints
from dhn_kit.twin import Twin

#: Inputs that a threshold is tried on, and thresholds tried of a longer grid: the twin runs all of them.
TUNING_INPUTS = 1000
MOST_THRESHOLDS = 8
#: Thresholds of one proposal that are tried beside what is in already, thriftiest first.
MOST_TRIES = 3


@dataclass(frozen=True)
class Score:
    """Mean instructions, and the share of answers that differ from the full network's, weighted like the samples."""

    cost: float
    risk: float


@dataclass
class Base:
    """What the network does under tuned hooks and without exits. ``specs`` have one threshold each.

    Per sample: ``features`` and ``output`` as in `Split`, ``cost`` (N,) in instructions, and ``reused`` (N,): which
    sample's answer this one repeats without a run of its own, -1 for none. ``ops`` (operators, N) and ``hooks``
    (specs, N) say what the cost is made of.
    """

    specs: list[HookSpec]
    features: list[Int8]
    output: Int8
    cost: Floats
    reused: Ints
    ops: Floats
    hooks: Floats

    @property
    def plain(self) -> bool:
        return not self.specs


def plain(split: Split, costs: Costs) -> Base:
    """The network by itself."""
    n, nothing = len(split), np.zeros((0, len(split)))
    return Base([], split.features, split.output, np.full(n, costs.full), np.full(n, -1, np.int64), nothing, nothing)


def observe(pack: Pack, specs: Sequence[HookSpec], split: Split, costs: Costs) -> Base:
    """Runs the split (with inputs) on the twin under hooks with one threshold each."""
    assert split.input is not None
    bundle = Bundle(list(specs), ["base"])
    ordered = hook_order(bundle)
    reuses = [k for k, spec in enumerate(ordered) if spec.action == "reuse"]
    twin = Twin(pack, pack_bundle(pack, bundle))
    result = twin.run(split.input, features=True, sequence=bool(reuses), environment=split.environment)
    decide, act = np.array([costs.hook(spec, pack.points[spec.point]) for spec in ordered]).T[:, :, None]
    decisions = result.decisions.T
    hooks = (decisions > 0) * decide + (decisions == 2) * act
    masks = costs.masks([(spec.action, spec.group) for spec in ordered])
    ops = certify.op_instructions(costs.ops, result, masks).T
    cost = ops.sum(axis=0) + hooks.sum(axis=0)
    repeats = sources((result.decisions[:, reuses] == 2).any(axis=1))
    return Base(ordered, result.features, result.output, cost, repeats, ops, hooks)


def sources(reused: npt.NDArray[np.bool_]) -> Ints:
    """Per sample the last one before it that ran, -1 for those that ran themselves."""
    last = np.maximum.accumulate(np.where(reused, -1, np.arange(len(reused))))
    return np.asarray(np.where(reused, last, -1), np.int64)


def reach(pack: Pack, base: Base, specs: Sequence[HookSpec]) -> Floats:
    """(specs, N): what runs cost until each of further hooks is asked under the base's hooks, in instructions."""
    rows = []
    for spec in specs:
        before = np.array([op.node < pack.points[spec.point].node for op in pack.ops], bool)
        place = {id(s): k for k, s in enumerate(hook_order(Bundle([*base.specs, spec], [])))}
        earlier = [k for k, own in enumerate(base.specs) if place[id(own)] < place[id(spec)]]
        rows.append(base.ops[before].sum(axis=0) + base.hooks[earlier].sum(axis=0))
    return np.stack(rows) if rows else np.zeros((0, len(base.cost)))


def try_alone(context: Context, proposals: Sequence[Proposal]) -> list[list[tuple[int, Score]]]:
    """Each proposal by itself at every threshold of its grid, long grids thinned out."""
    part, found = context.hook.first(TUNING_INPUTS), []
    for proposal in proposals:
        grid = proposal.grid
        if len(grid) > MOST_THRESHOLDS:
            grid = [grid[round(i)] for i in np.linspace(0, len(grid) - 1, MOST_THRESHOLDS)]
        scores = _scores(context, part, [replace(proposal.spec, thresholds=list(grid))])
        found.append(list(zip(grid, scores, strict=True)))
    return found


def tune(
    context: Context,
    proposals: Sequence[Proposal],
    tried: Sequence[Sequence[tuple[int, Score]]],
    budget: float,
    least_gain: float,
) -> tuple[list[HookSpec], list[Dropped]]:
    """Takes in proposals while they lower the mean cost by ``least_gain`` instructions and keep risk within ``budget``.

    ``tried`` is what `try_alone` found. The most saving ones are added first, each at the thriftiest threshold that
    still fits what is in. Returns hooks with one threshold each, and why others are not among them.
    """
    part, full = context.hook.first(TUNING_INPUTS), context.costs.full
    taken: list[HookSpec] = []
    dropped: list[Dropped] = []
    now = Score(full, 0.0)
    best = [min((s.cost for _, s in scores if s.risk <= budget), default=np.inf) for scores in tried]
    for k in np.argsort(best, kind="stable"):
        spec, fits = proposals[k].spec, [t for t, s in tried[k] if s.risk <= budget and s.cost < full]
        for threshold in fits[::-1][:MOST_TRIES]:
            trial = [*taken, certify.with_thresholds(spec, [threshold])]
            score = _scores(context, part, trial)[0]
            if score.risk <= budget and score.cost <= now.cost - least_gain:
                taken, now = trial, score
                break
        else:
            dropped.append(_dropped(proposals[k], tried[k], now, full, budget))
    return taken, dropped


def _scores(context: Context, part: Split, specs: Sequence[HookSpec]) -> list[Score]:
    """Of every threshold that the hooks have."""
    bundle = Bundle(list(specs), [str(t) for t in range(len(specs[0].thresholds))])
    outcomes = certify.run_gated(context.pack, bundle, part, context.costs)
    weight = part.weight
    return [
        Score(float(np.average(o.cost, weights=weight)), float(np.average(o.wrong, weights=weight))) for o in outcomes
    ]


def _dropped(proposal: Proposal, alone: Sequence[tuple[int, Score]], now: Score, full: float, budget: float) -> Dropped:
    fitting = [s for _, s in alone if s.risk <= budget]
    least = min((s.risk for _, s in alone), default=1.0)
    numbers = dict(proposal.numbers) | {"least risk": least, "mean without": now.cost}
    if not fitting:
        why = f"changes {least:.2%} of the answers at its most cautious threshold, {budget:.2%} are allowed"
    else:
        numbers["mean alone"] = min(s.cost for s in fitting)
        why = f"alone costs {numbers['mean alone'] / full:.1%} of a full run, the others together {now.cost / full:.1%}"
    return Dropped(proposal.spec.name, why, numbers)
