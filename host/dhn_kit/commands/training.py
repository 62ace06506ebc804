"""The command that trains hooks, and what others need to train too."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhn_kit.commands import console, options
from dhn_kit.commands.device import canonical_xy
from dhn_kit.commands.inputs import existing_file, load_target, writable_file
from dhn_kit.errors import DhnError

if TYPE_CHECKING:
    from dhn_kit.bundle import BundleFile
    from dhn_kit.graph import Array
    from dhn_kit.pack import Pack
    from dhn_kit.train.options import Options
    from dhn_kit.train.trainer import TrainResult

Risk = Annotated[float, typer.Option("--risk", min=0.0, max=1.0, help="Largest share of changed answers to allow.")]
Delta = Annotated[float, typer.Option("--delta", min=0.0, max=1.0, help="Chance that the certificate is wrong.")]
Kinds = Annotated[
    str,
    typer.Option(
        "--hooks", help="Kinds to train, of exit,input,blend,skip,channel,spatial,bits,select,reuse,zero, by commas."
    ),
]
AllowGaps = Annotated[bool, typer.Option("--allow-gaps", help="Train although samples were lost on the way.")]
AllowUnseen = Annotated[bool, typer.Option("--allow-unseen", help="Train although a class never occurs.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        help="How heads learn: back-propagation (bp), forward-forward (ff) or both, of which the better is kept.",
    ),
]
Survivors = Annotated[
    float, typer.Option("--survivors", min=0.0, help="Extra weight of inputs that earlier exits would not let go.")
]
Cascade = Annotated[bool, typer.Option("--cascade", help="Later exits also read what earlier ones said.")]
PointPolicy = Annotated[
    str,
    typer.Option(
        "--point-policy",
        metavar="ROWS",
        help="Which operating point the board takes when, such as 'battery<20: 2; deadline' (docs/perception.md).",
    ),
]
Against = Annotated[
    str, typer.Option("--against", help="What a wrong answer differs from: network (the full network's), or label.")
]
Side = Annotated[
    Path | None, typer.Option("--side", metavar="NET.ONNX", help="Trained network on the input, for --hooks input.")
]
Spacing = Annotated[
    int | None,
    typer.Option(
        "--spacing",
        metavar="N",
        min=0,
        help="Samples are a stream: only those N apart count as separate draws. 0: they are unrelated. "
        "Default: estimated for reuse and for what a sensor saw, else 0.",
    ),
]


def played(packed: Pack, inputs: Path | None) -> tuple[Array | None, Array | None]:
    """Canonical inputs and labels of a file, None without one."""
    if inputs is None:
        return None, None
    return canonical_xy(packed, inputs)


def options_of(
    packed: Pack,
    risk: float,
    delta: float,
    kinds: str,
    seed: int,
    version: int,
    method: str,
    survivors: float,
    cascade: bool,
    against: str,
    side: Path | None,
    allow_unseen: bool,
) -> Options:
    """What the trainer is told, from the options of the command line; checked before any work starts."""
    from dhn_kit import workflow
    from dhn_kit.onnx_import import import_onnx
    from dhn_kit.train.proposers import check_kinds

    chosen = replace(
        workflow.options_for(risk, delta, kinds, seed, version),
        methods=workflow.methods_for(method),
        survivors=survivors,
        cascade=cascade,
        against=workflow.against_for(against),
        side=import_onnx(existing_file(side)) if side else None,
        allow_unseen=allow_unseen,
    )
    check_kinds(packed, chosen.kinds, side is not None)
    return chosen


def train_result(result: TrainResult) -> dict[str, Any]:
    from dhn_kit import workflow
    from dhn_kit.hooks import promises

    certified = promises(result.bundle.certificates)
    points = [
        {"name": name, "risk_bound": certified[k].bound, "epsilon": certified[k].epsilon, "n": certified[k].n}
        for k, name in enumerate(result.bundle.operating_points)
        if k in certified
    ]
    return {
        "hooks": [h.name for h in result.bundle.hooks],
        "operating_points": points,
        "dropped": [{"name": d.name, "reason": d.reason} for d in result.dropped],
        "refused": {f"{risk:g}": why for risk, why in result.refused.items()},
        "designs": result.bundle.report.get("designs", []),
        "methods": [{**vars(t), "seconds": round(t.seconds, 3)} for t in result.trials],
        "spacing": workflow.timeline_of(result.bundle.report).spacing,
        "calibration_samples": result.bundle.report["calibration_samples"],
        "seconds": {stage: round(s, 3) for stage, s in result.seconds.items()},
    }


def _show_designs(designs: list[dict[str, Any]]) -> None:
    """The Pareto front of a search; nothing without one."""
    if not designs:
        return

    def shape(exit: dict[str, Any]) -> str:
        layers = f"{exit['hidden']} hidden" if exit["hidden"] else "linear"
        pool = "x".join(map(str, exit["pool"]))
        return f"point {exit['point']} {layers}" + (f" pooled {pool}" if pool != "1x1" else "")

    rows = (
        (
            "*" if d["chosen"] else "",
            f"{d['cost']:.3f}",
            f"{d['risk']:.2%}",
            ", ".join(map(shape, d["exits"])) or "none",
        )
        for d in designs
    )
    console.table("Designs, expected out of fold", ("chosen", ">mean cost", ">risk", "exits"), rows)


def show_training(result: dict[str, Any]) -> None:
    rows = ((p["name"], f"{p['epsilon']:.2%}", f"{p['risk_bound']:.2%}", p["n"]) for p in result["operating_points"])
    _show_designs(result["designs"])
    if len({t["method"] for t in result["methods"]}) > 1:
        shown = (
            (t["head"], t["method"], t["hidden"], f"{t['agreement']:.2%}", t["seconds"]) for t in result["methods"]
        )
        console.table("Methods", ("head", "method", ">hidden", ">out-of-fold agreement", ">seconds"), shown)
    console.table("Operating points", ("name", ">risk allowed", ">risk bound", ">samples"), rows)
    console.line(f"hooks: {', '.join(result['hooks'])}")
    if result["spacing"]:
        console.line(
            f"a stream: of {result['calibration_samples']:,} calibration samples those {result['spacing']} apart count "
            "as separate draws (--spacing)"
        )
    for dropped in result["dropped"]:
        console.line(f"dropped {dropped['name']}: {dropped['reason']}")
    for risk, why in result["refused"].items():
        console.line(f"no operating point at risk {risk}: {why}")


def trained(packed: Pack, result: TrainResult) -> BundleFile:
    """DhnError where there is nothing to write, with the reasons."""
    from dhn_kit.bundle import bundle_file

    if not result.bundle.hooks:
        why = "; ".join([f"{d.name}: {d.reason}" for d in result.dropped][:3] + list(result.refused.values())[:1])
        raise DhnError(
            f"no hook is worth its cost or can be certified ({why}); collect more samples or allow more risk"
        )
    return bundle_file(packed, result.bundle)


def train(
    pack: options.PackFile,
    store: options.Store,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="HOOKS.DHN", help="Bundle to write.")] = Path(
        "hooks.dhn"
    ),
    risk: Risk = 0.01,
    delta: Delta = 0.05,
    kinds: Kinds = "exit,skip",
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Number of the bundle; boards take only newer.")
    ] = None,
    method: Method = "bp",
    start: Annotated[
        Path | None, typer.Option("--from", metavar="HOOKS.DHN", help="Go on from the heads of this earlier bundle.")
    ] = None,
    survivors: Survivors = 0.0,
    cascade: Cascade = False,
    point_policy: PointPolicy = "",
    against: Against = "network",
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="XY.NPZ", help="Labels 'y' of inputs 'x' that were played without them."),
    ] = None,
    side: Side = None,
    spacing: Spacing = None,
    search: Annotated[
        bool, typer.Option("--search", help="Search where exits sit and their shapes, under --budget.")
    ] = False,
    budget: Annotated[
        str,
        typer.Option("--budget", help="Mean cost that --search may take: 2x (twice as fast) or 0.5 (of a full run)."),
    ] = "2x",
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="Time that --search may take.")] = 10.0,
    seed: Seed = 0,
    allow_gaps: AllowGaps = False,
    allow_unseen: AllowUnseen = False,
    board: options.Board = None,
    json: options.Json = False,
) -> None:
    """Train hooks from samples and certify their thresholds.

    The main network stays as it is. A hook that costs more than it saves is left out, and the report says so.

    \b
    Examples:
      dhn-kit train model.dhn samples.db -o hooks.dhn
      dhn-kit train model.dhn samples.db --risk 0.005 --delta 0.01 --hooks exit
      dhn-kit train model.dhn samples.db --method both
      dhn-kit train model.dhn samples.db --point-policy "battery<20: 2; deadline"
      dhn-kit train model.dhn samples.db --search --budget 2x
      dhn-kit train model.dhn samples.db --from hooks.dhn -o newer.dhn
    """
    from dhn_kit import workflow
    from dhn_kit.bundle import load_bundle, save_bundle
    from dhn_kit.pack import load_pack
    from dhn_kit.perception import read_policy
    from dhn_kit.store import SampleStore
    from dhn_kit.train import design

    target, packed = load_target(board), load_pack(pack)
    read_policy(point_policy)
    writable_file(output)
    earlier = workflow.heads_of(packed, start) if start else {}
    before = load_bundle(start) if start else None
    number = version or (before.version + 1 if before else 1)
    chosen = replace(
        options_of(packed, risk, delta, kinds, seed, number, method, survivors, cascade, against, side, allow_unseen),
        start=earlier,
    )
    wanted = workflow.Search(design.parse_budget(budget), minutes) if search else None
    q, y = played(packed, labels)
    if labels is not None and y is None:
        raise DhnError(f"{labels} has no array 'y': give the labels of its inputs")
    with SampleStore(existing_file(store)) as samples, console.busy("training"):
        if q is not None and y is not None:
            workflow.label(samples, q, [int(c) if c >= 0 else None for c in y])
        result = workflow.train_from_store(
            packed,
            target,
            samples,
            chosen,
            allow_gaps=allow_gaps,
            policy=point_policy,
            wanted=wanted,
            spacing=spacing,
            earlier=workflow.timeline_of(before.report) if before else None,
        )
    file = trained(packed, result)
    save_bundle(file, output)
    summary = {**train_result(result), "bundle": str(output), "bytes": len(file.data), "version": file.version}
    if json:
        console.emit_json(summary)
        return
    show_training(summary)
    console.line(f"{output}: {len(result.bundle.hooks)} hooks, {len(file.data):,} bytes, version {file.version}")
