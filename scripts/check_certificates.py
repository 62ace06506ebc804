#!/usr/bin/env python
"""Counts how often certified risks are exceeded over random splits of held-out data: 5 % of them may be."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))

from dhn_kit import datasets, resources
from dhn_kit.hooks import Bundle
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack
from dhn_kit.quantize import quantize
from dhn_kit.train import Options, Split, split_from_inputs, train
from dhn_kit.train.certify import judge, predicted_costs, run_gated
from dhn_kit.train.thresholds import Outcome

SPLITS, DELTA = 200, 0.05
RISKS = (0.0025, 0.005, 0.01, 0.02)
#: Share of the held-out data that each split calibrates on.
SHARE = 0.5
#: Warped copies of the training images: few, because only the certificates are on trial.
COPIES = 1
#: Targets of the stand-in: so many that hardly any hook is left out for being silent at all of them.
STAND_IN = tuple(float(r) for r in np.linspace(0.02, 0.5, 25))


@dataclass
class Count:
    """Of so many certificates, how many promised less than the risk of all held-out data, and of what was not drawn."""

    certificates: int = 0
    exceeded: int = 0
    exceeded_rest: int = 0

    @property
    def share(self) -> float:
        return self.exceeded / self.certificates if self.certificates else 0.0


def mnist() -> tuple[Pack, Split, Split]:
    """Packed network, the split that hooks learn from, and all that is held out: calibration and test images."""
    data = datasets.load("mnist")
    graph = quantize(import_onnx(resources.path("zoo") / "mnist_resnet8.onnx"), data.x_train[:200])
    packed = pack(graph)
    q = graph.quantize_input(np.concatenate([data.x_cal, data.x_test]))
    held_out = split_from_inputs(packed, q, np.concatenate([data.y_cal, data.y_test]))
    return packed, split_from_inputs(packed, graph.quantize_input(data.x_hook), data.y_hook), held_out


def ladder(packed: Pack, hook: Split, seed: int) -> Bundle:
    """Every candidate that training would put before calibration, cautious first, as operating points of one bundle.

    Shifted training images stand in for calibration; what they certify is thrown away.
    """
    assert hook.input is not None
    shifted = split_from_inputs(packed, np.roll(hook.input, 1, axis=2))
    options = Options(risks=STAND_IN, kinds=("exit",), copies=COPIES, seed=seed)
    result = train(packed, hook, shifted, options=options)
    tried, rungs = result.bundle.report["tried"], [judged.thresholds for judged in result.ladder]
    assert isinstance(tried, list)
    hooks = [replace(h, thresholds=[r[tried.index(h.name)] for r in rungs]) for h in result.bundle.hooks]
    return Bundle(hooks, [f"rung {k}" for k in range(len(rungs))])


def drawn(split: Split, outcomes: list[Outcome], rows: npt.NDArray[np.intp]) -> tuple[Split, list[Outcome]]:
    """The part of a split in ``rows``, with what the candidates do to it."""
    part = Split([], split.output[rows], None, None if split.label is None else split.label[rows], rows.tolist())
    found = []
    for o in outcomes:
        assert o.answer is not None
        found.append(Outcome(o.cost[rows], o.wrong[rows], o.left_at[rows], o.skipped[rows], o.answer[rows]))
    return part, found


def check(held_out: Split, outcomes: list[Outcome], splits: int, seed: int) -> dict[str, Count]:
    """Certifies on one random part after the other and compares with the risk of all the held-out data, which is known.

    The held-out data are the population, a split is a draw from it; so the true risk needs no estimate. Per target, and
    for "error".
    """
    rng, n = np.random.default_rng(seed), len(held_out)
    counts = {f"{risk:.2%}": Count() for risk in RISKS} | {"error": Count()}
    for _ in range(splits):
        order = rng.permutation(n)
        rows, rest = order[: int(SHARE * n)], order[int(SHARE * n) :]
        part, found = drawn(held_out, outcomes, rows)
        verdict = judge(found, part, RISKS, DELTA)
        for c in verdict.certificates:
            outcome = outcomes[verdict.choices[c.operating_point].rung]
            wrong = outcome.wrong if c.kind == "consistency" else outcome.answer != held_out.label
            count = counts["error" if c.kind == "error" else f"{c.epsilon:.2%}"]
            count.certificates += 1
            count.exceeded += bool(np.mean(wrong) > c.epsilon)
            count.exceeded_rest += bool(np.mean(np.asarray(wrong)[rest]) > c.epsilon)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    packed, hook, held_out = mnist()
    rungs = ladder(packed, hook, args.seed)
    # Exits can be judged from features, which are computed once; the twin would run each candidate.
    outcomes = run_gated(packed, rungs, replace(held_out, input=None), predicted_costs(packed))
    counts = check(held_out, outcomes, args.splits, args.seed)
    if args.json:
        print(json.dumps({k: vars(c) | {"share": c.share} for k, c in counts.items()}, indent=2))
        return
    candidates = len(rungs.operating_points)
    print(f"MNIST ResNet-8, {candidates} candidates, {args.splits} random splits of {len(held_out)} images")
    print(f"{'promise':>8}  {'certified':>9}  {'exceeded':>8}  {'share':>6}  on what was not drawn")
    for name, c in counts.items():
        rest = c.exceeded_rest / c.certificates if c.certificates else 0.0
        print(f"{name:>8}  {c.certificates:>9}  {c.exceeded:>8}  {c.share:>6.1%}  {rest:.1%}")


if __name__ == "__main__":
    main()
