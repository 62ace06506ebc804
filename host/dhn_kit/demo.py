"""One complete turn of the loop on an emulated board, with real data: what 'make demo' runs."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit import resources, workflow
from dhn_kit.board_client import BoardClient
from dhn_kit.boards import Board
from dhn_kit.bundle import BundleFile, bundle_file, hook_order, save_bundle
from dhn_kit.datasets import Dataset, load
from dhn_kit.errors import DhnError
from dhn_kit.firmware_build import FirmwareImage
from dhn_kit.graph import Graph
from dhn_kit.hooks import promises
from dhn_kit.latency import load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack
from dhn_kit.playback import (
    BoardRun,
    Progress,
    install,
    measured_node_costs,
    play,
    powered,
    profile,
    silent,
)
from dhn_kit.quantize import agreement, quantize, sqnr_table
from dhn_kit.report import Figures, ReportData, figures, gather, write_report
from dhn_kit.store import SampleStore
from dhn_kit.strategy import board_policy
from dhn_kit.train.certify import Costs, predicted_costs
from dhn_kit.train.data import Split, split_from_inputs
from dhn_kit.train.trainer import Options, TrainResult, train
from dhn_kit.twin import Twin

Int8 = npt.NDArray[np.int8]
MODEL, DATA = "mnist_resnet8.onnx", "mnist"
CALIBRATION_IMAGES = 500
#: The operating point that the table shows is the thriftiest one certified at this risk.
RISK = 0.01
PROFILED_IMAGES = 3
SQNR_IMAGES = 64


@dataclass
class Outcome:
    """What the demo found. ``summary`` is build/demo/summary.json."""

    summary: dict[str, Any]
    report: Path


def run_demo(
    folder: Path,
    board: Board,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
    model: Path | None = None,
    limit: int | None = None,
) -> Outcome:
    """Import, pack, build, boot, collect, train, certify, push, run again, report. `limit` shortens every split."""
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    data = load(DATA)
    say(f"importing {model or MODEL} and quantising it on {CALIBRATION_IMAGES} images")
    graph = import_onnx(model or resources.path("zoo") / MODEL)
    quantized = quantize(graph, data.x_train[:CALIBRATION_IMAGES])
    packed = pack(quantized, board.flavour, latency=load_latency(board.latency_board), policy=board_policy(board))
    packed.save(folder / "model.dhn")
    shutil.rmtree(folder / "board", ignore_errors=True)  # a board fresh from the shelf: no hooks in its flash
    say(f"building firmware and starting {board.name}")
    with powered(packed, board, folder / "board") as (session, image):
        turn = _Turn(session.client, board, packed, quantized, data, limit, progress, say)
        hook, calibration, lost = turn.collect(folder / "samples.db")
        before = turn.test("detached")
        costs = turn.costs()
        result = turn.train(hook, calibration, costs)
        file = bundle_file(packed, result.bundle)
        save_bundle(file, folder / "hooks.dhn")
        say(f"pushing {len(file.data):,} bytes of hooks: trial, then confirm")
        install(session.client, file.data)
        after = turn.test("gated", workflow.best_point(file, RISK))
        equal = turn.equals_twin((hook, calibration), before, after, file)
    report, table = _report(turn, graph, result, before, after, costs, image, lost)
    write_report(folder / "report.html", report)
    summary = {**table, "board_equals_twin": equal, "seconds": round(time.monotonic() - started, 1)}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return Outcome(summary, folder / "report.html")


class _Turn:
    """The steps that talk to the board, in the order in which they happen."""

    def __init__(
        self,
        client: BoardClient,
        board: Board,
        packed: Pack,
        quantized: Graph,
        data: Dataset,
        limit: int | None,
        progress: Progress,
        say: Callable[[str], None],
    ) -> None:
        self.client, self.board, self.packed, self.quantized = client, board, packed, quantized
        self.progress, self.say = progress, say
        self.images = data.x_test[:limit]
        self.hook = self._canonical(data.x_hook[:limit]), data.y_hook[:limit]
        self.calibration = self._canonical(data.x_cal[:limit]), data.y_cal[:limit]
        self.tests = self._canonical(data.x_test[:limit]), data.y_test[:limit]

    def _canonical(self, x: npt.NDArray[np.float32]) -> Int8:
        return self.quantized.quantize_input(x)

    def collect(self, path: Path) -> tuple[Split, Split, int]:
        """Plays hook-training and calibration images; returns the two splits as the store has them."""
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        lost = 0
        with SampleStore(path) as store:
            for text, (q, y) in (("hook training", self.hook), ("calibration", self.calibration)):
                self.say(f"playing {len(q):,} images of the {text} split, collecting samples")
                lost += workflow.collect(self.client, self.board, store, q, y, progress=self.progress).lost
            samples = store.load(self.packed.hash)
        tags = {workflow.input_tag(x) for x in self.hook[0]}
        hook = workflow.split_of(self.packed, [s for s in samples if s.tag in tags])
        calibration = workflow.split_of(self.packed, [s for s in samples if s.tag not in tags])
        return hook, calibration, lost

    def test(self, mode: str, point: int = 0) -> BoardRun:
        q, _ = self.tests
        if mode == "detached":
            self.say(f"running {len(q):,} test images without hooks")
            return play(self.client, self.board, q, "detached", progress=self.progress)
        self.say(f"running the same {len(q):,} test images with hooks, operating point {point}")
        return play(self.client, self.board, q, "gated", point, progress=self.progress)

    def costs(self) -> Costs:
        """Measured instructions per node of the main network, predicted ones for hooks that do not exist yet."""
        per_op = [int(n) for n in profile(self.client, self.board, self.tests[0][:PROFILED_IMAGES])]
        predicted = predicted_costs(self.packed, load_latency(self.board.latency_board))
        return dataclasses.replace(predicted, nodes=measured_node_costs(self.packed, per_op), ops=per_op)

    def train(self, hook: Split, calibration: Split, costs: Costs) -> TrainResult:
        self.say(f"training hooks on {len(hook):,} samples, certifying them on {len(calibration):,} others")
        options = Options(slot_bytes=self.board.hook_flash.slot_bytes, version=workflow.next_version(self.client))
        result = train(self.packed, hook, calibration, costs, options)
        if not result.bundle.hooks:
            reasons = "; ".join(f"{d.name}: {d.reason}" for d in result.dropped)
            raise DhnError(f"no hook pays on this network ({reasons})")
        workflow.equip(self.packed, result.bundle, calibration, costs)
        return result

    def equals_twin(self, collected: Sequence[Split], before: BoardRun, after: BoardRun, file: BundleFile) -> bool:
        """Whether board and twin computed the same on every played input: what samples carry, and both test runs."""
        q, _ = self.tests
        gated = Twin(self.packed, file.data).run(q, point=workflow.best_point(file, RISK))
        pairs = [
            (before.output, Twin(self.packed).run(q).output),
            (after.output, gated.output),
            (after.decisions, gated.decisions),
        ]
        for split in collected:
            assert split.input is not None, "the demo's samples carry their inputs"
            twin = split_from_inputs(self.packed, split.input)
            pairs += [(split.output, twin.output), *zip(split.features, twin.features, strict=True)]
        return all(np.array_equal(board, twin) for board, twin in pairs)


def _counted(run: BoardRun) -> npt.NDArray[np.int64]:
    return run.ticks if run.instructions is None else run.instructions


def _measured(
    turn: _Turn, result: TrainResult, before: BoardRun, after: BoardRun, point: int
) -> tuple[Figures, Figures]:
    _, y = turn.tests
    names = [s.name for s in hook_order(result.bundle)]
    reference = before.output.argmax(axis=1)
    certificate = promises(result.bundle.certificates).get(point)
    full = figures("full network", _counted(before), reference, reference, y)
    gated = figures(
        result.bundle.operating_points[point],
        _counted(after),
        after.output.argmax(axis=1),
        reference,
        y,
        after.exit_hook,
        names,
        after.decisions == 2,
        certificate,
    )
    return full, gated


def _report(
    turn: _Turn,
    graph: Graph,
    result: TrainResult,
    before: BoardRun,
    after: BoardRun,
    costs: Costs,
    image: FirmwareImage | None,
    lost: int,
) -> tuple[ReportData, dict[str, Any]]:
    q, y = turn.tests
    point = workflow.best_point(bundle_file(turn.packed, result.bundle), RISK)
    data = gather(turn.packed, result.bundle, split_from_inputs(turn.packed, q, y), costs, turn.board.title)
    full, gated = _measured(turn, result, before, after, point)
    data.full, data.points[point], data.chosen = full, gated, point
    data.counting = "executed on the emulated core (full network, chosen row); others from measured layers"
    images = turn.images
    data.sqnr = [(s.node, s.op, s.db) for s in sqnr_table(graph, turn.quantized, images[:SQNR_IMAGES])]
    same = agreement(graph, before.output, images, y)
    data.agreement = {"int8 and float answer the same": same.same_top1}
    if same.accuracy_float is not None and same.accuracy_int8 is not None:
        data.agreement |= {"accuracy in float": same.accuracy_float, "accuracy in int8": same.accuracy_int8}
    samples = len(turn.hook[0]) + len(turn.calibration[0])
    data.facts = {"samples collected over the link": f"{samples:,}", "samples lost": f"{lost:,}"}
    return data, _summary(turn, full, gated, data, image, lost)


def _summary(
    turn: _Turn, full: Figures, gated: Figures, data: ReportData, image: FirmwareImage | None, lost: int
) -> dict[str, Any]:
    certificate = gated.certificate
    return {
        "board": turn.board.name,
        "model": turn.packed.name,
        "test_images": len(turn.tests[0]),
        "samples": len(turn.hook[0]) + len(turn.calibration[0]),
        "samples_lost": lost,
        "before": {"accuracy": full.accuracy, "mean": full.mean, "median": full.median, "worst": full.worst},
        "after": {"accuracy": gated.accuracy, "mean": gated.mean, "median": gated.median, "worst": gated.worst},
        "ratio": gated.mean / full.mean,
        "risk_bound": None if certificate is None else certificate.bound,
        "risk_allowed": None if certificate is None else certificate.epsilon,
        "delta": None if certificate is None else certificate.delta,
        "calibration_samples": None if certificate is None else certificate.n,
        "disagreement_on_test": gated.risk,
        "exits": gated.exits,
        "skips": gated.skips,
        "dropped": dict(data.dropped),
        "operating_point": gated.name,
        "operating_points": [p.name for p in data.points],
        "arena_bytes": turn.packed.arena_bytes,
        "arena_lower_bound": turn.packed.arena_lower_bound,
        "flash_code_bytes": image.flash_code_bytes if image else None,
        "flash_weight_bytes": len(turn.packed.data),
        "hook_bytes": data.hook_bytes,
    }
