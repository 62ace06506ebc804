"""Tracks where each axis of an ONNX tensor lives in the memory of a canonical tensor.

A canonical tensor's memory is a row of *atoms* (factors of its size, outermost first). Each ONNX
axis is a list of atoms, so Transpose, Reshape, Flatten, Squeeze and Unsqueeze only change the
lists: no data moves until an operator asks for an order that the memory does not have.
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dhn_kit.graph import Array

#: Stands for the batch in a list of atoms. It is never in memory: every input is one sample.
BATCH = -1

Atoms = tuple[int, ...]
#: The atoms of the canonical axes H, W and C.
Groups = tuple[Atoms, Atoms, Atoms]


class LayoutError(Exception):
    """A view that the bookkeeping cannot express; says why in half a sentence."""


class NeedsCopyError(LayoutError):
    """The view exists, but only of a tensor whose memory is in the ONNX order."""


@dataclass(frozen=True)
class Value:
    """An ONNX activation as a view of the canonical tensor ``tensor``.

    ``sizes`` are the atoms (all > 1) in memory order, ``axes`` the atoms of every ONNX axis, outermost first.
    ``batch`` is the size of the batch axis (1 if dynamic). ``exclusive`` says that nothing else views the tensor.
    """

    tensor: str
    sizes: tuple[int, ...]
    axes: tuple[Atoms, ...]
    batch: int
    exclusive: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(math.prod(self.batch if a == BATCH else self.sizes[a] for a in axis) for axis in self.axes)

    @property
    def rank(self) -> int:
        return len(self.axes)

    @property
    def batch_axis(self) -> int | None:
        return next((i for i, axis in enumerate(self.axes) if BATCH in axis), None)

    def product(self, atoms: Iterable[int]) -> int:
        return math.prod(self.sizes[a] for a in atoms)


def make_value(tensor: str, memory: Sequence[int], shape: Sequence[int], batch: int, batch_axis: int | None) -> Value:
    """A value of ONNX ``shape`` whose axes lie in memory in the order ``memory`` (the batch left out)."""
    sizes: list[int] = []
    axes: list[Atoms] = [()] * len(shape)
    for axis in memory:
        if shape[axis] > 1:
            axes[axis] = (len(sizes),)
            sizes.append(shape[axis])
    if batch_axis is not None:
        axes[batch_axis] = (BATCH,)
    return Value(tensor, tuple(sizes), tuple(axes), batch)


def transpose(v: Value, perm: Sequence[int]) -> Value:
    return replace(v, axes=tuple(v.axes[p] for p in perm))


def merged(v: Value) -> Value:
    """Joins atoms that are neighbours in memory and in one axis, so that equal views compare equal."""
    joined = {b for axis in v.axes for a, b in itertools.pairwise(axis) if a >= 0 and b == a + 1}
    sizes: list[int] = []
    new_id: dict[int, int] = {BATCH: BATCH}
    for i, size in enumerate(v.sizes):
        if i in joined:
            sizes[-1] *= size
        else:
            new_id[i] = len(sizes)
            sizes.append(size)
    axes = tuple(tuple(new_id[a] for a in axis if a not in joined) for axis in v.axes)
    return replace(v, sizes=tuple(sizes), axes=axes)


def split(v: Value, atom: int, outer: int) -> Value:
    """Atom of size s becomes two, of sizes ``outer`` and s / outer."""
    sizes = (*v.sizes[:atom], outer, v.sizes[atom] // outer, *v.sizes[atom + 1 :])

    def renumber(axis: Atoms) -> Atoms:
        return tuple(x for a in axis for x in ((atom, atom + 1) if a == atom else (a + 1,) if a > atom else (a,)))

    return replace(v, sizes=sizes, axes=tuple(renumber(axis) for axis in v.axes))


def reshape(v: Value, shape: Sequence[int]) -> Value:
    """View with another ONNX shape. LayoutError if the batch would move, NeedsCopyError if memory order forbids it."""
    if math.prod(shape) != math.prod(v.shape):
        raise LayoutError(f"cannot reshape {list(v.shape)} to {list(shape)}")
    leads = v.rank > 0 and v.axes[0] == (BATCH,)
    if v.batch > 1 and not (leads and shape and shape[0] == v.batch):
        raise LayoutError("the reshape moves the batch axis")
    # a batch of 1 that an earlier reshape took in comes back where a leading 1 does
    keep = (leads or v.batch_axis is None) and len(shape) > 0 and shape[0] == v.batch
    inner = shape[1:] if keep else shape
    flat = merged(replace(v, axes=(tuple(a for axis in v.axes for a in axis if a != BATCH),)))
    counts: list[int] = []
    for dim in inner:
        flat, count = _take(flat, sum(counts), dim)
        counts.append(count)
    ends = np.cumsum([0, *counts])
    axes = tuple(flat.axes[0][a:b] for a, b in itertools.pairwise(ends))
    return replace(flat, axes=((BATCH,), *axes) if keep else axes)


def _take(flat: Value, start: int, dim: int) -> tuple[Value, int]:
    """How many atoms from ``start`` on make up ``dim``, splitting the last one where it is too large."""
    count = 0
    while dim > 1:
        atom = flat.axes[0][start + count]
        size = flat.sizes[atom]
        if dim % size == 0:
            dim //= size
        elif size % dim == 0:
            flat = split(flat, atom, dim)
            dim = 1
        else:
            raise NeedsCopyError("the reshape cuts across the memory order")
        count += 1
    return flat, count


def runs(order: Sequence[int]) -> list[list[int]]:
    """``order`` cut into pieces of consecutive numbers: what a transpose can move as one."""
    pieces: list[list[int]] = []
    for atom in order:
        if pieces and atom == pieces[-1][-1] + 1:
            pieces[-1].append(atom)
        else:
            pieces.append([atom])
    return pieces


def constant_in_memory(v: Value, constant: Array) -> Array:
    """A constant that broadcasts against ``v``: one axis per atom in memory order, of size 1 where it does not vary."""
    if constant.ndim > v.rank:
        if math.prod(constant.shape[: constant.ndim - v.rank]) != 1:
            raise LayoutError(f"a constant of shape {list(constant.shape)} would enlarge {list(v.shape)}")
        constant = constant.reshape(constant.shape[constant.ndim - v.rank :])
    constant = constant.reshape((1,) * (v.rank - constant.ndim) + constant.shape)
    order: list[int] = []
    dims: list[int] = []
    for size, full, axis in zip(constant.shape, v.shape, v.axes, strict=True):
        if size not in (1, full):
            raise LayoutError(f"a constant of shape {list(constant.shape)} does not fit {list(v.shape)}")
        if size > 1 and BATCH in axis:
            raise LayoutError("the constant differs from sample to sample of the batch")
        atoms = [a for a in axis if a != BATCH]
        order += atoms
        dims += [v.sizes[a] if size > 1 else 1 for a in atoms]
    array = constant.reshape(dims).transpose(np.argsort(order)) if order else constant.reshape(())
    for axis_index in range(array.ndim):
        first = array.take([0], axis_index)
        if np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    return array


def axis_order(v: Value) -> list[int] | None:
    """The ONNX axes (batch left out) in memory order; None where one is scattered over the memory."""
    axes = [i for i, axis in enumerate(v.axes) if BATCH not in axis]
    if any(len(runs(v.axes[i])) > 1 for i in axes):
        return None
    filled = iter(sorted((i for i in axes if v.axes[i]), key=lambda i: v.axes[i][0]))
    # unit axes stay where they are: they may be anywhere, and an order that needs no permutation is wanted
    return [next(filled) if v.axes[i] else i for i in axes]
