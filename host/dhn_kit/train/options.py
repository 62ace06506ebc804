"""What a training may choose, and what it says of hooks that were not worth it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dhn_kit.graph import Graph
from dhn_kit.hooks import Kind
from dhn_kit.train.heads import Head, Method

#: What a wrong answer differs from: the full network's, or the label.
Against = Literal["network", "label"]


@dataclass(frozen=True)
class ExitShape:
    """One exit of a searched design: where it sits, its hidden units (0: linear), and the cells it averages over."""

    point: int
    hidden: int
    pool: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Options:
    """``risks`` are the targets of the operating points, each certified at confidence 1 - ``delta``."""

    risks: tuple[float, ...] = (0.0025, 0.005, 0.01, 0.02, 0.05)
    delta: float = 0.05
    kinds: tuple[Kind, ...] = ("exit", "skip")
    copies: int = 6  #: warped copies of each input that heads learn from; 0 where warping makes no sense
    folds: int = 4
    label_share: float = 0.3  #: weight of a true label against the full network's answer
    most_skips: int = 2  #: skip hooks beside each other; each doubles the paths to be recorded
    least_gain: float = 0.005  #: share of a full run that a hook must save
    prune_at: float = 0.005  #: risk at which a hook's worth is judged
    slot_bytes: int = 65536  #: what the bundle must fit
    version: int = 1
    seed: int = 0
    methods: tuple[Method, ...] = ("bp",)  #: how heads learn; of several the better one is kept, head by head
    start: Mapping[str, Head] = field(default_factory=dict)  #: heads of an earlier bundle to go on from, by hook name
    survivors: float = 0.0  #: how much more a sample weighs that no earlier exit would let go
    cascade: bool = False  #: exits that pay are fitted anew, each reading the scores of those before it
    exits: tuple[ExitShape, ...] | None = None  #: these exits and no others; None: one at every point, width chosen
    against: Against = "network"  #: what a wrong answer differs from
    side: Graph | None = None  #: a trained float network on the input, for hooks of kind "input"
    allow_unseen: bool = False  #: train although a class never occurs


@dataclass(frozen=True)
class Dropped:
    """A hook that was tried and is not in the bundle."""

    name: str
    reason: str
    numbers: dict[str, float] = field(default_factory=dict)
