"""Plays arrays to a board and gathers what it answers: outputs, decisions, executed instructions, samples."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dhn_kit import records
from dhn_kit.board_client import BoardClient, Hello, Mode
from dhn_kit.board_session import BoardSession, open_board
from dhn_kit.boards import Board
from dhn_kit.cost import full_ticks, node_costs
from dhn_kit.errors import DhnError
from dhn_kit.firmware_build import SAMPLE_BYTES, FirmwareImage, build_firmware
from dhn_kit.latency import load_latency
from dhn_kit.pack import Pack
from dhn_kit.samples import Sample
from dhn_kit.store import SampleStore

Int8 = npt.NDArray[np.int8]
#: Wraps the items of a long loop, to show progress.
Progress = Callable[[Sequence[int], str], Iterable[int]]


def silent(items: Sequence[int], text: str) -> Iterable[int]:
    return items


@dataclass
class BoardRun:
    """N inferences. ``output`` (N, K) int8, ``exit_hook`` (N,) -1 for none, ``decisions`` and ``scores`` (N, hooks),
    ``instructions`` (N,) executed per inference, hooks included, or None where the board cannot count them.
    ``points`` (N,) are the operating points at which they ran."""

    output: Int8
    exit_hook: npt.NDArray[np.int16]
    decisions: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.int16]
    ticks: npt.NDArray[np.int64]
    points: npt.NDArray[np.uint16]
    instructions: npt.NDArray[np.int64] | None


def play(
    client: BoardClient,
    board: Board,
    q: Int8,
    mode: Mode = "gated",
    point: int | None = None,
    *,
    tags: Sequence[int] | None = None,
    want_sample: bool = False,
    policies: bool = False,
    progress: Progress = silent,
    text: str = "playing inputs",
) -> BoardRun:
    """Canonical int8 inputs (N, H, W, C), one inference each, in order. ``tags`` name them in samples."""
    replies = [
        client.run(q[i], tags[i] if tags is not None else i, mode, point, want_sample=want_sample, policies=policies)
        for i in progress(range(len(q)), text)
    ]
    ticks = np.array([r.ticks for r in replies], np.int64)
    per_tick = board.timer.instructions_per_tick
    outputs = [r.output for r in replies if r.output is not None]
    return BoardRun(
        output=np.stack(outputs),
        exit_hook=np.array([r.exit_hook for r in replies], np.int16),
        decisions=np.array([r.decisions for r in replies], np.uint8),
        scores=np.array([r.scores for r in replies], np.int16),
        ticks=ticks,
        points=np.array([r.point for r in replies], np.uint16),
        instructions=np.rint(ticks * per_tick).astype(np.int64) if per_tick else None,
    )


def profile(client: BoardClient, board: Board, q: Int8) -> npt.NDArray[np.int64]:
    """Ticks of every operator, averaged over the inputs, hooks detached; instructions where ticks count them."""
    total = None
    for x in q:
        client.run(x, mode="detached", per_op=True)
        ticks = client.profile().astype(np.int64)
        total = ticks if total is None else total + ticks
    assert total is not None, "profile() needs at least one input"
    return np.asarray(np.rint(total * (board.timer.instructions_per_tick or 1) / len(q)), np.int64)


def measured_node_costs(pack: Pack, per_op: Iterable[int]) -> list[int]:
    """Instructions per graph node from those per operator."""
    costs = [0] * len(node_costs(pack))
    for info, instructions in zip(pack.ops, per_op, strict=True):
        costs[info.node] += int(instructions)
    return costs


def board_folder(pack: Pack, board: Board) -> Path:
    """Where an emulated board with this network keeps its firmware and its flash between commands."""
    return Path("build") / "boards" / f"{board.name}-{pack.hash[:12]}"


def firmware_of(pack: Pack, board: Board, folder: Path, sample_bytes: int = SAMPLE_BYTES) -> FirmwareImage:
    """The device application for this pack, which knows what the board's latency model predicts of it."""
    ticks = full_ticks(pack, board, load_latency(board.latency_board))
    return build_firmware(pack.data, board, folder, sample_bytes=sample_bytes, full_ticks=ticks)


@contextlib.contextmanager
def powered(
    pack: Pack, board: Board, workdir: Path, port: str | None = None
) -> Iterator[tuple[BoardSession, FirmwareImage | None]]:
    """A board that runs this very pack: built and started if it is emulated, reached at `port` if it is real."""
    image = firmware_of(pack, board, workdir / "firmware") if board.emulated else None
    with open_board(board, image.elf if image else None, workdir, port) as session:
        check_hello(session.client.hello(), pack, board)
        yield session, image


def check_hello(hello: Hello, pack: Pack, board: Board) -> None:
    """DhnError unless the board that said this runs ``pack``."""
    if hello.load_status:
        raise DhnError(f"{board.name} does not accept its pack (status {hello.load_status}); build it again")
    if hello.hash != pack.hash:
        raise DhnError(
            f"{board.name} runs another model ({hello.hash[:12]}, not {pack.hash[:12]}); "
            "flash this pack first, or name the one that it runs"
        )


def install(
    client: BoardClient, bundle: bytes, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Push, try and confirm a bundle. It is reverted when the board comes back without it."""
    client.push(bundle, progress)
    hello = client.trial()
    version = int(records.HEADER.unpack(bundle)["bundle_version"])
    if hello.bundle_version != version:
        raise DhnError(
            f"the board came back with bundle {hello.bundle_version} instead of {version}; "
            "it keeps what it had, look at 'dhn-kit push --json' for its slots"
        )
    client.confirm()


class Recorder:
    """Puts the samples of a session into a store, a batch per transaction, with the losses."""

    BATCH = 64

    def __init__(self, client: BoardClient, store: SampleStore, session: int) -> None:
        self.client = client
        self.store = store
        self.session = session
        self.kept = 0
        self.lost = 0
        self._waiting: list[Sample] = []
        self._last = -1
        # What was lost before is somebody else's account.
        self._lost_before = client.drain()
        client.on_sample = self._take

    def _take(self, sample: Sample) -> None:
        self._waiting.append(sample)
        self._last = sample.number
        if len(self._waiting) >= self.BATCH:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.kept += self.store.add(self.session, waiting)

    def finish(self) -> None:
        """Waits for what the board still sends and writes down what never arrived."""
        self.lost = self.client.drain() - self._lost_before
        self.flush()
        if self.lost:
            self.store.add_gap(self.session, self._last, self.lost)
