"""Weights of four and two bits: in range, closer than nearest rounding, the same on twin and reference."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from dhn_kit.graph import Array, Graph
from dhn_kit.int_reference import run_int8
from dhn_kit.narrow import WIDTHS, may_narrow, narrow, statistics
from dhn_kit.pack import pack
from dhn_kit.precision import choose_bits
from dhn_kit.twin import Twin
from nets import Net

BITS = pytest.mark.parametrize("bits", WIDTHS)


def conv_net() -> tuple[Graph, Array]:
    """Three convolutions and a dense layer on correlated inputs: 8 x 8 x 4 to 5 classes."""
    net = Net((8, 8, 4), 3)
    x = net.conv("x", 8, relu=False)
    x = net.conv(x, 16, stride=2, relu=False)
    x = net.conv(x, 16, kernel=1, relu=False)
    net.fc(net.mean(x), 5)
    graph = net.done()
    smooth = net.rng.normal(0, 20, (96, 1, 1, 4)) + net.rng.normal(0, 10, (96, 8, 8, 4))
    return graph, np.clip(np.rint(smooth), -128, 127).astype(np.int8)


def narrowed(graph: Graph, q: Array, bits: int) -> Graph:
    tensors = run_int8(graph, q)
    nodes = [n for n in graph.nodes if may_narrow(n)]
    known = {n.name: statistics(graph, n, tensors[n.inputs[0]]) for n in nodes}
    return narrow(graph, {n.name: bits for n in nodes}, known)


@BITS
def test_weights_fit_their_bits_and_nothing_else_changes(bits: int) -> None:
    graph, q = conv_net()
    before = [n.attrs["weight"].copy() for n in graph.nodes if "weight" in n.attrs]
    result = narrowed(graph, q, bits)
    for old, new in zip(graph.nodes, result.nodes, strict=True):
        if may_narrow(old):
            assert -(1 << bits - 1) <= new.attrs["weight"].min() and new.attrs["weight"].max() < 1 << bits - 1
            assert new.attrs["bias"].dtype == np.int32
        else:
            assert new.attrs == old.attrs or "weight" in old.attrs
    after = [n.attrs["weight"] for n in graph.nodes if "weight" in n.attrs]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert {k: t.quant for k, t in result.tensors.items()} == {k: t.quant for k, t in graph.tensors.items()}


def nearest(graph: Graph, bits: int) -> Graph:
    """Symmetric rounding to the nearest step, without a look at the inputs."""
    copy, high = graph.copy(), (1 << bits - 1) - 1
    for node in copy.nodes:
        if may_narrow(node):
            weight, scale = node.attrs["weight"].astype(float), node.attrs["weight_scale"]
            ratio = np.abs(weight).max(axis=(1, 2, 3)) / high
            steps = np.clip(np.rint(weight / ratio.reshape(-1, 1, 1, 1)), -high, high)
            bias = np.rint(node.attrs["bias"] / ratio).astype(np.int32)
            node.attrs.update(weight=steps.astype(np.int8), bias=bias, weight_scale=scale * ratio)
    return copy


@BITS
def test_the_outputs_of_unseen_inputs_move_less_than_half_as_far_as_by_nearest_rounding(bits: int) -> None:
    graph, q = conv_net()
    exact = run_int8(graph, q[64:])[graph.nodes[2].output].astype(float)

    def error(changed: Graph) -> float:
        return float(((run_int8(changed, q[64:])[graph.nodes[2].output] - exact) ** 2).mean())

    moved, by_nearest = error(narrowed(graph, q[:64], bits)), error(nearest(graph, bits))
    print(f"{bits} bits: squared error {moved:.2f}, by nearest rounding {by_nearest:.2f}")
    assert moved < by_nearest / 2


@BITS
def test_the_mean_of_every_channel_stays(bits: int) -> None:
    graph, q = conv_net()
    first = graph.nodes[0].output
    before, after = (run_int8(g, q)[first].astype(float) for g in (graph, narrowed(graph, q, bits)))
    assert np.abs((after - before).mean(axis=(0, 1, 2))).max() < 1.0


@BITS
def test_packed_kernels_give_what_the_reference_gives(bits: int) -> None:
    graph, q = conv_net()
    found = choose_bits(graph, q, "4" if bits == 4 else "2", "armv7em")
    assert any(f"_w{bits}_" in name for name in found.kernels.values())
    assert min(w.bits for w in found.widths.values()) == bits
    packed = pack(found.graph, "armv7em", hooks=False)
    expected = run_int8(found.graph, q)[graph.outputs[0].tensor].reshape(len(q), -1)
    assert (Twin(packed).run(q).output == expected).all()
