"""Gives a program a second version of some layers, or of the whole network, between which a hook selects."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph
from dhn_kit.hooks import HookPoint
from dhn_kit.layouts import Call
from dhn_kit.lower import Lowered, Op, Operand, lower
from dhn_kit.variants import next_group

#: What is put before the names of the second network's tensors and operators.
SMALL = "small/"
#: What is put behind the names of narrow versions of operators.
NARROW = " (narrow)"


@dataclass(frozen=True)
class Selection:
    """Variant 1 of ``group`` runs ``layers`` (operator names) in place of variant 0. ``point``: the hook point in front
    of all of them, at which the selection must be made."""

    kind: Literal["bits", "select"]
    group: int
    point: int
    layers: tuple[str, ...]


def add_bits(lowered: Lowered, narrow: Graph, points: Sequence[HookPoint]) -> tuple[Lowered, list[Selection]]:
    """Every layer whose weights differ in `narrow`, the same network with narrower weights, in both versions.

    The layers between a hook point and the next are selected together. Those that have variants already, or that no
    point precedes, stay as they are.
    """
    first = next_group(lowered.ops)
    others = {op.name: op for op in lower(narrow).ops if op.call.weight is not None}
    at: dict[int, list[str]] = {}
    ops: list[Op] = []
    for op in lowered.ops:
        other, point = others.get(op.name), max((p.index for p in points if p.node <= op.node), default=-1)
        if other is None or op.group or point < 0 or _same_weights(op.call, other.call):
            ops.append(op)
            continue
        at.setdefault(point, []).append(op.name)
        group = first + list(at).index(point)
        made = (op, dataclasses.replace(other, name=narrow_name(op.name)))
        ops += [dataclasses.replace(v, group=group, variant=n) for n, v in enumerate(made)]
    found = [Selection("bits", first + i, point, tuple(names)) for i, (point, names) in enumerate(at.items())]
    return dataclasses.replace(lowered, ops=ops), found


def _same_weights(a: Call, b: Call) -> bool:
    return a.weight is not None and b.weight is not None and bool(np.array_equal(a.weight, b.weight))


def narrow_name(op: str) -> str:
    """The operator that is the narrow version of `op`."""
    return op + NARROW


def narrow_kernels(kernels: Mapping[str, str], lowered: Lowered) -> dict[str, str]:
    """Named kernels without those of narrow versions that were not made: their layers have other variants."""
    there = {op.name for op in lowered.ops}
    return {op: kernel for op, kernel in kernels.items() if op in there or not op.endswith(NARROW)}


def add_small(lowered: Lowered, small: Graph, points: Sequence[HookPoint]) -> tuple[Lowered, list[Selection]]:
    """Both networks in one program: `small` reads the same input and writes the same output, and runs instead.

    It comes first, so that it shares the arena with the other one and only the answer has to outlast it; where it was
    selected the program ends behind it. DhnError: the two do not read the same input, or do not give the same kind of
    answer.
    """
    check_alike(lowered.graph, small)
    group = next_group(lowered.ops)
    if not points or points[0].node > 0:
        raise DhnError(f"'{lowered.graph.name}' has no hook point at its input, where a network could be selected")
    second = _renamed(lower(small), lowered.graph)
    mine = [dataclasses.replace(op, group=group, variant=1, node=0) for op in second.ops]
    joined = dataclasses.replace(
        lowered,
        ops=mine + lowered.ops,
        tensors={**second.tensors, **lowered.tensors},
        aliases={**second.aliases, **lowered.aliases},
        ending=group,
    )
    return joined, [Selection("select", group, 0, tuple(op.name for op in mine))]


def check_alike(big: Graph, small: Graph) -> None:
    """DhnError unless both read the same bytes and answer in the same bytes."""
    for what, ports in (("input", (big.inputs, small.inputs)), ("output", (big.outputs, small.outputs))):
        if [len(p) for p in ports] != [1, 1]:
            raise DhnError(f"'{big.name}' and '{small.name}' must have one {what} each to share a pack")
        (a,), (b,) = ports
        x, y = big.tensors[a.tensor], small.tensors[b.tensor]
        if x.shape != y.shape or a.perm != b.perm:
            raise DhnError(
                f"'{small.name}' has {what} {list(b.user_shape)}, '{big.name}' {list(a.user_shape)}; "
                "both must have the same shape and layout"
            )
        if (a.scale, a.offset) != (b.scale, b.offset) or x.quant != y.quant:
            raise DhnError(
                f"'{small.name}' has {what} {y.quant} (x {b.scale:g} + {b.offset:g}), '{big.name}' {x.quant} "
                f"(x {a.scale:g} + {a.offset:g}); both must normalise and quantise alike"
            )
    ends = [g.nodes[-1].op == "softmax" for g in (big, small)]
    if ends[0] != ends[1]:
        names = [g.name for g, soft in zip((big, small), ends, strict=True) if soft]
        raise DhnError(f"only '{names[0]}' ends in a softmax; both networks must, or neither")


def _renamed(lowered: Lowered, shared: Graph) -> Lowered:
    """The program on the other network's input and output tensors, everything else under names of its own."""
    own, output = lowered.graph, shared.outputs[0].tensor
    ports = {own.inputs[0].tensor: shared.inputs[0].tensor, own.outputs[0].tensor: output}
    names = {name: ports.get(name, SMALL + name) for name in lowered.tensors}

    def operand(x: Operand) -> Operand:
        return x if x.const is not None else dataclasses.replace(x, tensor=names[x.tensor])

    def renamed(op: Op) -> Op:
        in1 = None if op.in1 is None else operand(op.in1)
        return dataclasses.replace(op, name=SMALL + op.name, in0=operand(op.in0), in1=in1, out=operand(op.out))

    ops = [renamed(op) for op in lowered.ops]
    aliases = {names[view]: names[viewed] for view, viewed in lowered.aliases.items()}
    if output in aliases:  # a view at the end: the answer's bytes are viewed from the other side
        aliases[aliases.pop(output)] = output
    tensors = {names[k]: dataclasses.replace(t, name=names[k]) for k, t in lowered.tensors.items()}
    return dataclasses.replace(lowered, ops=ops, tensors=tensors, aliases=aliases)
