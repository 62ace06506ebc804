"""Fits what replaces a skipped branch, and the gate that predicts when that keeps the answer."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dhn_kit.bundle import pack_bundle
from dhn_kit.graph import Graph, Node, Port, Tensor
from dhn_kit.hooks import ALWAYS, Bundle, HookPoint, HookSpec
from dhn_kit.pack import Pack
from dhn_kit.quantize import quantize
from dhn_kit.train.heads import Floats, Head, Int8, Ints, int8_graph
from dhn_kit.twin import Twin, TwinResult

#: Inputs whose layers are read for the repair: each gives H x W pixels per channel, plenty for two numbers.
REPAIR_INPUTS = 256
#: Ridge of the gate, as a share of the sample count, on standardised features.
GATE_RIDGE = 0.05


@dataclass
class Skip:
    """A candidate skip: its repair, and what the network answers when it always skips here."""

    point: HookPoint
    repair: Graph
    output: Int8
    keeps: float  #: share of inputs whose answer survives the skip


def fit_repair(pack: Pack, point: HookPoint, inputs: Int8, mixing: bool) -> Graph:
    """What turns the skip's source into its destination, by least squares on the twin's layers.

    A gain and bias per channel, or with `mixing` a 1 x 1 convolution: dearer, but a branch that mixes channels can
    seldom be replaced without one.
    """
    assert point.skip is not None
    source, target, _ = point.skip
    layers = Twin(pack).run(inputs[:REPAIR_INPUTS], mode="detached", taps=[source, target]).layers
    src, dst = pack.tensors[source], pack.tensors[target]
    assert src.quant is not None and dst.quant is not None
    x, y = src.quant.dequantize(layers[source]), dst.quant.dequantize(layers[target])
    weight, bias = (_mixing if mixing else _affine)(x.reshape(-1, src.shape[2]), y.reshape(-1, dst.shape[2]))
    attrs: dict[str, Any] = {"weight": weight, "bias": bias, "stride": (1, 1), "dilation": (1, 1), "pad": (0, 0, 0, 0)}
    attrs["act"] = (0.0 if float(y.min()) >= 0 else None, None)
    op = "depthwise_conv2d"
    if mixing:
        op, attrs["groups"] = "conv2d", 1
    graph = Graph(
        f"repair at {point.name}",
        {"source": Tensor("source", src.shape), "target": Tensor("target", dst.shape)},
        [Node("repair", op, ["source"], "target", attrs)],
        [Port("source", "source", src.shape)],
        [Port("target", "target", dst.shape)],
    )
    return quantize(graph, x[:1], fixed={"source": src.quant, "target": dst.quant})


def _affine(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Per column: gain and bias that minimise the squared error; gain as a (1, 1, C) depthwise weight."""
    mean_x, mean_y = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    dx = x - mean_x
    variance = (dx * dx).mean(axis=0)
    gain = (dx * (y - mean_y)).mean(axis=0) / np.maximum(variance, 1e-9)
    return gain.astype(np.float32).reshape(1, 1, -1), (mean_y - gain * mean_x).astype(np.float32)


def _mixing(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The affine map between channels that minimises the squared error, as an (OC, 1, 1, IC) weight and a bias."""
    mean_x, mean_y = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    dx, dy = x - mean_x, y - mean_y
    gram = dx.T @ dx
    # Dead or identical channels make the system singular; this much ridge changes nothing else.
    gram += 1e-6 * (np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    weight = np.linalg.solve(gram, dx.T @ dy)
    bias = mean_y - mean_x @ weight
    return weight.T.astype(np.float32).reshape(y.shape[1], 1, 1, x.shape[1]), bias.astype(np.float32)


def constant_score(point: HookPoint) -> Graph:
    """The score of a hook that must act, or not, whatever the input is."""
    size = int(np.prod(point.feature_shape))
    head = Head([(np.zeros((size, 1), np.float32), np.ones(1, np.float32))])
    return int8_graph(head, point, np.zeros((4, size), np.int8), None, f"always at {point.name}")


def always(point: HookPoint, repair: Graph) -> HookSpec:
    """A hook that skips whatever the input is; its gate costs least and is never asked."""
    net = constant_score(point)
    return HookSpec(point.index, "skip", net, [ALWAYS], "value", repair=repair, name=f"always skip at {point.name}")


def run_skipping(pack: Pack, hooks: list[HookSpec], inputs: Int8) -> TwinResult:
    """Runs the twin with hooks that always skip, and others with one threshold."""
    bundle = pack_bundle(pack, Bundle(hooks, ["always"]))
    sequence = any(hook.action == "reuse" for hook in hooks)
    return Twin(pack, bundle).run(inputs, features=True, sequence=sequence)


def try_skip(pack: Pack, point: HookPoint, inputs: Int8, answer: Ints, mixing: bool) -> Skip:
    """Fits the repair of one point and sees what always skipping there does."""
    repair = fit_repair(pack, point, inputs, mixing)
    result = run_skipping(pack, [always(point, repair)], inputs)
    keeps = float((result.output.argmax(axis=1) == answer).mean())
    return Skip(point, repair, result.output, keeps)


def advantage(output: Floats, answer: Ints) -> Floats:
    """By how much the full network's class leads (or trails) all others in a skipping run, (N,)."""
    rows = np.arange(len(answer))
    chosen = output[rows, answer]
    rest = output.copy()
    rest[rows, answer] = -np.inf
    return np.asarray(chosen - rest.max(axis=1), np.float32)


def fit_gate(x: Floats, lead: Floats) -> Head:
    """A linear score that predicts the lead after a skip, by ridge regression; x (N, F) real features.

    Regressing the lead uses every sample; a kept/lost label would leave most of them without information, because
    almost all answers survive a skip.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0) + 0.1 * max(float(x.std()), 1e-6)
    z = ((x - mean) / spread).astype(np.float64)
    gram = z.T @ z + GATE_RIDGE * len(z) * np.eye(z.shape[1])
    weight = np.linalg.solve(gram, z.T @ (lead - lead.mean()))
    weight = weight / spread
    bias = float(lead.mean()) - float(mean @ weight)
    return Head([(weight.astype(np.float32)[:, None], np.array([bias], np.float32))])
