"""What a hook point, a hook and a certificate are on the host."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from dhn_kit.graph import Graph, Quant, Shape

#: Threshold with which a hook is off at an operating point.
NEVER = 2**31 - 1
#: Threshold with which a hook is evaluated, for what it keeps, and never acts.
SILENT = 2**31 - 2
#: Threshold with which a hook always acts; a mask opens all its gates.
ALWAYS = -(2**31)

#: Arena bytes that hooks own from run to run, unless the pack says otherwise: the environment, then what one hook
#: leaves to a later one or to the next run.
KEEP_BYTES = 256

Action = Literal["exit", "skip", "select", "mask", "reuse", "blend"]
#: Families of hooks, by which users attach them. "zero" is a choice of kernels, which needs no hook.
Kind = Literal["exit", "input", "blend", "skip", "channel", "spatial", "bits", "select", "reuse", "zero"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Kinds that need something in the main pack, which is there only if it was asked for.
PACKED_KINDS: tuple[Kind, ...] = ("input", "channel", "spatial", "bits", "select", "reuse", "zero")


@dataclass(frozen=True)
class HookPoint:
    """A place in the main program where hooks may act; ``index`` counts in program order.

    ``node`` is the number of the graph node before which the point sits (len(nodes): never used).
    ``feature_shape`` is the default feature: the tap averaged over ``window`` pixels, in the tap's Quant.
    ``skip`` = (source tensor, destination tensor, node to continue at), None where nothing can be skipped.
    ``final``: everything but a softmax has run; nothing is left to save here, but the answer can still be blended.
    """

    index: int
    name: str
    node: int
    tap: str
    tap_shape: Shape
    tap_quant: Quant
    window: tuple[int, int]
    feature_shape: Shape
    skip: tuple[str, str, int] | None = None
    final: bool = False


@dataclass
class HookSpec:
    """One trained hook, ready to be packed.

    ``net`` is a quantised canonical graph. Its input ports say by name what it reads: "tap" (the point's tap as it is),
    "env" (the environment: 16 int8 channels, (1, 1, 16), scale 1), "keep.NAME" (what an earlier hook, or this one in an
    earlier run, has kept); any other name is the point's default feature (feature_shape, Quant of the tap). Its first
    output is the score vector that is decided on; the last one is what an answer is made of. ``keeps`` maps tensors of
    the net to the names under which they stay in the arena for later hooks and runs.

    exit, blend: the answer is the net's last output, or what ``answer`` (a quantised graph whose first input is that
    output and whose others are "keep.NAME") makes of it; its shape and Quant are the main output's. A blend sits at the
    final point.
    skip: ``repair`` is a quantised graph from the skip's source tensor to its destination tensor (both quantisations
    fixed), run when the hook acts; None copies (same Quant needed).
    select: selection ``group`` becomes ``variant``. mask: one gate per score; with ``mask_groups`` gates are selections
    from ``group`` on, else bytes that the pack reserves for ``group`` (see FORMAT.md).
    reuse: the last computed output becomes the answer. ``otherwise`` runs when the hook was asked and does not act: a
    quantised graph whose input ports are "net.T" (tensor T of the net), "env" or "keep.NAME", and whose outputs are
    ports "keep.NAME".

    ``thresholds`` has one integer per operating point, in units of the int8 score. It acts when value >= threshold,
    where value is score[0] ("value") or the largest minus the second largest ("margin"); a mask shuts the gates below
    it. ``kind`` is the family that reports name it by.
    """

    point: int
    action: Action
    net: Graph
    thresholds: list[int]
    decide: Literal["margin", "value"] = "margin"
    answer: Graph | None = None
    repair: Graph | None = None
    name: str = ""
    kind: Kind | Literal[""] = ""
    keeps: dict[str, str] = field(default_factory=dict)
    otherwise: Graph | None = None
    group: int = 0
    variant: int = 1
    mask_groups: bool = False

    @property
    def family(self) -> str:
        """The kind, or for want of one the action."""
        return self.kind or self.action


@dataclass(frozen=True)
class PolicyRow:
    """Chooses operating point ``point`` while low <= environment[channel] <= high. The first row that holds wins."""

    point: int
    channel: int
    low: int = -128
    high: int = 127


@dataclass(frozen=True)
class StatisticRange:
    """What calibration saw of one statistic, for the board's drift monitor. ``kind`` is the monitor's."""

    kind: int
    index: int
    operating_point: int
    low: int
    high: int


@dataclass(frozen=True)
class Certificate:
    """Risk of one operating point: P(risk <= epsilon) >= 1 - delta, from n calibration samples.

    "consistency": the gated answer differs from the full network's. "error": it differs from the label; then ``n``
    counts the labelled samples, ``full_errors`` those that the full network gets wrong; epsilon may be the bound.
    ``bound`` is what ``method`` says about `errors` of n at confidence 1 - delta / candidates: one that was not asked
    for in advance must hold for all ``candidates`` from which the same samples chose the operating point.
    """

    operating_point: int
    kind: Literal["consistency", "error"]
    epsilon: float
    delta: float
    n: int
    errors: int
    bound: float
    method: str  #: e.g. "learn-then-test, fixed sequence, Clopper-Pearson"
    split_hash: str  #: SHA-256 over the tags and inputs/features of the calibration samples
    candidates: int = 1
    full_errors: int | None = None

    @property
    def excess(self) -> float | None:
        """By how much the gated answers' error rate is above the full network's on the same samples."""
        return None if self.full_errors is None else (self.errors - self.full_errors) / self.n


def promises(certificates: Iterable[Certificate]) -> dict[int, Certificate]:
    """What each operating point is known by: its consistency certificate, or that of error where there is no other."""
    ordered = sorted(certificates, key=lambda c: c.kind == "consistency")
    return {c.operating_point: c for c in ordered}


@dataclass
class Bundle:
    """What `push` sends: hooks with their operating points (cautious first) and certificates."""

    hooks: list[HookSpec]
    operating_points: list[str]
    certificates: list[Certificate] = field(default_factory=list)
    version: int = 1
    policies: list[PolicyRow] = field(default_factory=list)
    ranges: list[StatisticRange] = field(default_factory=list)
    report: dict[str, object] = field(default_factory=dict)  #: training facts for `report`, JSON-able
