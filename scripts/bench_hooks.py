#!/usr/bin/env python
"""Trains hooks on every workload and counts what they save on the emulated Cortex-M4F: ratio, accuracy, certificate."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "host"))

from hook_workloads import RECIPES, Workload

from dhn_kit.boards import load_board
from dhn_kit.bundle import save_bundle
from dhn_kit.errors import DhnError
from dhn_kit.hooks import promises
from dhn_kit.playback import BoardRun, install, play, powered
from dhn_kit.twin import Twin, TwinResult

ROOT = Path(__file__).resolve().parents[1]
BOARD = "qemu-cortex-m4"
#: Inputs that the board runs without hooks: each executes the same instructions but for some rounding of the timer.
DETACHED = 8
#: Of a sequence so many times as many inputs run on the board as of others: its paths come in long runs.
SEQUENCE = 4


@dataclass(frozen=True)
class Target:
    """Most mean instructions with hooks as a share of those without, and the least accuracy gained by them (points)."""

    ratio: float
    points: float
    risk: float | None = None


TARGETS = {
    "mnist": Target(0.35, -0.3, 0.01),
    "fsdd": Target(0.35, -0.3, 0.015),
    "smartwatch": Target(0.25, -0.5),
    "stream": Target(0.12, -0.5),
    "cifar_resnet20_features": Target(0.68, 0.0),
    "cifar_resnet20_input": Target(0.42, 0.0),
    "cifar_resnet8_features": Target(0.75, 0.0),
    "cifar_resnet8_input": Target(0.55, 0.0),
}


@dataclass
class Counted:
    """Mean instructions of all test inputs, from those that the board ran: ``same`` says that board and twin agree."""

    full: float
    gated: float
    inputs: int
    same: bool


def paths(decisions: np.ndarray, exit_hook: np.ndarray) -> list[bytes]:
    """What names the way of each input through the hooks: it decides which instructions run."""
    return [d.tobytes() + e.tobytes() for d, e in zip(decisions, exit_hook, strict=True)]


def chosen(work: Workload, gated: TwinResult, count: int) -> np.ndarray:
    """Inputs for the board: the first ones, and one of every path that these leave out; of a sequence, which cannot be
    torn, the beginning up to there."""
    ways = paths(gated.decisions, gated.exit_hook)
    if work.sequence:
        places = {way: i for i, way in reversed(list(enumerate(ways)))}
        return np.arange(max(min(SEQUENCE * count, len(ways)), 1 + max(places.values())))
    first = np.arange(min(count, len(work.q)))
    seen, more = set(ways[: len(first)]), []
    for i in range(len(first), len(ways)):
        if ways[i] not in seen:
            seen.add(ways[i])
            more.append(i)
    return np.concatenate([first, np.array(more, np.int64)])


def count(work: Workload, gated: TwinResult, folder: Path, limit: int, point: int) -> Counted:
    """Runs the firmware: some inputs without hooks, the chosen ones with them at an operating point."""
    board, rows = load_board(BOARD), chosen(work, gated, limit)
    shutil.rmtree(folder / "board", ignore_errors=True)  # fresh from the shelf: no hooks in its flash
    with powered(work.pack, board, folder / "board") as (session, _):
        plain = play(session.client, board, work.q[:DETACHED], "detached")
        install(session.client, work.hooks.data)
        run = play(session.client, board, work.q[rows], "gated", point)
    assert plain.instructions is not None and run.instructions is not None
    same = bool((run.output == gated.output[rows]).all() and (run.decisions == gated.decisions[rows]).all())
    return Counted(float(plain.instructions.mean()), over_all(run, gated), len(rows), same)


def over_all(run: BoardRun, gated: TwinResult) -> float:
    """The mean over all test inputs: what each path took on the board, as often as the twin took it."""
    assert run.instructions is not None
    by_path: dict[bytes, list[int]] = {}
    for way, n in zip(paths(run.decisions, run.exit_hook), run.instructions, strict=True):
        by_path.setdefault(way, []).append(int(n))
    known = {way: float(np.mean(v)) for way, v in by_path.items()}
    ways = paths(gated.decisions, gated.exit_hook)
    return float(np.mean([known[way] for way in ways]))


def measure(name: str, recipe: Callable[..., Workload], folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One row; leaves model.dhn and hooks.dhn in the folder."""
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    work = recipe(folder, args.reference)
    work.pack.save(folder / "model.dhn")
    save_bundle(work.hooks, folder / "hooks.dhn")
    threads = 1 if work.sequence else None
    plain = Twin(work.pack, threads=threads).run(work.q, mode="detached")
    twin = Twin(work.pack, work.hooks.data, threads)
    gated = twin.run(work.q, point=work.point)
    counted = count(work, gated, folder, args.count, work.point)
    certificate = promises(work.hooks.certificates).get(work.point)
    known = work.y >= 0  # nothing is to be recognised in an empty scene

    def accuracy(result: TwinResult) -> float:
        return float((result.output.argmax(axis=1) == work.y)[known].mean())

    others = []
    for point in work.also:
        result = twin.run(work.q, point=point)
        also = count(work, result, folder, args.count, point)
        ratio = also.gated / also.full
        others.append({"ratio": ratio, "accuracy_gated": accuracy(result), "board_equals_twin": also.same})
    full, after = accuracy(plain), accuracy(gated)
    row = {
        "workload": name,
        "ratio": counted.gated / counted.full,
        "accuracy_full": full,
        "accuracy_gated": after,
        "risk_bound": None if certificate is None else certificate.bound,
        "n": None if certificate is None else certificate.n,
        "delta": None if certificate is None else certificate.delta,
        "certificate": None if certificate is None else asdict(certificate),
        "disagreement": float((plain.output.argmax(axis=1) != gated.output.argmax(axis=1)).mean()),
        "instructions_full": counted.full,
        "instructions_gated": counted.gated,
        "test_inputs": len(work.q),
        "board_inputs": counted.inputs,
        "board_equals_twin": counted.same,
        "operating_point": work.hooks.operating_points[work.point],
        "hooks": [h["name"] for h in work.hooks.hooks],
        "hook_bytes": len(work.hooks.data),
        "seconds": round(time.monotonic() - started, 1),
        "other_points": others,
        **work.facts,
    }
    target = TARGETS[name]
    row["target"] = asdict(target)
    row["missed"] = missed(row, target)
    return row


def missed(row: dict[str, Any], target: Target) -> list[str]:
    found = []
    if row["ratio"] > target.ratio:
        found.append("ratio")
    if 100 * (row["accuracy_gated"] - row["accuracy_full"]) < target.points - 1e-9:
        found.append("accuracy")
    if target.risk is not None and (row["certificate"] is None or row["certificate"]["epsilon"] > target.risk + 1e-12):
        found.append("risk")
    return found


def show(row: dict[str, Any]) -> None:
    bound = "-" if row["risk_bound"] is None else f"{row['risk_bound']:.2%}"
    print(
        f"{row['workload']:24} {row['instructions_gated']:>11,.0f} of {row['instructions_full']:>11,.0f} = "
        f"{row['ratio']:.3f} (at most {row['target']['ratio']:.2f})  accuracy {row['accuracy_full']:.2%} -> "
        f"{row['accuracy_gated']:.2%}  risk {bound} (n = {row['n'] or '-'})  board = twin: "
        f"{'yes' if row['board_equals_twin'] else 'NO'} on {row['board_inputs']}  {row['seconds']:.0f} s"
        + "".join(f"  also {o['ratio']:.3f} at {o['accuracy_gated']:.2%}" for o in row["other_points"])
        + (f"  missed: {', '.join(row['missed'])}" if row["missed"] else ""),
        flush=True,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", nargs="*", default=list(RECIPES), help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--count", type=int, default=500, help="first test inputs that the emulated board runs")
    reference = Path(os.environ.get("DHN_REFERENCE") or ROOT.parent / "shared")
    parser.add_argument("--reference", type=Path, default=reference, help="folder with networks and data sets")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench" / "hooks.json")
    args = parser.parse_args()
    unknown = [w for w in args.workload if w not in RECIPES]
    if unknown:
        raise DhnError(f"workload '{unknown[0]}' is unknown; choose from {', '.join(RECIPES)}")
    return args


def main() -> int:
    args = arguments()
    rows = []
    for name in args.workload:
        rows.append(measure(name, RECIPES[name], args.output.parent / name, args))
        show(rows[-1])
        write(args.output, rows)
    return 0 if all(r["board_equals_twin"] for r in rows) else 1


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows of workloads that were not run this time stay."""
    before = json.loads(path.read_text()) if path.is_file() else []
    fresh = {r["workload"] for r in rows}
    table = {r["workload"]: r for r in [*(b for b in before if b["workload"] not in fresh), *rows]}
    path.write_text(json.dumps([table[w] for w in RECIPES if w in table], indent=1) + "\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DhnError as error:
        sys.exit(f"bench_hooks.py: {error}")
