"""Commands that show what hooks bring: report and demo."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhn_kit.commands import console, options
from dhn_kit.commands.device import canonical, canonical_xy, load_packed
from dhn_kit.commands.inputs import existing_file, load_hooks, load_target, load_xy, writable_file
from dhn_kit.errors import DhnError

if TYPE_CHECKING:
    from dhn_kit.bundle import BundleFile
    from dhn_kit.pack import Pack
    from dhn_kit.report import ReportData
    from dhn_kit.train.baselines import Comparison
    from dhn_kit.verify import Check


def report(
    pack: options.PackFile,
    hooks: options.Hooks = None,
    inputs: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="X.NPZ", help="Test inputs 'x', optional labels 'y'.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="REPORT.HTML", help="File to write.")] = Path(
        "report.html"
    ),
    smaller: Annotated[
        Path | None, typer.Option("--smaller", metavar="NETWORK", help="A smaller network to compare with.")
    ] = None,
    calib: options.Calib = None,
    risk: Annotated[
        float, typer.Option("--risk", min=0.0, max=1.0, help="Look closely at the thriftiest point certified at this.")
    ] = 0.01,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute the certificates again from --store or --input instead.")
    ] = False,
    store: Annotated[
        Path | None, typer.Option("--store", metavar="STORE", help="Sample store that the hooks were trained from.")
    ] = None,
    board: options.Board = None,
    json: options.Json = False,
) -> None:
    """Show what hooks bring as an HTML page, or verify certificates.

    Accuracy against work, where inputs leave, work per layer, memory over time; in one file.

    \b
    Examples:
      dhn-kit report model.dhn --hooks hooks.dhn --input test.npz -o report.html
      dhn-kit report model.dhn --hooks hooks.dhn --verify --store samples.db
      dhn-kit report model.dhn --hooks hooks.dhn --input test.npz --json
    """
    from dhn_kit import report as reporting
    from dhn_kit.latency import load_latency
    from dhn_kit.pack import load_pack
    from dhn_kit.train.baselines import smaller_network
    from dhn_kit.train.data import split_from_inputs

    target, packed = load_target(board), load_pack(pack)
    writable_file(output)
    bundle = load_hooks(packed, hooks)
    if bundle is None:
        raise DhnError("a report needs hooks: give --hooks hooks.dhn, made by 'dhn-kit train'")
    if verify:
        _verify(packed, bundle, store, inputs, json)
        return
    if inputs is None:
        raise DhnError("a report needs test inputs: give --input test.npz (array 'x', optional labels 'y')")
    q, y = canonical_xy(packed, inputs)
    with console.busy("running the twin"):
        split = split_from_inputs(packed, q, y)
        latency = load_latency(target.latency_board)
        data = reporting.gather_file(packed, bundle, split, latency, target.title, risk=risk)
        if smaller is not None:
            other = load_packed(smaller, target, calib)
            inputs_of_other = canonical(other, load_xy(inputs)[0], str(inputs))
            data.comparisons.append(smaller_network(other, inputs_of_other, split, latency))
        reporting.write_report(output, data)
    if json:
        console.emit_json(
            {
                "report": str(output),
                "full": data.full,
                "points": data.points,
                "comparisons": data.comparisons,
                "chosen": data.points[data.chosen].name,
                "ablation": data.ablation,
                "certificates": data.certificates,
            }
        )
        return
    show_figures([data.full, *data.points])
    _show_comparisons(data)
    console.line(f"{output}: open it in a browser (instructions are predicted; 'dhn-kit run' counts them)")


def _show_comparisons(data: ReportData) -> None:
    """What the gates are measured against, and what each kind of hook brings."""
    full = data.full.mean

    def row(c: Comparison) -> tuple[object, ...]:
        return round(c.cost), f"{c.cost / full:.2f}x", f"{c.agreement:.2%}", _share(c.accuracy)

    headers = (">mean", ">of full", ">agreement", ">accuracy")
    console.table("Compared with", ("", *headers), ((c.name, *row(c)) for c in data.comparisons))
    rows = [(c.name, *row(c)) for a in data.ablation for c in (a.alone, a.without)]
    console.table(f"Kinds of hooks at {data.points[data.chosen].name}", ("", *headers), rows)
    if data.silent:
        console.line(f"silent there: {', '.join(data.silent)}; --risk looks at another operating point")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _verify(packed: Pack, bundle: BundleFile, store: Path | None, inputs: Path | None, json: bool) -> None:
    """Exit code 1 unless every certificate is what the samples give."""
    from dhn_kit.store import SampleStore
    from dhn_kit.verify import played_split, stored_split, verify

    q, y = (None, None) if inputs is None else canonical_xy(packed, inputs)
    with console.busy("verifying certificates"):
        if store is not None:
            with SampleStore(existing_file(store)) as samples:
                split = stored_split(packed, bundle, samples.load(packed.hash), q, y)
        elif q is not None:
            split = played_split(packed, bundle, q, y)
        else:
            raise DhnError(
                "--verify needs the calibration samples: give --store samples.db, or --input calibration.npz"
            )
        checks = verify(packed, bundle, split)
    equal = all(not c.differences for c in checks)
    if json:
        rows = [
            {"operating_point": c.operating_point, "claimed": c.claimed, "found": c.found, "differences": c.differences}
            for c in checks
        ]
        console.emit_json({"equal": equal, "certificates": rows})
    else:
        _show_checks(checks)
    if not equal:
        raise typer.Exit(1)


def _show_checks(checks: list[Check]) -> None:
    console.table(
        "Certificates, computed again",
        ("operating point", "risk", ">promise", ">errors", ">samples", ">bound", "result"),
        (
            (
                c.operating_point,
                c.found.kind,
                f"{c.claimed.epsilon:.2%}",
                c.found.errors,
                c.found.n,
                f"{c.found.bound:.2%}",
                "differs: " + "; ".join(c.differences) if c.differences else "equal",
            )
            for c in checks
        ),
    )
    wrong = sum(bool(c.differences) for c in checks)
    console.line(f"{wrong} of {len(checks)} certificates differ" if wrong else f"all {len(checks)} certificates hold")


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
                _share(r.accuracy),
                _share(r.risk),
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
