"""Fits hooks at every hook point and records what each would say to the training samples."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dhn_kit.errors import DhnError
from dhn_kit.hooks import NEVER, SILENT, HookPoint, HookSpec
from dhn_kit.pack import Pack
from dhn_kit.train import cascade, exits, heads, input_net, skips, tuning
from dhn_kit.train.certify import Costs, stage
from dhn_kit.train.data import Int8, Ints, Split, warped
from dhn_kit.train.heads import Head
from dhn_kit.train.kinds import Context, Proposal
from dhn_kit.train.options import Dropped, Options
from dhn_kit.train.proposers import PROPOSERS
from dhn_kit.train.thresholds import Bools, Cascade
from dhn_kit.train.tuning import Base
from dhn_kit.twin import Twin

#: Samples and their warped copies that heads learn from; a fit's steps do not see more rows than a few times this.
MOST_ROWS = 12000
#: Inputs that calibrate the quantisation of a network on the input.
SIDE_INPUTS = 1024
#: Shares of the risk at which hooks are judged that may go into changing the computation; exits get the rest.
BASE_SHARES = (0.4, 1.6)


class Clock:
    """Where the time of a training went."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


@dataclass
class Fitted:
    """Hooks in program order, thresholds still empty, with what they say under each base (the plain network first)."""

    specs: list[HookSpec] = field(default_factory=list)
    bases: list[Base] = field(default_factory=list)
    cascades: list[Cascade] = field(default_factory=list)  #: one per base, over ``specs``
    dropped: list[Dropped] = field(default_factory=list)
    trials: list[exits.Trial] = field(default_factory=list)
    heads: dict[str, Head] = field(default_factory=dict)
    scores: dict[str, Int8] = field(default_factory=dict)  #: per exit that keeps them, (bases, N, K) out of fold
    pool: exits.Pool | None = None  #: what heads learned from


@dataclass
class _Path:
    features: list[Int8]
    output: Int8


#: Spacings of a stream whose inputs stay in one part of a cross-fit: what a head saw a moment ago is no test.
NEIGHBOURS = 3


@dataclass
class _Record:
    """What one hook says on each path of each base, flattened: (P, N)."""

    values: Ints
    wrong: Bools


def fit_hooks(pack: Pack, hook: Split, costs: Costs, options: Options, clock: Clock) -> Fitted:
    """First hooks that change what is computed, each tuned on the twin; then exits and skips on top of every base."""
    bases, dropped = _bases(pack, hook, costs, options)
    clock.lap("kinds")
    skip_fits, more = _try_skips(pack, hook, costs, options)
    paths = [_paths(pack, hook, base, skip_fits) for base in bases]
    flat = [path for group in paths for path in group]
    fitted = Fitted(bases=bases, dropped=dropped + more)
    kind, records = output_kind(pack, hook), []
    pool = pool_for(pack, hook, kind, options)
    fitted.pool = pool
    clock.lap("features")
    wanted, each = truth(hook, options), len(paths[0])
    for side in _side_exits(pack, hook, kind, options):
        fitted.specs.append(side.spec)
        same = (len(flat), len(hook))
        records.append(_Record(np.broadcast_to(side.margins, same), np.broadcast_to(side.choices != wanted, same)))
        if side.spec.keeps:
            fitted.scores[side.spec.name] = np.stack([side.scores] * len(bases))
    for point in (p for p in pack.points if not p.final):
        brief = brief_for(pack, point, options) if "exit" in options.kinds else None
        if brief is not None:
            fit = exits.fit_exit(pool, point, kind, [p.features[point.index] for p in flat], brief)
            pool = exits.survivors(pool, fit.margins[0], fit.choices[0] != hook.answer, options.survivors)
            spec = HookSpec(point.index, "exit", fit.net, [], "margin", fit.answer, name=fit.net.name, kind="exit")
            if "blend" in options.kinds:
                spec.keeps = {"score": f"{point.name}.score"}
                fitted.scores[spec.name] = fit.scores[::each].astype(np.int8)
            fitted.specs.append(spec)
            fitted.trials += fit.trials
            fitted.heads[spec.name] = fit.head
            records.append(_Record(fit.margins, fit.choices != wanted))
        for skip in (s for s in skip_fits if s.point.index == point.index):
            spec, scores = _gate(pack, hook, skip, flat, pool.fold)
            fitted.specs.append(spec)
            records.append(_Record(scores, np.zeros(scores.shape, bool)))
    fitted.cascades = [
        _cascade(pack, fitted.specs, records, slice(b * each, (b + 1) * each), base, group, hook, wanted, costs)
        for b, (base, group) in enumerate(zip(bases, paths, strict=True))
    ]
    clock.lap("heads")
    return fitted


def truth(split: Split, options: Options) -> Ints:
    """What answers are compared with, (N,). DhnError where labels are asked for and some are missing."""
    if options.against == "network":
        return split.answer
    unknown = len(split) if split.label is None else int((split.label < 0).sum())
    if split.label is None or unknown:
        raise DhnError(
            f"{unknown} of {len(split)} samples have no label to judge answers by: collect with labels, or judge by "
            "the full network"
        )
    return split.label


def _side_exits(pack: Pack, hook: Split, kind: exits.OutputKind, options: Options) -> list[cascade.Fitted]:
    """Exits of a network of their own at the input. It was trained elsewhere, so that its scores are honest."""
    if "input" not in options.kinds:
        return []
    assert options.side is not None
    if hook.input is None:
        raise DhnError("samples carry no inputs, which hooks of kind 'input' need: collect with inputs")
    answer = input_net.Answer(kind.quant, kind.centre)
    hooks = input_net.side_hooks(options.side, pack.points[0], hook.input[:SIDE_INPUTS], answer, "input")
    return cascade.observed(pack, [replace(h, kind="input") for h in hooks], hook)


def _off(spec: HookSpec, specs: Sequence[HookSpec]) -> int:
    """What silences a hook: where others read what it keeps it must be asked all the same."""
    read = {port.name for other in specs for port in other.net.inputs}
    return SILENT if read & {f"keep.{name}" for name in spec.keeps.values()} else NEVER


def brief_for(pack: Pack, point: HookPoint, options: Options) -> exits.Brief | None:
    """What an exit may be at a point; None where a searched design has none."""
    left = sum(o.macs for o in pack.full_run if o.node >= point.node)
    start = options.start.get(f"exit at {point.name}")
    brief = exits.Brief(exits.most_weights(left, options.slot_bytes), options.methods, start)
    if options.exits is None:
        return brief
    shapes = [shape for shape in options.exits if shape.point == point.index]
    return replace(brief, widths=(shapes[0].hidden,), pool=shapes[0].pool) if shapes else None


def _bases(pack: Pack, hook: Split, costs: Costs, options: Options) -> tuple[list[Base], list[Dropped]]:
    """The plain network, and what tuned hooks make of it at a little and at more risk."""
    bases, wanted = [tuning.plain(hook, costs)], [kind for kind in PROPOSERS if kind in options.kinds]
    if not wanted:
        return bases, []
    if hook.input is None:
        return bases, [Dropped(f"{k} hooks", "samples carry no inputs, which tuning them needs") for k in wanted]
    context = Context(pack, hook, costs, options.seed)
    proposals: list[Proposal] = []
    nothing: list[Dropped] = []
    for kind in wanted:
        found = PROPOSERS[kind](context)
        proposals += found
        nothing += [] if found else [Dropped(f"{kind} hooks", "this network or these samples give them no place")]
    tried = tuning.try_alone(context, proposals)
    dropped: list[Dropped] = []
    for share in BASE_SHARES:
        specs, dropped = tuning.tune(
            context, proposals, tried, share * options.prune_at, options.least_gain * costs.full
        )
        if specs and [(s.name, s.thresholds) for s in specs] != [(s.name, s.thresholds) for s in bases[-1].specs]:
            bases.append(tuning.observe(pack, specs, hook, costs))
    taken = {spec.name for base in bases for spec in base.specs}
    return bases, nothing + [d for d in dropped if d.name not in taken]


def _cascade(
    pack: Pack,
    specs: Sequence[HookSpec],
    records: Sequence[_Record],
    rows: slice,
    base: Base,
    paths: Sequence[_Path],
    hook: Split,
    wanted: Ints,
    costs: Costs,
) -> Cascade:
    shape = (len(paths), 0, len(hook))
    values = np.stack([r.values[rows] for r in records], axis=1) if records else np.zeros(shape, np.int64)
    wrong = np.stack([r.wrong[rows] for r in records], axis=1) if records else np.zeros(shape, bool)
    final = np.stack([p.output.argmax(axis=1) != wanted for p in paths])
    stages = [replace(stage(s, pack.points[s.point], costs), off=_off(s, specs)) for s in specs]
    found = Cascade(stages, values, wrong, final, costs.full, hook.weight.astype(np.float64))
    if not base.plain:
        found.reach, found.ends, found.reused = tuning.reach(pack, base, specs), base.cost, base.reused
    return found


def output_kind(pack: Pack, hook: Split) -> exits.OutputKind:
    tensor = pack.tensors[pack.outputs[0].tensor]
    assert tensor.quant is not None
    probabilities = pack.ops[-1].op == "softmax"
    centre = 0.0 if probabilities else float(tensor.quant.dequantize(hook.output).mean())
    return exits.OutputKind(tensor.quant, hook.output.shape[1], probabilities, centre)


def pool_for(pack: Pack, hook: Split, kind: exits.OutputKind, options: Options) -> exits.Pool:
    """Samples and warped copies, with the full network's answers to both as targets."""
    features, output, label = hook.features, hook.output, hook.label
    copies = min(options.copies, max(0, MOST_ROWS // len(hook) - 1)) if hook.input is not None else 0
    if hook.input is not None and copies:
        more = Twin(pack).run(warped(hook.input, copies, options.seed), mode="detached", features=True)
        features = [np.concatenate([a, b]) for a, b in zip(features, more.features, strict=True)]
        output = np.concatenate([output, more.output])
        label = None if label is None else np.tile(label, 1 + copies)
    real = kind.quant.dequantize(output)
    target = heads.targets(real, label, options.label_share, kind.probabilities)
    fold = exits.folds(len(hook), options.folds, options.seed, max(1, NEIGHBOURS * hook.spacing))
    return exits.pool_of(features, target, hook.weight, copies, fold)


def _try_skips(pack: Pack, hook: Split, costs: Costs, options: Options) -> tuple[list[skips.Skip], list[Dropped]]:
    """The most promising skips: those that save most while the answer survives."""
    places = [p for p in pack.points if p.skip is not None] if "skip" in options.kinds else []
    if not places:
        return [], []
    if hook.input is None:
        return [], [Dropped("skip gates", "samples carry no inputs, which trying a skip needs")]
    tried = [skips.try_skip(pack, p, hook.input, hook.answer, mixing) for p in places for mixing in (False, True)]
    tried.sort(key=lambda s: -_promise(s, costs))
    best: dict[int, skips.Skip] = {}
    dropped = []
    for skip in tried:
        numbers = {"answers kept when always skipping": skip.keeps, "share of a full run saved": _saving(skip, costs)}
        if skip.point.index not in best and len(best) < options.most_skips:
            best[skip.point.index] = skip
        elif skip.point.index not in best:
            why = f"always skipping here keeps {skip.keeps:.1%} of the answers; another skip promises more"
            dropped.append(Dropped(f"skip at {skip.point.name}", why, numbers))
    return [best[k] for k in sorted(best)], list({d.name: d for d in reversed(dropped)}.values())


def _saving(skip: skips.Skip, costs: Costs) -> float:
    """Share of a full run that one skip leaves out, its gate and repair counted."""
    g = stage(skips.always(skip.point, skip.repair), skip.point, costs)
    return (g.saved - g.decide - g.act) / costs.full


def _promise(skip: skips.Skip, costs: Costs) -> float:
    return skip.keeps * _saving(skip, costs)


def _paths(pack: Pack, hook: Split, base: Base, fits: Sequence[skips.Skip]) -> list[_Path]:
    """The twin's features and answers for every set of skips that may have acted; bit k is the k-th skip."""
    paths = [_Path(base.features, base.output)]
    for mask in range(1, 2 ** len(fits)):
        acting = [skips.always(s.point, s.repair) for k, s in enumerate(fits) if mask >> k & 1]
        assert hook.input is not None
        result = skips.run_skipping(pack, [*base.specs, *acting], hook.input)
        paths.append(_Path(result.features, result.output))
    return paths


def _gate(pack: Pack, hook: Split, skip: skips.Skip, paths: Sequence[_Path], fold: Ints) -> tuple[HookSpec, Ints]:
    """The quantised gate with out-of-fold scores (P, N) in int8 steps."""
    point, output = skip.point, pack.tensors[pack.outputs[0].tensor].quant
    assert output is not None
    lead = skips.advantage(output.dequantize(skip.output), hook.answer)
    x = point.tap_quant.dequantize(hook.features[point.index])
    name = f"skip at {point.name}"
    net = heads.int8_graph(skips.fit_gate(x, lead), point, hook.features[point.index], None, name)
    quant = net.tensors["score"].quant
    assert quant is not None
    scores = np.zeros((len(paths), len(hook)), np.int64)
    for f in range(int(fold.max()) + 1):
        own = np.flatnonzero(fold == f)
        head = skips.fit_gate(x[fold != f], lead[fold != f])
        for p, path in enumerate(paths):
            scores[p, own] = quant.quantize(head(point.tap_quant.dequantize(path.features[point.index][own])))[:, 0]
    return HookSpec(point.index, "skip", net, [], "value", repair=skip.repair, name=name), scores
