"""Turns a trained side network into exit hooks: one per output, each going on from what the one before has kept."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dhn_kit.errors import DhnError
from dhn_kit.float_reference import run_float
from dhn_kit.graph import Graph, Node, Port, Quant
from dhn_kit.hooks import HookPoint, HookSpec
from dhn_kit.quantize import quantize

Int8 = npt.NDArray[np.int8]
#: Share of calibration logits that the answer's int8 range need not hold.
CLIPPED = 5e-4


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the main network's logits look like: their int8 quantisation, and their mean over classes and inputs."""

    quant: Quant
    centre: float


def side_hooks(net: Graph, point: HookPoint, taps: Int8, answer: Answer, name: str) -> list[HookSpec]:
    """Exits at `point` that run a float network on its tap, thresholds still empty.

    Every output of ``net`` is a vector of logits and becomes an exit; in program order, an exit computes only what no
    earlier one has, and reads the rest from what those have kept. What every exit keeps for later heads: its scores as
    "NAME.logitsK" and the vector before its last layer as "NAME.featuresK". ``taps`` (N, H, W, C) int8 calibrate the
    quantisation. Margins of the logits say how sure a side network is, as in Teerapittayanon, McDanel, Kung 2016,
    "BranchyNet"; the tap may be the input itself. Raises DhnError where the network does not fit the tap.
    """
    port = net.inputs[0] if len(net.inputs) == 1 else None
    if port is None or net.tensors[port.tensor].shape != point.tap_shape:
        shapes = " and ".join(str(net.tensors[p.tensor].shape) for p in net.inputs)
        raise DhnError(
            f"'{net.name}' reads {shapes}, hook point {point.index} ('{point.name}') has one tap "
            f"{point.tap_shape}; train it on that tensor"
        )
    real = point.tap_quant.dequantize(taps)
    fitted = _fit_scores(net, real, answer)
    fixed = {port.tensor: point.tap_quant} | {p.tensor: answer.quant for p in net.outputs}
    whole = quantize(fitted, real, "percentile", fixed)
    return _staged(whole, point, name)


def _fit_scores(net: Graph, real: npt.NDArray[np.float32], answer: Answer) -> Graph:
    """Logits scaled and moved into the answer's int8 range, which changes no arg max and no order of margins."""
    fitted = net.copy()
    values = run_float(_canonical(fitted), real)
    for port in net.outputs:
        last = fitted.producer(port.tensor)
        if last is None or last.op != "fully_connected":
            raise DhnError(f"output '{port.name}' of '{net.name}' must come from a fully connected layer: logits")
        logits = values[port.tensor].reshape(len(real), -1)
        mean = float(logits.mean())
        gain = np.float32(_gain(logits - mean, answer))
        bias = (last.attrs["bias"] - mean) * gain + answer.centre
        last.attrs.update(weight=last.attrs["weight"] * gain, bias=np.asarray(bias, np.float32))
    return _canonical(fitted)


def _canonical(net: Graph) -> Graph:
    """The same network fed with canonical arrays: a tap is no user's picture."""
    port = net.inputs[0]
    net.inputs[0] = Port(port.tensor, port.name, net.tensors[port.tensor].shape)
    return net


def _gain(centred: npt.NDArray[np.float32], answer: Answer) -> float:
    """The largest factor with which all but a few logits fit the answer's range around its centre."""
    low, high = (float(v) - answer.centre for v in answer.quant.dequantize(np.array([-128, 127])))
    bottom, top = (float(v) for v in np.quantile(centred, (CLIPPED, 1 - CLIPPED)))
    return min(high / top if top > 0 else np.inf, low / bottom if bottom < 0 else np.inf)


def _staged(whole: Graph, point: HookPoint, name: str) -> list[HookSpec]:
    made: dict[str, int] = {}
    stages: list[list[Node]] = []
    for number, port in enumerate(whole.outputs):
        nodes = [n for n in _needed(whole, port.tensor) if n.output not in made]
        made.update({n.output: number for n in nodes})
        stages.append(nodes)
    names = _kept_names(whole, stages, made, name)
    return [_hook(whole, point, nodes, number, names, name) for number, nodes in enumerate(stages)]


def _needed(graph: Graph, output: str) -> list[Node]:
    """Nodes that the output depends on, in execution order."""
    wanted, found = {output}, []
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            found.append(node)
    return found[::-1]


def _kept_names(whole: Graph, stages: Sequence[Sequence[Node]], made: dict[str, int], name: str) -> dict[str, str]:
    """Tensors that stay in the arena, and under which names: what later stages read, features and logits."""
    names: dict[str, str] = {}
    for number, nodes in enumerate(stages):
        names |= {t: f"{name}.{t}" for n in nodes for t in n.inputs if made.get(t, number) < number}
    for number, port in enumerate(whole.outputs):
        last = whole.producer(port.tensor)
        assert last is not None
        names[last.inputs[0]] = f"{name}.features{number}"
        names[port.tensor] = f"{name}.logits{number}"
    return names


def _hook(whole: Graph, point: HookPoint, nodes: list[Node], number: int, names: dict[str, str], name: str) -> HookSpec:
    own = {n.output for n in nodes}
    read = list(dict.fromkeys(t for n in nodes for t in n.inputs if t not in own))
    tap = whole.inputs[0].tensor
    ports = [Port(t, "tap" if t == tap else f"keep.{names[t]}", whole.tensors[t].shape) for t in read]
    tensors = {t: dataclasses.replace(whole.tensors[t]) for t in [*read, *own]}
    title = f"{name} {number + 1}"
    net = Graph(title, tensors, nodes, ports, [dataclasses.replace(whole.outputs[number])])
    keeps = {t: kept for t, kept in names.items() if t in own}
    return HookSpec(point.index, "exit", net, [], "margin", name=title, kind="input", keeps=keeps)
