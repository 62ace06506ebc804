"""Predicts the longest way through the gates at each operating point."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence

from dhn_kit.bundle import hook_order
from dhn_kit.hooks import ALWAYS, NEVER, Bundle, HookSpec
from dhn_kit.pack import Pack
from dhn_kit.train.certify import Costs


def worst_cases(pack: Pack, bundle: Bundle, costs: Costs) -> list[float]:
    """Per operating point, as a share of a full run without hooks: every hook is asked, and none acts that need not.

    Only a threshold of ALWAYS makes sure that a hook acts. A mask that shuts no gate, and a selection that is not
    made, leave the full network; what they put in its place is taken to be cheaper.
    """
    specs = hook_order(bundle)
    return [_longest(pack, specs, k, costs) / costs.full for k in range(len(bundle.operating_points))]


def _longest(pack: Pack, specs: Sequence[HookSpec], point: int, costs: Costs) -> float:
    gates, saved = 0.0, 0.0
    for spec in specs:
        threshold = spec.thresholds[point]
        if threshold == NEVER:
            continue
        place = pack.points[spec.point]
        decide, act = costs.hook(spec, place)
        gates += decide
        if threshold != ALWAYS:
            continue
        if spec.action in ("exit", "blend"):
            return costs.before(place.node) - saved + gates + act
        if spec.action == "skip" and place.skip is not None:
            saved += costs.between(place.node, place.skip[2]) - act
    return costs.full - saved + gates
