"""What a kernel's time may be made of: sets of loop counts over a call's shape, among which the fit chooses."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence, Set

from dhn_kit import expressions
from dhn_kit.errors import DhnError
from dhn_kit.kernels import Kernel


def _tiles(count: str, by: int) -> str:
    """How many tiles of `by` hold `count`."""
    return count if by == 1 else f"({count} + {by - 1}) // {by}"


def _of(*factors: str) -> str:
    return " * ".join(f"({f})" if any(c in f for c in "+-/%") else f for f in factors if f != "1") or "1"


#: Output pixels one by one, and in the tiles that kernels take them in: along the whole image, along rows, 4x4.
PIXELS = (
    *(_tiles("out_h * out_w", n) for n in (1, 2, 3, 4)),
    *(_of("out_h", _tiles("out_w", n)) for n in (2, 4)),
    _of(_tiles("out_h", 4), _tiles("out_w", 4)),
    _of(_tiles("out_h", 2), _tiles("out_w", 2)),
)
CHANNELS = (1, 2, 4, 8)
#: Products of one output in steps of so many.
STEPS = (1, 2, 4, 8, 16)


def own_terms(kernel: Kernel, scope: Set[str]) -> tuple[str, ...]:
    """What the kernel's author says its loops run; empty: nothing. DhnError: a name that its calls do not have."""
    for term in kernel.work:
        for name in sorted(expressions.names(term) - scope):
            raise DhnError(f"{kernel.name}: no '{name}' in work '{term}'; there are {', '.join(sorted(scope))}")
    return ("1", *kernel.work) if kernel.work else ()


def families(kernel: Kernel, scope: Set[str]) -> list[tuple[str, ...]]:
    """Sets of terms, one of which should fit, over names in `scope`."""
    found = _FAMILIES.get(kernel.op, _flat)()
    return [tuple(dict.fromkeys(t for t in terms if expressions.names(t) <= scope)) for terms in found]


def _convolutions() -> Iterator[tuple[str, ...]]:
    """Pixels in tiles, channels in tiles, products in steps; windows are gathered before or read in place."""
    fixed = ("1", "out_h", "out_c", "out_h * out_w", "taps_h * taps_w", "taps_h * taps_w * in_c", "whole_h * whole_w")
    depth = "kh * kw * in_c"
    for pixels, channel, step in itertools.product(PIXELS, CHANNELS, STEPS):
        groups = _tiles("out_c", channel)
        inner = [_tiles(depth, step)] if step > 1 else [depth]
        yield (
            *fixed,
            pixels,
            *(_of(pixels, term) for term in ("kh", "kh * kw", depth, groups)),
            *(_of(pixels, groups, i) for i in inner),
            _of(groups, *inner),
        )
    # Taps outside the image are left out: no windows to gather.
    for channel in CHANNELS:
        groups = _tiles("out_c", channel)
        yield (
            *fixed,
            *(_of("out_h * out_w", g) for g in (groups, f"{groups} * kh")),
            *(_of("taps_h * taps_w", groups, t) for t in ("1", "in_c")),
            _of("taps_h * out_w", groups),
        )


def _depthwise() -> Iterator[tuple[str, ...]]:
    fixed = ("1", "out_h", "out_c", "out_h * out_w", "taps_h * taps_w", "taps_h * out_w", "whole_h * whole_w")
    for pixels, channel in itertools.product(PIXELS, CHANNELS):
        groups = _tiles("out_c", channel)
        yield (
            *fixed,
            *(_of(p, groups) for p in dict.fromkeys((pixels, "out_h", "in_h", "in_h * in_w", "out_h * kh", "1"))),
            *(_of(taps, groups) for taps in ("taps_h * taps_w", "taps_h * out_w", f"{pixels} * kh * kw")),
        )


def _fully_connected() -> Iterator[tuple[str, ...]]:
    for channel, step in itertools.product(CHANNELS, STEPS):
        groups, steps = _tiles("out_c", channel), _tiles("in_c", step)
        yield (
            *("1", "rows", "rows * in_c", "rows * out_c", "out_c"),
            *(_of("rows", x) for x in dict.fromkeys((groups, steps))),
            _of("rows", groups, steps),
        )


def _pools() -> Iterator[tuple[str, ...]]:
    """Channels in words and their rest; the windows' rows, one where they span the image's width."""
    walks = ("out_h * out_w", "taps_h * out_w", "taps_h * taps_w", "taps_h * (out_w - spans_w) + out_h * spans_w")
    for word in (1, 4, 8, 16):
        yield ("1", "out_h", *walks[:3], *_words("c", word, walks))


def _words(count: str, word: int, walks: Sequence[str]) -> Iterator[str]:
    for walk in walks:
        yield _of(walk, count if word == 1 else f"{count} // {word}")
        if word > 1:
            yield _of(walk, f"{count} % {word}")


def _means() -> Iterator[tuple[str, ...]]:
    for word in (1, 4, 8, 16):
        yield ("1", "c", "pixels", *_words("c", word, ("1", "pixels")))


def _flat() -> Iterator[tuple[str, ...]]:
    """Element by element, or in words and their rest; rows of a strided walk."""
    sizes = ("count", "rows * c", "shape0 * shape1 * shape2")
    for word in (1, 4, 8, 16):
        yield (
            *("1", "rows", "shape0", "shape0 * shape1", "c"),
            *(f"({size}) // {word}" if word > 1 else size for size in sizes),
            *(f"({size}) % {word}" for size in sizes if word > 1),
            *((f"shape0 * shape1 * (shape2 // {word})", f"shape0 * shape1 * (shape2 % {word})") if word > 1 else ()),
        )


_FAMILIES = {
    "conv2d": _convolutions,
    "depthwise_conv2d": _depthwise,
    "fully_connected": _fully_connected,
    "avg_pool": _pools,
    "max_pool": _pools,
    "mean": _means,
}
