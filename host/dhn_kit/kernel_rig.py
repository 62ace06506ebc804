"""Runs single kernels, on an emulated core or in the host twin, with guards around everything that they may write."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import shlex
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dhn_kit.board_session import FLASH_FILE, BoardSession
from dhn_kit.boards import Board
from dhn_kit.c_text import render
from dhn_kit.errors import DhnError
from dhn_kit.firmware_build import build_program
from dhn_kit.kernels import Kernel, load_kernels
from dhn_kit.layouts import Prepared
from dhn_kit.link import Transport
from dhn_kit.twin import library

#: As in firmware/rig/rig.h.
MAGIC, RESULT, END, START = 0x47495244, 0x52495244, 0x45495244, 0x53495244
HEADER = struct.Struct("<8I")
CASE = struct.Struct("<16I")
REPLY = struct.Struct("<6I")
FAULTS = {
    1: "wrote beside its buffers",
    2: "changed an input",
    4: "changed a constant",
    8: "gave two outputs for one input",
    16: "is not linked",
    32: "needs more memory than the rig has",
    64: "crashed",
}
#: The board came up again in the middle of a case.
CRASHED = 64
#: A kernel that says nothing for so long hangs.
TIMEOUT_S = 60.0
#: Bytes of cases in one go: the size of the flash area of the boards as the rig builds them.
ROOM = 2 << 20
#: Around every buffer; and what the output holds before the call.
GUARD_BYTES, UNWRITTEN = 64, 0x33


@dataclass(frozen=True)
class Case:
    """One call of a kernel. Constant offsets in ``params`` count from the start of ``consts``.

    ``lead``: the output starts so many bytes below input ``over`` and overlaps it; None: they lie apart. ``skew``:
    bytes behind a multiple of 4 at which inputs and output start.
    """

    kernel: Kernel
    params: bytes
    consts: bytes
    in0: bytes
    in1: bytes | None
    out_bytes: int
    scratch_bytes: int
    lead: int | None = None
    over: int = 0
    skew: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Outcome:
    """``instructions``: of one call, 0 where they cannot be counted. ``faults``: what went wrong, in words."""

    output: bytes
    instructions: int
    faults: tuple[str, ...] = ()

    @property
    def canaries(self) -> bool:
        """Whether nothing was written but the output and the scratch."""
        return not self.faults


def place(prepared: Prepared) -> tuple[bytes, bytes]:
    """The parameter record and the constants that it points into, each at a multiple of 4."""
    consts = bytearray()
    offsets = {}
    for name, data in prepared.consts.items():
        offsets[name] = len(consts)
        consts += data + bytes(-len(data) % 4)
    return prepared.record.pack(**{**prepared.values, **offsets}), bytes(consts)


def run_cases(board: Board, cases: Sequence[Case], folder: Path, *, count: bool = True) -> list[Outcome]:
    """Every case on the emulated core, with all kernels of the board's architecture linked.

    Instructions are those of the call, exact to a few: short kernels are repeated, on fresh copies of their inputs.
    ``count`` False: two runs each and a rough count. The program is built in ``folder`` and found there by later calls.
    DhnError: compiler or emulator missing, or a case that neither ends nor crashes.
    """
    elf = build_rig(board, folder)
    outcomes: list[Outcome] = []
    while len(outcomes) < len(cases):
        blob = _Blob(ROOM, count)
        batch = list(itertools.takewhile(blob.add, cases[len(outcomes) :]))
        if not batch:
            raise DhnError(f"a case of {cases[len(outcomes)].kernel.name} needs more than {ROOM} bytes")
        outcomes += [_outcome(*reply, board) for reply in _run_batch(board, elf, blob.image(), batch, folder)]
    return outcomes


def build_rig(board: Board, folder: Path) -> Path:
    """The program with all kernels of the board's architecture."""
    slots = tuple(board.hook_flash.base + i * ROOM // 2 for i in range(2))
    flash = dataclasses.replace(board.hook_flash, slot_bytes=ROOM // 2, slots=slots)
    board = dataclasses.replace(board, hook_flash=flash)
    kernels = sorted(load_kernels(board.flavour), key=lambda k: k.id)
    generated = {"rig_registry.c": render("rig_registry.c.j2", kernels=kernels)}
    return build_program("rig", generated, kernels, board, folder)


class _Blob:
    """A batch as the program finds it in its flash area: header, cases, and what they point to."""

    def __init__(self, room: int, count: bool) -> None:
        self.room = room
        self.count = count
        self.cases: list[list[int]] = []
        self.data = bytearray()
        self._seen: dict[bytes, int] = {b"": 0}

    def add(self, case: Case) -> bool:
        """False: there is no room for it."""
        parts = [p for p in (case.params, case.consts, case.in0, case.in1 or b"") if p not in self._seen]
        size = HEADER.size + CASE.size * (len(self.cases) + 1) + len(self.data) + sum(len(p) + 16 for p in parts)
        if size > self.room:
            return False
        in1 = case.in1 or b""
        self.cases.append(
            [
                case.kernel.id, self._put(case.params), self._put(case.consts), len(case.consts),
                self._put(case.in0), len(case.in0), self._put(in1), len(in1), case.out_bytes, case.scratch_bytes,
                0 if case.lead is None else case.over + 1, case.lead or 0, *case.skew, 0, 0,
            ]
        )  # fmt: skip
        return True

    def _put(self, part: bytes) -> int:
        if part not in self._seen:
            self.data += bytes(-len(self.data) % 16)
            self._seen[part] = len(self.data)
            self.data += part
        return self._seen[part]

    def image(self) -> bytes:
        table = HEADER.size
        start = table + CASE.size * len(self.cases)
        rows = b""
        for row in self.cases:
            moved = [value + start if place in (1, 2, 4, 6) else value for place, value in enumerate(row)]
            rows += CASE.pack(*moved)
        return HEADER.pack(MAGIC, len(self.cases), table, int(self.count), 0, 0, 0, 0) + rows + bytes(self.data)


Reply = tuple[bytes, float, int]  #: output, ticks per run, faults


def _run_batch(board: Board, elf: Path, blob: bytes, cases: Sequence[Case], workdir: Path) -> list[Reply]:
    workdir.mkdir(parents=True, exist_ok=True)
    flash = workdir / FLASH_FILE
    with flash.open("wb") as file:
        file.write(blob)
        file.truncate(max(board.hook_flash.bytes, ROOM))
    session = BoardSession(board, elf, workdir)
    try:
        transport = session.connect()
        try:
            return _listen(transport, cases, board, shlex.join(session.command))
        finally:
            transport.close()
    finally:
        session.close()
        flash.unlink()


def _listen(transport: Transport, cases: Sequence[Case], board: Board, command: str) -> list[Reply]:
    """Replies up to the last case, or up to the first one that crashed."""
    replies: list[Reply] = []
    starts = 0
    for magic, index, reply in _messages(transport, board, lambda: f"'{_name(cases, len(replies))}'", command):
        if magic == END and len(replies) == len(cases):
            break
        if magic == START:
            starts += 1
            if starts > 1:
                return [*replies, (b"", 0.0, CRASHED)]
        elif magic == RESULT and index == len(replies):
            replies.append(reply)
        else:
            raise DhnError(f"{board.name}: the rig's answer makes no sense; repeat with: {command}")
    return replies


def _name(cases: Sequence[Case], index: int) -> str:
    return cases[index].kernel.name if index < len(cases) else "rig"


def _messages(
    transport: Transport, board: Board, running: Callable[[], str], command: str
) -> Iterator[tuple[int, int, Reply]]:
    """(magic, index, reply) as they come in."""
    waiting = bytearray()
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        while len(waiting) >= REPLY.size:
            magic, index, faults, runs, ticks, size = REPLY.unpack_from(waiting)
            total = REPLY.size + size + (-size % 4)
            if len(waiting) < total:
                break
            output = bytes(waiting[REPLY.size : REPLY.size + size])
            del waiting[:total]
            yield magic, index, (output, ticks / max(1, runs), faults)
            deadline = time.monotonic() + TIMEOUT_S
        waiting += transport.read(0.2)
        if time.monotonic() > deadline:
            raise DhnError(f"{board.name}: {running()} did not end within {TIMEOUT_S:.0f} s; repeat with: {command}")


def _outcome(output: bytes, ticks: float, faults: int, board: Board) -> Outcome:
    instructions = max(0, round(ticks * board.timer.instructions_per_tick))
    return Outcome(output, instructions, tuple(text for bit, text in FAULTS.items() if faults & bit))


def run_on_twin(cases: Sequence[Case]) -> list[Outcome]:
    """The same in the host twin. Instructions are not counted."""
    return [_on_twin(case) for case in cases]


class _Room:
    """Memory of this process in which buffers lie with guards between them."""

    def __init__(self, size: int, garbage: int) -> None:
        self.array = np.full(size + 16, garbage, np.uint8)
        self.base = -self.array.ctypes.data % 16
        self.used = self.base + GUARD_BYTES
        self.taken: list[tuple[int, int]] = []
        self.garbage = garbage

    def carve(self, size: int, skew: int = 0) -> int:
        at = self.used + (-(self.used - self.base)) % 4 + skew
        self.taken.append((at, at + size))
        self.used = at + size + GUARD_BYTES
        return at

    def write(self, at: int, data: bytes) -> None:
        self.array[at : at + len(data)] = np.frombuffer(data, np.uint8)

    def read(self, at: int, size: int) -> bytes:
        return self.array[at : at + size].tobytes()

    def guards_intact(self) -> bool:
        free = np.ones(len(self.array), bool)
        for start, end in self.taken:
            free[start:end] = False
        return bool((self.array[free] == self.garbage).all())

    def pointer(self, at: int) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.array.ctypes.data + at)


def _on_twin(case: Case) -> Outcome:
    first, faults = _twin_call(case, 0xA5)
    second, more = _twin_call(case, 0x5A)
    found = faults | more | (8 if first != second else 0)
    return Outcome(first, 0, tuple(text for bit, text in FAULTS.items() if found & bit))


def _twin_call(case: Case, garbage: int) -> tuple[bytes, int]:
    sizes = len(case.params) + len(case.consts) + len(case.in0) + len(case.in1 or b"") + case.out_bytes
    room = _Room(sizes + case.scratch_bytes + (case.lead or 0) + 16 * GUARD_BYTES, garbage)
    inputs = [case.in0, case.in1 or b""]
    params, consts = room.carve(len(case.params)), room.carve(len(case.consts))
    reach = 0 if case.lead is None else case.lead + len(inputs[case.over])
    out = room.carve(max(case.out_bytes, reach), case.skew[1])
    apart = [case.lead is None or case.over != i for i in range(2)]
    at = [room.carve(len(inputs[i]), case.skew[0]) if apart[i] else out + (case.lead or 0) for i in range(2)]
    scratch = room.carve(case.scratch_bytes)
    room.write(out, bytes([UNWRITTEN]) * case.out_bytes)
    for start, data in zip((params, consts, *at), (case.params, case.consts, *inputs), strict=True):
        room.write(start, data)
    status = library().twin_kernel(
        ctypes.c_uint32(case.kernel.id),
        *(room.pointer(start) for start in (params, *at, out, scratch, consts)),
    )
    faults = (16 if status else 0) | (0 if room.guards_intact() else 1)
    if any(apart[i] and room.read(at[i], len(inputs[i])) != inputs[i] for i in range(2)):
        faults |= 2
    if room.read(consts, len(case.consts)) != case.consts:
        faults |= 4
    return room.read(out, case.out_bytes), faults
