"""Says from the linker's map what the bytes of a firmware's flash are for."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re

#: Part by the folder of the object file; the first that fits.
FOLDERS = (
    ("hook_kernels.dir/", "hook kernels"),  # linked for hooks that may come, not named by the network
    ("/runtime/", "runtime"),
    ("/mcu_kernels/", "kernels"),
    ("/generated/registry", "kernels"),  # the list of kernels, with their conditions
    ("/port/", "port"),
)
PARTS = ("runtime", "kernels", "hook kernels", "application", "port", "libc", "weights")
#: Output sections that lie in flash (of .data, what its start values take there).
FLASH = (".text", ".rodata", ".weights", ".data", ".ARM.exidx")

_OUTPUT = re.compile(r"^(\.[\w.]+)")
_INPUT = re.compile(r"^ (\.\S+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+) (\S.*)$")
_BROKEN = re.compile(r"^( \.\S+)\n\s+0x", re.MULTILINE)


def flash_parts(text: str) -> dict[str, int]:
    """Bytes of flash by part. Padding between sections is nobody's and not counted; it is a few dozen bytes."""
    parts = dict.fromkeys(PARTS, 0)
    # GNU ld breaks the line behind a long section name.
    body = _BROKEN.sub(r"\1 0x", text.partition("Linker script and memory map")[2])
    output = ""
    for line in body.splitlines():
        if found := _OUTPUT.match(line):
            output = found[1]
        elif output in FLASH and (found := _INPUT.match(line)):
            parts["weights" if output == ".weights" else part_of(found[3])] += int(found[2], 16)
    return parts


def part_of(file: str) -> str:
    """The part that an object file, or a library's member, belongs to."""
    if ".a(" in file:
        return "libc"
    inside = file[file.rfind("CMakeFiles/") + 1 :]
    return next((part for mark, part in FOLDERS if mark in inside), "application")
