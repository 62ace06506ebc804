"""A side network's exits go on from one another, say on the twin what its whole says, and refuse what does not fit."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from dhn_kit.errors import DhnError
from dhn_kit.float_reference import run_float
from dhn_kit.graph import Graph, Node, Port, Tensor
from dhn_kit.hooks import HookSpec
from dhn_kit.pack import Pack, pack
from dhn_kit.train import split_from_inputs
from dhn_kit.train.cascade import recorded
from dhn_kit.train.input_net import Answer, side_hooks
from nets import Net, residual_net


def side_net(outputs: int = 2) -> Graph:
    """Float, on 8 x 8 x 3: a shared convolution, a first exit on its mean, a second one after another convolution."""
    rng = np.random.default_rng(3)
    tensors = {"x": Tensor("x", (8, 8, 3))}
    nodes: list[Node] = []

    def node(op: str, name: str, inputs: list[str], shape: tuple[int, int, int], **attrs: object) -> str:
        tensors[name] = Tensor(name, shape)
        nodes.append(Node(name, op, inputs, name, attrs))
        return name

    def conv(name: str, x: str, channels: int) -> str:
        _, _, c = tensors[x].shape
        weight = rng.normal(0, 0.3, (channels, 3, 3, c)).astype(np.float32)
        same = {"stride": (1, 1), "dilation": (1, 1), "pad": (1, 1, 1, 1), "groups": 1}
        bias = np.zeros(channels, np.float32)
        return node("conv2d", name, [x], (8, 8, channels), weight=weight, bias=bias, act=(0.0, None), **same)

    def exit_of(name: str, x: str) -> str:
        pooled = node("mean", f"{name} mean", [x], (1, 1, tensors[x].shape[2]))
        weight = rng.normal(0, 1, (5, tensors[x].shape[2])).astype(np.float32)
        bias = rng.normal(0, 1, 5).astype(np.float32)
        return node("fully_connected", name, [pooled], (1, 1, 5), weight=weight, bias=bias, act=(None, None))

    trunk = conv("trunk", "x", 8)
    exits = [exit_of("early", trunk), exit_of("late", conv("more", trunk, 8))][:outputs]
    return Graph("side", tensors, nodes, [Port("x", "x", (8, 8, 3))], [Port(e, e, (5,)) for e in exits])


@pytest.fixture(scope="module")
def main() -> tuple[Pack, Net]:
    graph, net = residual_net()
    return pack(graph, hooks=("input",), keep=1024), net


def hooks(main: Pack, net: Graph, taps: np.ndarray) -> list[HookSpec]:
    quant = main.tensors[main.outputs[0].tensor].quant
    assert quant is not None
    return side_hooks(net, main.points[0], taps, Answer(quant, 0.0), "side")


def test_every_exit_says_on_the_twin_what_the_float_network_says(main: tuple[Pack, Net]) -> None:
    packed, net = main
    split = split_from_inputs(packed, net.inputs(200))
    assert split.input is not None
    side = side_net()
    specs = hooks(packed, side, split.input)
    real = run_float(side, packed.points[0].tap_quant.dequantize(split.input))
    for spec, said, port in zip(specs, recorded(packed, specs, split), side.outputs, strict=True):
        logits = real[port.tensor].reshape(200, -1)
        top = np.sort(logits, axis=1)
        clear = top[:, -1] - top[:, -2] > 0.1 * np.ptp(logits)  # rounding may decide between equals
        assert clear.sum() > 50, spec.name
        assert (said.argmax(axis=1) == logits.argmax(axis=1))[clear].all(), spec.name


def test_a_later_exit_computes_nothing_twice(main: tuple[Pack, Net]) -> None:
    packed, net = main
    first, second = hooks(packed, side_net(), net.inputs(100))
    assert [n.name for n in first.net.nodes] == ["trunk", "early mean", "early"]
    assert [n.name for n in second.net.nodes] == ["more", "late mean", "late"]
    assert first.keeps == {"trunk": "side.trunk", "early mean": "side.features0", "early": "side.logits0"}
    assert [p.name for p in second.net.inputs] == ["keep.side.trunk"]
    (alone,) = hooks(packed, side_net(1), net.inputs(100))
    assert "trunk" not in alone.keeps


def test_logits_fill_the_answers_range(main: tuple[Pack, Net]) -> None:
    packed, net = main
    split = split_from_inputs(packed, net.inputs(300))
    assert split.input is not None
    for said in recorded(packed, hooks(packed, side_net(), split.input), split):
        assert np.ptp(said.astype(int)) > 120
        assert (abs(said.astype(int)) >= 127).mean() < 0.01


def test_a_network_for_another_tensor_is_refused(main: tuple[Pack, Net]) -> None:
    packed, net = main
    side = side_net()
    side.tensors["x"].shape = (4, 4, 3)
    with pytest.raises(DhnError, match=r"reads \(4, 4, 3\), hook point 0 \('input'\) has one tap \(8, 8, 3\)"):
        hooks(packed, side, net.inputs(10))
    side = side_net()
    side.outputs = [Port("trunk", "trunk", (8, 8, 8))]
    with pytest.raises(DhnError, match="must come from a fully connected layer"):
        hooks(packed, side, net.inputs(10))
