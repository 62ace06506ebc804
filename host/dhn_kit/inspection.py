"""Sums up a network: operators, work, quantisation, hook points and memory."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dhn_kit.graph import Graph, Node, Port, Shape
from dhn_kit.hookpoints import node_macs
from dhn_kit.hooks import HookPoint
from dhn_kit.pack import Pack
from dhn_kit.pack_meta import OpInfo


@dataclass(frozen=True)
class PortSummary:
    """``shape`` is the user's, without the batch. ``scale`` and ``zero_point`` are None before quantisation."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True)
class NodeSummary:
    """``shape`` is the output's (H, W, C). ``sqnr_db`` says how far int8 is from float, where data was given."""

    name: str
    op: str
    shape: Shape
    macs: int
    parameters: int
    sqnr_db: float | None


@dataclass(frozen=True)
class PointSummary:
    """``work_left`` is the share of the multiply-accumulates that an exit here saves."""

    index: int
    name: str
    tap_shape: Shape
    feature_bytes: int
    work_left: float
    can_skip: bool


@dataclass(frozen=True)
class MemorySummary:
    """Bytes. ``buffers`` are (name, offset, bytes, first step, step after the last). ``proven``: no plan is smaller."""

    arena_bytes: int
    lower_bound: int
    proven: bool
    flash_bytes: int
    buffers: list[tuple[str, int, int, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class KernelSummary:
    """The kernel of one op; instructions and cycles are predicted, ``others`` are (kernel, why it was not taken).

    ``variant`` above 0: it runs instead of the op before it while a hook has selected it.
    """

    name: str
    kernel: str
    instructions: float
    cycles: float
    flash: int
    scratch: int
    others: tuple[tuple[str, str], ...]
    variant: int = 0


@dataclass(frozen=True)
class Summary:
    name: str
    quantized: bool
    macs: int
    parameters: int
    inputs: list[PortSummary]
    outputs: list[PortSummary]
    nodes: list[NodeSummary]
    points: list[PointSummary]
    memory: MemorySummary | None
    kernels: list[KernelSummary] = field(default_factory=list)
    hash: str | None = None
    #: the board whose instructions were counted for the predictions, None where nobody counted
    counted_on: str | None = None
    #: bits of each layer's weights and why, where they were chosen: `precision.Precision.facts`
    precision: dict[str, Any] | None = None


def summarize(graph: Graph, pack: Pack | None = None, sqnr: dict[str, float] | None = None) -> Summary:
    """``pack`` adds hook points and memory, ``sqnr`` (by node name) how well int8 fits."""
    nodes = [
        NodeSummary(
            n.name, n.op, graph.tensors[n.output].shape, node_macs(graph, n), _parameters(n), (sqnr or {}).get(n.name)
        )
        for n in graph.nodes
    ]
    return Summary(
        name=graph.name,
        quantized=graph.quantized,
        macs=sum(n.macs for n in nodes),
        parameters=sum(n.parameters for n in nodes),
        inputs=[_port(graph, p) for p in graph.inputs],
        outputs=[_port(graph, p) for p in graph.outputs],
        nodes=nodes,
        points=_points(pack.points, [n.macs for n in nodes]) if pack else [],
        memory=_memory(pack) if pack else None,
        kernels=_kernels(pack) if pack else [],
        hash=pack.hash if pack else None,
        counted_on=pack.extra.get("latency") or None if pack else None,
        precision=pack.extra.get("precision") if pack else None,
    )


def summarize_pack(pack: Pack) -> Summary:
    """What a pack file knows by itself: operators as packed, hook points and memory."""
    macs_of_node = [0] * (1 + max((o.node for o in pack.ops), default=-1))
    for op in pack.full_run:
        macs_of_node[op.node] += multiplies(op)
    writers = {number: tensor for tensor, number in pack.extra.get("writers", {}).items()}
    nodes = []
    for number, op in enumerate(pack.ops):
        tensor = pack.tensors.get(writers.get(number, ""))
        nodes.append(
            NodeSummary(op.name, op.op, tensor.shape if tensor else (1, 1, op.outputs), multiplies(op), 0, None)
        )
    graph = pack.graph()
    return Summary(
        name=pack.name,
        quantized=True,
        macs=sum(macs_of_node),
        parameters=0,
        inputs=[_port(graph, p) for p in pack.inputs],
        outputs=[_port(graph, p) for p in pack.outputs],
        nodes=nodes,
        points=_points(pack.points, macs_of_node),
        memory=_memory(pack),
        kernels=_kernels(pack),
        hash=pack.hash,
        counted_on=pack.extra.get("latency") or None,
        precision=pack.extra.get("precision"),
    )


def multiplies(op: OpInfo) -> int:
    """Multiply-accumulates as the literature counts them: with weights, not the additions of a pooling."""
    return op.macs if op.op in ("conv2d", "depthwise_conv2d", "fully_connected") else 0


def _parameters(node: Node) -> int:
    return sum(int(np.size(node.attrs[k])) for k in ("weight", "bias", "const") if node.attrs.get(k) is not None)


def _port(graph: Graph, port: Port) -> PortSummary:
    quant = graph.tensors[port.tensor].quant
    return PortSummary(
        port.name, port.user_shape, port.dtype, quant.scale if quant else None, quant.zero_point if quant else None
    )


def _points(points: list[HookPoint], macs: list[int]) -> list[PointSummary]:
    total = sum(macs) or 1
    return [
        PointSummary(
            p.index, p.name, p.tap_shape, int(np.prod(p.feature_shape)), sum(macs[p.node :]) / total, p.skip is not None
        )
        for p in points
    ]


def _kernels(pack: Pack) -> list[KernelSummary]:
    return [
        KernelSummary(o.name, o.kernel, o.instructions, o.cycles, o.flash, o.scratch, o.others, o.variant)
        for o in pack.ops
    ]


def _memory(pack: Pack) -> MemorySummary:
    buffers = [(name, pack.offsets[name], size, start, end) for name, (start, end, size) in pack.lifetimes.items()]
    return MemorySummary(
        pack.arena_bytes,
        pack.arena_lower_bound,
        pack.arena_proven,
        len(pack.data),
        sorted(buffers, key=lambda b: (b[3], b[1])),
    )
