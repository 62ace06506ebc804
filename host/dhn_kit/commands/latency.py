"""The command that shows a board's latency model and fits it anew."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import fnmatch
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dhn_kit.commands import console, options
from dhn_kit.commands.inputs import load_target, writable_file
from dhn_kit.errors import DhnError

if TYPE_CHECKING:
    from dhn_kit.boards import Board
    from dhn_kit.kernels import Kernel
    from dhn_kit.latency import KernelLatency, LatencyModel


def latency(
    board: options.Board = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Count calls on the emulated board and fit the model anew.")
    ] = False,
    kernel: Annotated[
        str, typer.Option("--kernel", metavar="PATTERN", help="Only these kernels; the others keep what they have.")
    ] = "*",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="File to write. Default: the board's own."),
    ] = None,
    terms: Annotated[bool, typer.Option("--terms", help="Show every term with its instructions.")] = False,
    json: options.Json = False,
) -> None:
    """Show or fit what a board's kernels cost by shape.

    A latency model is a sum of terms per kernel, fitted to counted calls of random layers.
    Held out: layers that the fit did not see, the share of them predicted within 10 %, and the largest error.
    CPI: estimated cycles per instruction, by the core's published timings.

    \b
    Examples:
      dhn-kit latency --board qemu-cortex-m4
      dhn-kit latency --board qemu-rv32 --kernel '*conv*' --terms
      dhn-kit latency --board qemu-cortex-m4 --fit --kernel 'dhn_conv_1x1*'
    """
    from dhn_kit.kernels import load_kernels
    from dhn_kit.latency import load_latency, path_of

    target = load_target(board)
    kernels = [k for k in load_kernels(target.flavour) if fnmatch.fnmatchcase(k.name, kernel)]
    if not kernels:
        raise DhnError(f"no kernel of {target.name} matches '{kernel}'; 'dhn-kit latency' without --kernel lists them")
    model = load_latency(target.latency_board)
    if fit:
        path = output or path_of(target.name)
        writable_file(path)
        model = _fitted(target, kernels, model)
        model.save(path)
        console.step(f"wrote {path}")
    shown = {k.name: model.kernels.get(k.name) for k in kernels}
    if json:
        console.emit_json({"board": target.name, "kernels": shown})
        return
    _show(model, kernels, terms)


def _fitted(board: Board, kernels: list[Kernel], model: LatencyModel) -> LatencyModel:
    """The model with these kernels counted anew, and without those that are gone."""
    from dhn_kit.kernels import load_kernels
    from dhn_kit.latency import LatencyModel
    from dhn_kit.latency_fit import fit_board

    if board.emulator is None or not board.timer.instructions_per_tick:
        raise DhnError(f"{board.name} does not count instructions; fit the model of an emulated board")
    found = fit_board(board, kernels, Path("build") / "latency" / board.name, progress=console.step)
    existing = {k.name for k in load_kernels(board.flavour)}
    kept = {name: known for name, known in model.kernels.items() if name in existing}
    return LatencyModel(board.name, {**kept, **found})


def _show(model: LatencyModel, kernels: list[Kernel], terms: bool) -> None:
    rows: list[tuple[object, ...]] = []
    for kernel in kernels:
        known = model.kernels.get(kernel.name)
        if known is None:
            rows.append((kernel.name, None, None, None, None, None, None))
            continue
        share, worst = (f"{known.within_10:.1%}", f"{known.worst:.1%}") if known.held_out else (None, None)
        cpi = f"{known.cpi:.2f}" if known.cpi else None
        rows.append((kernel.name, len(known.terms), known.samples, known.held_out, share, worst, cpi))
    columns = ("kernel", ">terms", ">samples", ">held out", ">within 10 %", ">worst", ">CPI")
    console.table(f"Latency model of {model.board}", columns, rows)
    if terms:
        for kernel in kernels:
            known = model.kernels.get(kernel.name)
            each = ((unit, term) for term, unit in known.terms) if known else ()
            console.table(kernel.name, (">instructions", "times"), ((f"{unit:.4g}", term) for unit, term in each))
    _show_groups(model, kernels)


#: What the operators are called together; all others are one group.
GROUPS = {
    "conv2d": "convolution",
    "conv2d_masked": "convolution",
    "depthwise_conv2d": "depthwise",
    "fully_connected": "fully connected",
}


def _show_groups(model: LatencyModel, kernels: list[Kernel]) -> None:
    """Held-out layers by operator, and all together."""
    groups: dict[str, list[KernelLatency]] = {name: [] for name in dict.fromkeys(GROUPS.values())}
    groups |= {"all others": [], "reference kernels": []}
    for kernel in kernels:
        known = model.kernels.get(kernel.name)
        if known is not None and known.held_out:
            group = "reference kernels" if kernel.arch == "ref" else GROUPS.get(kernel.op, "all others")
            groups[group].append(known)
    judged = list(itertools.chain(*groups.values()))
    if not judged:
        return
    if len(judged) > 1:
        rows = [(name, *_judged(known)) for name, known in groups.items() if known]
        console.table("By operator", ("kernels", ">number", ">held out", ">within 10 %", ">worst"), rows)
    _, layers, share, _ = _judged(judged)
    console.line(f"{share} of {layers} held-out layers within 10 %; {len(judged)} of {len(kernels)} kernels")


def _judged(known: list[KernelLatency]) -> tuple[str, str, str, str]:
    """Number of kernels and of layers, share of these within 10 %, largest error."""
    layers = sum(k.held_out for k in known)
    good = sum(k.within_10 * k.held_out for k in known)
    return str(len(known)), f"{layers:,}", f"{good / layers:.1%}", f"{max(k.worst for k in known):.1%}"
