"""Collects a report's figures from the twin, with costs that were predicted or given per node."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

from dhn_kit.bundle import BundleFile, bundle_file, hook_order
from dhn_kit.cost import program_cost
from dhn_kit.hooks import Bundle, promises
from dhn_kit.latency import LatencyModel
from dhn_kit.pack import Pack
from dhn_kit.report.report import Figures, ReportData, figures, memory_blocks
from dhn_kit.train import baselines, certify
from dhn_kit.train.baselines import WhatIf
from dhn_kit.train.certify import Costs
from dhn_kit.train.data import Split
from dhn_kit.train.thresholds import Outcome
from dhn_kit.unpack import unpack

#: What is looked at closely unless the user says otherwise: the thriftiest operating point certified at this risk.
RISK = 0.01


def gather(
    pack: Pack, bundle: Bundle, split: Split, costs: Costs, board: str, counting: str = "predicted"
) -> ReportData:
    """Runs every operating point of a bundle with hooks on the split; DhnError when the split has no inputs.

    What the twin cannot know (measured instructions, SQNR, float agreement) is for the caller to fill in.
    """
    hooks = [costs.hook(s, pack.points[s.point]) for s in hook_order(bundle)]
    return _gather(pack, WhatIf(pack, bundle_file(pack, bundle), split, costs, hooks), costs, board, counting)


def gather_file(
    pack: Pack,
    file: BundleFile,
    split: Split,
    model: LatencyModel,
    board: str,
    counting: str = "predicted",
    risk: float = RISK,
) -> ReportData:
    """`gather` for a bundle that was read from a file; costs by a board's model. ``risk`` as in `chosen_point`."""
    costs = certify.predicted_costs(pack, model)
    run = WhatIf(pack, file, split, costs, file_costs(file, model))
    return _gather(pack, run, costs, board, counting, risk)


def file_costs(file: BundleFile, model: LatencyModel) -> list[tuple[float, float]]:
    """Predicted instructions of (deciding, acting) per hook; what runs when it does not act counts as deciding."""
    found = []
    for hook, programs in zip(file.hooks, unpack(file.data).hook_programs, strict=True):
        decide, act, otherwise = (
            program_cost(hook[name], program, model)
            for name, program in zip(("decide", "act", "otherwise"), programs, strict=True)
        )
        found.append((decide + otherwise, act - otherwise))
    return found


def _gather(pack: Pack, run: WhatIf, costs: Costs, board: str, counting: str, risk: float = RISK) -> ReportData:
    file, split = run.file, run.split
    outcomes = [run.at(k) for k in range(len(file.operating_points))]
    rows = [_figures(run, k, outcome) for k, outcome in enumerate(outcomes)]
    chosen = chosen_point(rows, risk + float(file.report.get("full_error", 0.0)))
    return ReportData(
        model=pack.name,
        board=board,
        counting=counting,
        inputs=len(split),
        full=figures("full network", run.full().cost, split.answer, split.answer, split.label),
        points=rows,
        chosen=chosen,
        comparisons=baselines.compare(run, outcomes),
        ablation=baselines.ablate(run, chosen),
        silent=baselines.silent_kinds(run, chosen),
        certificates=list(file.certificates),
        layers=_layers(pack, costs),
        arena_bytes=pack.arena_bytes,
        arena_lower_bound=pack.arena_lower_bound,
        flash_bytes=len(pack.data),
        hook_bytes=len(file.data),
        memory=memory_blocks(pack),
        dropped=_dropped(file.report),
        refused=_refused(file.report),
    )


def _figures(run: WhatIf, point: int, outcome: Outcome) -> Figures:
    split, names = run.split, [h["name"] for h in run.file.hooks]
    assert outcome.answer is not None
    return figures(
        run.file.operating_points[point],
        outcome.cost,
        outcome.answer,
        split.answer,
        split.label,
        outcome.left_at,
        names,
        run.decisions(point),
        promises(run.file.certificates).get(point),
    )


def chosen_point(rows: list[Figures], risk: float = RISK) -> int:
    """The thriftiest operating point that is certified at ``risk``; the most cautious one where none is."""
    fitting = [k for k, r in enumerate(rows) if r.certificate and r.certificate.epsilon <= risk + 1e-12]
    return min(fitting, key=lambda k: rows[k].mean, default=0)


def _layers(pack: Pack, costs: Costs) -> list[tuple[str, str, float]]:
    """One row per graph node, named after the last operator that it became."""
    named = {o.node: (o.name, o.op) for o in pack.full_run}
    return [(*named[n], float(costs.nodes[n])) for n in sorted(named)]


def _dropped(report: dict[str, Any]) -> list[tuple[str, str]]:
    found = report.get("dropped", [])
    assert isinstance(found, list)
    return [(str(d["name"]), str(d["reason"])) for d in found]


def _refused(report: dict[str, Any]) -> dict[str, str]:
    found = report.get("refused", {})
    assert isinstance(found, dict)
    return {f"{float(epsilon):.2%}": str(why) for epsilon, why in found.items()}
