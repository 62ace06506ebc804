"""Commands about the surroundings: boards, doctor and init."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from dhn_kit.commands import console, options

#: What was done with a board here, in the words of the table.
_TESTED = {
    "executed": "executed",
    "built": "built with a stand-in",
    "generated": "generated",
}


def boards(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show all that is known of this board.")] = None,
    json: options.Json = False,
) -> None:
    """List the boards, or show one.

    A board may also be any that a platform installed in PlatformIO knows (its name counts wherever --board does).

    The last column says what was done with a board: its firmware was executed (in emulation or as a process), its
    project was built and uploaded with stand-ins for PlatformIO's platform and the chip, or its project was written
    and its settings were resolved. No firmware of the last two has run on silicon.

    \b
    Examples:
      dhn-kit boards
      dhn-kit boards qemu-cortex-m4
      dhn-kit boards --json
    """
    from dhn_kit.boards import list_boards, load_board
    from dhn_kit.generic_boards import find_board

    if name:
        console.emit_json(find_board(name))
        return
    found = [load_board(n) for n in list_boards()]
    if json:
        console.emit_json(found)
        return
    rows = (
        (
            b.name,
            b.title,
            b.core.name,
            b.flavour,
            b.latency_board,
            b.memory.ram_bytes,
            b.memory.flash_bytes,
            _TESTED[b.tested],
        )
        for b in sorted(found, key=lambda b: list(_TESTED).index(b.tested))
    )
    columns = ("name", "what it is", "core", "kernels", "predicted by", ">RAM", ">flash", "what was done with it")
    console.table("Boards", columns, rows)
    counts = Counter(b.tested for b in found)
    console.line(", ".join(f"{counts[tested]} {words}" for tested, words in _TESTED.items()) + "; none on silicon")


def doctor(json: options.Json = False) -> None:
    """Say which compilers, emulators and Python packages are there.

    What is missing comes with the command that installs it. The exit code is 0 either way: not every step needs every
    tool.

    \b
    Examples:
      dhn-kit doctor
      dhn-kit doctor --json
    """
    from dhn_kit.doctor import diagnose

    findings = diagnose()
    if json:
        console.emit_json(findings)
        return
    for group in dict.fromkeys(f.group for f in findings):
        rows = (
            (f.name, f.version or "missing", f.purpose, "" if f.version else f.install)
            for f in findings
            if f.group == group
        )
        console.table(group.capitalize(), ("tool", "version", "for", "install with"), rows)


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to start in; made if it is not there.")],
    model: Annotated[Path, typer.Option("--model", metavar="MODEL", help="Where your network is, from there.")] = Path(
        "model.onnx"
    ),
    calib: Annotated[
        Path, typer.Option("--calib", metavar="DATA.NPZ", help="Where your calibration data is, from there.")
    ] = Path("calib.npz"),
    board: options.Board = None,
) -> None:
    """Start a project folder: settings and a README of next steps.

    Nothing that exists is overwritten.

    \b
    Examples:
      dhn-kit init my-project
      dhn-kit init my-project --model keywords.tflite --board posix
    """
    from dhn_kit.commands.inputs import DEFAULT_BOARD
    from dhn_kit.project import Project, start_project

    for path in start_project(folder, Project(model, calib, board or DEFAULT_BOARD)):
        console.line(str(path))
