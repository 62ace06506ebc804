"""Packs a network with fills over every byte that its memory plan calls dead: a proof that the plan is right."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import struct

from dhn_kit import records
from dhn_kit.kernels import reference_kernels
from dhn_kit.memory import Memory
from dhn_kit.pack import Pack, write_main

GARBAGE = 0x55


def poisoned(plain: Pack) -> Pack:
    """`plain` again, same places, with all dead arena bytes filled with garbage before every step.

    Outputs must equal those of `plain` on every input, gated or not (the bundle has to be packed for this pack).
    """
    assert plain.lowered is not None, "poisoned() takes what pack() returned, not a file"
    fill = reference_kernels()["fill"]
    holes = {step: dead_ranges(plain, step) for step in range(len(plain.steps))}

    def fills(step: int) -> list[tuple[int, int, bytes]]:
        """(kernel id, arena offset, parameters) of what comes before a step."""
        return [(fill.id, start, records.FILL.pack(count=end - start, value=GARBAGE)) for start, end in holes[step]]

    header = plain.header
    linked = struct.unpack_from(f"<{header['kernel_count']}H", plain.data, header["kernels"])
    places = (plain.offsets, plain.arena_bytes, plain.arena_lower_bound, plain.arena_proven, plain.lifetimes)
    data = write_main(
        plain.lowered, plain.points, plain.steps, Memory(*places), fills, flavour=plain.header["flavour"], linked=linked
    )
    return dataclasses.replace(plain, data=data)


def dead_ranges(pack: Pack, step: int) -> list[tuple[int, int]]:
    """Arena ranges [start, end) that no buffer alive at `step` covers."""
    live = sorted(
        (pack.offsets[name], pack.offsets[name] + size)
        for name, (start, end, size) in pack.lifetimes.items()
        if start <= step < end
    )
    ranges, at = [], 0
    for start, end in [*live, (pack.arena_bytes, pack.arena_bytes)]:
        if start > at:
            ranges.append((at, start))
        at = max(at, end)
    return ranges
