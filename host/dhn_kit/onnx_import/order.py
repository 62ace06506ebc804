"""Removes dead nodes; orders the live ones so that the cheaper side of a residual runs first."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np

from dhn_kit.graph import Graph, Node

#: Nodes whose two inputs may be the ends of two branches.
JOINS = ("add", "sub", "mul")


def schedule(graph: Graph) -> None:
    """Reorder ``graph.nodes`` in place: depth first from the outputs, at a join the cheaper branch first.

    The shortcut's result is then ready, and its input free, before the heavy branch needs its own buffers. Nodes and
    tensors that no output reads are dropped; graph inputs stay.
    """
    producers = {n.output: n for n in graph.nodes}
    index = {n.output: i for i, n in enumerate(graph.nodes)}
    above: dict[str, int] = {}  # tensor -> bit set of the nodes it depends on
    for n in graph.nodes:
        bits = 1 << index[n.output]
        for name in n.inputs:
            bits |= above.get(name, 0)
        above[n.output] = bits
    costs = [macs(graph, n) for n in graph.nodes]
    ordered: dict[str, Node] = {}
    for port in graph.outputs:
        stack = [(port.tensor, False)]
        while stack:
            name, ready = stack.pop()
            if name not in producers or name in ordered:
                continue
            node = producers[name]
            if ready:
                ordered[name] = node
                continue
            stack.append((name, True))
            stack += [(i, False) for i in reversed(_visit_order(node, above, costs))]
    graph.nodes = list(ordered.values())
    live = {port.tensor for port in graph.inputs} | set(ordered)
    graph.tensors = {k: t for k, t in graph.tensors.items() if k in live}


def _visit_order(node: Node, above: dict[str, int], costs: list[int]) -> list[str]:
    if node.op not in JOINS or len(node.inputs) != 2:
        return node.inputs
    a, b = (above.get(i, 0) for i in node.inputs)
    return node.inputs if _sum(a & ~b, costs) <= _sum(b & ~a, costs) else node.inputs[::-1]


def _sum(bits: int, costs: list[int]) -> int:
    return sum(cost for i, cost in enumerate(costs) if bits >> i & 1)


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a node with weights; 1 for any other, so that a bare shortcut counts as cheapest."""
    weight = node.attrs.get("weight")
    if weight is None:
        return 1
    h, w, c = graph.tensors[node.output].shape
    per_output = np.size(weight) // (weight.shape[-1] if node.op == "depthwise_conv2d" else weight.shape[0])
    return int(h * w * c * per_output)
