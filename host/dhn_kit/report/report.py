"""Renders everything that was measured into one HTML file without outside resources."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
import numpy.typing as npt

from dhn_kit import resources
from dhn_kit.hooks import Certificate
from dhn_kit.pack import Pack
from dhn_kit.report import plots
from dhn_kit.train.baselines import Ablation, Comparison

TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class Figures:
    """One row of the main table, over the same inputs. Costs in instructions per inference; shares in 0..1.

    ``exits`` maps where inputs leave ("end" for the full run) to their share, ``skips`` any other hook to how often
    it acted. ``accuracy`` is None without labels, ``risk`` (measured disagreement) None for the full network.
    """

    name: str
    mean: float
    median: float
    worst: float
    accuracy: float | None = None
    risk: float | None = None
    certificate: Certificate | None = None
    exits: dict[str, float] = field(default_factory=dict)
    skips: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MemoryBlock:
    """Bytes [offset, offset + size) hold `name` during program steps [start, end)."""

    name: str
    start: int
    end: int
    offset: int
    size: int


@dataclass
class ReportData:
    """All inputs of a report; what is empty or None is left out of the page."""

    model: str
    board: str
    counting: str  #: how instructions were counted, such as "executed on the emulated core" or "predicted"
    inputs: int  #: number of inputs behind the table
    full: Figures
    points: list[Figures] = field(default_factory=list)
    chosen: int = 0  #: operating point that is highlighted
    comparisons: list[Comparison] = field(default_factory=list)
    ablation: list[Ablation] = field(default_factory=list)  #: at the chosen operating point
    silent: list[str] = field(default_factory=list)  #: kinds that never act there
    certificates: list[Certificate] = field(default_factory=list)
    layers: list[tuple[str, str, float]] = field(default_factory=list)  #: (name, op, instructions)
    arena_bytes: int | None = None
    arena_lower_bound: int | None = None
    flash_bytes: int | None = None  #: main pack
    hook_bytes: int | None = None  #: hook bundle
    memory: list[MemoryBlock] = field(default_factory=list)
    sqnr: list[tuple[str, str, float]] = field(default_factory=list)  #: (name, op, decibels)
    #: how often int8 and float answer the same, and accuracies where there are labels: label -> share
    agreement: dict[str, float] = field(default_factory=dict)
    dropped: list[tuple[str, str]] = field(default_factory=list)  #: (hook, reason)
    refused: dict[str, str] = field(default_factory=dict)  #: risk target -> why it has no operating point
    facts: dict[str, str] = field(default_factory=dict)  #: further lines, such as samples collected and lost


def figures(
    name: str,
    cost: npt.ArrayLike,
    answer: npt.ArrayLike,
    reference: npt.ArrayLike,
    label: npt.ArrayLike | None = None,
    left_at: npt.ArrayLike | None = None,
    exit_names: Sequence[str] = (),
    acted: npt.ArrayLike | None = None,
    certificate: Certificate | None = None,
) -> Figures:
    """Summarises one run over N inputs: cost, class answered, the full network's class and the true one (N,), -1 where
    nobody knows it.

    ``left_at`` (N,) is the index in ``exit_names`` of the hook at which an input left, -1 for the end; ``acted``
    (N, hooks) says which hooks acted: those that are no exit are counted as skips.
    """
    cost, answer, reference = np.asarray(cost, np.float64), np.asarray(answer), np.asarray(reference)
    known = np.asarray(-1 if label is None else label) >= 0
    accuracy = float((answer == np.asarray(label))[known].mean()) if known.any() else None
    exits, skips = {}, {}
    if left_at is not None:
        left = np.asarray(left_at)
        exits = {n: float((left == k).mean()) for k, n in enumerate(exit_names) if (left == k).any()}
        exits["end"] = float((left < 0).mean())
        if acted is not None:
            table = np.asarray(acted, bool)
            others = [k for k in range(table.shape[1]) if table[:, k].any() and not (left == k).any()]
            skips = {exit_names[k]: float(table[:, k].mean()) for k in others}
    return Figures(
        name,
        float(cost.mean()),
        float(np.median(cost)),
        float(cost.max()),
        accuracy,
        float((answer != reference).mean()),
        certificate,
        exits,
        skips,
    )


def memory_blocks(pack: Pack) -> list[MemoryBlock]:
    """The planned buffers of a pack, hook scratch included."""
    return [
        MemoryBlock(name, start, end, pack.offsets[name], size)
        for name, (start, end, size) in pack.lifetimes.items()
        if name in pack.offsets
    ]


def write_report(path: str | Path, data: ReportData) -> None:
    """Writes the page whole or not at all."""
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(render(data), encoding="utf-8")
    temporary.replace(path)


def render(data: ReportData) -> str:
    """The page as text. The same data give the same page."""
    loader = jinja2.FileSystemLoader(resources.path("templates"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"count": count, "percent": percent, "times": times, "risk": percent_of_risk}
    drawings = {
        "tradeoff": plots.tradeoff(data),
        "exits": plots.exits(data),
        "layers": plots.layers(data),
        "memory": plots.memory(data),
        "sqnr": plots.sqnr(data),
    }
    return environment.get_template(TEMPLATE).render(data=data, plots=drawings, best=_best_static(data))


def _best_static(data: ReportData) -> Comparison | None:
    """The static choice that agrees most with the full network; of equal ones the cheapest."""
    found = [c for c in data.comparisons if c.kind in ("static", "smaller")]
    return max(found, key=lambda c: (c.agreement, -c.cost), default=None)


def count(value: float | None) -> str:
    """1234567 as 1,234,567."""
    return "–" if value is None else f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def percent_of_risk(value: float | None) -> str:
    return percent(value, 2)


def times(value: float, base: float) -> str:
    """A ratio as 0.24×."""
    return f"{value / base:.2f}×" if base else "–"
