"""Predicts executed instructions of packed networks and of hooks by a board's latency model."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dhn_kit.boards import Board
from dhn_kit.hook_programs import Program, place_hook
from dhn_kit.hooks import HookPoint, HookSpec
from dhn_kit.kernels import all_by_name
from dhn_kit.latency import LatencyModel
from dhn_kit.pack import Pack
from dhn_kit.records import INSTR_RUN
from dhn_kit.unpack import Instruction, unpack


def op_costs(pack: Pack, model: LatencyModel | None = None) -> list[float]:
    """Predicted instructions of every op of the pack's program."""
    model, kernels, nonzero = model or LatencyModel(), all_by_name(), pack.extra.get("nonzero", {})
    calls = [i for i in unpack(pack.data).program if i.fields["kind"] == INSTR_RUN]
    return [
        model.instructions(kernels[o.kernel], {**(i.params or {}), **nonzero.get(o.name, {})}, o.macs, o.outputs)
        for o, i in zip(pack.ops, calls, strict=True)
    ]


def program_cost(work: Sequence[Sequence[Any]], program: Sequence[Instruction], model: LatencyModel) -> float:
    """Predicted instructions of a hook's program; ``work`` has (kernel, MACs, outputs) of each of its calls."""
    kernels = all_by_name()
    calls = [i for i in program if i.fields["kind"] == INSTR_RUN]
    return sum(
        model.instructions(kernels[name], call.params or {}, macs, outputs)
        for (name, macs, outputs), call in zip(work, calls, strict=True)
    )


def node_costs(pack: Pack, model: LatencyModel | None = None) -> list[int]:
    """Predicted instructions of every graph node with hooks detached, by node number (views cost nothing)."""
    costs = [0.0] * (1 + max((o.node for o in pack.ops), default=-1))
    for info, cost in zip(pack.ops, op_costs(pack, model), strict=True):
        costs[info.node] += cost if info.variant == 0 else 0.0
    return [round(c) for c in costs]


def full_ticks(pack: Pack, board: Board, model: LatencyModel) -> int:
    """Predicted ticks of a run without hooks; 0 where the board's ticks say nothing about instructions."""
    per_tick = board.timer.instructions_per_tick
    return round(sum(node_costs(pack, model)) / per_tick) if per_tick else 0


def hook_cost(pack: Pack, spec: HookSpec, point: HookPoint, model: LatencyModel | None = None) -> tuple[int, int]:
    """Predicted instructions of (deciding, acting): acting is the exit's answer or the skip's repair.

    What runs when a hook does not act counts as part of deciding, and acting is so much cheaper.
    """
    known = model or LatencyModel()

    def total(program: Program | None) -> int:
        ops = program.ops if program is not None else []
        return round(sum(known.instructions(o.kernel, o.prepared.values, o.macs, o.outputs) for o in ops))

    placed = place_hook(pack, spec)
    otherwise = total(placed.otherwise)
    return total(placed.decide) + otherwise, total(placed.then) - otherwise
