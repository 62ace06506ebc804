"""Predicts executed instructions of packed networks and of hooks by a board's latency model."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit.boards import Board
from dhn_kit.hook_programs import Program, place_hook
from dhn_kit.hooks import HookPoint, HookSpec
from dhn_kit.kernels import all_by_name
from dhn_kit.latency import LatencyModel
from dhn_kit.pack import Pack
from dhn_kit.pack_meta import OpInfo
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


def gate_savings(pack: Pack, model: LatencyModel | None = None) -> dict[int, npt.NDArray[np.float64]]:
    """Per channel mask, by its group: (ops, gates + 1) instructions that each operator takes less than with all gates
    open, by the number of gates that are. Gates are taken to cost alike."""
    known = model or LatencyModel()
    calls = [i.params or {} for i in unpack(pack.data).program if i.fields["kind"] == INSTR_RUN]
    found = {}
    for g in (g for g in pack.gates if g.kind == "channel"):
        table = np.zeros((len(pack.ops), g.count + 1))
        for number, (op, call) in enumerate(zip(pack.ops, calls, strict=True)):
            if op.group == g.group and op.variant:
                costs = np.array([_of_share(op, call, k / g.count, known) for k in range(g.count + 1)])
                table[number] = costs[-1] - costs
        found[g.group] = table
    return found


def _of_share(op: OpInfo, values: Mapping[str, Any], share: float, model: LatencyModel) -> float:
    """Predicted instructions of a call with this share of its channel gates open."""
    macs: float = op.macs
    found = dict(values)
    for side in ("in", "out"):
        if found.get(f"{side}_group"):
            found[f"{side}_open"] = round(share * found[f"{side}_c"])
            macs *= share
    return model.instructions(all_by_name()[op.kernel], found, round(macs), op.outputs)


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
