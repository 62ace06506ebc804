"""Counts what one inference costs on a board: instructions per operator, flash by part, arena, stack."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dhn_kit.board_client import BoardClient
from dhn_kit.boards import Board
from dhn_kit.latency import load_latency
from dhn_kit.pack import Pack
from dhn_kit.playback import BoardRun, install, play, powered, profile
from dhn_kit.twin import Twin

Int8 = npt.NDArray[np.int8]
#: Share of the instructions that must be in kernels with estimated cycles for an estimate of the whole.
COVERED = 0.95


@dataclass(frozen=True)
class OpCount:
    """``instructions`` include the two readings of the clock around the operator: some tens. ``estimated_cycles``:
    these times the kernel's cycles per instruction (`cycles`); None where those were not estimated. ``predicted``: what
    the board's latency model said when the network was packed."""

    name: str
    op: str
    kernel: str
    instructions: int
    macs: int
    estimated_cycles: int | None = None
    predicted: int = 0


@dataclass(frozen=True)
class Bench:
    """What one inference costs, averaged over the inputs.

    ``unit``: "instructions", or "ticks" where the board cannot count those. ``instructions_gated``: with hooks, at
    their first operating point. ``flash_code_bytes``: the inference path alone, runtime and kernels (None: no linker
    map); ``flash``: all of the firmware by part. ``stack_bytes``: the deepest stack, interrupts included.
    ``output_equal``: every output equals the twin's. ``estimated_cycles``: of the operators, None unless all but a few
    per cent of the instructions are in kernels with an estimate.
    """

    board: str
    unit: str
    instructions: float
    instructions_gated: float | None
    ops: list[OpCount]
    arena_bytes: int
    arena_lower_bound: int
    flash_code_bytes: int | None
    flash_weight_bytes: int
    flash: dict[str, int]
    stack_bytes: int | None
    output_equal: bool
    estimated_cycles: int | None = None


def random_inputs(packed: Pack, count: int) -> Int8:
    """Canonical int8 inputs of the network's first input, the same ones each time."""
    shape = packed.tensors[packed.inputs[0].tensor].shape
    return np.random.default_rng(0).integers(-128, 128, (count, *shape)).astype(np.int8)


def bench(
    packed: Pack, board: Board, q: Int8, folder: Path, *, bundle: bytes | None = None, port: str | None = None
) -> Bench:
    """Runs canonical int8 inputs (N, H, W, C) on the board, which keeps its firmware and flash in ``folder``."""
    with powered(packed, board, folder, port) as (session, image):
        detached = play(session.client, board, q, "detached")
        per_op = profile(session.client, board, q)
        stack = session.client.counters().stack_bytes
        gated = None if bundle is None else _gated(session.client, board, q, bundle)
    equal = bool((detached.output == Twin(packed).run(q, mode="detached").output).all())
    if gated is not None:
        equal = equal and bool((gated.output == Twin(packed, bundle).run(q).output).all())
    ops = _counts(packed, board, per_op)
    return Bench(
        board=board.name,
        unit="instructions" if board.timer.instructions_per_tick else "ticks",
        instructions=_cost(detached),
        instructions_gated=None if gated is None else _cost(gated),
        ops=ops,
        arena_bytes=packed.arena_bytes,
        arena_lower_bound=packed.arena_lower_bound,
        flash_code_bytes=image.inference_bytes if image else None,
        flash_weight_bytes=len(packed.data),
        flash=dict(image.parts) if image else {},
        stack_bytes=stack or None,
        output_equal=equal,
        estimated_cycles=_total_cycles(ops),
    )


def _counts(packed: Pack, board: Board, per_op: npt.NDArray[np.int64]) -> list[OpCount]:
    model = load_latency(board.latency_board)
    # Of another core that executes the same instructions: in other cycles.
    known = {name: k.cpi for name, k in model.kernels.items() if k.cpi and model.board == board.name}
    return [
        OpCount(
            name=o.name,
            op=o.op,
            kernel=o.kernel,
            instructions=int(n),
            macs=o.macs,
            estimated_cycles=round(n * known[o.kernel]) if o.kernel in known else None,
            predicted=round(o.instructions),
        )
        for o, n in zip(packed.ops, per_op, strict=True)
    ]


def _total_cycles(ops: list[OpCount]) -> int | None:
    total = sum(o.instructions for o in ops)
    covered = [(o.instructions, o.estimated_cycles) for o in ops if o.estimated_cycles is not None]
    instructions, cycles = (sum(column) for column in zip(*covered, strict=True)) if covered else (0, 0)
    if instructions < COVERED * total or not instructions:
        return None
    return round(cycles * total / instructions)


def _cost(run: BoardRun) -> float:
    return float((run.ticks if run.instructions is None else run.instructions).mean())


def _gated(client: BoardClient, board: Board, q: Int8, bundle: bytes) -> BoardRun:
    install(client, bundle)
    return play(client, board, q, point=0)
