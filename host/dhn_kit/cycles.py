"""Estimates a kernel's cycles per instruction: its instructions, traced, at the core's published timings.

The timings are those of the Cortex-M4 Technical Reference Manual (Arm 100166, section 3.3.1, and its notes on loads and
stores) and of the Cortex-M3's (Arm 100165), for memory without wait states. An instruction takes one cycle but:

- a load takes two, one behind a load that it does not depend on; behind a store nothing is saved
- a store takes one, with a register offset two unless it follows a load
- LDM, STM, PUSH, POP: one and as many as there are registers; LDRD and STRD three
- what jumps takes two more, to refill the pipeline (1 to 3); a branch that is not taken takes one
- SDIV and UDIV take 2 to 12: seven
- the Cortex-M4 multiplies in one cycle; the Cortex-M3 takes two for MLA and MLS, four for SMULL and UMULL (3 to 5),
  five for SMLAL and UMLAL (4 to 7)

It is an estimate: contention for the buses, unaligned words, the alignment of jump targets and folded IT are left out.
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dhn_kit.boards import Board
from dhn_kit.errors import DhnError
from dhn_kit.firmware_build import COMPILER_PACKAGES
from dhn_kit.kernel_rig import Case, build_rig, run_cases
from dhn_kit.kernels import Kernel

#: Cycles of multiplications beyond one, by core.
MULTIPLY: dict[str, dict[str, int]] = {
    "cortex-m4": {},
    "cortex-m3": {"mla": 1, "mls": 1, "smull": 3, "umull": 3, "smlal": 4, "umlal": 4},
}
REFILL = 2
#: The emulator's, of cores without virtual memory.
PAGE = 1024
DIVIDE = 7
#: What kernels call of the C library.
LIBRARY = frozenset({"memcpy", "memmove", "memset"})
_JUMPS = re.compile(
    r"b[lx]?x?(eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)? |cbn?z |tb[bh] |pop.*pc|ldm.*pc|ldr\w* pc|(add|mov)\w* pc"
)
_TRACE = re.compile(r"^Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/")


@dataclass(frozen=True)
class Instruction:
    """``words``: registers of a block transfer, 0 for all else. ``loads`` and ``stores`` are single transfers."""

    pc: int
    end: int
    name: str
    operands: str
    words: int = 0
    loads: str = ""
    stores: bool = False


def estimate(board: Board, cases: Sequence[Case], folder: Path) -> dict[str, float]:
    """Cycles per instruction by kernel name, over these calls; empty for cores whose timings are not known.

    DhnError: the compiler's tools or the emulator are missing.
    """
    if board.core.name not in MULTIPLY or not cases:
        return {}
    elf = build_rig(board, folder)
    code = _code(board, elf, [c.kernel for c in cases])
    log = folder / "trace.log"
    try:
        run_cases(_tracing(board, code.ranges(), log), cases, folder, count=False)
        with log.open() as lines:
            return _per_instruction(code, _addresses(lines), MULTIPLY[board.core.name])
    finally:
        log.unlink(missing_ok=True)


def _tracing(board: Board, ranges: Iterable[tuple[int, int]], log: Path) -> Board:
    """The same board, telling the address of every block of instructions in these ranges."""
    assert board.emulator is not None
    where = ",".join(f"{start:#x}+{end - start:#x}" for start, end in ranges)
    # With -icount blocks may end anywhere, to be in time for the timer.
    command = tuple(a for a in board.emulator.command if a not in ("-icount", "shift=0"))
    trace = ("-d", "exec,nochain", "-dfilter", where, "-D", str(log))
    emulator = dataclasses.replace(board.emulator, command=(*command, *trace))
    return dataclasses.replace(board, emulator=emulator)


@dataclass(frozen=True)
class _Code:
    """``functions``: (start, end) of what belongs to kernels; ``entries``: kernel by its first address."""

    at: Mapping[int, Instruction]
    functions: Sequence[tuple[int, int]]
    library: Sequence[tuple[int, int]]
    entries: Mapping[int, str]

    def ranges(self) -> Sequence[tuple[int, int]]:
        return [*self.functions, *self.library]


def _code(board: Board, elf: Path, kernels: Sequence[Kernel]) -> _Code:
    """From the disassembly, and from the symbols, which come behind the name of their file."""
    tool = board.core.compiler.removesuffix("gcc")
    wanted, sources = {k.name for k in kernels}, {Path(k.source).name for k in kernels}
    functions, library, entries, file = [], [], {}, ""
    for line in _output(tool + "readelf", "-sW", str(elf), board=board).splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].removesuffix(":").isdecimal():
            continue
        value, size, kind, binding, name = int(fields[1], 16) & ~1, int(fields[2], 0), fields[3], fields[4], fields[7]
        if kind == "FILE":
            file = name
        elif kind == "FUNC" and size:
            if name in LIBRARY:
                library.append((value, value + size))
            elif name in wanted or (binding == "LOCAL" and file in sources):
                functions.append((value, value + size))
        if name in wanted:
            entries[value] = name
    listing = _output(tool + "objdump", "-d", "--no-show-raw-insn", str(elf), board=board)
    return _Code(_instructions(listing), functions, library, entries)


def _output(*command: str, board: Board) -> str:
    if shutil.which(command[0]) is None:
        package = COMPILER_PACKAGES.get(board.core.compiler, board.core.compiler)
        raise DhnError(f"{command[0]} is missing; install it with 'apt-get install {package}'")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


_LISTED = re.compile(r"^ *([0-9a-f]+):\t(\S+)(?:\t([^;@]*))?")


def _instructions(listing: str) -> dict[int, Instruction]:
    found: dict[int, Instruction] = {}
    rows = [m for line in listing.splitlines() if (m := _LISTED.match(line))]
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        pc = int(row[1], 16)
        end = int(after[1], 16) if after else pc + 2
        found[pc] = decode(pc, min(end, pc + 4), row[2], (row[3] or "").strip())
    return found


_CONDITION = re.compile(r"^(\w+?)(eq|ne|cs|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)$")
_NAMES = ("mla", "mls", "smull", "umull", "smlal", "umlal", "sdiv", "udiv")


def decode(pc: int, end: int, name: str, operands: str) -> Instruction:
    name = name.removesuffix(".w").removesuffix(".n")
    base = _CONDITION.sub(r"\1", name)
    if base in _NAMES:
        name = base
    if name.startswith(("ldm", "stm", "push", "pop", "vpush", "vpop", "vldm", "vstm")):
        return Instruction(pc, end, name, operands, words=_registers(operands))
    if name.startswith(("ldrd", "strd", "vldr.64", "vstr.64")):
        return Instruction(pc, end, name, operands, words=2)
    if name.startswith(("ldr", "vldr")):
        return Instruction(pc, end, name, operands, loads=operands.split(",")[0])
    if name.startswith(("str", "vstr")):
        return Instruction(pc, end, name, operands, stores=True)
    return Instruction(pc, end, name, operands)


def _registers(operands: str) -> int:
    """Registers in braces, ranges too."""
    listed = operands[operands.find("{") + 1 : operands.find("}")].split(",")
    return sum(_span(r.strip()) for r in listed)


_NUMBERS = {"sl": 10, "fp": 11, "ip": 12, "sp": 13, "lr": 14, "pc": 15}


def _span(register: str) -> int:
    first, _, last = register.partition("-")
    if not last:
        return 1
    a, b = (_NUMBERS.get(r) if r in _NUMBERS else int(r[1:]) for r in (first, last))
    assert a is not None and b is not None
    return b - a + 1


def _addresses(lines: Iterable[str]) -> Iterator[int]:
    for line in lines:
        if match := _TRACE.match(line):
            yield int(match[1], 16)


def _per_instruction(code: _Code, trace: Iterable[int], multiply: Mapping[str, int]) -> dict[str, float]:
    """Cycles by instructions of each kernel. What the rig calls of the library is no kernel's."""
    inside = {pc for start, end in code.functions for pc in range(start, end, 2)}
    library = {start for start, _ in code.library}
    totals: dict[str, list[int]] = {}
    known: dict[tuple[int, int], tuple[int, int]] = {}
    kernel, last, counts = "", 0, False
    for start, following in itertools.pairwise(itertools.chain(trace, [0])):
        if start in code.entries:
            kernel = code.entries[start]
        if start in inside:
            counts = True
        elif start in library or not counts:
            counts = counts and _calls(code.at[last])
        block = _block(code, start)
        last = block[-1].pc
        if counts:
            if (start, following) not in known:
                known[start, following] = _block_cycles(block, following, multiply), len(block)
            totals.setdefault(kernel, [0, 0])
            for i in range(2):
                totals[kernel][i] += known[start, following][i]
    return {name: round(cycles / count, 3) for name, (cycles, count) in totals.items()}


def _block(code: _Code, start: int) -> list[Instruction]:
    """What the emulator translates as one: up to what may jump, or to the end of a page."""
    block = [code.at[start]]
    while not _JUMPS.match(f"{block[-1].name} {block[-1].operands}"):
        if block[-1].end not in code.at:
            break
        after = code.at[block[-1].end]
        if (after.end - 1) // PAGE != start // PAGE:
            break
        block.append(after)
    return block


def _block_cycles(block: Sequence[Instruction], following: int, multiply: Mapping[str, int]) -> int:
    """A load at its start is taken to stand alone."""
    ends = [*(i.pc for i in block[1:]), following]
    before = [None, *block[:-1]]
    return sum(cycles_of(i, end, b, multiply) for i, end, b in zip(block, ends, before, strict=True))


def _calls(instruction: Instruction) -> bool:
    """A call or a jump to a place that the code names; returns go elsewhere."""
    return instruction.name.startswith("b") and not instruction.name.startswith("bx")


def cycles_of(this: Instruction, following: int, before: Instruction | None, multiply: Mapping[str, int]) -> int:
    jump = 0 if following == this.end else REFILL
    if this.words:
        return 1 + this.words + jump
    if this.loads:
        ahead = before is not None and before.loads and not before.words
        chained = before is not None and re.search(rf"\[.*\b{before.loads}\b", this.operands) if ahead else None
        return (1 if ahead and not chained else 2) + jump
    if this.stores:
        indexed = re.search(r"\[\w+, ?[rsfli]\w*", this.operands) is not None
        return 2 if indexed and not (before is not None and before.loads) else 1
    if this.name in ("sdiv", "udiv"):
        return DIVIDE
    return 1 + multiply.get(this.name, 0) + jump
