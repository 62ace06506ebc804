"""Finds the places of a network where hooks may act: the input, the blocks, and the residual branches."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from dhn_kit.graph import Graph, Node, Shape
from dhn_kit.hooks import HookPoint

#: A point behind which less than this share of the work is left cannot pay for its hook.
LEAST_WORK_LEFT = 0.03
#: More points than this only make samples longer; the ones with most work behind them are kept.
MOST_POINTS = 12
#: Largest default feature: what one sample carries per point, and what a linear head costs per class.
FEATURE_BYTES = 1024
#: A classifier with more classes has no point for blending: its scores would weigh too much in every sample.
MOST_CLASSES = 256


@dataclass(frozen=True)
class _Residual:
    """An addition whose heavier operand is computed by nodes [first, add) from the tensor `source`."""

    first: int
    add: int
    source: str
    shortcut: str
    block: int  #: where the block's own work starts, shortcut included


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one node; zero for what only moves or looks up bytes."""
    h, w, _ = graph.tensors[node.output].shape
    if node.op in ("conv2d", "depthwise_conv2d", "fully_connected"):
        return h * w * int(node.attrs["weight"].size)
    return 0


def feature_window(shape: Shape) -> tuple[int, int]:
    """Averaging window: about 4 x 4 positions (8 x 8 for thin tensors such as images), at most FEATURE_BYTES."""
    h, w, c = shape
    grid = 8 if c <= 4 else 4
    while grid > 1 and grid * grid * c > FEATURE_BYTES:
        grid -= 1
    return -(-h // grid), -(-w // grid)


def feature_shape(shape: Shape, window: tuple[int, int]) -> Shape:
    return -(-shape[0] // window[0]), -(-shape[1] // window[1]), shape[2]


def find_points(graph: Graph) -> list[HookPoint]:
    """Hook points in program order. Networks with several inputs or outputs have none."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1 or not graph.quantized:
        return []
    places = _places(graph)
    total = sum(node_macs(graph, n) for n in graph.nodes) or 1
    worth = [p for p in places if _left(graph, p[0]) >= LEAST_WORK_LEFT * total]
    worth = sorted(sorted(worth, key=lambda p: -_left(graph, p[0]))[:MOST_POINTS])
    points = [_point(graph, i, *place) for i, place in enumerate(worth)]
    return points + _final_point(graph, len(points)) if points else []


def _final_point(graph: Graph, index: int) -> list[HookPoint]:
    """Behind everything, or before a final softmax: where a classifier's answer can be blended with earlier ones."""
    output, node, last = graph.outputs[0].tensor, len(graph.nodes), graph.nodes[-1]
    if last.op == "softmax" and last.output == output:
        output, node = last.inputs[0], node - 1
    h, w, c = graph.tensors[output].shape
    if h * w != 1 or not 2 <= c <= MOST_CLASSES:
        return []
    return [dataclasses.replace(_point(graph, index, node, "answer", output, None), window=(1, 1), final=True)]


def _left(graph: Graph, node: int) -> int:
    return sum(node_macs(graph, n) for n in graph.nodes[node:])


#: (node before which the point sits, name, tap, skip or None)
_Place = tuple[int, str, str, tuple[str, str, int] | None]


def _places(graph: Graph) -> list[_Place]:
    source = graph.inputs[0].tensor
    places: dict[tuple[int, str], _Place] = {(0, source): (0, "input", source, None)}
    residuals = _residuals(graph)
    for number, r in enumerate(residuals):
        skip = (r.shortcut, graph.nodes[r.add].output, r.add + 1)
        if r.block < r.first:
            places[(r.block, r.source)] = (r.block, f"block{number}", r.source, None)
        places[(r.first, r.shortcut)] = (r.first, f"block{number}.branch", r.shortcut, skip)
    if not residuals:
        for index, tensor in _plain_blocks(graph):
            places.setdefault((index, tensor), (index, f"before {graph.nodes[index].name}", tensor, None))
    return sorted(places.values(), key=lambda p: p[:2])


def _residuals(graph: Graph) -> list[_Residual]:
    found = []
    for index, node in enumerate(graph.nodes):
        if node.op != "add" or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
            continue
        shapes = {graph.tensors[t].shape for t in node.inputs}
        residual = _residual(graph, index) if len(shapes) == 1 else None
        if residual is not None:
            found.append(residual)
    return found


def _chain(graph: Graph, tensor: str) -> list[int]:
    """Nodes of the straight line that ends in `tensor`, latest first, as long as nobody else reads in between."""
    line = []
    while len(graph.consumers(tensor)) == 1:
        node = graph.producer(tensor)
        if node is None or len(node.inputs) != 1:
            break
        line.append(graph.nodes.index(node))
        tensor = node.inputs[0]
    return line


def _residual(graph: Graph, add: int) -> _Residual | None:
    """The heavier side is the branch. It must be a run of nodes just before the addition."""
    lines = {t: _chain(graph, t) for t in graph.nodes[add].inputs}
    branch, shortcut = sorted(lines, key=lambda t: -sum(node_macs(graph, graph.nodes[i]) for i in lines[t]))
    nodes, other = sorted(lines[branch]), sorted(lines[shortcut])
    if not nodes or nodes != list(range(add - len(nodes), add)):
        return None
    first = nodes[0]
    source = graph.nodes[first].inputs[0]
    origin = graph.nodes[other[0]].inputs[0] if other else shortcut
    if origin != source or (other and other != list(range(first - len(other), first))):
        return None
    return _Residual(first, add, source, shortcut, other[0] if other else first)


def _plain_blocks(graph: Graph) -> list[tuple[int, str]]:
    """Before each spatial convolution that is not the first, on its input: a straight network's block borders."""
    places = []
    for index, node in enumerate(graph.nodes):
        if node.op == "conv2d":
            window = node.attrs["weight"].shape[1:3]
        elif node.op == "depthwise_conv2d":
            window = node.attrs["weight"].shape[:2]
        else:
            continue
        if max(window) > 1 and _alone(graph, index):
            places.append((index, node.inputs[0]))
    return places


def _alone(graph: Graph, index: int) -> bool:
    """Whether the node's input is the only tensor alive there, so that the network may end at it."""
    tensor = graph.nodes[index].inputs[0]
    return tensor != graph.inputs[0].tensor and graph.consumers(tensor) == [graph.nodes[index]]


def _point(graph: Graph, index: int, node: int, name: str, tap: str, skip: tuple[str, str, int] | None) -> HookPoint:
    tensor = graph.tensors[tap]
    assert tensor.quant is not None
    window = feature_window(tensor.shape)
    return HookPoint(
        index=index,
        name=name,
        node=node,
        tap=tap,
        tap_shape=tensor.shape,
        tap_quant=tensor.quant,
        window=window,
        feature_shape=feature_shape(tensor.shape, window),
        skip=skip,
    )
