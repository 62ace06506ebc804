"""Commands that show what hooks bring: report and demo."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dhn_kit.commands import console, options
from dhn_kit.commands.device import canonical, load_hooks
from dhn_kit.commands.inputs import load_target, load_xy, writable_file
from dhn_kit.errors import DhnError


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
    from dhn_kit import report as reporting
    from dhn_kit.latency import load_latency
    from dhn_kit.pack import load_pack
    from dhn_kit.train.data import split_from_inputs

    target, packed = load_target(board), load_pack(pack)
    writable_file(output)
    bundle = load_hooks(packed, hooks)
    if bundle is None:
        raise DhnError("a report needs hooks: give --hooks hooks.dhn, made by 'dhn-kit train'")
    if inputs is None:
        raise DhnError("a report needs test inputs: give --input test.npz (array 'x', optional labels 'y')")
    x, y = load_xy(inputs)
    with console.busy("running the twin"):
        split = split_from_inputs(packed, canonical(packed, x, str(inputs)), y)
        data = reporting.gather_file(packed, bundle, split, load_latency(target.name), target.title)
        reporting.write_report(output, data)
    if json:
        console.emit_json({"report": str(output), "full": data.full, "points": data.points})
        return
    show_figures([data.full, *data.points])
    console.line(f"{output}: open it in a browser (instructions are predicted; 'dhn-kit run' counts them)")


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
    from dhn_kit.demo import run_demo

    result = run_demo(output, load_target(board), console.progress, console.step)
    if json:
        console.emit_json(result.summary)
        return
    _show_demo(result.summary)
    console.line(f"report: {result.report}")
    console.line(f"took {result.summary['seconds']:.0f} s")


def show_figures(rows: list[Any]) -> None:
    """The main table: what each operating point answers and costs."""
    console.table(
        "What hooks bring",
        ("", ">accuracy", ">changed answers", ">risk bound", ">mean", ">median", ">worst"),
        (
            (
                r.name,
                "-" if r.accuracy is None else f"{r.accuracy:.2%}",
                "-" if r.risk is None else f"{r.risk:.2%}",
                "-" if r.certificate is None else f"{r.certificate.bound:.2%}",
                round(r.mean),
                round(r.median),
                round(r.worst),
            )
            for r in rows
        ),
    )


def _show_demo(s: dict[str, Any]) -> None:
    before, after = s["before"], s["after"]
    rows = [
        ("test accuracy", f"{before['accuracy']:.2%}", f"{after['accuracy']:.2%}"),
        ("answers changed on test", "-", f"{s['disagreement_on_test']:.2%}"),
        (
            f"risk bound ({1 - s['delta']:.0%} confidence, n = {s['calibration_samples']:,})",
            "-",
            f"{s['risk_bound']:.2%}",
        ),
        ("mean instructions per inference", round(before["mean"]), round(after["mean"])),
        ("median", round(before["median"]), round(after["median"])),
        ("worst", round(before["worst"]), round(after["worst"])),
        ("mean, relative", "1.00x", f"{s['ratio']:.2f}x"),
        ("arena bytes", s["arena_bytes"], s["arena_bytes"]),
        ("flash bytes: code", s["flash_code_bytes"], s["flash_code_bytes"]),
        ("flash bytes: network, hooks", s["flash_weight_bytes"], f"{s['flash_weight_bytes']:,} + {s['hook_bytes']:,}"),
    ]
    title = f"{s['model']} on {s['board']}, {s['test_images']:,} test images, operating point '{s['operating_point']}'"
    console.table(title, ("", ">without hooks", ">with hooks"), rows)
    leaves = [(name, f"{share:.1%}") for name, share in s["exits"].items()]
    console.table("Where inputs leave", ("hook", ">share"), leaves)
    skips = [(name, f"{share:.1%}") for name, share in s["skips"].items()] or [("none worth its cost", "-")]
    console.table("Blocks skipped", ("hook", ">share"), skips)
    for name, reason in s["dropped"].items():
        console.line(f"dropped {name}: {reason}")
    same = "the same bytes" if s["board_equals_twin"] else "DIFFERENT bytes: please report this"
    console.line(f"on every played input board and twin computed {same}")
