"""From samples to a certified hook bundle: heads, gates, thresholds, certificates, and what was not worth it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from dhn_kit import risk
from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.hooks import ALWAYS, NEVER, SILENT, Bundle, HookSpec
from dhn_kit.pack import Pack
from dhn_kit.train import certify, exits, heads
from dhn_kit.train.blending import add_blend
from dhn_kit.train.certify import Costs, Judged, predicted_costs, with_thresholds
from dhn_kit.train.data import Split, packed_tags
from dhn_kit.train.fitting import Clock, Fitted, fit_hooks, output_kind, truth
from dhn_kit.train.joining import join_exits
from dhn_kit.train.options import Dropped as Dropped
from dhn_kit.train.options import Options as Options
from dhn_kit.train.proposers import check_kinds
from dhn_kit.train.thresholds import Candidate, Worth, prune, search

#: Risk budgets that tuning aims at, cautious to thrifty: the rungs of the ladder that calibration tests in order. Those
#: from WANTED on are used where a target lies above them.
LADDER = (0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.0125, 0.016, 0.02, 0.03, 0.045)
WANTED = (0.06, 0.075, 0.09, 0.11)
#: Thresholds keep this many int8 steps of margin from the nearest wrong answer seen while tuning.
GUARD = 4
#: Cautious rungs below the ladder: no wrong answer while tuning, and this much further away from one. Few samples say
#: little about rare errors, so without these the strictest promises would often fail at the first rung.
WIDE_GUARDS = (40, 30, 22, 16, 12, 9, 6)
#: Fewer samples teach nothing that would hold on others.
LEAST_SAMPLES = 100


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


def train(
    pack: Pack, hook: Split, calibration: Split, costs: Costs | None = None, options: Options | None = None
) -> TrainResult:
    """Trains on `hook`, certifies on `calibration`; the two must share no input. The main network is not touched.

    Raises DhnError for too few samples, shared samples, or a network whose answer is not an arg max over classes.
    """
    costs, options = costs or predicted_costs(pack), options or Options()
    check(pack, hook, calibration, options)
    clock = Clock()
    # Heads are so small that a second BLAS thread mostly waits, and on a busy machine for long.
    with threadpool_limits(limits=1, user_api="blas"):
        fitted = fit_hooks(pack, hook, costs, options, clock)
    # Where labels judge, the full network is wrong at times as well: budgets are for what gates add.
    error = float(np.average(hook.answer != truth(hook, options), weights=hook.weight))
    kept, dropped = _worth(pack, fitted, costs, options, error)
    if options.cascade:
        with threadpool_limits(limits=1, user_api="blas"):
            dropped = [*dropped, *join_exits(pack, fitted, kept, hook, costs, options)]
        clock.lap("cascade")
    blend: list[HookSpec] = []
    if "blend" in options.kinds:
        found = add_blend(pack, fitted, kept, output_kind(pack, hook), hook, costs, options)
        blend, dropped = ([found], dropped) if isinstance(found, HookSpec) else ([], [*dropped, found])
    candidates = _ladder(fitted, kept, error, max(options.risks))
    clock.lap("thresholds")
    if not candidates:
        report = _report(options, hook, calibration, [], dropped, {}, [])
        bundle = Bundle([], [], version=options.version, report=report)
        result = TrainResult(bundle, [], dropped, dict.fromkeys(options.risks, "no hook pays"), costs.full)
    else:
        specs = _with_ladder(fitted, kept, candidates)
        specs += [with_thresholds(b, [ALWAYS] * len(candidates)) for b in blend]
        result = _certified(pack, specs, candidates, calibration, hook, costs, options, dropped, error)
    clock.lap("calibration")
    result.trials, result.seconds = fitted.trials, clock.seconds
    result.bundle.report["trials"] = [vars(t) for t in fitted.trials]
    names = {h.name for h in result.bundle.hooks}
    result.bundle.report["heads"] = {n: heads.packed(head) for n, head in fitted.heads.items() if n in names}
    return result


def _worth(pack: Pack, fitted: Fitted, costs: Costs, options: Options, error: float) -> tuple[list[int], list[Dropped]]:
    """Which exits and skips pay, and why others do not. They are judged where other hooks have saved most already."""
    tuned = {spec.name: spec for base in fitted.bases for spec in base.specs}
    room = options.slot_bytes - sum(_bytes(pack, spec) for spec in tuned.values())
    sizes = [_bytes(pack, spec) for spec in fitted.specs]
    guarded = fitted.cascades[-1].guarded(GUARD)
    kept, worthless = prune(guarded, error + options.prune_at, options.least_gain * costs.full, sizes, room)
    return kept, fitted.dropped + [_no_gain(w, costs.full) for w in worthless]


@dataclass(frozen=True)
class _Rung:
    """Thresholds of exits and skips on top of a base, whose hooks have their own."""

    base: int
    candidate: Candidate


def _ladder(fitted: Fitted, kept: Sequence[int], error: float, loosest: float) -> list[_Rung]:
    """Candidates from cautious to thrifty. Their order is fixed here, before calibration is looked at."""
    rungs: dict[tuple[int, tuple[int, ...]], _Rung] = {}
    for b, (base, c) in enumerate(zip(fitted.bases, fitted.cascades, strict=True)):
        if base.plain and not kept:
            continue
        found = [r for guard in WIDE_GUARDS for r in search(c.guarded(guard), (0.0,), kept)] if kept else []
        ladder = (*LADDER, *(r for r in WANTED if r < loosest))
        found += search(c.guarded(GUARD), [error + risk for risk in ladder], kept)
        rungs |= {(b, r.thresholds): _Rung(b, r) for r in found}
    ordered = sorted(rungs.values(), key=lambda r: (r.candidate.risk, -r.candidate.cost))
    return _thrifty(ordered) if len(fitted.bases) > 1 else ordered


def _thrifty(ordered: Sequence[_Rung]) -> list[_Rung]:
    """Without those that cost no less than a more cautious one: each further test may be the one that fails."""
    least, left = float("inf"), []
    for rung in ordered:
        if rung.candidate.cost < least:
            least = rung.candidate.cost
            left.append(rung)
    return left


def _with_ladder(fitted: Fitted, kept: Sequence[int], rungs: Sequence[_Rung]) -> list[HookSpec]:
    """All hooks with a threshold for every rung; those of another base are silent."""
    specs: dict[str, HookSpec] = {}
    for b, base in enumerate(fitted.bases):
        for spec in base.specs:
            row = specs.setdefault(spec.name, with_thresholds(spec, [NEVER] * len(rungs))).thresholds
            row[:] = [spec.thresholds[0] if rung.base == b else t for rung, t in zip(rungs, row, strict=True)]
    # What is asked only for what it keeps stays in, too.
    silent = {s for r in rungs for s, t in enumerate(r.candidate.thresholds) if t == SILENT}
    on_top = [
        with_thresholds(fitted.specs[s], [r.candidate.thresholds[s] for r in rungs]) for s in sorted({*kept, *silent})
    ]
    return [*specs.values(), *on_top]


def check(pack: Pack, hook: Split, calibration: Split, options: Options) -> None:
    """DhnError for everything that can be known before the work starts."""
    if not pack.points:
        raise DhnError(f"'{pack.name}' has no hook points: one input, one output and work behind a block are needed")
    if hook.output.shape[1] < 2:
        raise DhnError(f"'{pack.name}' has a single output: hooks need the scores of at least two classes")
    if len(hook) < LEAST_SAMPLES:
        raise DhnError(f"{len(hook)} samples to train hooks from, at least {LEAST_SAMPLES} are needed: collect more")
    loosest = max(options.risks)
    far = f" ({len(calibration)} of a stream, counted every {calibration.spacing})" if calibration.spacing else ""
    risk.require_samples(len(calibration.counted), loosest, options.delta, far)
    shared = _rows(hook) & _rows(calibration)
    if shared:
        raise DhnError(
            f"{len(shared)} calibration samples were also trained on: split by input, so that the certificate holds"
        )
    for text, split in (("training", hook), ("calibration", calibration)):
        _check_classes(split, text, options.allow_unseen)
        truth(split, options)
    check_kinds(pack, options.kinds, options.side is not None)


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


def _certified(
    pack: Pack,
    specs: list[HookSpec],
    rungs: Sequence[_Rung],
    calibration: Split,
    hook: Split,
    costs: Costs,
    options: Options,
    dropped: list[Dropped],
    error: float,
) -> TrainResult:
    """Runs every rung on the calibration split and keeps what is certified. Nothing is tuned any more from here."""
    bundle = Bundle(specs, [f"rung {k}" for k in range(len(rungs))], version=options.version)
    outcomes = certify.run_candidates(pack, bundle, calibration, costs)
    if options.against == "label":
        targets = [min(error + r, 0.99) for r in options.risks]
        verdict = certify.judge_errors(outcomes, calibration, targets, options.delta)
    else:
        verdict = certify.judge(outcomes, calibration, options.risks, options.delta)
    rows = zip(*(s.thresholds for s in specs), strict=True)
    ladder = [
        Judged(row, rung.candidate.cost, rung.candidate.risk, o.mean_cost, errors, bound)
        for row, rung, o, errors, bound in zip(rows, rungs, outcomes, verdict.errors, verdict.bounds, strict=True)
    ]
    chosen, refused = verdict.choices, verdict.refused
    final = [with_thresholds(s, [s.thresholds[c.rung] for c in chosen]) for s in specs]
    silent = [s for s in final if all(t == NEVER for t in s.thresholds)]
    why = "silent at every certified operating point" if chosen else "no operating point could be certified"
    dropped = dropped + [Dropped(s.name, why) for s in silent]
    final = [s for s in final if s not in silent]
    what = "error" if options.against == "label" else "risk"
    names = [f"{what} {c.epsilon:.2%}" for c in chosen]
    report = _report(options, hook, calibration, ladder, dropped, refused, specs) | {"full_error": error}
    bundle = Bundle(
        final, names if final else [], verdict.certificates if final else [], options.version, report=report
    )
    certify.confirm(pack, bundle, calibration, costs, [outcomes[c.rung] for c in chosen])
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
