"""Collects a report's figures from the twin, with costs that were predicted or given per node."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit.bundle import BundleFile, bundle_file, hook_order, with_thresholds
from dhn_kit.cost import program_cost
from dhn_kit.errors import DhnError
from dhn_kit.hooks import ALWAYS, NEVER, Bundle, promises
from dhn_kit.latency import LatencyModel
from dhn_kit.pack import Pack
from dhn_kit.report.report import Figures, ReportData, figures, memory_blocks
from dhn_kit.train import baselines, certify
from dhn_kit.train.certify import Costs
from dhn_kit.train.data import Split
from dhn_kit.train.thresholds import Stage
from dhn_kit.twin import Twin
from dhn_kit.unpack import unpack


def gather(
    pack: Pack, bundle: Bundle, split: Split, costs: Costs, board: str, counting: str = "predicted"
) -> ReportData:
    """Runs every operating point of a bundle with hooks on the split; DhnError when the split has no inputs.

    What the twin cannot know (measured instructions, SQNR, float agreement) is for the caller to fill in.
    """
    stages = [certify.stage(s, pack.points[s.point], costs) for s in hook_order(bundle)]
    return _gather(pack, bundle_file(pack, bundle), stages, split, costs, board, counting)


def gather_file(
    pack: Pack, file: BundleFile, split: Split, model: LatencyModel, board: str, counting: str = "predicted"
) -> ReportData:
    """`gather` for a bundle that was read from a file; costs by a board's model."""
    costs = certify.predicted_costs(pack, model)

    programs = unpack(file.data).hook_programs
    stages = []
    for hook, (decide, act, _) in zip(file.hooks, programs, strict=True):
        point = pack.points[hook["point"]]
        skips = hook["action"] == "skip" and point.skip is not None
        saved = costs.between(point.node, point.skip[2]) if skips and point.skip else 0.0
        stages.append(
            Stage(
                hook["name"],
                hook["action"],
                costs.before(point.node),
                program_cost(hook["decide"], decide, model),
                program_cost(hook["act"], act, model),
                saved,
            )
        )
    return _gather(pack, file, stages, split, costs, board, counting)


def _gather(
    pack: Pack, file: BundleFile, stages: list[Stage], split: Split, costs: Costs, board: str, counting: str
) -> ReportData:
    if split.input is None:
        raise DhnError("a report needs the inputs themselves: give the data set, or samples that carry inputs")
    twin, certificates = Twin(pack, file.data), promises(file.certificates)
    rows: list[Figures] = []
    outcomes = []
    names = [s.name for s in stages]
    for k, name in enumerate(file.operating_points):
        result = twin.run(split.input, point=k)
        outcome = certify.outcome_of(stages, costs.full, result.decisions, result.output, split.answer)
        outcomes.append(outcome)
        answer, acted = result.output.argmax(axis=1), result.decisions == 2
        rows.append(
            figures(
                name,
                outcome.cost,
                answer,
                split.answer,
                split.label,
                outcome.left_at,
                names,
                acted,
                certificates.get(k),
            )
        )
    full = figures("full network", np.full(len(split), costs.full), split.answer, split.answer, split.label)
    answers = _exit_answers(pack, file, stages, split.input)
    return ReportData(
        model=pack.name,
        board=board,
        counting=counting,
        inputs=len(split),
        full=full,
        points=rows,
        chosen=chosen_point(rows),
        comparisons=baselines.compare_answers(stages, answers, split, costs.full, file.operating_points, outcomes),
        layers=_layers(pack, costs),
        arena_bytes=pack.arena_bytes,
        arena_lower_bound=pack.arena_lower_bound,
        flash_bytes=len(pack.data),
        hook_bytes=len(file.data),
        memory=memory_blocks(pack),
        dropped=_dropped(file.report),
        refused=_refused(file.report),
    )


def _exit_answers(
    pack: Pack, file: BundleFile, stages: list[Stage], inputs: npt.NDArray[np.int8]
) -> dict[int, npt.NDArray[np.integer]]:
    """What each exit would say to everyone: the bundle with this exit always open and the other hooks off."""
    answers = {}
    for k, s in enumerate(stages):
        if s.action == "exit":
            forced = with_thresholds(file.data, [ALWAYS if i == k else NEVER for i in range(len(stages))])
            answers[k] = Twin(pack, forced).run(inputs).output.argmax(axis=1)
    return answers


def chosen_point(rows: list[Figures], epsilon: float = 0.01) -> int:
    """The thriftiest operating point that is certified at `epsilon`; the most cautious one where none is."""
    fitting = [k for k, r in enumerate(rows) if r.certificate and r.certificate.epsilon <= epsilon]
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
