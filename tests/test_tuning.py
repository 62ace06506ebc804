"""Hooks that change what is computed are taken in where they pay, combine with exits, and are dropped with numbers."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dhn_kit.errors import DhnError
from dhn_kit.hooks import NEVER, Bundle, Kind
from dhn_kit.pack import Pack, pack
from dhn_kit.train import Options, Split, heads, proposers, skips, split_from_inputs, train, tuning
from dhn_kit.train.certify import predicted_costs, run_gated
from dhn_kit.train.kinds import Context, Proposal
from dhn_kit.train.thresholds import Cascade, Stage, search, simulate
from nets import residual_net


@pytest.fixture(scope="module")
def packed() -> Pack:
    return pack(residual_net(0)[0])


@pytest.fixture(scope="module")
def splits(packed: Pack) -> tuple[Split, Split]:
    q = np.random.default_rng(0).integers(-128, 128, (420, 8, 8, 3)).astype(np.int8)
    return split_from_inputs(packed, q[:120]), split_from_inputs(packed, q[120:])


def gates(context: Context, grid: list[int]) -> list[Proposal]:
    """A gate per residual branch, which skips where it expects the answer to survive."""
    found = []
    assert context.hook.input is not None
    quant = context.pack.tensors[context.pack.outputs[0].tensor].quant
    assert quant is not None
    for point in (p for p in context.pack.points if p.skip is not None):
        skip = skips.try_skip(context.pack, point, context.hook.input, context.hook.answer, mixing=False)
        x = point.tap_quant.dequantize(context.hook.features[point.index])
        head = skips.fit_gate(x, skips.advantage(quant.dequantize(skip.output), context.hook.answer))
        name = f"gate at {point.name}"
        net = heads.int8_graph(head, point, context.hook.features[point.index], None, name)
        spec = replace(skips.always(point, skip.repair), net=net, thresholds=[], name=name, kind="channel")
        found.append(Proposal(spec, grid, numbers={"keeps": skip.keeps}))
    return found


def propose(context: Context) -> list[Proposal]:
    return gates(context, [NEVER, 120, 90, 60, 30, 0, -30, -60, -90, -128])


def test_a_proposal_that_pays_is_taken_at_the_thriftiest_threshold_that_fits(
    packed: Pack, splits: tuple[Split, Split]
) -> None:
    context = Context(packed, splits[0], predicted_costs(packed))
    proposals = propose(context)
    tried = tuning.try_alone(context, proposals)
    assert all(len(scores) <= tuning.MOST_THRESHOLDS and scores[0][1].cost == context.costs.full for scores in tried)
    taken, _ = tuning.tune(context, proposals, tried, budget=0.3, least_gain=0.0)
    assert taken
    outcome = run_gated(packed, Bundle(taken, ["all"]), splits[0], context.costs)[0]
    assert outcome.risk <= 0.3 and outcome.mean_cost < context.costs.full
    none, dropped = tuning.tune(context, proposals, tried, budget=0.3, least_gain=context.costs.full)
    assert not none and {d.name for d in dropped} == {p.spec.name for p in proposals}
    assert all("of a full run" in d.reason and d.numbers["keeps"] > 0 for d in dropped)


def test_without_a_threshold_within_the_budget_the_reason_says_what_would_change(
    packed: Pack, splits: tuple[Split, Split]
) -> None:
    context = Context(packed, splits[0], predicted_costs(packed))
    proposals = gates(context, [-128])
    tried = tuning.try_alone(context, proposals)
    taken, dropped = tuning.tune(context, proposals, tried, -1.0, 0.0)
    assert not taken and len(dropped) == len(proposals)
    assert all("of the answers at its most cautious threshold" in d.reason for d in dropped)


def test_kinds_combine_with_exits_and_are_certified_together(
    packed: Pack, splits: tuple[Split, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhn_kit.train.fitting.PROPOSERS", {"channel": propose})
    made = replace(packed, extra=packed.extra | {"kinds": ["channel"]})
    options = Options(
        kinds=("exit", "channel"),
        copies=0,
        folds=2,
        risks=(0.5, 0.9),
        prune_at=0.3,
        least_gain=1e-6,
        delta=0.2,
        allow_unseen=True,
    )
    result = train(made, *splits, options=options)
    assert {"exit", "channel"} >= {h.kind for h in result.bundle.hooks} and result.bundle.hooks
    assert "gate at" in str(result.bundle.report["tried"])
    outcomes = run_gated(made, result.bundle, splits[1], predicted_costs(packed))
    for certificate, outcome in zip(result.bundle.certificates, outcomes, strict=True):
        assert certificate.errors == int(outcome.wrong.sum())
    assert outcomes[-1].mean_cost < result.full_cost
    alone = train(made, *splits, options=replace(options, kinds=("channel",)))
    assert {h.kind for h in alone.bundle.hooks} == {"channel"} and alone.ladder


def test_what_was_tuned_on_the_training_split_is_what_the_twin_does_there(
    packed: Pack, splits: tuple[Split, Split]
) -> None:
    hook = splits[0]
    costs = predicted_costs(packed)
    spec = replace(propose(Context(packed, hook, costs))[0].spec, thresholds=[0])
    base = tuning.observe(packed, [spec], hook, costs)
    assert (base.reused == -1).all() and not base.plain
    acted = base.cost < costs.full
    assert 0 < acted.sum() < len(hook), "the threshold divides the samples"
    # An exit behind the block is reached at what is left of the costs.
    later = packed.points[-2]
    answers = packed.tensors[packed.outputs[0].tensor].quant
    head = heads.Head([(np.zeros((int(np.prod(later.feature_shape)), 5), np.float32), np.zeros(5, np.float32))])
    net = heads.int8_graph(head, later, hook.features[later.index], answers, "exit")
    leave = replace(spec, point=later.index, action="exit", net=net, repair=None, name="exit", decide="margin")
    reach = tuning.reach(packed, base, [leave])[0]
    np.testing.assert_allclose(reach[~acted] - reach[~acted].min(), 0, atol=1e-6)
    assert reach[acted].max() < reach[~acted].min()


def test_a_repeated_answer_costs_its_gate_and_is_wrong_with_what_it_repeats() -> None:
    reused = np.array([-1, 0, 0, -1, 3])
    values = np.array([[[50, 99, 99, 10, 99]]])
    wrong = np.array([[[True, False, False, False, False]]])
    final = np.array([[False, False, True, False, False]])
    ends = np.array([100.0, 3, 3, 100, 3])
    c = Cascade([Stage("e", "exit", 10, 1, 0)], values, wrong, final, 100.0, reused=reused, ends=ends)
    left, stayed = simulate(c, (20,)), simulate(c, (NEVER,))
    np.testing.assert_allclose(left.cost, [11, 3, 3, 101, 3])
    np.testing.assert_array_equal(left.wrong, [True, True, True, False, False])
    np.testing.assert_array_equal(stayed.wrong, [False, False, True, False, False])
    np.testing.assert_allclose(stayed.cost, ends)
    found = search(c, [0.0, 1.0])
    assert all(t <= 51 for f in found for t in f.thresholds if t != NEVER), "values of repeats are void"
    assert min(f.risk for f in found) == 0.2, "where no budget can be kept, the least risk is told"


def test_sources_of_repeats_are_the_last_run_before_them() -> None:
    got = tuning.sources(np.array([False, True, True, False, False, True]))
    assert got.tolist() == [-1, 0, 0, -1, -1, 4]


@pytest.mark.parametrize("kind", ["channel", "bits", "reuse", "input"])
def test_a_kind_that_the_pack_was_not_made_for_names_the_way_out(packed: Pack, kind: Kind) -> None:
    with pytest.raises(DhnError, match=f"use 'dhn-kit pack --hooks {kind}'"):
        proposers.check_kinds(packed, ("exit", kind))


def test_kinds_that_cannot_be_trained_by_themselves_say_so(packed: Pack) -> None:
    with pytest.raises(DhnError, match="name exit or input too"):
        proposers.check_kinds(packed, ("skip", "blend"))
    zero = pack(packed.graph(), hooks=("zero",))
    with pytest.raises(DhnError, match="needs no training"):
        proposers.check_kinds(zero, ("zero",))
    proposers.check_kinds(zero, ("exit", "blend", "zero"))


def test_the_first_samples_of_a_split_keep_everything_in_step(splits: tuple[Split, Split]) -> None:
    part = replace(splits[0], propensity=np.linspace(0.1, 1, len(splits[0]))).first(7)
    assert len(part) == 7 and len(part.tags) == 7 and part.propensity is not None and len(part.propensity) == 7
    assert all(len(f) == 7 for f in part.features) and part.input is not None and len(part.input) == 7
    assert len(splits[0].first(10**6)) == len(splits[0])
