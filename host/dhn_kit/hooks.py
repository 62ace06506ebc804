"""What a hook point, a hook and a certificate are on the host."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from dhn_kit.graph import Graph, Quant, Shape

#: Threshold with which a hook is off at an operating point.
NEVER = 2**31 - 1
#: Threshold with which a hook always acts.
ALWAYS = -(2**31)


@dataclass(frozen=True)
class HookPoint:
    """A place in the main program where hooks may act; ``index`` counts in program order.

    ``node`` is the number of the graph node before which the point sits (len(nodes): never used).
    ``feature_shape`` is the default feature: the tap averaged over ``window`` pixels, in the tap's Quant.
    ``skip`` = (source tensor, destination tensor, node to continue at), None where nothing can be skipped.
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


@dataclass
class HookSpec:
    """One trained hook, ready to be packed.

    ``net`` is a quantised canonical graph whose input is the point's default feature (feature_shape,
    Quant of the tap) and whose output is the score vector. For ``exit`` the score vector is also the answer,
    unless ``answer`` (a quantised graph from the score vector to the network's output quantisation, such as a
    softmax) is given; answer or score must have exactly the main output's shape and Quant.
    For ``skip``, ``repair`` is a quantised graph from the skip's source tensor to its destination tensor
    (both quantisations fixed), run when the hook acts; None copies (same Quant needed).
    ``thresholds`` has one integer per operating point, in units of the int8 score. It acts when
    value >= threshold, where value is score[0] ("value") or the largest minus the second largest ("margin").
    """

    point: int
    action: Literal["exit", "skip"]
    net: Graph
    thresholds: list[int]
    decide: Literal["margin", "value"] = "margin"
    answer: Graph | None = None
    repair: Graph | None = None
    name: str = ""


@dataclass(frozen=True)
class Certificate:
    """Risk of one operating point: P(risk <= epsilon) >= 1 - delta, from n calibration samples.

    "consistency": the gated answer differs from the full network's. "error": it differs from the label; then ``n``
    counts the labelled samples, ``full_errors`` those that the full network answers wrongly, and epsilon is the bound.
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
    report: dict[str, object] = field(default_factory=dict)  #: training facts for `report`, JSON-able
