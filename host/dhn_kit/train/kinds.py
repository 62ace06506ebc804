"""What a kind of hook that changes the computation brings to training: proposals, which are then tuned on the twin."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dhn_kit.hooks import HookSpec
from dhn_kit.pack import Pack
from dhn_kit.train.certify import Costs
from dhn_kit.train.data import Split


@dataclass(frozen=True)
class Context:
    """What a proposal may look at: the pack, the training split (with inputs), costs, and the seed."""

    pack: Pack
    hook: Split
    costs: Costs
    seed: int = 0


@dataclass
class Proposal:
    """A hook without thresholds, and thresholds worth trying: cautious first, the last one acts most often.

    ``note`` and ``numbers`` say what was found out while it was made, for the report.
    """

    spec: HookSpec
    grid: list[int]
    note: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


#: Makes proposals for one pack; an empty list where the kind has no place in it.
Propose = Callable[[Context], list[Proposal]]
