"""Chooses one canonical order of axes for the operands of a node, moving as little data as possible."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dhn_kit.onnx_import.builder import Builder, OnnxNode
from dhn_kit.onnx_import.layout import BATCH, Groups, Value, make_value, runs

#: The ONNX axes that make up H, W and C.
Parts = list[tuple[int, ...]]


@dataclass(frozen=True)
class Aligned:
    """Several tensors in one canonical order of axes, ``full`` being their common (broadcast) ONNX shape."""

    tensors: list[str]
    parts: Parts
    full: list[int]
    batch: int
    batch_axis: int | None

    def value(self, tensor: str, shape: Sequence[int]) -> Value:
        """The value of a result with ONNX ``shape`` in the same order."""
        return make_value(tensor, [a for part in self.parts for a in part], shape, self.batch, self.batch_axis)


def align(b: Builder, n: OnnxNode, values: Sequence[Value], single: Sequence[int] = ()) -> Aligned:
    """Bring all ``values`` (broadcast to one rank) into one canonical order of axes.

    Axes in ``single`` become canonical axes of their own. Of all orders the one that moves least data is taken;
    ties go to channels last of an ONNX tensor with channels first.
    """
    rank = max(v.rank for v in values)
    values = [replace(v, axes=((),) * (rank - v.rank) + v.axes) for v in values]
    full = [max(dims) for dims in zip(*(v.shape for v in values), strict=True)]
    batch_axes = {v.batch_axis for v in values} - {None}
    if len(batch_axes) > 1:
        n.refuse("the batch is a different axis in each input", "give both inputs the batch as first axis")
    batch_axis = next(iter(batch_axes), None)
    best: tuple[float, Parts] = (math.inf, [])
    for order in axis_orders(rank, batch_axis):
        for parts in partitions(order, full, single):
            cost = sum(_cost(b, v, parts, full) for v in values)
            if cost < best[0]:
                best = (cost, parts)
    if math.isinf(best[0]):
        n.refuse("its inputs cannot be brought into one layout of three axes", "use tensors of rank 4 or less here")
    tensors = [b.place(v, atoms_of(v, best[1])) for v in values]
    return Aligned(tensors, best[1], full, b.batch, batch_axis)


def _cost(b: Builder, v: Value, parts: Parts, full: Sequence[int]) -> float:
    for part in parts:
        present = [i for i in part if full[i] > 1]
        if any(v.shape[i] == 1 for i in present) and any(v.shape[i] > 1 for i in present):
            return math.inf  # half of this canonical axis would broadcast
    groups = atoms_of(v, parts)
    pieces = runs([a for g in groups for a in g])
    if len(pieces) > 3:
        return math.inf
    shape = tuple(v.product(g) for g in groups)
    return (1.0 if len(pieces) > 1 else 0.0) + (0.01 if shape != b.shape(v.tensor) else 0.0)


def atoms_of(v: Value, parts: Parts) -> Groups:
    groups = [tuple(a for axis in part for a in v.axes[axis] if a != BATCH) for part in parts]
    return (groups[0], groups[1], groups[2])


def axis_orders(rank: int, batch_axis: int | None) -> list[list[int]]:
    """Memory orders of the ONNX axes without the batch: channels last of channels first, then as they are, then all."""
    axes = [i for i in range(rank) if i != batch_axis]
    if len(axes) > 5:
        return [axes]
    preferred = [[*axes[1:], *axes[:1]], axes]
    return preferred + [list(p) for p in itertools.permutations(axes) if list(p) not in preferred]


def partitions(order: list[int], full: Sequence[int], single: Sequence[int]) -> Iterator[Parts]:
    """All ways to cut ``order`` into H, W, C, the natural one first; axes in ``single`` are alone but for unit axes."""
    count = len(order)
    cuts = [(i, j) for i in range(count + 1) for j in range(i, count + 1)]
    natural = (max(count - 2, 0), max(count - 1, 0))
    for i, j in sorted(cuts, key=lambda cut: cut != natural):
        parts = [tuple(order[:i]), tuple(order[i:j]), tuple(order[j:])]
        alone = (p for p in parts if any(s in p for s in single))
        if all(sum(full[a] > 1 or a in single for a in part) <= 1 for part in alone):
            yield parts
