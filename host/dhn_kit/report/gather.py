"""Collects a report's figures from the twin, with costs that were predicted or given per node."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np

from dhn_kit.bundle import hook_order, pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.hooks import Bundle
from dhn_kit.pack import Pack
from dhn_kit.report.report import Figures, ReportData, figures, memory_blocks
from dhn_kit.train import baselines, certify
from dhn_kit.train.certify import Costs
from dhn_kit.train.data import Split
from dhn_kit.twin import Twin


def gather(
    pack: Pack, bundle: Bundle, split: Split, costs: Costs, board: str, counting: str = "predicted"
) -> ReportData:
    """Runs every operating point of a bundle with hooks on the split; DhnError when the split has no inputs.

    What the twin cannot know (measured instructions, SQNR, float agreement) is for the caller to fill in.
    """
    if split.input is None:
        raise DhnError("a report needs the inputs themselves: give the data set, or samples that carry inputs")
    specs = hook_order(bundle)
    stages = [certify.stage(s, pack.points[s.point], costs) for s in specs]
    data = pack_bundle(pack, bundle)
    twin, certificates = Twin(pack, data), {c.operating_point: c for c in bundle.certificates}
    rows: list[Figures] = []
    outcomes = []
    names = [s.name for s in specs]
    for k, name in enumerate(bundle.operating_points):
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
    return ReportData(
        model=pack.name,
        board=board,
        counting=counting,
        inputs=len(split),
        full=full,
        points=rows,
        chosen=chosen_point(rows),
        comparisons=baselines.compare(pack, bundle, split, costs, outcomes),
        layers=_layers(pack, costs),
        arena_bytes=pack.arena_bytes,
        arena_lower_bound=pack.arena_lower_bound,
        flash_bytes=len(pack.data),
        hook_bytes=len(data),
        memory=memory_blocks(pack),
        dropped=_dropped(bundle),
        refused=_refused(bundle),
    )


def chosen_point(rows: list[Figures], epsilon: float = 0.01) -> int:
    """The thriftiest operating point that is certified at `epsilon`; the most cautious one where none is."""
    fitting = [k for k, r in enumerate(rows) if r.certificate and r.certificate.epsilon <= epsilon]
    return min(fitting, key=lambda k: rows[k].mean, default=0)


def _layers(pack: Pack, costs: Costs) -> list[tuple[str, str, float]]:
    """One row per graph node, named after the last operator that it became."""
    named = {o.node: (o.name, o.op) for o in pack.ops}
    return [(*named[n], float(costs.nodes[n])) for n in sorted(named)]


def _dropped(bundle: Bundle) -> list[tuple[str, str]]:
    found = bundle.report.get("dropped", [])
    assert isinstance(found, list)
    return [(str(d["name"]), str(d["reason"])) for d in found]


def _refused(bundle: Bundle) -> dict[str, str]:
    found = bundle.report.get("refused", {})
    assert isinstance(found, dict)
    return {f"{float(epsilon):.2%}": str(why) for epsilon, why in found.items()}
