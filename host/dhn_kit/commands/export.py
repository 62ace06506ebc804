"""The command export: the runtime as a library for another build."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dhn_kit.commands import console, options
from dhn_kit.errors import DhnError


def export(
    pack: Annotated[
        Path | None, typer.Argument(metavar="PACK", help="Link only what this pack and its hooks need.")
    ] = None,
    kind: Annotated[
        Literal["micropython", "micropython-c"],
        typer.Option("--as", help="A native module (.mpy), or sources for a MicroPython that you build."),
    ] = "micropython",
    arch: Annotated[
        str, typer.Option("--arch", metavar="ARCH", help="x64, armv6m, armv7m, armv7emsp or rv32imc.")
    ] = "armv7emsp",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write.")] = Path(
        "build/micropython"
    ),
    json: options.Json = False,
) -> None:
    """Write the runtime as a library: a MicroPython module.

    \b
    Examples:
      dhn-kit export model.dhn --as micropython --arch armv6m -o build/pico
      dhn-kit export --arch armv7emsp -o build/pyboard
      dhn-kit export model.dhn --as micropython-c --arch armv7m -o usermod/dhn
    """
    from dhn_kit.micropython import export_native, export_sources
    from dhn_kit.pack import load_pack

    if pack is not None and not pack.is_file():
        raise DhnError(f"{pack} does not exist; make a pack with 'dhn-kit pack'")
    image = load_pack(pack).data if pack else None
    with console.busy("compiling"):
        done = (export_native if kind == "micropython" else export_sources)(arch, output, image)
    if json:
        console.emit_json(done)
        return
    module = done.files.get("_dhn.mpy")
    what = f"_dhn.mpy of {module:,} bytes" if module else f"{len(done.files)} sources"
    console.line(f"{output}: {what} for {arch}, {done.kernels} kernels")
