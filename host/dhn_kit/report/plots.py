"""Draws the report's plots as inline SVG; each returns an empty text where there is nothing to draw."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib

if TYPE_CHECKING:
    from dhn_kit.report.report import MemoryBlock, ReportData

INK, FAINT, ACCENT, WARM, GREEN = "#1c2733", "#8a97a6", "#1f6feb", "#d9730d", "#2a9d5c"
#: Inches. Plots that stand beside each other are drawn smaller, so that their letters come out equally large.
WIDTH, HALF = 7.0, 4.6
MILLION = 1e6
STYLE = {
    "font.size": 11,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6eaef",
    "axes.axisbelow": True,
    "svg.fonttype": "path",
    # Element names are random without a salt.
    "svg.hashsalt": "dhn-kit",
}
KINDS = {
    "full": ("s", INK, "full network"),
    "static": ("^", WARM, "the same for everyone"),
    "smaller": ("D", WARM, "a smaller network"),
    "random": ("x", FAINT, "random gate of equal cost"),
    "oracle": ("*", GREEN, "oracle"),
}


class _Canvas:
    """One figure with one axes, turned into text at the end."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(self.figure)
        self.axes: Any = self.figure.subplots()
        self.svg = ""

    def finish(self, name: str) -> None:
        text = io.StringIO()
        self.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        svg = text.getvalue()
        # matplotlib names elements alike in every figure; on one page the names must differ.
        self.svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg[svg.index("<svg") :])


@contextmanager
def _canvas(name: str, width: float, height: float) -> Iterator[_Canvas]:
    with matplotlib.rc_context(STYLE):
        canvas = _Canvas(width, height)
        yield canvas
        canvas.finish(name)


def tradeoff(data: ReportData) -> str:
    """Accuracy (agreement without labels) against mean instructions, relative to the full network."""
    if not data.points:
        return ""
    labelled = data.full.accuracy is not None
    with _canvas("tradeoff", WIDTH, 4.4) as c:
        x = [p.mean / MILLION for p in data.points]
        y = [100 * (p.accuracy if labelled and p.accuracy is not None else 1 - (p.risk or 0)) for p in data.points]
        c.axes.plot(x, y, "o-", color=ACCENT, label="gated, per operating point", zorder=3)
        c.axes.plot(x[data.chosen], y[data.chosen], "o", ms=13, mfc="none", mec=ACCENT, mew=2, zorder=3)
        bottom = _bottom(data, y)
        for kind, (marker, color, label) in KINDS.items():
            found = [k for k in data.comparisons if k.kind == kind]
            if found:
                xs, ys = [k.cost / MILLION for k in found], [max(100 * k.merit, bottom) for k in found]
                size = 11 if marker == "*" else 8
                c.axes.plot(xs, ys, marker, color=color, ms=size, label=label, ls="none", zorder=2, clip_on=False)
        for far in (k for k in data.comparisons if 100 * k.merit < bottom):
            note = f"\N{DOWNWARDS ARROW} {100 * far.merit:.1f} %"
            place = (far.cost / MILLION, bottom)
            c.axes.annotate(note, place, (6, 6), textcoords="offset points", fontsize=9, color=WARM)
        if not any(k.kind == "full" for k in data.comparisons):
            c.axes.axhline(100 * (data.full.accuracy or 1), color=INK, lw=1, ls="--", label="full network")
        c.axes.set_xlim(left=0)
        c.axes.set_xlabel("mean instructions per inference, millions")
        share = data.full.mean / MILLION
        above = c.axes.secondary_xaxis("top", functions=(lambda v: v / share, lambda v: v * share))
        above.set_xlabel("full network = 1")
        c.axes.set_ylabel("accuracy, %" if labelled else "agreement with the full network, %")
        c.figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize=9)
    return c.svg


def _bottom(data: ReportData, gated: list[float]) -> float:
    """The least merit, in percent, that is drawn in its place: a static choice far below would flatten all the rest."""
    near = [*gated, *(100 * k.merit for k in data.comparisons if k.kind in ("full", "random", "oracle"))]
    return min(near) - max(1.0, 0.5 * (max(near) - min(near)))


def exits(data: ReportData) -> str:
    """Where inputs leave at the chosen operating point."""
    if not data.points or not data.points[data.chosen].exits:
        return ""
    shares = data.points[data.chosen].exits
    with _canvas("exits", HALF, 0.9 + 0.42 * len(shares)) as c:
        names = list(shares)
        bars = c.axes.barh(names, [100 * s for s in shares.values()], color=ACCENT, height=0.6)
        bars[-1].set_color(FAINT)
        c.axes.bar_label(bars, [f"{100 * s:.1f} %" for s in shares.values()], padding=4)
        c.axes.invert_yaxis()
        c.axes.set_xlim(0, max(100 * max(shares.values()) * 1.3, 1))
        c.axes.set_xlabel("share of inputs, %")
        c.axes.grid(axis="y", visible=False)
    return c.svg


def layers(data: ReportData) -> str:
    """Instructions per layer of the full network."""
    rows = [(n if n else o, o, v) for n, o, v in data.layers]
    if not rows:
        return ""
    total = sum(v for _, _, v in rows) or 1.0
    with _canvas("layers", HALF, 0.9 + 0.24 * len(rows)) as c:
        bars = c.axes.barh(range(len(rows)), [v / 1e3 for _, _, v in rows], color=ACCENT, height=0.7)
        c.axes.bar_label(bars, [f"{v / total:.1%}" for _, _, v in rows], padding=4, fontsize=9)
        c.axes.set_yticks(range(len(rows)), [_short(n) for n, _, _ in rows], fontsize=9)
        c.axes.invert_yaxis()
        c.axes.margins(x=0.2)
        c.axes.set_xlabel("thousand instructions per inference")
        c.axes.grid(axis="y", visible=False)
    return c.svg


#: Buffers of the arena by the start of their names: label, fill, hatch. Tensors have any other name.
BUFFERS = {
    "": ("tensor", "#cfe0fb", ""),
    "op.scratch": ("kernel's scratch", "#dfe4ea", "////"),
    "hooks.": ("hooks' scratch", "#f6d9bd", "...."),
}


def memory(data: ReportData) -> str:
    """Which bytes of the arena hold what, step by step. Where a result overlaps its input, both shine through."""
    if not data.memory:
        return ""
    top = max(data.arena_bytes or 0, *(b.offset + b.size for b in data.memory))
    end = max(b.end for b in data.memory)
    with _canvas("memory", WIDTH, 4.6) as c:
        blocks = sorted(data.memory, key=lambda b: (b.start, b.name))
        large = [b for b in blocks if b.size > 0.07 * top]
        shown = [_draw_buffer(c.axes, b) for b in blocks]
        for i, b in enumerate(large):
            # Neighbours overlap by a step: names at different heights do not meet.
            middle = (b.start + (b.end - b.start) / 2, b.offset + b.size * (0.35, 0.65)[i % 2])
            room = int(75 * (b.end - b.start) / end)
            if room >= 7:
                c.axes.text(*middle, _short(b.name.split(";")[0], room), ha="center", va="center", fontsize=8)
        if data.arena_bytes:
            shown.append(c.axes.axhline(data.arena_bytes, color=INK, lw=1, label=f"arena, {data.arena_bytes:,} bytes"))
        if data.arena_lower_bound:
            label = f"lower bound, {data.arena_lower_bound:,} bytes"
            shown.append(c.axes.axhline(data.arena_lower_bound, color=GREEN, lw=1.5, ls=(0, (4, 4)), label=label))
        c.axes.set_xlim(0, end)
        c.axes.set_ylim(0, 1.04 * top)
        c.axes.xaxis.get_major_locator().set_params(integer=True)
        c.axes.set_xlabel("program step (operator or hook point)")
        c.axes.set_ylabel("arena address, bytes")
        kinds = {artist.get_label(): artist for artist in shown}
        c.axes.legend(
            kinds.values(),
            kinds.keys(),
            frameon=False,
            ncols=3,
            fontsize=9,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
        )
    return c.svg


def _draw_buffer(axes: Any, b: MemoryBlock) -> Any:
    from matplotlib.patches import Rectangle

    prefix = max((p for p in BUFFERS if b.name.startswith(p)), key=len)
    label, color, hatch = BUFFERS[prefix]
    box = Rectangle((b.start, b.offset), b.end - b.start, b.size, fc=color, ec=FAINT, lw=0.5, hatch=hatch, alpha=0.75)
    box.set_label(label)
    axes.add_patch(box)
    return box


def sqnr(data: ReportData) -> str:
    """Signal to quantisation noise after each layer."""
    if not data.sqnr:
        return ""
    with _canvas("sqnr", WIDTH, 0.9 + 0.24 * len(data.sqnr)) as c:
        values = [v for _, _, v in data.sqnr]
        bars = c.axes.barh(range(len(values)), values, color=[WARM if v < 15 else ACCENT for v in values], height=0.7)
        c.axes.bar_label(bars, [f"{v:.0f}" for v in values], padding=4, fontsize=9)
        c.axes.set_yticks(range(len(values)), [_short(n) for n, _, _ in data.sqnr], fontsize=9)
        c.axes.invert_yaxis()
        c.axes.margins(x=0.08)
        c.axes.set_xlabel("signal to quantisation noise, dB")
        c.axes.grid(axis="y", visible=False)
    return c.svg


def _short(name: str, room: int = 26) -> str:
    name = name.removesuffix("_out")
    return name if len(name) <= room else "…" + name[1 - room :]
