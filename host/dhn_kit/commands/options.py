"""Arguments and options that several commands share, so that they read the same everywhere."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[
    Path | None,
    typer.Argument(metavar="MODEL", help="Network: .onnx or int8 .tflite. Default: that of dhn-kit.toml."),
]
Network = Annotated[
    Path,
    typer.Argument(metavar="PACK_OR_MODEL", help="A .dhn pack, or a network as .onnx or .tflite.", show_default=False),
]
PackFile = Annotated[
    Path, typer.Argument(metavar="PACK", help="Main pack, made by 'dhn-kit pack'.", show_default=False)
]
Store = Annotated[Path, typer.Argument(metavar="STORE", help="Sample store, an SQLite file.", show_default=False)]
Calib = Annotated[
    str | None,
    typer.Option(
        "--calib",
        metavar="DATA.NPZ",
        help="Calibration data: array 'x' in the model's input layout, optional labels 'y'. 'random': benchmarks only.",
    ),
]
Method = Annotated[
    Literal["minmax", "percentile", "mse"] | None, typer.Option("--method", help="How ranges are chosen.")
]
Board = Annotated[
    str | None,
    typer.Option(
        "--board",
        "-b",
        metavar="BOARD",
        help="See 'dhn-kit boards'. Default: that of dhn-kit.toml, else qemu-cortex-m4.",
    ),
]
Port = Annotated[
    str | None,
    typer.Option("--port", "-p", metavar="PORT", help="Serial port of the board; emulated boards need none."),
]
Hooks = Annotated[
    Path | None, typer.Option("--hooks", metavar="HOOKS.DHN", help="Hook bundle to attach; without it none is.")
]
HookKinds = Annotated[
    str,
    typer.Option(
        "--hooks",
        metavar="KINDS",
        help="Kinds of hooks that the pack is made for, by commas: input, channel, spatial, bits, select, reuse, zero. "
        "Exits, blends and skips need nothing in it.",
    ),
]
Small = Annotated[
    Path | None,
    typer.Option(
        "--small",
        metavar="SMALL",
        help="A smaller network with the same input and classes for the same pack, which hooks of kind select may run.",
    ),
]
Keep = Annotated[
    int,
    typer.Option("--keep", metavar="BYTES", min=16, help="Arena that hooks own from run to run, environment included."),
]
FlashBudget = Annotated[
    int | None,
    typer.Option(
        "--flash-budget",
        metavar="BYTES",
        min=0,
        help="Most flash for weights and tables; spent where it saves most. Default: what the board has.",
    ),
]
Bits = Annotated[
    Literal["8", "4", "2", "auto"],
    typer.Option(
        "--bits",
        help="Bits of the weights, where the board's core has kernels for fewer than 8. auto: per layer, so that all "
        "fits --flash-budget with the least change of the answers. Needs --calib.",
    ),
]
RamFirst = Annotated[
    bool, typer.Option("--ram-first", help="Take the kernels with which the arena is smallest, then the fastest.")
]
Patch = Annotated[
    int | None,
    typer.Option(
        "--patch",
        metavar="BANDS",
        min=0,
        help="Run the first operators in so many bands of rows: less RAM, some rows twice. 0: never. "
        "Default: where the arena would not fit the board otherwise.",
    ),
]
Goal = Annotated[
    Literal["cycles", "instructions"],
    typer.Option("--goal", help="What the choice of kernels minimises: estimated cycles or executed instructions."),
]
Kernels = Annotated[
    list[str] | None,
    typer.Option(
        "--kernel", metavar="OP=KERNEL", help="Take this kernel for this operator; 'inspect' lists both. Repeatable."
    ),
]
Environment = Annotated[
    str,
    typer.Option(
        "--env",
        metavar="CHANNEL=N,..",
        help="What the board takes its surroundings for, such as battery=40,deadline=50; stands in for sensors.",
    ),
]
Uncertified = Annotated[bool, typer.Option("--uncertified", help="Also take a bundle without a certificate.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
