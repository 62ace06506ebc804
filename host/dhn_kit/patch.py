"""Runs the first operators of a program band by band of rows, so that their large tensors never exist as a whole."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dhn_kit.graph import Tensor
from dhn_kit.hooks import HookPoint
from dhn_kit.kernels import reference_kernels
from dhn_kit.layouts import prepare
from dhn_kit.lower import Lowered, Op, Operand
from dhn_kit.memory import arena_bytes, root

#: Operators whose output rows follow from a run of input rows.
WINDOWS = ("conv2d", "depthwise_conv2d", "avg_pool", "max_pool")
BINARY = ("add", "mul")

#: Longer programs of bands are not tried: they compute most rows more than once.
MOST_OPS = 120

#: How many lengths are worth a plan with the kernels that bands get.
CANDIDATES = 4

#: Rows [first, behind the last) of a tensor.
Rows = tuple[int, int]


@dataclass(frozen=True)
class Patched:
    """``ops`` is how many operators run in ``bands``. ``points`` are the hook points that still have their tap.

    MACs are those with weights; what the bands compute twice is their difference.
    """

    lowered: Lowered
    points: list[HookPoint]
    bands: int
    ops: int
    macs_before: int
    macs_after: int


def patch(lowered: Lowered, points: list[HookPoint], bands: int) -> list[Patched]:
    """The program with some of its first operators in `bands`: the few lengths whose arenas are smallest, best first.

    That is judged by the kernels that the ops have; those of bands are to be chosen anew. Rows at the border of two
    bands are computed twice; every answer keeps its bits. Hook points within these operators go: their taps do not
    exist. After Lin et al., "MCUNetV2: Memory-Efficient Patch-based Inference for Tiny Deep Learning" (NeurIPS 2021),
    with bands of whole rows for patches.
    """
    found = []
    for count in _lengths(lowered):
        region = _Region(lowered, count)
        if region.rows >= bands and count * bands <= MOST_OPS:
            trial = region.patched(points, bands)
            found.append((arena_bytes(trial.lowered, trial.points)[0], trial))
    return [trial for _, trial in sorted(found, key=lambda f: (f[0], f[1].macs_after))[:CANDIDATES]]


def _lengths(lowered: Lowered) -> Iterator[int]:
    """How many operators may run in bands: all of them know rows, and only the last one's result is read after them."""
    viewed = set(lowered.aliases.values())
    outputs = {root(lowered.aliases, p.tensor) for p in lowered.graph.outputs}
    inner: set[str] = set()
    for count, op in enumerate(lowered.ops, 1):
        if not knows_rows(lowered, op):
            return
        later = {t for other in lowered.ops[count:] for t in _arena_reads(other)}
        if count > 1 and not inner & later:
            yield count
        if op.out.tensor in viewed or op.out.tensor in outputs:
            return
        inner.add(op.out.tensor)


def _arena_reads(op: Op) -> list[str]:
    return [x.tensor for x in (op.in0, op.in1) if x is not None and x.const is None]


def knows_rows(lowered: Lowered, op: Op) -> bool:
    if op.group or any(x is not None and x.offset for x in (op.in0, op.in1, op.out)):
        return False
    values = op.call.values
    if op.call.op in WINDOWS:
        reach = (values["kh"] - 1) * values.get("dilation_h", 1) + 1
        # Every window holds a row of the image, so that a band's input is never empty.
        last = (values["out_h"] - 1) * values["stride_h"] - values["pad_t"]
        return bool(values["pad_t"] < reach and last < values["in_h"])
    if op.call.op in BINARY:
        strides = (values["a_stride"][0], values["b_stride"][0])
        sides = (op.in0, op.in1)
        return not any(x and x.const is not None and stride for x, stride in zip(sides, strides, strict=True))
    return op.call.op == "unary" and lowered.tensors[op.in0.tensor].shape == lowered.tensors[op.out.tensor].shape


class _Region:
    """The first `count` operators; only the last one's result is read by others."""

    def __init__(self, lowered: Lowered, count: int) -> None:
        self.lowered = lowered
        self.ops = lowered.ops[:count]
        self.target = self.ops[-1].out.tensor
        self.inner = {op.out.tensor for op in self.ops} - {self.target}
        self.rows = lowered.tensors[self.target].shape[0]

    def patched(self, points: list[HookPoint], bands: int) -> Patched:
        tensors = {name: t for name, t in self.lowered.tensors.items() if name not in self.inner}
        ops: list[Op] = []
        for band in range(bands):
            rows = (band * self.rows // bands, (band + 1) * self.rows // bands)
            ops += self._band(rows, f"#{band}", tensors)
        ops += self.lowered.ops[len(self.ops) :]
        first, last = min(op.node for op in self.ops), max(op.node for op in self.ops)
        left = [p for p in points if p.node <= first or p.node > last]
        left = [dataclasses.replace(p, index=i) for i, p in enumerate(left)]
        overlaps = {(self.target, source): least for source, least in self._trailing(ops, bands)}
        lowered = dataclasses.replace(self.lowered, ops=ops, tensors=tensors, overlaps=overlaps)
        return Patched(lowered, left, bands, len(self.ops), _macs(self.lowered.ops), _macs(ops))

    def _trailing(self, ops: list[Op], bands: int) -> Iterator[tuple[str, int]]:
        """Tensors whose bytes the result may take over as bands go on, with the least distance that lets it.

        When a band's rows of the result are there, the rows of a source before the first that a later band reads are no
        longer needed. The operator that writes the result must not read the source itself.
        """
        count, aliases = len(self.ops), self.lowered.aliases
        after = {root(aliases, t) for op in (self.ops[-1], *ops[count * bands :]) for t in _arena_reads(op)}
        sources = {root(aliases, t) for op in self.ops for t in _arena_reads(op)} - self.inner
        for source in sorted(sources - after):
            least = 0
            for band in range(1, bands):
                written = band * self.rows // bands * row_bytes(self.lowered, self.target)
                later = [x for op in ops[band * count : count * bands] for x in (op.in0, op.in1) if x is not None]
                first = min(x.offset for x in later if root(aliases, x.tensor) == source)
                least = max(least, written - first)
            yield source, least

    def _band(self, rows: Rows, suffix: str, tensors: dict[str, Tensor]) -> list[Op]:
        """The operators that make `rows` of the target; adds what they need in between to `tensors`."""
        spans = self._spans(rows)
        for name in self.inner:
            _, width, depth = self.lowered.tensors[name].shape
            shape = (spans[name][1] - spans[name][0], width, depth)
            tensors[name + suffix] = dataclasses.replace(self.lowered.tensors[name], name=name + suffix, shape=shape)
        return [self._slice(op, spans, suffix) for op in self.ops]

    def _spans(self, rows: Rows) -> dict[str, Rows]:
        """Which rows of every tensor within are needed for `rows` of the target."""
        spans = {self.target: rows}
        for op in reversed(self.ops):
            # One row of what nobody reads.
            wanted = spans.setdefault(op.out.tensor, (0, 1))
            for operand, (start, end) in _needs(op, wanted):
                if operand.tensor in self.inner:
                    low, high = spans.get(operand.tensor, (start, end))
                    spans[operand.tensor] = (min(low, start), max(high, end))
        return spans

    def _slice(self, op: Op, spans: Mapping[str, Rows], suffix: str) -> Op:
        def place(operand: Operand, rows: Rows) -> Operand:
            return self._operand(operand, rows, spans, suffix)

        return cut_rows(self.lowered, op, spans[op.out.tensor], place)

    def _operand(self, operand: Operand, rows: Rows, spans: Mapping[str, Rows], suffix: str) -> Operand:
        if operand.const is not None:
            return operand
        name = operand.tensor
        if name in self.inner:
            return Operand(name + suffix, (rows[0] - spans[name][0]) * row_bytes(self.lowered, name))
        return Operand(name, rows[0] * row_bytes(self.lowered, name))


def row_bytes(lowered: Lowered, tensor: str) -> int:
    return lowered.tensors[tensor].shape[1] * lowered.tensors[tensor].shape[2]


def cut_rows(lowered: Lowered, op: Op, rows: Rows, place: Callable[[Operand, Rows], Operand]) -> Op:
    """The op for these rows of its output only. ``place`` says where given rows of an operand are."""
    sides = [place(operand, needed) for operand, needed in _needs(op, rows)]
    values = _values_of_rows(lowered, op, op.prepared.values, rows)
    call = dataclasses.replace(op.call, values=_values_of_rows(lowered, op, op.call.values, rows))
    kernel, prepared = op.kernel, dataclasses.replace(op.prepared, values=values)
    if not kernel.covers(values):
        kernel = reference_kernels()[op.call.op]
        prepared = prepare(kernel, call)
    outputs = (rows[1] - rows[0]) * row_bytes(lowered, op.out.tensor)
    return dataclasses.replace(
        op,
        in0=sides[0],
        in1=sides[1] if len(sides) > 1 else None,
        out=place(op.out, rows),
        call=call,
        kernel=kernel,
        prepared=prepared,
        macs=op.macs // op.outputs * outputs,
        outputs=outputs,
    )


def _values_of_rows(lowered: Lowered, op: Op, values: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
    """A record's fields for these rows of the output."""
    count = rows[1] - rows[0]
    if op.call.op in WINDOWS:
        (start, end), pad = _window(op.call.values, rows)
        return {**values, "in_h": end - start, "out_h": count, "pad_t": pad}
    _, width, depth = lowered.tensors[op.out.tensor].shape
    if op.call.op == "unary":
        return {**values, "count": count * width * depth}
    return {**values, "shape": (count, width, depth)}


def _needs(op: Op, rows: Rows) -> list[tuple[Operand, Rows]]:
    """What each input must hold for these rows of the output."""
    if op.call.op in WINDOWS:
        return [(op.in0, _window(op.call.values, rows)[0])]
    if op.in1 is None:
        return [(op.in0, rows)]
    # A stride of zero repeats the first row.
    strides = (op.call.values["a_stride"][0], op.call.values["b_stride"][0])
    return [(x, rows if stride else (0, 1)) for x, stride in zip((op.in0, op.in1), strides, strict=True)]


def _window(values: Mapping[str, Any], rows: Rows) -> tuple[Rows, int]:
    """Input rows that the windows of `rows` reach, and how many rows of padding lie above them."""
    top = rows[0] * values["stride_h"] - values["pad_t"]
    reach = (values["kh"] - 1) * values.get("dilation_h", 1) + 1
    start = max(0, top)
    end = min(values["in_h"], (rows[1] - 1) * values["stride_h"] - values["pad_t"] + reach)
    return (start, end), start - top


def _macs(ops: list[Op]) -> int:
    return sum(op.macs for op in ops if op.call.weight is not None)
