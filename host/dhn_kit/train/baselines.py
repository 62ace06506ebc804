"""What gates must be compared with: static choices, a coin of equal cost, an oracle, and each kind of hook alone."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit.bundle import BundleFile, with_thresholds
from dhn_kit.cost import node_costs
from dhn_kit.errors import DhnError
from dhn_kit.hooks import ALWAYS, NEVER, SILENT
from dhn_kit.latency import LatencyModel
from dhn_kit.pack import Pack
from dhn_kit.train.certify import Costs, outcome_of
from dhn_kit.train.data import Floats, Int8, Ints, Split
from dhn_kit.train.thresholds import Outcome
from dhn_kit.twin import Mode, Twin

#: Actions that everybody could be given without a gate. A mask has no such setting: all its gates open is the network.
STATIC = ("exit", "blend", "skip", "select")


@dataclass(frozen=True)
class Comparison:
    """One way to answer. ``cost`` is instructions per input, ``agreement`` the share of the full network's answers
    that it repeats, ``accuracy`` the share of labels (None without labels)."""

    name: str
    kind: str  #: "full", "static", "smaller", "random" or "oracle"
    cost: float
    agreement: float
    accuracy: float | None

    @property
    def merit(self) -> float:
        """Accuracy where there are labels, else agreement."""
        return self.agreement if self.accuracy is None else self.accuracy


@dataclass(frozen=True)
class Ablation:
    """One kind of hook at the chosen operating point: by itself, and the bundle without it."""

    kind: str
    hooks: int
    alone: Comparison
    without: Comparison


@dataclass(frozen=True)
class Choice:
    """A static choice: what it costs and answers for each input (N,)."""

    name: str
    cost: Floats
    answer: Ints


class WhatIf:
    """Runs a bundle under other thresholds than its own over one split that has inputs.

    ``costs`` has the instructions of the main program, ``hooks`` (deciding, acting) of each hook.
    """

    def __init__(
        self, pack: Pack, file: BundleFile, split: Split, costs: Costs, hooks: Sequence[tuple[float, float]]
    ) -> None:
        if split.input is None:
            raise DhnError("a report needs the inputs themselves: give the data set, or samples that carry inputs")
        self.pack, self.file, self.split, self.ops, self.costs = pack, file, split, costs.ops, hooks
        self.actions = [h["action"] for h in file.hooks]
        self.masks = costs.masks([(h["action"], h.get("group", 0)) for h in file.hooks])
        #: what a hook keeps from one input to the next depends on their order
        self.sequence = "reuse" in self.actions

    def full(self) -> Outcome:
        return self._outcome(self.file.data, detached=True)

    def at(self, point: int) -> Outcome:
        return self._outcome(self.file.data, point)

    def under(self, thresholds: Mapping[int, int]) -> Outcome:
        """Only these hooks, by number, at these thresholds."""
        return self._outcome(with_thresholds(self.file.data, forced(self.file.hooks, thresholds)))

    def decisions(self, point: int) -> npt.NDArray[np.bool_]:
        """(N, hooks): which acted."""
        assert self.split.input is not None
        result = Twin(self.pack, self.file.data).run(self.split.input, point=point, sequence=self.sequence)
        return np.asarray(result.decisions == 2)

    def _outcome(self, data: bytes, point: int = 0, detached: bool = False) -> Outcome:
        assert self.split.input is not None
        mode: Mode = "detached" if detached else "gated"
        result = Twin(self.pack, data).run(self.split.input, point=point, mode=mode, sequence=self.sequence)
        return outcome_of(self.actions, self.ops, self.costs, result, self.split.answer, self.masks)

    def compared(self, name: str, kind: str, cost: Floats, answer: Ints) -> Comparison:
        agreement = float((answer == self.split.answer).mean())
        return Comparison(name, kind, float(cost.mean()), agreement, accuracy(answer, self.split))


def forced(hooks: Sequence[Mapping[str, Any]], enabled: Mapping[int, int]) -> list[int]:
    """A threshold per hook: those of ``enabled``, and for the others NEVER, or SILENT where an asked one reads them."""
    thresholds = [enabled.get(k, NEVER) for k in range(len(hooks))]
    needed: set[str] = set()
    # Hooks read what earlier ones keep, so one pass from behind finds the readers of readers.
    for k in reversed(range(len(hooks))):
        if thresholds[k] == NEVER and needed & set(hooks[k]["keeps"]):
            thresholds[k] = SILENT
        if thresholds[k] != NEVER:
            needed |= set(hooks[k]["reads"])
    return thresholds


def compare(run: WhatIf, outcomes: Sequence[Outcome]) -> list[Comparison]:
    """Full network, every hook's action for everyone, a coin per operating point, and the oracle.

    ``outcomes`` are those of the bundle's operating points.
    """
    full = run.full()
    choices = static_choices(run)
    found = [run.compared("full network", "full", full.cost, run.split.answer)]
    found += [run.compared(c.name, "static", c.cost, c.answer) for c in choices]
    coins = [
        coin(found, outcome.mean_cost, f"random gate at {name}")
        for name, outcome in zip(run.file.operating_points, outcomes, strict=True)
    ]
    oracle = _oracle(run, full, choices)
    return found + [c for c in coins if c is not None] + ([oracle] if oracle is not None else [])


def static_choices(run: WhatIf) -> list[Choice]:
    """What each hook's action does to everyone. Where a gate only decides, nobody would pay for it."""
    found = []
    for k, hook in enumerate(run.file.hooks):
        if hook["action"] in STATIC:
            outcome = run.under({k: ALWAYS})
            assert outcome.answer is not None
            spared = run.costs[k][0] if hook["action"] in ("skip", "select") else 0.0
            found.append(Choice(f"always {hook['name']}", outcome.cost - spared, outcome.answer))
        elif hook["action"] == "reuse":
            # Flatters it: an answer that is repeated twice is older than the last one.
            last = np.concatenate([run.split.answer[:1], run.split.answer[:-1]])
            found.append(Choice("repeat the full network's last answer", np.zeros(len(last)), last))
    return found


def smaller_network(pack: Pack, q: Int8, split: Split, model: LatencyModel | None = None) -> Comparison:
    """Another network in place of all: ``q`` (N, H, W, C) are the split's inputs as it takes them.

    DhnError where it does not tell the same classes apart.
    """
    output = Twin(pack).run(q).output
    if output.shape[1] != split.output.shape[1]:
        raise DhnError(
            f"'{pack.name}' tells {output.shape[1]} classes apart, the network with hooks {split.output.shape[1]}; "
            "compare with one for the same task"
        )
    answer = output.argmax(axis=1)
    agreement = float((answer == split.answer).mean())
    cost = float(sum(node_costs(pack, model)))
    return Comparison(f"smaller network {pack.name}", "smaller", cost, agreement, accuracy(answer, split))


def coin(choices: Sequence[Comparison], cost: float, name: str) -> Comparison | None:
    """The best that a coin can do at this mean cost: two choices, and a chance for each that does not see the input.

    None where even the cheapest choice costs more.
    """
    best: Comparison | None = None
    for a, b in itertools.product(choices, repeat=2):
        if not a.cost <= cost <= b.cost and not (a is b and a.cost <= cost):
            continue
        share = (cost - a.cost) / (b.cost - a.cost) if b.cost > a.cost else 0.0
        labelled = a.accuracy is not None and b.accuracy is not None
        mixed = Comparison(
            name,
            "random",
            cost if b.cost > a.cost else a.cost,
            (1 - share) * a.agreement + share * b.agreement,
            (1 - share) * (a.accuracy or 0) + share * (b.accuracy or 0) if labelled else None,
        )
        best = mixed if best is None or mixed.merit > best.merit else best
    return best


def _oracle(run: WhatIf, full: Outcome, choices: Sequence[Choice]) -> Comparison | None:
    """Everyone gets the cheapest choice that answers as the full network does."""
    if not choices:
        return None
    costs = [np.where(c.answer == run.split.answer, c.cost, np.inf) for c in choices]
    return run.compared("oracle", "oracle", np.min([full.cost, *costs], axis=0), run.split.answer)


def ablate(run: WhatIf, point: int) -> list[Ablation]:
    """What each kind of hook brings at an operating point: alone, and missing from the others. Measured on the twin."""
    hooks = run.file.hooks
    row = {k: int(h["thresholds"][point]) for k, h in enumerate(hooks) if h["thresholds"][point] < SILENT}
    found = []
    for kind in dict.fromkeys(hooks[k]["kind"] for k in row):
        own = {k: t for k, t in row.items() if hooks[k]["kind"] == kind}
        others = {k: t for k, t in row.items() if k not in own}
        alone, without = (
            run.compared(name, "ablation", o.cost, _known(o))
            for name, o in ((f"{kind} alone", run.under(own)), (f"without {kind}", run.under(others)))
        )
        found.append(Ablation(kind, len(own), alone, without))
    return found


def silent_kinds(run: WhatIf, point: int) -> list[str]:
    """Kinds of the bundle's hooks that never act at this operating point."""
    active = {h["kind"] for h in run.file.hooks if h["thresholds"][point] < SILENT}
    return [kind for kind in dict.fromkeys(h["kind"] for h in run.file.hooks) if kind not in active]


def _known(outcome: Outcome) -> Ints:
    assert outcome.answer is not None
    return outcome.answer


def accuracy(answer: npt.NDArray[np.integer], split: Split) -> float | None:
    """Share of right answers among those with a label; None without labels."""
    if split.label is None:
        return None
    known = split.label >= 0
    return float((answer[known] == split.label[known]).mean()) if known.any() else None
