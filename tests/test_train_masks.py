"""Masks are proposed where a pack has gates, by what a shut gate does to the answer, and count for what they save."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dhn_kit.bundle import pack_bundle
from dhn_kit.cost import gate_savings
from dhn_kit.hooks import Bundle, Kind
from dhn_kit.int_reference import run_int8
from dhn_kit.pack import Pack, pack
from dhn_kit.train import channel, spatial
from dhn_kit.train.certify import predicted_costs, run_gated
from dhn_kit.train.data import split_from_inputs
from dhn_kit.train.kinds import Context
from dhn_kit.train.masks import importance, shut_alone
from dhn_kit.train.skips import advantage
from dhn_kit.train.tuning import try_alone
from dhn_kit.twin import Twin
from test_variants import residual_net

PROPOSE = {"channel": channel.propose, "spatial": spatial.propose}


def context_of(kind: Kind) -> tuple[Context, Pack]:
    graph, net = residual_net()
    main = pack(graph, "armv7em", hooks=[kind])
    return Context(main, split_from_inputs(main, net.inputs(60)), predicted_costs(main)), main


def test_a_gate_matters_by_what_the_lead_loses_when_it_is_shut_alone() -> None:
    graph, net = residual_net()
    main, x = pack(graph, "armv7em", hooks=["channel"]), net.inputs(20)
    gates = main.gates[0]
    output = Twin(main).run(x).output
    found = importance(main, gates, x, output)
    shut = np.arange(8) // (8 // gates.count) == 1
    reference = run_int8(graph, x, {gates.tensors[0]: shut})[graph.outputs[0].tensor].reshape(20, -1)
    assert (shut_alone(main, gates, 1, x) == reference).all()
    quant, answer = main.tensors[main.outputs[0].tensor].quant, output.argmax(axis=1)
    assert quant is not None
    lead = [advantage(quant.dequantize(o), answer) for o in (output, reference)]
    assert np.allclose(found[:, 1], lead[0] - lead[1])


@pytest.mark.parametrize("kind", PROPOSE)
def test_proposed_masks_save_more_the_more_gates_they_shut(kind: Kind) -> None:
    context, main = context_of(kind)
    proposals = PROPOSE[kind](context)
    assert [p.spec.group for p in proposals] == [g.group for g in main.gates] != []
    assert all(p.grid == sorted(set(p.grid)) for p in proposals)
    for scores in try_alone(context, proposals):
        costs = [score.cost for _, score in scores]
        assert costs == sorted(costs, reverse=True) and costs[-1] < costs[0]


def test_packs_without_gates_get_no_masks() -> None:
    graph, net = residual_net()
    main = pack(graph)
    context = Context(main, split_from_inputs(main, net.inputs(4)), predicted_costs(main))
    assert channel.propose(context) == [] and spatial.propose(context) == []


def test_the_fewer_channel_gates_are_open_the_less_the_operators_take() -> None:
    _, main = context_of("channel")
    tables = gate_savings(main)
    assert tables.keys() == {g.group for g in main.gates}
    for gates in main.gates:
        table = tables[gates.group]
        ours = np.array([op.group == gates.group and op.variant == 1 for op in main.ops])
        assert (table[~ours] == 0).all() and (table[:, -1] == 0).all()
        assert (np.diff(table[ours], axis=1) < 0).all()


def test_a_run_costs_what_its_open_gates_cost() -> None:
    context, main = context_of("channel")
    assert context.hook.input is not None
    (first, *_), costs = channel.propose(context), context.costs
    bundle = Bundle([replace(first.spec, thresholds=[first.grid[-1]])], ["a"])
    (outcome,) = run_gated(main, bundle, context.hook, costs)
    result = Twin(main, pack_bundle(main, bundle)).run(context.hook.input)
    decide, _ = costs.hook(first.spec, main.points[first.spec.point])
    for row, total in enumerate(outcome.cost):
        taken = 0.0
        for number, op in enumerate(main.ops):
            saved = costs.gates[op.group][number, result.scores[row, 0]] if op.variant else 0.0
            taken += result.ran[row, number] * (costs.ops[number] - saved)
        assert total == pytest.approx(taken + decide)
    assert (outcome.cost < costs.full + decide).any()
