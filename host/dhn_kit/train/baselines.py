"""What gates must be compared with: a static choice, a random gate of equal cost, and an oracle."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dhn_kit.bundle import hook_order
from dhn_kit.hooks import Bundle
from dhn_kit.pack import Pack
from dhn_kit.train.certify import Costs, head_scores, stage
from dhn_kit.train.data import Split
from dhn_kit.train.thresholds import Outcome, Stage


@dataclass(frozen=True)
class Comparison:
    """One way to answer. ``cost`` is instructions per input, ``agreement`` the share of the full network's answers
    that it repeats, ``accuracy`` the share of labels (None without labels)."""

    name: str
    kind: str  #: "full", "static", "random" or "oracle"
    cost: float
    agreement: float
    accuracy: float | None


def compare(pack: Pack, bundle: Bundle, split: Split, costs: Costs, outcomes: Sequence[Outcome]) -> list[Comparison]:
    """Full network, every exit taken by everyone, a random gate per operating point, and the oracle.

    ``outcomes`` are those of the bundle's operating points on the same split. The random gate leaves at each exit as
    often as the gates do, but without looking: what it loses is what the gates' judgement is worth.
    """
    specs = hook_order(bundle)
    stages = [stage(s, pack.points[s.point], costs) for s in specs]
    exits = [k for k, g in enumerate(stages) if g.action == "exit"]
    answers = {k: head_scores(specs[k], split).argmax(axis=1) for k in exits}
    return compare_answers(stages, answers, split, costs.full, bundle.operating_points, outcomes)


def compare_answers(
    stages: Sequence[Stage],
    answers: dict[int, npt.NDArray[np.integer]],
    split: Split,
    full: float,
    points: Sequence[str],
    outcomes: Sequence[Outcome],
) -> list[Comparison]:
    """`compare` for hooks of which only the answers are known: ``answers[k]`` (N,) is what exit k says to everyone."""
    found = [Comparison("full network", "full", full, 1.0, _accuracy(split.answer, split))]
    for k, answer in answers.items():
        g = stages[k]
        agreement = float((answer == split.answer).mean())
        found.append(
            Comparison(f"always {g.name}", "static", g.reach + g.decide + g.act, agreement, _accuracy(answer, split))
        )
    for name, outcome in zip(points, outcomes, strict=True):
        found.append(_random_gate(f"random gate at {name}", outcome, answers, split))
    if answers:
        found.append(_oracle(stages, answers, split, full))
    return found


def _accuracy(answer: npt.NDArray[np.integer], split: Split) -> float | None:
    if split.label is None:
        return None
    known = split.label >= 0
    return float((answer[known] == split.label[known]).mean()) if known.any() else None


def _random_gate(name: str, outcome: Outcome, answers: dict[int, npt.NDArray[np.integer]], split: Split) -> Comparison:
    """The expectation over all ways to draw who leaves where."""
    agreement = accuracy = 0.0
    for k in (-1, *answers):
        answer = split.answer if k < 0 else answers[k]
        share = float((outcome.left_at == k).mean())
        agreement += share * float((answer == split.answer).mean())
        accuracy += share * (_accuracy(answer, split) or 0.0)
    labelled = _accuracy(split.answer, split) is not None
    return Comparison(name, "random", outcome.mean_cost, agreement, accuracy if labelled else None)


def _oracle(
    stages: Sequence[Stage], answers: dict[int, npt.NDArray[np.integer]], split: Split, full: float
) -> Comparison:
    """Everyone leaves at the first exit that agrees with the full network; heads on the way are paid for."""
    n = len(split)
    cost, inside, spent = np.full(n, full), np.ones(n, bool), 0.0
    for k, answer in answers.items():
        g = stages[k]
        spent += g.decide
        leaves = inside & (answer == split.answer)
        cost[leaves] = g.reach + spent + g.act
        inside &= ~leaves
    cost[inside] += spent
    return Comparison("oracle", "oracle", float(cost.mean()), 1.0, _accuracy(split.answer, split))
