"""Commands that show what hooks bring: report and demo."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dhn_kit.commands import options
from dhn_kit.commands.pending import not_here_yet


def report(
    pack: options.PackFile,
    hooks: options.Hooks = None,
    inputs: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="X.NPZ", help="Test inputs 'x', optional labels 'y'.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="REPORT.HTML", help="File to write.")] = Path(
        "report.html"
    ),
    board: options.Board = None,
    json: options.Json = False,
) -> None:
    """Write what hooks bring as an HTML page.

    Accuracy against work, where inputs leave, work per layer, memory over time; in one file.

    \b
    Examples:
      dhn-kit report model.dhn --hooks hooks.dhn --input test.npz -o report.html
      dhn-kit report model.dhn --hooks hooks.dhn --input test.npz --json
    """
    not_here_yet("report")


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the results.")] = Path(
        "build/demo"
    ),
    board: options.Board = None,
    json: options.Json = False,
) -> None:
    """Turn the loop once, on an emulated board.

    From a network to a report: pack, build, play images, collect, train, certify, push, compare.

    \b
    Examples:
      dhn-kit demo
      dhn-kit demo --output /tmp/demo
    """
    not_here_yet("demo")
