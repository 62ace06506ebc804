"""From samples to a certified hook bundle: heads, gates, thresholds, certificates, and what was not worth it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from dhn_kit import risk
from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.hooks import NEVER, Bundle, HookSpec
from dhn_kit.pack import Pack
from dhn_kit.train import certify, exits, heads, skips
from dhn_kit.train.certify import Costs, Judged, predicted_costs, stage, with_thresholds
from dhn_kit.train.data import Int8, Ints, Split, packed_tags, warped
from dhn_kit.train.heads import Head
from dhn_kit.train.thresholds import Candidate, Cascade, Worth, prune, search
from dhn_kit.twin import Twin

#: Risk budgets that tuning aims at, cautious to thrifty: the rungs of the ladder that calibration tests in order.
LADDER = (0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.0125, 0.016, 0.02, 0.03, 0.045)
#: Thresholds keep this many int8 steps of margin from the nearest wrong answer seen while tuning.
GUARD = 4
#: Cautious rungs below the ladder: no wrong answer while tuning, and this much further away from one. Few samples say
#: little about rare errors, so without these the strictest promises would often fail at the first rung.
WIDE_GUARDS = (40, 30, 22, 16, 12, 9, 6)
#: Fewer samples teach nothing that would hold on others.
LEAST_SAMPLES = 100


@dataclass(frozen=True)
class Options:
    """``risks`` are the targets of the operating points, each certified at confidence 1 - ``delta``."""

    risks: tuple[float, ...] = (0.0025, 0.005, 0.01, 0.02, 0.05)
    delta: float = 0.05
    actions: tuple[Literal["exit", "skip"], ...] = ("exit", "skip")
    copies: int = 6  #: warped copies of each input that heads learn from; 0 where warping makes no sense
    folds: int = 4
    label_share: float = 0.3  #: weight of a true label against the full network's answer
    most_skips: int = 2  #: skip hooks beside each other; each doubles the paths to be recorded
    least_gain: float = 0.005  #: share of a full run that a hook must save
    prune_at: float = 0.005  #: risk at which a hook's worth is judged
    slot_bytes: int = 65536  #: what the bundle must fit
    version: int = 1
    seed: int = 0
    methods: tuple[heads.Method, ...] = ("bp",)  #: how heads learn; of several the better one is kept, head by head
    start: Mapping[str, Head] = field(default_factory=dict)  #: heads of an earlier bundle to go on from, by hook name
    survivors: float = 0.0  #: how much more a sample weighs that no earlier exit would let go
    allow_unseen: bool = False  #: train although a class never occurs


@dataclass(frozen=True)
class Dropped:
    """A hook that was tried and is not in the bundle."""

    name: str
    reason: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass
class TrainResult:
    """``bundle`` has no hooks when none pays. ``ladder`` is every rung with its calibration count."""

    bundle: Bundle
    ladder: list[Judged]
    dropped: list[Dropped]
    refused: dict[float, str]  #: risk target -> why it has no operating point
    full_cost: float
    trials: list[exits.Trial] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  #: per stage of training


class _Clock:
    """Where the time of a training went."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


@dataclass
class _Trained:
    """Hooks in program order with the recorded cascade; thresholds are still empty."""

    specs: list[HookSpec]
    cascade: Cascade
    dropped: list[Dropped]
    trials: list[exits.Trial]
    heads: dict[str, Head]


def train(
    pack: Pack, hook: Split, calibration: Split, costs: Costs | None = None, options: Options | None = None
) -> TrainResult:
    """Trains on `hook`, certifies on `calibration`; the two must share no input. The main network is not touched.

    Raises DhnError for too few samples, shared samples, or a network whose answer is not an arg max over classes.
    """
    costs, options = costs or predicted_costs(pack), options or Options()
    _check(pack, hook, calibration, options)
    clock = _Clock()
    # Heads are so small that a second BLAS thread mostly waits, and on a busy machine for long.
    with threadpool_limits(limits=1, user_api="blas"):
        trained = _fit_hooks(pack, hook, costs, options, clock)
    guarded = trained.cascade.guarded(GUARD)
    sizes = [_bytes(pack, spec) for spec in trained.specs]
    kept, worthless = prune(guarded, options.prune_at, options.least_gain * costs.full, sizes, options.slot_bytes)
    dropped = trained.dropped + [_no_gain(w, costs.full) for w in worthless]
    candidates = _ladder(trained.cascade, kept) if kept else []
    clock.lap("thresholds")
    if not kept:
        report = _report(options, hook, calibration, [], dropped, {}, [])
        bundle = Bundle([], [], version=options.version, report=report)
        result = TrainResult(bundle, [], dropped, dict.fromkeys(options.risks, "no hook pays"), costs.full)
    else:
        specs = [_tuned(trained.specs[s], candidates, s) for s in kept]
        result = _certified(pack, specs, candidates, calibration, hook, costs, options, dropped)
    clock.lap("calibration")
    result.trials, result.seconds = trained.trials, clock.seconds
    result.bundle.report["trials"] = [vars(t) for t in trained.trials]
    names = {h.name for h in result.bundle.hooks}
    result.bundle.report["heads"] = {n: heads.packed(head) for n, head in trained.heads.items() if n in names}
    return result


def _ladder(c: Cascade, kept: Sequence[int]) -> list[Candidate]:
    """Candidates from cautious to thrifty. Their order is fixed here, before calibration is looked at."""
    rungs = [r for guard in WIDE_GUARDS for r in search(c.guarded(guard), (0.0,), kept)]
    rungs += search(c.guarded(GUARD), LADDER, kept)
    distinct = {r.thresholds: r for r in rungs}
    return sorted(distinct.values(), key=lambda r: (r.risk, -r.cost))


def _check(pack: Pack, hook: Split, calibration: Split, options: Options) -> None:
    if not pack.points:
        raise DhnError(f"'{pack.name}' has no hook points: one input, one output and work behind a block are needed")
    if hook.output.shape[1] < 2:
        raise DhnError(f"'{pack.name}' has a single output: hooks need the scores of at least two classes")
    if len(hook) < LEAST_SAMPLES:
        raise DhnError(f"{len(hook)} samples to train hooks from, at least {LEAST_SAMPLES} are needed: collect more")
    loosest = max(options.risks)
    risk.require_samples(len(calibration), loosest, options.delta)
    shared = _rows(hook) & _rows(calibration)
    if shared:
        raise DhnError(
            f"{len(shared)} calibration samples were also trained on: split by input, so that the certificate holds"
        )
    for text, split in (("training", hook), ("calibration", calibration)):
        _check_classes(split, text, options.allow_unseen)


def _check_classes(split: Split, text: str, allow_unseen: bool) -> None:
    """A head cannot know a class that never occurs, and a certificate says nothing of it."""
    classes = split.output.shape[1]
    seen = set(np.unique(split.answer).tolist())
    if split.label is not None:
        labels = set(np.unique(split.label).tolist()) - {-1}
        wrong = sorted(labels - set(range(classes)))
        if wrong:
            raise DhnError(f"label {wrong[0]} of a {text} sample is out of range: classes are 0 to {classes - 1}")
        seen |= labels
    missing = sorted(set(range(classes)) - seen)
    if missing and not allow_unseen:
        raise DhnError(
            f"class {', '.join(map(str, missing[:5]))} never occurs among {len(split)} {text} samples: collect inputs "
            "of it, or accept it with --allow-unseen"
        )


def _rows(split: Split) -> set[bytes]:
    rows = split.input if split.input is not None else np.concatenate(split.features, axis=1)
    return {r.tobytes() for r in rows}


def _fit_hooks(pack: Pack, hook: Split, costs: Costs, options: Options, clock: _Clock) -> _Trained:
    tried = _try_skips(pack, hook, costs, options)
    skip_fits, dropped = tried
    paths = _paths(pack, hook, skip_fits)
    kind = _output_kind(pack, hook)
    pool = _pool(pack, hook, kind, options)
    clock.lap("features")
    trials: list[exits.Trial] = []
    trained: dict[str, Head] = {}
    specs: list[HookSpec] = []
    values: list[Ints] = []
    wrong = []
    silent = np.zeros((len(paths), len(hook)), bool)
    for point in (p for p in pack.points if not p.final):
        if "exit" in options.actions:
            left = sum(o.macs for o in pack.ops if o.node >= point.node)
            weights = exits.most_weights(left, options.slot_bytes)
            brief = exits.Brief(weights, options.methods, options.start.get(f"exit at {point.name}"))
            fit = exits.fit_exit(pool, point, kind, [p.features[point.index] for p in paths], brief)
            trials += fit.trials
            trained[fit.net.name] = fit.head
            pool = exits.survivors(pool, fit.margins[0], fit.choices[0] != hook.answer, options.survivors)
            specs.append(HookSpec(point.index, "exit", fit.net, [], "margin", fit.answer, name=fit.net.name))
            values.append(fit.margins)
            wrong.append(fit.choices != hook.answer)
        for skip in skip_fits:
            if skip.point.index == point.index:
                spec, scores = _gate(pack, hook, skip, paths, pool.fold)
                specs.append(spec)
                values.append(scores)
                wrong.append(silent)
    final = np.stack([p.output.argmax(axis=1) != hook.answer for p in paths])
    stages = [stage(s, pack.points[s.point], costs) for s in specs]
    clock.lap("heads")
    weight = hook.weight.astype(np.float64)
    cascade = Cascade(stages, np.stack(values, axis=1), np.stack(wrong, axis=1), final, costs.full, weight)
    return _Trained(specs, cascade, dropped, trials, trained)


def _output_kind(pack: Pack, hook: Split) -> exits.OutputKind:
    tensor = pack.tensors[pack.outputs[0].tensor]
    assert tensor.quant is not None
    probabilities = pack.ops[-1].op == "softmax"
    centre = 0.0 if probabilities else float(tensor.quant.dequantize(hook.output).mean())
    return exits.OutputKind(tensor.quant, hook.output.shape[1], probabilities, centre)


def _pool(pack: Pack, hook: Split, kind: exits.OutputKind, options: Options) -> exits.Pool:
    """Samples and warped copies, with the full network's answers to both as targets."""
    features, output, label, copies = hook.features, hook.output, hook.label, 0
    if hook.input is not None and options.copies:
        copies = options.copies
        more = Twin(pack).run(warped(hook.input, copies, options.seed), mode="detached", features=True)
        features = [np.concatenate([a, b]) for a, b in zip(features, more.features, strict=True)]
        output = np.concatenate([output, more.output])
        label = None if label is None else np.tile(label, 1 + copies)
    real = kind.quant.dequantize(output)
    target = heads.targets(real, label, options.label_share, kind.probabilities)
    fold = exits.folds(len(hook), options.folds, options.seed)
    return exits.pool_of(features, target, hook.weight, copies, fold)


def _try_skips(pack: Pack, hook: Split, costs: Costs, options: Options) -> tuple[list[skips.Skip], list[Dropped]]:
    """The most promising skips: those that save most while the answer survives."""
    places = [p for p in pack.points if p.skip is not None] if "skip" in options.actions else []
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


@dataclass
class _Path:
    features: list[Int8]
    output: Int8


def _paths(pack: Pack, hook: Split, fits: Sequence[skips.Skip]) -> list[_Path]:
    """The twin's features and answers for every set of skips that may have acted; bit k is the k-th skip."""
    paths = [_Path(hook.features, hook.output)]
    for mask in range(1, 2 ** len(fits)):
        acting = [skips.always(s.point, s.repair) for k, s in enumerate(fits) if mask >> k & 1]
        assert hook.input is not None
        result = skips.run_skipping(pack, acting, hook.input)
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


def _tuned(spec: HookSpec, candidates: Sequence[Candidate], s: int) -> HookSpec:
    return with_thresholds(spec, [c.thresholds[s] for c in candidates])


def _certified(
    pack: Pack,
    specs: list[HookSpec],
    candidates: Sequence[Candidate],
    calibration: Split,
    hook: Split,
    costs: Costs,
    options: Options,
    dropped: list[Dropped],
) -> TrainResult:
    """Runs every rung on the calibration split and keeps what is certified. Nothing is tuned any more from here."""
    rungs = Bundle(specs, [f"rung {k}" for k in range(len(candidates))], version=options.version)
    outcomes = certify.run_gated(pack, rungs, calibration, costs)
    verdict = certify.judge(outcomes, calibration, options.risks, options.delta)
    ladder = [
        Judged(c.thresholds, c.cost, c.risk, o.mean_cost, errors, bound)
        for c, o, errors, bound in zip(candidates, outcomes, verdict.errors, verdict.bounds, strict=True)
    ]
    chosen, refused = verdict.choices, verdict.refused
    final = [with_thresholds(s, [s.thresholds[c.rung] for c in chosen]) for s in specs]
    silent = [s for s in final if all(t == NEVER for t in s.thresholds)]
    why = "silent at every certified operating point" if chosen else "no operating point could be certified"
    dropped = dropped + [Dropped(s.name, why) for s in silent]
    final = [s for s in final if s not in silent]
    names = [f"risk {c.epsilon:.2%}" for c in chosen]
    report = _report(options, hook, calibration, ladder, dropped, refused, specs)
    bundle = Bundle(
        final, names if final else [], verdict.certificates if final else [], options.version, report=report
    )
    return TrainResult(bundle, ladder, dropped, refused, costs.full)


def _bytes(pack: Pack, spec: HookSpec) -> int:
    """What one hook takes in a bundle; the header is counted each time, which leaves room for the ladder."""
    return len(pack_bundle(pack, Bundle([with_thresholds(spec, [NEVER])], ["size"])))


def _no_gain(worth: Worth, full: float) -> Dropped:
    if worth.useful:
        return Dropped(worth.name, f"would save {worth.gain / full:.2%} of a full run but does not fit the flash slot")
    reason = f"saves {worth.gain / full:.2%} of a full run, costs {worth.decide / full:.2%} where it is evaluated"
    numbers = {"gain": worth.gain, "cost": worth.decide, "mean with": worth.cost_with, "without": worth.cost_without}
    return Dropped(worth.name, reason, numbers)


def _report(
    options: Options,
    hook: Split,
    calibration: Split,
    ladder: Sequence[Judged],
    dropped: Sequence[Dropped],
    refused: dict[float, str],
    specs: Sequence[HookSpec],
) -> dict[str, Any]:
    """Training facts, JSON-able, that travel with the bundle."""
    return {
        "hook_samples": len(hook),
        "hook_split": hook.hash,
        "calibration_samples": len(calibration),
        "calibration_split": calibration.hash,
        "calibration_tags": packed_tags(calibration.tags),
        "delta": options.delta,
        "tried": [s.name for s in specs],
        "ladder": [vars(r) | {"thresholds": [int(t) for t in r.thresholds]} for r in ladder],
        "dropped": [vars(d) for d in dropped],
        "refused": {f"{epsilon:g}": why for epsilon, why in refused.items()},
    }
