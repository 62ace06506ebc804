"""Stands in for Espressif's compiler: Debian's for the LX106 writes windowed code, which its assembler does not know.

What it lacks is spelled out in bytes (Xtensa Instruction Set Architecture Reference Manual, chapter 8). As a program it
takes GCC's arguments for compiling and linking in one step.
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

COMPILER = "xtensa-lx106-elf-gcc"
#: How windowed instructions are encoded; registers and numbers as the assembly text has them.
ENCODINGS: dict[str, Callable[..., int]] = {
    "entry": lambda s, size: size // 8 << 12 | s << 8 | 0x36,
    "callx8": lambda s: s << 8 | 0xE0,
    "retw": lambda: 0x90,
    "retw.n": lambda: 0xF01D,
    "movsp": lambda t, s: 1 << 12 | s << 8 | t << 4,
    "l32e": lambda t, s, at: 0x09 << 16 | (at + 64) // 4 << 12 | s << 8 | t << 4,
    "s32e": lambda t, s, at: 0x49 << 16 | (at + 64) // 4 << 12 | s << 8 | t << 4,
    "rfwo": lambda: 0x3400,
    "rfwu": lambda: 0x3500,
    "wsr": lambda t, special: 0x13 << 16 | special << 8 | t << 4,
}
#: What this compiler's library has for the other calling convention only.
LIBRARY = """
typedef unsigned long long wide;
int __modsi3(int a, int b) { return a - a / b * b; }
wide __udivmoddi4(wide a, wide b, wide *rest)
{
    wide quotient = 0, left = 0;
    for (int i = 0; i < 64; i++, a <<= 1) {
        left = left << 1 | a >> 63;
        quotient = quotient << 1 | (left >= b);
        left -= left >= b ? b : 0;
    }
    if (rest)
        *rest = left;
    return quotient;
}
"""
SPECIAL = {"windowbase": 72, "windowstart": 73}
LINE = re.compile(rf"^\s*(call8|{'|'.join(map(re.escape, ENCODINGS))})(?:[ \t]+(.*))?$")


def spelled_out(line: str) -> str:
    """A line of assembly that Debian's assembler takes."""
    found = LINE.match(line.partition(" #")[0].rstrip())
    if found is None or (found[1] == "wsr" and found[2].split(",")[1].strip() not in SPECIAL):
        return line
    name, operands = found[1], [text.strip() for text in (found[2] or "").split(",") if text.strip()]
    if name == "call8":  # a8 takes the return address, so it is free to take the callee's before
        return f"\tmovi a8, {operands[0]}\n{spelled_out('callx8 a8')}"
    word = ENCODINGS[name](*map(_number, operands))
    count = 2 if name == "retw.n" else 3
    return "\t.byte " + ", ".join(f"0x{word >> 8 * i & 0xFF:02x}" for i in range(count))


def _number(operand: str) -> int:
    if operand in SPECIAL:
        return SPECIAL[operand]
    return 1 if operand == "sp" else int(operand.removeprefix("a"), 0)


def main(arguments: list[str]) -> int:
    sources = [a for a in arguments if a.endswith(".c")]
    others = [a for a in arguments if not a.endswith(".c")]
    compiling = [a for a in _without_output(others) if not a.startswith(("-Wl,", "-l"))]
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        library = Path(folder) / "library.c"
        library.write_text(LIBRARY)
        for number, source in enumerate([*sources, str(library)]):
            text, item = Path(folder) / f"{number}.s", Path(folder) / f"{number}.o"
            if done := _run("-mabi=windowed", *compiling, "-S", source, "-o", str(text)):
                return done
            text.write_text("\n".join(map(spelled_out, text.read_text().splitlines())) + "\n")
            if done := _run(*(a for a in compiling if a.startswith("-m")), "-c", str(text), "-o", str(item)):
                return done
            objects.append(str(item))
        return _run(*objects, *(a for a in others if a != "-lgcc"))


def _without_output(arguments: list[str]) -> list[str]:
    kept = list(arguments)
    for option in ("-o", "-T"):
        if option in kept:
            del kept[kept.index(option) : kept.index(option) + 2]
    return kept


def _run(*arguments: str) -> int:
    # Only the two paths that a compiler needs, so that no stand-in of the same name is found again.
    return subprocess.run([COMPILER, *arguments], env=os.environ | {"PATH": "/usr/bin:/bin"}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
