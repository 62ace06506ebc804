"""Judges threshold candidates on calibration samples that no training saw, and writes the certificates."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from dhn_kit import cost, risk
from dhn_kit.bundle import hook_order, pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.hooks import Action, Bundle, Certificate, HookPoint, HookSpec
from dhn_kit.int_reference import run_int8
from dhn_kit.latency import LatencyModel
from dhn_kit.pack import Pack
from dhn_kit.train.data import Ints, Split
from dhn_kit.train.exits import margin
from dhn_kit.train.thresholds import Cascade, Outcome, Stage, simulate
from dhn_kit.twin import Twin, TwinResult


@dataclass(frozen=True)
class Costs:
    """Predicted (or measured) instructions: per graph node, (deciding, acting) of a hook, and per operator.

    Operators are those of the main program in its order; a node may have several, bands or variants, for instance.
    ``gates``: what operators take less when gates of a channel mask are shut, as `cost.gate_savings` has it.
    """

    nodes: Sequence[float]
    hook: Callable[[HookSpec, HookPoint], tuple[float, float]]
    ops: Sequence[float]
    gates: Mapping[int, npt.NDArray[np.float64]] = field(default_factory=dict)

    def masks(self, groups: Sequence[tuple[str, int]]) -> list[tuple[int, npt.NDArray[np.float64]]]:
        """For hooks of these actions and groups: number and savings of those that mask channels."""
        return [(k, self.gates[g]) for k, (action, g) in enumerate(groups) if action == "mask" and g in self.gates]

    @property
    def full(self) -> float:
        return float(sum(self.nodes))

    def before(self, node: int) -> float:
        return float(sum(self.nodes[:node]))

    def between(self, node: int, stop: int) -> float:
        return float(sum(self.nodes[node:stop]))


def predicted_costs(pack: Pack, model: LatencyModel | None = None) -> Costs:
    """Costs by a board's fitted model."""
    return Costs(
        cost.node_costs(pack, model),
        lambda spec, point: cost.hook_cost(pack, spec, point, model),
        cost.op_costs(pack, model),
        cost.gate_savings(pack, model),
    )


def stage(spec: HookSpec, point: HookPoint, costs: Costs) -> Stage:
    decide, act = costs.hook(spec, point)
    saved = costs.between(point.node, point.skip[2]) if spec.action == "skip" and point.skip else 0.0
    return Stage(spec.name, spec.action, costs.before(point.node), decide, act, saved)


def run_gated(pack: Pack, bundle: Bundle, split: Split, costs: Costs) -> list[Outcome]:
    """Outcome of every operating point on the split: on the twin where inputs are known, else from the features.

    Both are exact: the runtime's integers decide. Features alone cannot tell what a skip leads to.
    """
    specs = hook_order(bundle)
    stages = [stage(s, pack.points[s.point], costs) for s in specs]
    points = range(len(bundle.operating_points))
    if split.input is not None:
        twin, sequence = Twin(pack, pack_bundle(pack, bundle)), any(s.action == "reuse" for s in specs)
        hooks = [(g.decide, g.act) for g in stages]
        results = [twin.run(split.input, point=k, sequence=sequence, environment=split.environment) for k in points]
        actions, masks = [s.action for s in specs], costs.masks([(s.action, s.group) for s in specs])
        return [outcome_of(actions, costs.ops, hooks, r, split.answer, masks) for r in results]
    others = [s.action for s in specs if s.action != "exit" or not _reads_feature(s)]
    if others:
        raise DhnError(
            f"{others[0]} hooks cannot be judged from features alone: collect with inputs, or give the played inputs "
            "by tag"
        )
    cascade = cascade_of_features(specs, stages, split, costs.full)
    said = [head_scores(s, split).argmax(axis=1) for s in specs]
    return [_answered(simulate(cascade, [s.thresholds[k] for s in specs]), said, split) for k in points]


def run_candidates(pack: Pack, bundle: Bundle, split: Split, costs: Costs) -> list[Outcome]:
    """As `run_gated`, for many candidates at once.

    Exits that read default features are told from those alone, which is exact and needs no run per candidate; what is
    chosen in the end is for `confirm`.
    """
    told = all(s.action == "exit" and s.answer is None and _reads_feature(s) for s in bundle.hooks)
    return run_gated(pack, bundle, replace(split, input=None) if told else split, costs)


def confirm(pack: Pack, bundle: Bundle, split: Split, costs: Costs, expected: Sequence[Outcome]) -> None:
    """Runs the operating points of a final bundle on the twin: they must answer as ``expected``."""
    if split.input is None or not bundle.hooks:
        return
    for name, ran, told in zip(bundle.operating_points, run_gated(pack, bundle, split, costs), expected, strict=True):
        assert (ran.wrong == told.wrong).all(), f"the twin answers otherwise at {name} than its hooks' scores say"


def _reads_feature(spec: HookSpec) -> bool:
    """Whether the point's default feature is all that the hook needs."""
    return not any(p.name in ("tap", "env") or p.name.startswith("keep.") for p in spec.net.inputs)


def _answered(outcome: Outcome, said: Sequence[Ints], split: Split) -> Outcome:
    """With the class of the exit that was taken, the full network's for runs to the end."""
    answers = np.stack([*said, split.answer])  # left_at is -1 for the last
    return replace(outcome, answer=answers[outcome.left_at, np.arange(len(split))])


def cascade_of_features(specs: Sequence[HookSpec], stages: Sequence[Stage], split: Split, full: float) -> Cascade:
    """Exit hooks' int8 margins on logged features, by the integer reference."""
    scores = [head_scores(s, split) for s in specs]
    values = np.stack([margin(s) for s in scores])[None]
    wrong = np.stack([s.argmax(axis=1) != split.answer for s in scores])[None]
    return Cascade(list(stages), values, wrong, np.zeros((1, len(split)), bool), full)


def head_scores(spec: HookSpec, split: Split) -> npt.NDArray[np.int8]:
    """The hook's int8 scores (N, K) on the split's features."""
    feature = spec.net.inputs[0].tensor
    shape = spec.net.tensors[feature].shape
    q = split.features[spec.point].reshape(-1, *shape)
    scores = run_int8(spec.net, q)[spec.net.outputs[0].tensor]
    return scores.reshape(len(q), -1)


def measured_cost(
    ops: Sequence[float],
    hooks: Sequence[tuple[float, float]],
    result: TwinResult,
    masks: Sequence[tuple[int, npt.NDArray[np.float64]]] = (),
) -> npt.NDArray[np.float64]:
    """Instructions of each input (N,): of the operators that the twin ran and of the hooks that it asked.

    ``ops`` has the cost of each operator of the main program, ``hooks`` (deciding, acting) of each hook. No kind of
    hook needs rules of its own: what it left out did not run. But operators that run with channels left out take less,
    which ``masks`` says: number of the hook, and (ops, gates + 1) instructions saved by the number of open gates.
    """
    decide, act = np.array(hooks, np.float64).reshape(-1, 2).T
    asked, acted = result.decisions > 0, result.decisions == 2
    return np.asarray(op_instructions(ops, result, masks).sum(axis=1) + asked @ decide + acted @ act, np.float64)


def op_instructions(
    ops: Sequence[float], result: TwinResult, masks: Sequence[tuple[int, npt.NDArray[np.float64]]] = ()
) -> npt.NDArray[np.float64]:
    """(N, ops): of each operator that ran, as `measured_cost` counts them."""
    found = np.asarray(result.ran * np.asarray(ops, np.float64), np.float64)
    for number, saved in masks:
        acted = result.decisions[:, number, None] == 2
        found -= result.ran * acted * saved[:, result.scores[:, number]].T
    return found


def outcome_of(
    actions: Sequence[Action],
    ops: Sequence[float],
    hooks: Sequence[tuple[float, float]],
    result: TwinResult,
    answer: Ints,
    masks: Sequence[tuple[int, npt.NDArray[np.float64]]] = (),
) -> Outcome:
    """What the twin did, with costs as in `measured_cost`; ``answer`` (N,) is the full network's."""
    skips = [k for k, action in enumerate(actions) if action == "skip"]
    skipped = (result.decisions[:, skips] == 2).sum(axis=1).astype(np.int64)
    given = np.asarray(result.output.argmax(axis=1), np.int64)
    total = measured_cost(ops, hooks, result, masks)
    return Outcome(total, given != answer, result.exit_hook.astype(np.int64), skipped, given)


@dataclass(frozen=True)
class Judged:
    """One rung of the ladder: what tuning expected and what calibration counted."""

    thresholds: tuple[int, ...]
    tuned_cost: float
    tuned_risk: float
    cost: float
    errors: int
    bound: float


@dataclass(frozen=True)
class Choice:
    """An operating point: the thriftiest rung that is certified at ``epsilon``."""

    rung: int
    epsilon: float


def choose(
    errors: Sequence[int], n: int, epsilons: Sequence[float], delta: float, bounds: Sequence[float] | None = None
) -> tuple[list[Choice], dict[float, str]]:
    """Per risk target the last rung that fixed-sequence testing certifies; equal rungs keep the stricter target.

    ``bounds`` decide where samples were kept with unequal probabilities, so that counts alone do not say enough.
    The second result says of each target that cannot be had why.
    """
    chosen: dict[int, Choice] = {}
    refused: dict[float, str] = {}
    for epsilon in sorted(epsilons):
        certified = risk.fixed_sequence(errors, n, epsilon, delta) if bounds is None else _leading(bounds, epsilon)
        needed = risk.needed_samples(epsilon, delta)
        if n < needed:
            refused[epsilon] = f"{n} calibration samples, at least {needed} are needed"
        elif not certified and bounds is not None:
            refused[epsilon] = f"the most cautious candidate's bound is {bounds[0]:.2%}: samples of unequal propensity"
        elif not certified:
            most = risk.allowed_errors(n, epsilon, delta)
            refused[epsilon] = f"the most cautious candidate erred {errors[0]} times of {n}, {most} are allowed"
        else:
            chosen.setdefault(certified - 1, Choice(certified - 1, epsilon))
    return list(chosen.values()), refused


def _leading(bounds: Sequence[float], epsilon: float) -> int:
    """How many bounds from the front are at most epsilon."""
    return next((k for k, bound in enumerate(bounds) if bound > epsilon), len(bounds))


@dataclass(frozen=True)
class Verdict:
    """What calibration says of a ladder of candidates: per candidate, in their order, counted errors and bounds."""

    errors: list[int]
    bounds: list[float]
    choices: list[Choice]
    refused: dict[float, str]
    certificates: list[Certificate]


def judge(outcomes: Sequence[Outcome], split: Split, epsilons: Sequence[float], delta: float) -> Verdict:
    """Chooses operating points by consistency and certifies them; where there are labels, by error as well.

    ``outcomes`` are those of the candidates on the calibration split, cautious first, an order fixed without the split.
    Of a stream, which ran as a whole, only inputs that are far enough apart count.
    """
    outcomes, split = [counted(o, split) for o in outcomes], split.counted
    errors = [int(o.wrong.sum()) for o in outcomes]
    bounds = [risk.bound(o.wrong, delta, split.propensity) for o in outcomes]
    exact = risk.equal(split.propensity)
    choices, refused = choose(errors, len(split), epsilons, delta, None if exact else bounds)
    certificates = [
        consistency_certificate(k, outcomes[c.rung], split, c.epsilon, delta) for k, c in enumerate(choices)
    ]
    if split.label is not None and (split.label >= 0).any():
        certificates += [
            error_certificate(k, outcomes[c.rung], split, delta, len(outcomes)) for k, c in enumerate(choices)
        ]
    return Verdict(errors, bounds, choices, refused, certificates)


def judge_errors(outcomes: Sequence[Outcome], split: Split, epsilons: Sequence[float], delta: float) -> Verdict:
    """Chooses operating points by how often they answer otherwise than the label, and certifies that.

    ``epsilons`` are error rates, fixed without the split; all samples have a label.
    """
    outcomes, split = [counted(o, split) for o in outcomes], split.counted
    assert split.label is not None
    wrong = [np.asarray(o.answer != split.label, bool) for o in outcomes]
    errors = [int(w.sum()) for w in wrong]
    bounds = [risk.bound(w, delta, split.propensity) for w in wrong]
    exact = risk.equal(split.propensity)
    choices, refused = choose(errors, len(split), epsilons, delta, None if exact else bounds)
    certificates = [
        replace(error_certificate(k, outcomes[c.rung], split, delta), epsilon=c.epsilon) for k, c in enumerate(choices)
    ]
    return Verdict(errors, bounds, choices, refused, certificates)


def counted(outcome: Outcome, split: Split) -> Outcome:
    """Of inputs that count as separate draws, as in `Split.counted`."""
    o, rows = outcome, split.draws
    answer = None if o.answer is None else o.answer[rows]
    return Outcome(o.cost[rows], o.wrong[rows], o.left_at[rows], o.skipped[rows], answer)


def consistency_certificate(
    number: int, outcome: Outcome, split: Split, epsilon: float, delta: float, candidates: int = 1
) -> Certificate:
    """Of operating point ``number``: how often it answers otherwise than the full network."""
    errors, bound = int(outcome.wrong.sum()), risk.bound(outcome.wrong, delta / candidates, split.propensity)
    method = risk.method(split.propensity, candidates)
    return Certificate(number, "consistency", epsilon, delta, len(split), errors, bound, method, split.hash, candidates)


def error_certificate(number: int, outcome: Outcome, split: Split, delta: float, candidates: int = 1) -> Certificate:
    """Of operating point ``number``: how often it answers wrongly, from the samples that have a label."""
    assert split.label is not None and outcome.answer is not None
    known = split.label >= 0
    wrong = (outcome.answer != split.label)[known]
    weights = None if split.propensity is None else split.propensity[known]
    bound = risk.bound(wrong, delta / candidates, weights)
    full = int((split.answer != split.label)[known].sum())
    method = risk.method(weights, candidates)
    return Certificate(
        number, "error", bound, delta, len(wrong), int(wrong.sum()), bound, method, split.hash, candidates, full
    )


def with_thresholds(spec: HookSpec, thresholds: Sequence[int]) -> HookSpec:
    return replace(spec, thresholds=[int(t) for t in thresholds])
