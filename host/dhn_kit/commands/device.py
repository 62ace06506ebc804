"""Commands that build firmware and talk to a board: build, flash, run and bench."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dhn_kit.commands import options
from dhn_kit.commands.pending import not_here_yet

Firmware = Annotated[Path, typer.Argument(metavar="FIRMWARE", help="Folder written by 'dhn-kit build'.")]
Inputs = Annotated[
    Path,
    typer.Option("--input", "-i", metavar="X.NPZ", help="Inputs: array 'x', float in the model's layout, or int8."),
]


def build(
    network: options.Network,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write.")] = Path(
        "build/firmware"
    ),
    board: options.Board = None,
    calib: options.Calib = None,
    method: options.Method = None,
    json: options.Json = False,
) -> None:
    """Build the firmware for a board, with the network in it.

    \b
    Examples:
      dhn-kit build model.dhn --board qemu-cortex-m4 -o build/m4
      dhn-kit build model.onnx --calib calib.npz --board posix
    """
    not_here_yet("build")


def flash(
    firmware: Firmware = Path("build/firmware"),
    board: options.Board = None,
    port: options.Port = None,
) -> None:
    """Write the firmware to a board, or start it on an emulated one.

    \b
    Examples:
      dhn-kit flash build/m4 --board qemu-cortex-m4
      dhn-kit flash build/esp32 --board esp32 --port /dev/ttyUSB0
    """
    not_here_yet("flash")


def run(
    network: options.Network,
    inputs: Inputs,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="Y.NPZ", help="File for output, decisions and instructions.")
    ] = Path("y.npz"),
    board: options.Board = None,
    port: options.Port = None,
    hooks: options.Hooks = None,
    calib: options.Calib = None,
    method: options.Method = None,
    json: options.Json = False,
) -> None:
    """Run inputs on a board and write what came out.

    The output file holds 'output' (int8 as computed), 'output_float', 'decision' per hook point, and 'instructions' per
    inference where the board can count them.

    \b
    Examples:
      dhn-kit run model.dhn --board qemu-cortex-m4 --input x.npz --output y.npz
      dhn-kit run model.onnx --calib calib.npz --board posix --input x.npz --output y.npz
      dhn-kit run model.dhn --hooks hooks.dhn --input x.npz --output y.npz --json
    """
    not_here_yet("run")


def bench(
    network: options.Network,
    board: options.Board = None,
    port: options.Port = None,
    hooks: options.Hooks = None,
    calib: options.Calib = None,
    method: options.Method = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Inferences to run.")] = 3,
    json: options.Json = False,
) -> None:
    """Count executed instructions per inference and per operator.

    \b
    Examples:
      dhn-kit bench model.dhn --board qemu-cortex-m4
      dhn-kit bench model.onnx --calib random --json
    """
    not_here_yet("bench")
