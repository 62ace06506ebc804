"""Collects canonical nodes while the ONNX graph is walked; folds affine maps and activations into their producers."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np

from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Node, Port, Shape, Tensor
from dhn_kit.onnx_import.layout import BATCH, Atoms, Groups, LayoutError, Value, make_value, runs


@dataclass(frozen=True)
class OnnxNode:
    """One ONNX node, its attributes decoded."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any]
    opset: int

    def refuse(self, reason: str, advice: str) -> NoReturn:
        raise DhnError(f"node '{self.name}' ({self.op}): {reason}; {advice}")


@dataclass
class Builder:
    """The canonical graph under construction, and what every ONNX name stands for so far."""

    batch: int
    uses: dict[str, int]
    values: dict[str, Value | Array]
    ports: list[Port] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    producers: dict[str, Node] = field(default_factory=dict)
    placed: dict[tuple[str, Atoms, Shape], str] = field(default_factory=dict)

    # -- what the ONNX node reads and writes

    def has(self, n: OnnxNode, index: int) -> bool:
        return index < len(n.inputs) and n.inputs[index] != ""

    def is_constant(self, n: OnnxNode, index: int) -> bool:
        return isinstance(self.values.get(n.inputs[index]), np.ndarray)

    def value(self, n: OnnxNode, index: int = 0) -> Value:
        found = self.values.get(n.inputs[index])
        if isinstance(found, Value):
            return found
        if found is None:
            n.refuse(f"input '{n.inputs[index]}' is not produced by any node", "export the model again")
        n.refuse(f"input '{n.inputs[index]}' is a constant where an activation is expected", "fold it before export")

    def constant(self, n: OnnxNode, index: int) -> Array:
        found = self.values.get(n.inputs[index])
        if isinstance(found, np.ndarray):
            return found
        n.refuse(f"input '{n.inputs[index]}' must be a constant", "export with fixed weights and shapes")

    def optional_constant(self, n: OnnxNode, index: int) -> Array | None:
        return self.constant(n, index) if self.has(n, index) else None

    def sole(self, n: OnnxNode, index: int = 0) -> bool:
        """True if the tensor behind this input is read by this node alone, so that its producer may change."""
        return self.value(n, index).exclusive and self.uses[n.inputs[index]] == 1

    def view(self, n: OnnxNode, view: Value) -> None:
        """The node's output is the same tensor seen differently."""
        self.values[n.outputs[0]] = replace(view, exclusive=self.sole(n))

    def result(self, n: OnnxNode, value: Value) -> None:
        self.values[n.outputs[0]] = replace(value, exclusive=True)

    # -- emitting

    def emit(self, name: str, op: str, inputs: Sequence[str], output: str, shape: Sequence[int], **attrs: Any) -> str:
        """Append a node. Returns its output tensor, named ``output`` or, where that is taken, a variant of it."""
        output = self._unused(output)
        height, width, channels = (int(s) for s in shape)
        self.tensors[output] = Tensor(output, (height, width, channels))
        node = Node(name, op, list(inputs), output, attrs)
        self.nodes.append(node)
        self.producers[output] = node
        return output

    def _unused(self, name: str) -> str:
        return (
            name
            if name not in self.tensors
            else next(k for i in itertools.count(1) if (k := f"{name}.{i}") not in self.tensors)
        )

    def shape(self, tensor: str) -> Shape:
        return self.tensors[tensor].shape

    def place(self, v: Value, groups: Groups) -> str:
        """The tensor behind ``v`` with the given atoms as H, W and C; moves data if it must."""
        want = tuple(a for group in groups for a in group)
        shape = (v.product(groups[0]), v.product(groups[1]), v.product(groups[2]))
        key = (v.tensor, want if want != tuple(range(len(v.sizes))) else (), shape)
        if key not in self.placed:
            self.placed[key] = self._copy(v, want, shape)
        return self.placed[key]

    def _copy(self, v: Value, want: Atoms, shape: Shape) -> str:
        pieces = runs(want)
        if len(pieces) <= 1:
            return self.reshaped(v.tensor, shape)
        if len(pieces) > 3:
            raise LayoutError("it needs a transposition of more than three axes")
        memory = sorted(pieces)
        fill = 3 - len(pieces)
        source = (1,) * fill + tuple(v.product(p) for p in memory)
        perm = (*range(fill), *(fill + memory.index(p) for p in pieces))
        tensor = self.reshaped(v.tensor, (source[0], source[1], source[2]))
        name = f"{v.tensor}/transpose"
        tensor = self.emit(name, "transpose", [tensor], name, [source[p] for p in perm], perm=perm)
        return self.reshaped(tensor, shape)

    def reshaped(self, tensor: str, shape: Shape) -> str:
        if self.shape(tensor) == shape:
            return tensor
        name = f"{tensor}/reshape"
        return self.emit(name, "reshape", [tensor], name, shape)

    def with_last(self, v: Value, last: Atoms) -> tuple[str, Atoms, Atoms]:
        """The tensor with the atoms ``last`` (a set) as its C; the leading and the last atoms in its memory order."""
        lead = tuple(a for a in range(len(v.sizes)) if a not in last)
        last = tuple(sorted(last))
        if lead + last == tuple(range(len(v.sizes))) and self.shape(v.tensor)[2] == v.product(last):
            return v.tensor, lead, last
        return self.place(v, ((), lead, last)), lead, last

    def rename(self, old: str, new: str) -> str:
        """The producer of ``old`` now writes ``new``: the name of what was folded into it."""
        new = self._unused(new)
        node = self.producers.pop(old)
        tensor = self.tensors.pop(old)
        node.output = tensor.name = new
        self.tensors[new] = tensor
        self.producers[new] = node
        return new

    def tensor_groups(self, v: Value) -> Groups | None:
        """The atoms of the tensor's own H, W and C, or None where an atom spans two of them."""
        groups: list[Atoms] = []
        start = 0
        for dim in self.shape(v.tensor):
            end = start
            while end < len(v.sizes) and v.product(range(start, end)) < dim:
                end += 1
            if v.product(range(start, end)) != dim:
                return None
            groups.append(tuple(range(start, end)))
            start = end
        return (groups[0], groups[1], groups[2])


def image(b: Builder, n: OnnxNode, tensor: str, rank: int, batch_axis: int | None) -> Value:
    """The value of an NCHW (or NCL) result from its canonical tensor."""
    h, w, c = b.shape(tensor)
    shape = (b.batch, c, h, w) if rank == 4 else (b.batch, c, w)
    return make_value(tensor, [2, 3, 1] if rank == 4 else [2, 1], shape, b.batch, batch_axis)


def as_image(b: Builder, n: OnnxNode) -> tuple[str, Value]:
    """Input 0, NCHW or NCL, as a canonical (H, W, C) tensor (H = 1 for a sequence)."""
    v = b.value(n)
    if v.rank not in (3, 4):
        n.refuse(f"its input has rank {v.rank}", "only 1-D (N, C, L) and 2-D (N, C, H, W) forms are supported")
    if v.axes[0] not in ((), (BATCH,)):
        n.refuse("its first axis is not the batch", "keep the batch as first axis")
    if any(BATCH in axis for axis in v.axes[1:]):
        n.refuse("the batch is not its first axis", "keep the batch as first axis")
    height = v.axes[2] if v.rank == 4 else ()
    return b.place(v, (height, v.axes[-1], v.axes[1])), v


Handler = Callable[[Builder, OnnxNode], None]
