"""Predicts executed instructions per operator from fitted coefficients of a board's kernels."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass, field

from dhn_kit.bundle import pooled_input
from dhn_kit.hooks import HookPoint, HookSpec
from dhn_kit.lower import lower
from dhn_kit.pack import OpInfo, Pack

#: Instructions per multiply-accumulate, per output and per call, where a board states none: Cortex-M4, ref kernels.
DEFAULT = (6.0, 25.0, 60.0)


@dataclass(frozen=True)
class CostModel:
    """``kernels`` maps a kernel's name to (per MAC, per output, per call) instructions."""

    kernels: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def op(self, kernel: str, macs: int, outputs: int) -> int:
        per_mac, per_output, per_call = self.kernels.get(kernel, DEFAULT)
        return round(per_mac * macs + per_output * outputs + per_call)

    def ops(self, ops: list[OpInfo]) -> list[int]:
        return [self.op(o.kernel, o.macs, o.outputs) for o in ops]


def node_costs(pack: Pack, model: CostModel | None = None) -> list[int]:
    """Predicted instructions of every graph node, indexed by node number (views cost nothing)."""
    model = model or CostModel()
    nodes = 1 + max((o.node for o in pack.ops), default=-1)
    costs = [0] * nodes
    for info, cost in zip(pack.ops, model.ops(pack.ops), strict=True):
        costs[info.node] += cost
    return costs


def hook_cost(spec: HookSpec, point: HookPoint, model: CostModel | None = None) -> tuple[int, int]:
    """Predicted instructions of (deciding, acting): acting is the exit's answer or the skip's repair."""
    model = model or CostModel()

    def total(graph_ops: list[tuple[str, int, int]]) -> int:
        return sum(model.op(*op) for op in graph_ops)

    decide = lower(pooled_input(spec.net, point))
    then = spec.answer if spec.action == "exit" else spec.repair
    acting = [(o.kernel.name, o.macs, o.outputs) for o in lower(then).ops] if then else []
    return total([(o.kernel.name, o.macs, o.outputs) for o in decide.ops]), total(acting)
