"""Reuse gates: what they remember, when they act, and how a stream's samples count."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from dhn_kit.bundle import pack_bundle
from dhn_kit.hooks import Bundle, HookSpec
from dhn_kit.int_reference import run_int8
from dhn_kit.pack import Pack, pack
from dhn_kit.train import reuse
from dhn_kit.train.certify import judge, predicted_costs, run_gated, with_thresholds
from dhn_kit.train.data import Split, split_from_inputs
from dhn_kit.train.exits import folds
from dhn_kit.train.kinds import Context, Proposal
from dhn_kit.twin import Twin
from nets import residual_net

Int8 = npt.NDArray[np.int8]
HOLD = 8


def stream(scenes: int, seed: int) -> tuple[Pack, Int8]:
    """Inputs that each hold for HOLD frames, a step of noise on every value."""
    graph, net = residual_net()
    rng = np.random.default_rng(seed)
    held = np.repeat(net.inputs(scenes + seed)[seed:], HOLD, axis=0).astype(np.int64)
    return pack(graph, hooks=("reuse",)), np.clip(held + rng.integers(-1, 2, held.shape), -128, 127).astype(np.int8)


def inputs(split: Split) -> Int8:
    assert split.input is not None
    return split.input


@pytest.fixture(scope="module")
def learned() -> tuple[Pack, Split, Proposal]:
    main, x = stream(40, 1)
    split = split_from_inputs(main, x, spacing=2 * HOLD)
    (proposal,) = reuse.propose(Context(main, split, predicted_costs(main)))
    return main, split, proposal


def at(proposal: Proposal, threshold: int) -> Bundle:
    return Bundle([with_thresholds(proposal.spec, [threshold])], ["one"])


def test_a_held_input_is_computed_once_and_its_answer_stands(learned: tuple[Pack, Split, Proposal]) -> None:
    main, split, proposal = learned
    result = Twin(main, pack_bundle(main, at(proposal, proposal.grid[0]))).run(inputs(split))
    reused = result.exit_hook == 0
    assert 0.6 < reused.mean() < 1
    last = np.maximum.accumulate(np.where(reused, 0, np.arange(len(reused))))
    assert (result.output == split.output[last]).all()


def test_nothing_is_reused_before_something_was_computed(learned: tuple[Pack, Split, Proposal]) -> None:
    main, split, proposal = learned
    result = Twin(main, pack_bundle(main, at(proposal, -128))).run(inputs(split)[:20])
    assert result.exit_hook.tolist() == [-1] + [0] * 19
    assert (result.output == split.output[0]).all()


def test_the_score_is_that_of_the_integer_reference(learned: tuple[Pack, Split, Proposal]) -> None:
    main, split, proposal = learned
    net: HookSpec = proposal.spec
    result = Twin(main, pack_bundle(main, at(proposal, 127))).run(inputs(split))
    view = next(v for v in reuse.views(main.points[0], inputs(split), 200) if v.name == proposal.note)
    x = reuse.features(view, main.points[0], inputs(split))
    recomputed = np.maximum.accumulate(np.where(result.exit_hook == 0, 0, np.arange(len(x))))
    maps = np.split(x[recomputed[:-1]], len(net.net.inputs) - 1, axis=1)
    kept = [m.reshape(-1, *net.net.tensors[p.tensor].shape) for m, p in zip(maps, net.net.inputs[1:], strict=True)]
    scores = run_int8(net.net, [inputs(split)[1:], *kept])["score"].ravel()
    assert (result.scores[1:, 0] == scores).all()


def test_a_bundle_that_remembers_runs_in_order_whatever_the_threads(learned: tuple[Pack, Split, Proposal]) -> None:
    main, split, proposal = learned
    data = pack_bundle(main, at(proposal, proposal.grid[-1]))
    one, many = (Twin(main, data, threads).run(inputs(split)) for threads in (1, 4))
    assert (one.exit_hook == many.exit_hook).all() and (one.output == many.output).all()


def test_thresholds_go_from_cautious_to_thrifty(learned: tuple[Pack, Split, Proposal]) -> None:
    main, split, proposal = learned
    assert proposal.grid == sorted(proposal.grid, reverse=True)
    spec = dataclasses.replace(proposal.spec, thresholds=proposal.grid)
    bundle = Bundle([spec], [str(t) for t in proposal.grid])
    costs = [o.mean_cost for o in run_gated(main, bundle, split, predicted_costs(main))]
    assert costs[-1] <= costs[0] < predicted_costs(main).full


def test_of_a_stream_only_inputs_far_enough_apart_count(learned: tuple[Pack, Split, Proposal]) -> None:
    main, split, proposal = learned
    outcomes = run_gated(main, at(proposal, proposal.grid[0]), split, predicted_costs(main))
    verdict = judge(outcomes, split, (0.5,), 0.05)
    counted = split.counted
    assert len(counted) == len(split) // (2 * HOLD) and (inputs(counted) == inputs(split)[:: 2 * HOLD]).all()
    assert {c.n for c in verdict.certificates} == {len(counted)}
    assert verdict.errors == [int(outcomes[0].wrong[:: 2 * HOLD].sum())]


def test_neighbours_in_a_stream_stay_in_one_part_of_a_cross_fit() -> None:
    part = folds(1000, 4, 0, together=30)
    assert all(len(set(part[k : k + 30])) == 1 for k in range(0, 1000, 30))
    assert set(part) == {0, 1, 2, 3}


def test_no_gate_where_the_pack_has_no_room_to_remember() -> None:
    graph, net = residual_net()
    main = pack(graph, hooks=("reuse",), keep=16)
    split = split_from_inputs(main, net.inputs(120))
    assert reuse.propose(Context(main, split, predicted_costs(main))) == []
