"""Operators run in the order that needs the fewest bytes; hooks keep what they leave out, answers stay the same."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import random
from itertools import permutations

import numpy as np
import pytest

from dhn_kit import schedule
from dhn_kit.graph import Graph
from dhn_kit.hookpoints import find_points
from dhn_kit.int_reference import run_int8
from dhn_kit.lower import lower
from dhn_kit.memory import arena_bytes
from dhn_kit.pack import pack
from dhn_kit.poison import poisoned
from dhn_kit.schedule import _Costs, _peak, best_order, reorder
from dhn_kit.twin import Twin
from nets import Net, residual_net


def greedy_branches(branches: int = 3) -> tuple[Graph, Net]:
    """Wide branches that shrink late: first all wide layers, then all narrow ones, which no one should do."""
    net = Net((8, 8, 4))
    wide = [net.conv("x", 24) for _ in range(branches)]
    narrow = [net.conv(w, 2, stride=2) for w in wide]
    joined = narrow[0]
    for other in narrow[1:]:
        joined = net.add(joined, other)
    net.fc(net.mean(joined), 4)
    return net.done(), net


def test_branches_are_finished_one_after_the_other() -> None:
    graph, net = greedy_branches()
    plain = lower(graph)
    better = reorder(plain, [])
    wide, narrow = 8 * 8 * 24, 4 * 4 * 2
    assert arena_bytes(plain, [])[0] >= 3 * wide
    assert arena_bytes(better, [])[0] <= wide + 8 * 8 * 4 + 3 * narrow + 64
    main, x = pack(graph, points=[]), net.inputs(4)
    assert main.arena_bytes < 2 * wide
    expected = run_int8(graph, x)[graph.outputs[0].tensor].reshape(4, -1)
    assert (Twin(main).run(x).output == expected).all() and (Twin(poisoned(main)).run(x).output == expected).all()


def random_net(seed: int) -> tuple[Graph, Net]:
    """Convolutions that read any earlier tensor, and additions of any two of one shape."""
    net, rng = Net((4, 4, 4), seed), random.Random(seed)
    names = ["x"]
    for _ in range(7):
        shapes = net.graph.tensors
        pairs = [(a, b) for a in names for b in names if a < b and shapes[a].shape == shapes[b].shape]
        if pairs and rng.random() < 0.4:
            names.append(net.add(*rng.choice(pairs)))
        else:
            names.append(net.conv(rng.choice(names), rng.choice([2, 4, 8]), rng.choice([1, 3])))
    used = {i for n in net.graph.nodes for i in n.inputs}
    return net.done(*[n for n in names if n not in used]), net


@pytest.mark.parametrize("seed", range(12))
def test_the_order_is_as_good_as_the_best_of_all_and_keeps_the_answers(seed: int) -> None:
    graph, net = random_net(seed)
    lowered = lower(graph)
    costs, count = _Costs(lowered), len(lowered.ops)
    allowed = (
        order
        for order in permutations(range(count))
        if all(not costs.needs[i] & ~sum(1 << j for j in order[:at]) for at, i in enumerate(order))
    )
    order = best_order(lowered, [])
    assert _peak(costs, 0, order) == min(_peak(costs, 0, o) for o in allowed)
    main, x = pack(graph), net.inputs(3)
    expected = run_int8(graph, x)
    for port, output in zip(graph.outputs, Twin(poisoned(main)).run(x).outputs, strict=True):
        assert (output == expected[port.tensor].reshape(3, -1)).all()


def test_nothing_crosses_a_hook_point_or_a_skips_landing() -> None:
    graph, _ = residual_net()
    points, lowered = find_points(graph), lower(graph)
    borders = {p.node for p in points} | {p.skip[2] for p in points if p.skip}
    rng = np.random.default_rng(0)
    for _ in range(20):  # whatever the sizes say
        sizes = {k: dataclasses.replace(t, shape=(int(rng.integers(1, 99)), 1, 1)) for k, t in lowered.tensors.items()}
        order = best_order(dataclasses.replace(lowered, tensors=sizes), points)
        for border in borders:
            before = [i for i, op in enumerate(lowered.ops) if op.node < border]
            assert sorted(order[: len(before)]) == before


def test_a_beam_of_one_still_finds_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = greedy_branches(5)
    monkeypatch.setattr(schedule, "BEAM", 1)
    order = best_order(lower(graph), [])
    assert sorted(order) == list(range(len(order)))


def test_a_chain_stays_as_it_is() -> None:
    net = Net((8, 8, 4))
    x = net.conv(net.conv(net.conv("x", 8), 4), 8)
    lowered = lower(net.done(net.fc(net.mean(x), 3)))
    assert reorder(lowered, []) is lowered
