"""The command export: the runtime as a library for another build."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dhn_kit.commands import console, options
from dhn_kit.errors import DhnError

Kind = Literal["arduino", "platformio", "espidf", "cmake", "zephyr", "micropython", "micropython-c"]


def export(
    pack: Annotated[
        Path | None,
        typer.Argument(metavar="PACK", help="The network; a MicroPython module may go without, and runs any then."),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option("--as", help="For which build system; micropython: a native module, micropython-c: its sources."),
    ] = "micropython",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Prefix of the library's functions (not for MicroPython).")
    ] = "model",
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            metavar="ARCH",
            help="Of MicroPython: x64, armv6m, armv7m, armv7emsp (default), rv32imc, xtensa or xtensawin.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write. Default: build/KIND.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Write a network as a library for another build system.

    \b
    Examples:
      dhn-kit export model.dhn --as arduino --name kws -o ~/Arduino/libraries/kws
      dhn-kit export model.dhn --as cmake -o third_party/model
      dhn-kit export model.dhn --as micropython --arch armv6m -o build/pico
      dhn-kit export model.dhn --as micropython-c --arch armv7m -o usermod/dhn
    """
    if pack is not None and not pack.is_file():
        raise DhnError(f"{pack} does not exist; make a pack with 'dhn-kit pack'")
    folder = output or Path("build") / kind
    if kind == "micropython" or kind == "micropython-c":
        _micropython(kind, pack, arch or "armv7emsp", folder, json)
    elif pack is None:
        raise DhnError(f"a library holds one network; name its pack: 'dhn-kit export model.dhn --as {kind}'")
    elif arch is not None:
        raise DhnError("--arch is for MicroPython; a library's kernels are those of its pack ('dhn-kit pack --board')")
    else:
        _library(kind, pack, folder, name, json)


def _library(
    kind: Literal["arduino", "platformio", "espidf", "cmake", "zephyr"], pack: Path, folder: Path, name: str, json: bool
) -> None:
    from dhn_kit.library import export_library
    from dhn_kit.pack import load_pack

    done = export_library(kind, load_pack(pack), folder, name)
    if json:
        console.emit_json(done)
        return
    memory = f"{done.pack_bytes:,} bytes of constants, {done.arena_bytes:,} bytes of arena"
    console.line(f"{folder}: {name}.h, {done.kernels} kernels, {memory}")


def _micropython(kind: str, pack: Path | None, arch: str, folder: Path, json: bool) -> None:
    from dhn_kit.micropython import export_native, export_sources
    from dhn_kit.pack import load_pack

    image = load_pack(pack).data if pack else None
    with console.busy("compiling"):
        done = (export_native if kind == "micropython" else export_sources)(arch, folder, image)
    if json:
        console.emit_json(done)
        return
    module = done.files.get("_dhn.mpy")
    what = f"_dhn.mpy of {module:,} bytes" if module else f"{len(done.files)} sources"
    console.line(f"{folder}: {what} for {arch}, {done.kernels} kernels")
