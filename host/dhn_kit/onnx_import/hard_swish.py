"""Rewrites HardSigmoid and HardSwish spelt out in arithmetic.

1. Add(x, 3) -> Clip(0, 6) -> Div 6 or Mul 1/6 is HardSigmoid(x, 1/6, 1/2).
2. Mul(x, HardSigmoid(x, 1/6, 1/2)) is HardSwish(x).
3. Add(x, 3) -> Clip(0, 6) -> Mul(x, .) -> Div 6 or Mul 1/6 is HardSwish(x).
Refused (left as they are): any step with a second reader, other constants, another x.
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dhn_kit.graph import Array
from dhn_kit.onnx_import.builder import OnnxNode

SIXTH = {"alpha": 1 / 6, "beta": 0.5}


def rewrite(nodes: list[OnnxNode], constants: Mapping[str, Array], uses: Mapping[str, int]) -> list[OnnxNode]:
    """The same network with the three patterns replaced; nodes that lost their readers are left out."""
    made = {n.outputs[0]: n for n in nodes}
    dead: set[str] = set()
    for n in nodes:
        found = _match(n, made, constants, uses)
        if found is not None:
            new, gone = found
            made[n.outputs[0]] = new
            dead |= gone
    return [made[n.outputs[0]] for n in nodes if n.outputs[0] not in dead]


class _Matcher:
    def __init__(self, made: Mapping[str, OnnxNode], constants: Mapping[str, Array], uses: Mapping[str, int]) -> None:
        self.made, self.constants, self.uses = made, constants, uses

    def step(self, name: str, op: str) -> OnnxNode | None:
        """The producer of ``name`` if it is an ``op`` that nobody else reads."""
        n = self.made.get(name)
        return n if n is not None and n.op == op and self.uses[name] == 1 else None

    def operand(self, n: OnnxNode, value: float) -> str | None:
        """The other operand, if one is this scalar."""
        for mine, other in ((0, 1), (1, 0)):
            constant = self.constants.get(n.inputs[mine])
            if constant is not None and constant.size == 1 and np.isclose(constant.item(), value, rtol=1e-5):
                return n.inputs[other]
        return None

    def sixth_of(self, n: OnnxNode) -> str | None:
        """x of x / 6 or x * (1/6)."""
        if n.op == "Div" and n.inputs[0] not in self.constants:
            return self.operand(n, 6.0)
        return self.operand(n, 1 / 6) if n.op == "Mul" else None

    def relu6_of_plus3(self, name: str) -> tuple[str, set[str]] | None:
        """x and the tensors in between, of Clip(x + 3, 0, 6)."""
        clip = self.step(name, "Clip")
        if clip is None or [self._scalar(i) for i in (*clip.inputs, "", "")[1:3]] != [0.0, 6.0]:
            return None
        plus = self.step(clip.inputs[0], "Add")
        x = self.operand(plus, 3.0) if plus is not None else None
        return (x, {name, clip.inputs[0]}) if x is not None else None

    def _scalar(self, name: str) -> float | None:
        constant = self.constants.get(name)
        return float(constant.item()) if constant is not None and constant.size == 1 else None


def _match(
    n: OnnxNode, made: Mapping[str, OnnxNode], constants: Mapping[str, Array], uses: Mapping[str, int]
) -> tuple[OnnxNode, set[str]] | None:
    m = _Matcher(made, constants, uses)
    inner = m.sixth_of(n)
    if inner is not None and (hit := m.relu6_of_plus3(inner)) is not None:
        return replace(n, op="HardSigmoid", inputs=(hit[0],), attrs=SIXTH), hit[1]
    if inner is not None and (product := m.step(inner, "Mul")) is not None:
        for x, gate in (product.inputs, product.inputs[::-1]):
            if (hit := m.relu6_of_plus3(gate)) is not None and hit[0] == x:
                return replace(n, op="HardSwish", inputs=(x,), attrs={}), hit[1] | {inner}
    if n.op == "Mul":
        for x, gate in (n.inputs, n.inputs[::-1]):
            sigmoid = m.step(gate, "HardSigmoid")
            if sigmoid is not None and sigmoid.inputs[0] == x and _is_sixth(sigmoid):
                return replace(n, op="HardSwish", inputs=(x,), attrs={}), {gate}
    return None


def _is_sixth(n: OnnxNode) -> bool:
    return bool(np.isclose(n.attrs.get("alpha", 0.2), 1 / 6) and np.isclose(n.attrs.get("beta", 0.5), 0.5))
