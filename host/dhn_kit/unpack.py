"""Reads the device's bytes of a pack or bundle back into records, and compares two packs record by record."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from dhn_kit import records
from dhn_kit.errors import DhnError
from dhn_kit.kernels import all_kernels
from dhn_kit.records import Record
from dhn_kit.trailer import device_bytes

Fields = dict[str, Any]


@dataclass(frozen=True)
class Instruction:
    """One instruction. ``kernel`` is the kernel's name for a RUN, else empty; ``params`` its parameters by name."""

    offset: int
    fields: Fields
    kernel: str = ""
    params: Fields | None = None


@dataclass(frozen=True)
class Unpacked:
    """Everything in the device's bytes but the constants, which `constant` reads."""

    data: bytes
    header: Fields
    kernels: list[int]
    io: list[Fields]
    program: list[Instruction]
    points: list[Fields]
    hooks: list[Fields]
    #: per hook: the instructions that decide, those that run when it acts, and those that run when it does not
    hook_programs: list[tuple[list[Instruction], list[Instruction], list[Instruction]]]

    def constant(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


def unpack(data: bytes) -> Unpacked:
    """DhnError when the bytes are no intact pack, or name an operator that this version does not know."""
    image = device_bytes(data)
    header = records.HEADER.unpack(image)
    kernels = list(struct.unpack_from(f"<{header['kernel_count']}H", image, header["kernels"]))

    def table(record: Record, start: int, count: int) -> list[Fields]:
        return [record.unpack(image, start + i * record.size) for i in range(count)]

    hooks = table(records.HOOK, header["hooks"], header["hook_count"])
    return Unpacked(
        image,
        header,
        kernels,
        table(records.IO_TENSOR, header["io"], header["input_count"] + header["output_count"]),
        _program(image, header["program"], kernels, header["program_bytes"]) if header["program_bytes"] else [],
        table(records.POINT, header["points"], header["point_count"]),
        hooks,
        [
            (
                _program(image, hook["program"], kernels),
                _program(image, hook["then"], kernels) if hook["then"] else [],
                _program(image, hook["otherwise"], kernels) if hook["otherwise"] else [],
            )
            for hook in hooks
        ],
    )


def _program(image: bytes, at: int, kernels: list[int], count: int = 0) -> list[Instruction]:
    """The instructions from `at`: `count` bytes of them, or up to and including END."""
    names = all_kernels()
    program: list[Instruction] = []
    end = at + count
    while at < end if count else not program or program[-1].fields["kind"] != records.INSTR_END:
        fields = records.INSTR.unpack(image, at)
        if fields["kind"] == records.INSTR_RUN:
            kernel = kernels[fields["kernel"]]
            if kernel not in names:
                raise DhnError(f"kernel {kernel:#06x} is unknown to this version; pack the network again")
            params = names[kernel].record.unpack(image, at + records.INSTR.size)
            program.append(Instruction(at, fields, names[kernel].name, params))
        else:
            program.append(Instruction(at, fields))
        at += fields["bytes"]
    return program


def compare(a: Unpacked, b: Unpacked) -> list[str]:
    """What differs, one sentence each; empty when both packs do the same with the same numbers."""
    found = [
        f"header: {key} is {a.header[key]} and {b.header[key]}"
        for key in a.header
        if a.header[key] != b.header[key] and key not in ("hash", "crc32")
    ]
    if len(a.program) != len(b.program):
        found.append(f"program: {len(a.program)} and {len(b.program)} instructions")
    for number, (x, y) in enumerate(zip(a.program, b.program, strict=False)):
        if (x.kernel, x.fields, x.params) != (y.kernel, y.fields, y.params):
            found.append(f"instruction {number}: {_differences(x, y)}")
    for what, left, right in (("point", a.points, b.points), ("tensor", a.io, b.io), ("hook", a.hooks, b.hooks)):
        for number, (p, q) in enumerate(zip(left, right, strict=False)):
            if p != q:
                found.append(f"{what} {number}: {', '.join(k for k in p if p[k] != q[k])} differ")
    if not found and a.data != b.data:
        found.append("constants differ")
    return found


def _differences(x: Instruction, y: Instruction) -> str:
    if x.kernel != y.kernel:
        return f"{x.kernel or 'no kernel'} and {y.kernel or 'no kernel'}"
    left, right = {**x.fields, **(x.params or {})}, {**y.fields, **(y.params or {})}
    return f"{', '.join(k for k in left if left[k] != right.get(k))} of {x.kernel or 'a mark'} differ"
