"""Gives layers variants that leave out channels or rows, between which hooks choose at run time."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dhn_kit import records
from dhn_kit.hooks import HookPoint
from dhn_kit.kernels import reference_kernels
from dhn_kit.latency import LatencyModel
from dhn_kit.layouts import Call, prepare
from dhn_kit.lower import Lowered, Op, Operand
from dhn_kit.memory import mask_name, root
from dhn_kit.patch import Rows, cut_rows, knows_rows, row_bytes

#: A layer's output channels have at most so many gates, each over a multiple of `CHANNELS`.
MOST_GATES = 8
CHANNELS = 4
#: A layer has at most so many bands of rows, of a multiple of `ROWS`, which some kernels take at a time; stretches with
#: fewer products than `LEAST_WORK` have none.
MOST_BANDS = 8
ROWS = 4
LEAST_WORK = 20_000
#: Gated layers stay if they cost at most this share of the plain ones when half of their gates are open.
PAYS = 0.95


@dataclass(frozen=True)
class Gates:
    """What one mask opens and shuts, ``count`` gates. ``kind`` "channel": each of ``tensors`` (H, W, C) is real zero in
    C / count channels per shut gate, and the mask is bytes of the arena; "spatial": in the rows of a band, and the
    mask is the selections from ``group`` on. ``node``: the first graph node that is gated; the hook sits before it.
    """

    kind: str
    group: int
    count: int
    node: int
    tensors: tuple[str, ...]

    @property
    def groups(self) -> range:
        """The selections that are its own."""
        return range(self.group, self.group + (self.count if self.kind == "spatial" else 1))


def next_group(ops: Sequence[Op]) -> int:
    """The first selection that no op asks for."""
    return 1 + max((op.group for op in ops), default=0)


def masked(op: Op, gates: tuple[int, int], mask: Operand) -> Op:
    """The convolution with so many gates over its input and output channels (0: none), whose bytes are at `mask`."""
    sides = (op.call.values["in_c"], op.call.values["out_c"])
    in_group, out_group = (c // n if n else 0 for c, n in zip(sides, gates, strict=True))
    values = {**op.call.values, "in_group": in_group, "out_group": out_group}
    call = dataclasses.replace(op.call, op="conv2d_masked", record=records.CONV_MASKED, values=values)
    kernel = reference_kernels()[call.op]
    return dataclasses.replace(op, kernel=kernel, call=call, prepared=prepare(kernel, call), in1=mask, in_place=False)


def half_open(op: Op, latency: LatencyModel) -> float:
    """Predicted instructions of the op with half of its gates open, of a plain one in any case."""
    values: dict[str, Any] = dict(op.prepared.values)
    macs = op.macs
    for side in ("in", "out"):
        if values.get(f"{side}_group"):
            values[f"{side}_open"] = values[f"{side}_c"] // 2
            macs //= 2
    return latency.instructions(op.kernel, values, macs, op.outputs)


def add_variants(lowered: Lowered, points: Sequence[HookPoint], kinds: Collection[str]) -> tuple[Lowered, list[Gates]]:
    """The program with variants of the layers that these kinds of hooks can thin out, and their masks.

    A layer has variants of one kind: where channels are gated, rows are not.
    """
    gates: list[Gates] = []
    if "channel" in kinds:
        lowered, gates = _add_channels(lowered)
    if "spatial" in kinds:
        lowered, bands = _add_bands(lowered, points)
        gates += bands
    return lowered, gates


def paying(lowered: Lowered, gates: Sequence[Gates], latency: LatencyModel) -> tuple[Lowered, list[Gates]]:
    """Without the variants that save too little when half of their gates are open; kernels are chosen by then.

    A layer behind a gated one stays plain where that is cheaper: shut channels are real zero, so that its answer is the
    same.
    """
    kept: list[Gates] = []
    gated: set[int] = set()  #: identities of ops that keep their variants
    for g in gates:
        ops = [op for op in lowered.ops if op.group in g.groups]
        used = [op for node in dict.fromkeys(op.node for op in ops) for op in _worth_gating(ops, node, g, latency)]
        chosen = {id(op) for op in used}
        plain = sum(half_open(op, latency) for op in ops if op.variant == 0)
        left = sum(half_open(op, latency) for op in ops if op.variant == 0 and id(op) not in chosen)
        if _gated_cost(used, g, latency) + left <= PAYS * plain:
            kept.append(g)
            gated |= chosen
    ours = {group for g in gates for group in g.groups}
    ops = [
        op if id(op) in gated or op.group not in ours else dataclasses.replace(op, group=0)
        for op in lowered.ops
        if id(op) in gated or op.group not in ours or op.variant == 0
    ]
    return dataclasses.replace(lowered, ops=ops), kept


def _worth_gating(ops: Sequence[Op], node: int, gates: Gates, latency: LatencyModel) -> list[Op]:
    """The variants of one node; none where it only reads what is gated, and is cheaper plain."""
    own = [op for op in ops if op.node == node]
    plain = sum(half_open(op, latency) for op in own if op.variant == 0)
    reads_only = gates.kind == "channel" and node != gates.node
    return [] if reads_only and _gated_cost(own, gates, latency) >= plain else own


def _gated_cost(ops: Sequence[Op], gates: Gates, latency: LatencyModel) -> float:
    others = [sum(half_open(op, latency) for op in ops if op.variant == v) for v in (1, 2)]
    return others[0] if gates.kind == "channel" else sum(others) / 2


# -- Channels


def _add_channels(lowered: Lowered) -> tuple[Lowered, list[Gates]]:
    group = next_group(lowered.ops)
    made: dict[int, list[Op]] = {}
    found: list[Gates] = []
    for first, between, last in _pairs(lowered):
        count = gate_count(first.call.values["out_c"])
        mask = Operand(mask_name(group))
        for op, sides in ((first, (0, count)), (last, (count, 0))):
            variants = (op, masked(op, sides, mask))
            made[id(op)] = [dataclasses.replace(v, group=group, variant=i) for i, v in enumerate(variants)]
        found.append(Gates("channel", group, count, first.node, tuple(between)))
        group += 1
    return _replaced(lowered, made), found


def _replaced(lowered: Lowered, made: Mapping[int, Sequence[Op]]) -> Lowered:
    """``made``: by an op's identity what comes in its place."""
    return dataclasses.replace(lowered, ops=[v for op in lowered.ops for v in made.get(id(op), [op])])


def gate_count(channels: int) -> int:
    """The most gates, of at most `MOST_GATES`, that share these channels evenly in multiples of `CHANNELS`; 0: none."""
    fitting = [n for n in range(2, MOST_GATES + 1) if channels % (n * CHANNELS) == 0]
    return max(fitting, default=0)


def _pairs(lowered: Lowered) -> Iterator[tuple[Op, list[str], Op]]:
    """A convolution, the tensors from it on, and the convolution that is the only one to read them, in the end: what is
    between treats every channel by itself. No convolution is in two pairs."""
    taken: set[str] = set()
    for op in lowered.ops:
        if op.group or not _is_plain_conv(op) or op.out.tensor in taken:
            continue
        tensors, reader = [op.out.tensor], _only_reader(lowered, op.out.tensor)
        while reader is not None and _is_per_channel(reader):
            tensors.append(reader.out.tensor)
            reader = _only_reader(lowered, reader.out.tensor)
        if reader is not None and _is_plain_conv(reader) and gate_count(op.call.values["out_c"]):
            taken.add(reader.out.tensor)
            yield op, tensors, reader


def _is_plain_conv(op: Op) -> bool:
    return op.call.op == "conv2d" and op.call.values["groups"] == 1


def _is_per_channel(op: Op) -> bool:
    return op.call.op == "depthwise_conv2d" and op.call.values["in_c"] == op.call.values["out_c"]


def _only_reader(lowered: Lowered, tensor: str) -> Op | None:
    """The op that alone reads the tensor, which nobody views and which is no output."""
    ports = {root(lowered.aliases, p.tensor) for p in lowered.graph.outputs}
    readers = [op for op in lowered.ops for x in (op.in0, op.in1) if x is not None and x.tensor == tensor]
    viewed = tensor in lowered.aliases or tensor in lowered.aliases.values()
    return readers[0] if len(readers) == 1 and tensor not in ports and not viewed else None


# -- Rows


def _add_bands(lowered: Lowered, points: Sequence[HookPoint]) -> tuple[Lowered, list[Gates]]:
    group = next_group(lowered.ops)
    made: dict[int, list[Op]] = {}
    found: list[Gates] = []
    for span in _stretches(lowered, points):
        count = min(band_count(lowered.tensors[op.out.tensor].shape[0]) for op in span)
        if count < 2 or group + count > records.MAX_GROUPS or any(id(op) in made for op in span):
            continue
        made.update((id(op), _bands(lowered, op, group, count)) for op in span)
        found.append(Gates("spatial", group, count, span[0].node, tuple(op.out.tensor for op in span)))
        group += count
    return _replaced(lowered, made), found


def band_count(rows: int) -> int:
    """The most bands, of at most `MOST_BANDS`, that share the rows evenly in multiples of `ROWS`; else two, if even."""
    fitting = [n for n in range(2, MOST_BANDS + 1) if rows % (n * ROWS) == 0]
    return max(fitting, default=2 if rows >= ROWS and rows % 2 == 0 else 0)


def _stretches(lowered: Lowered, points: Sequence[HookPoint]) -> Iterator[list[Op]]:
    """What follows a hook point: a residual branch, or in a straight network the layers up to the next point."""
    branches = any(p.skip for p in points)
    for point, following in zip(points, [*points[1:], None], strict=True):
        last = point.skip[2] - 1 if point.skip else following.node if following else point.node
        if (branches and not point.skip) or point.index == 0:
            continue
        span = [op for op in lowered.ops if point.node <= op.node < last]
        even = all(op.call.op in ("conv2d", "depthwise_conv2d") and knows_rows(lowered, op) for op in span)
        if span and even and sum(op.macs for op in span) >= LEAST_WORK:
            yield span


def _bands(lowered: Lowered, op: Op, group: int, count: int) -> list[Op]:
    """The whole layer, and for each band its rows and a fill with real zero."""
    rows = lowered.tensors[op.out.tensor].shape[0]
    variants = [dataclasses.replace(op, group=group)]
    for i in range(count):
        span = (i * rows // count, (i + 1) * rows // count)
        part = cut_rows(lowered, op, span, lambda operand, needed: _at_rows(lowered, operand, needed))
        for variant, made in ((1, part), (2, _zero(op, part))):
            variants.append(dataclasses.replace(made, group=group + i, variant=variant))
    return variants


def _at_rows(lowered: Lowered, operand: Operand, rows: Rows) -> Operand:
    return Operand(operand.tensor, rows[0] * row_bytes(lowered, operand.tensor))


def _zero(op: Op, part: Op) -> Op:
    """Real zero, clamped, in place of the rows of `part`."""
    v = op.call.values
    value = min(max(v["out_zp"], v["act_min"]), v["act_max"])
    call = Call("fill", records.FILL, {"count": part.outputs, "value": value})
    kernel = reference_kernels()["fill"]
    return dataclasses.replace(
        part, kernel=kernel, in0=part.out, in1=None, call=call, prepared=prepare(kernel, call), macs=0, in_place=False
    )
