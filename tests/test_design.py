"""The search of exits' places and shapes: a Pareto front, a design within the budget, the same one every time."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph
from dhn_kit.hooks import HookPoint
from dhn_kit.int_reference import run_int8
from dhn_kit.pack import Pack, pack
from dhn_kit.train import Options, Split, design, heads, split_from_inputs, train
from dhn_kit.train.certify import predicted_costs
from dhn_kit.train.design import Design, parse_budget, pick
from dhn_kit.train.options import ExitShape
from nets import residual_net

OPTIONS = Options(kinds=("exit",), copies=0, folds=2, risks=(0.9,), least_gain=-1.0, allow_unseen=True)


@pytest.fixture(scope="module")
def packed() -> Pack:
    return pack(residual_net(0)[0])


@pytest.fixture(scope="module")
def splits(packed: Pack) -> tuple[Split, Split]:
    q = np.random.default_rng(0).integers(-128, 128, (500, 8, 8, 3)).astype(np.int8)
    return split_from_inputs(packed, q[:200]), split_from_inputs(packed, q[200:])


@pytest.fixture(scope="module")
def designs(packed: Pack, splits: tuple[Split, Split], quick: None) -> list[Design]:
    return design.find_designs(packed, splits[0], predicted_costs(packed), OPTIONS, minutes=5)


@pytest.fixture(scope="module")
def quick() -> None:
    """Fewer widths and poolings than a user gets."""
    patch = pytest.MonkeyPatch()
    patch.setattr(design, "WIDTHS", (0, 16))
    patch.setattr(design, "POOLS", ((1, 1), (4, 4)))


def test_no_design_of_the_front_is_beaten_by_another(designs: list[Design]) -> None:
    assert designs[0] == Design((), 1.0, 0.0) or designs[0].risk == 0
    assert [d.risk for d in designs] == sorted(d.risk for d in designs)
    assert [d.cost for d in designs] == sorted((d.cost for d in designs), reverse=True)
    assert designs[-1].exits and designs[-1].cost < 1
    assert all(len({e.point for e in d.exits}) == len(d.exits) <= design.MOST_EXITS for d in designs)


def test_the_same_search_finds_the_same_designs(
    packed: Pack, splits: tuple[Split, Split], designs: list[Design]
) -> None:
    assert design.find_designs(packed, splits[0], predicted_costs(packed), OPTIONS, minutes=5) == designs


def test_a_search_out_of_time_still_answers(packed: Pack, splits: tuple[Split, Split], quick: None) -> None:
    found = design.find_designs(packed, splits[0], predicted_costs(packed), OPTIONS, minutes=0)
    assert found and all(len(d.exits) <= 1 for d in found)


def test_training_builds_the_design_that_was_picked(
    packed: Pack, splits: tuple[Split, Split], designs: list[Design]
) -> None:
    chosen = pick(designs, 1.0 - 1e-6)
    got = train(packed, *splits, options=replace(OPTIONS, exits=chosen.exits))
    assert len(got.trials) == len(chosen.exits)
    assert [t.hidden for t in got.trials] == [e.hidden for e in chosen.exits]


def test_the_least_risky_design_within_the_budget_is_picked() -> None:
    one, two, three = (
        Design((ExitShape(k, 0),), cost, risk) for k, (cost, risk) in enumerate([(0.9, 0), (0.5, 0.01), (0.3, 0.02)])
    )
    assert pick([one, two, three], 0.6) is two and pick([one, two, three], 0.3) is three
    with pytest.raises(DhnError, match=r"at a mean cost of 0\.20 full runs, the least is 0\.30"):
        pick([one, two, three], 0.2)


def test_budgets_are_speed_ups_or_shares() -> None:
    assert parse_budget("2x") == 0.5 and parse_budget("0.4") == 0.4
    for text in ("0", "fast", "x", "0x", "-1", "1.5"):
        with pytest.raises(DhnError, match="is not a speed-up"):
            parse_budget(text)


def test_a_head_on_a_pooled_feature_answers_in_int8_as_in_float() -> None:
    rng = np.random.default_rng(0)
    base = pack(residual_net(0)[0]).points[1]
    point: HookPoint = replace(base, feature_shape=(5, 4, 3))
    features = rng.integers(-128, 128, (300, 60)).astype(np.int8)
    real = heads.pooled(point.tap_quant.dequantize(features), point, (2, 2))
    assert real.shape == (300, 12)
    head = heads.Head([(rng.normal(size=(12, 4)).astype(np.float32), np.zeros(4, np.float32))])
    graph: Graph = heads.int8_graph(head, point, features, None, "h", (2, 2))
    scores = run_int8(graph, features.reshape(-1, 5, 4, 3))["score"].reshape(300, 4)
    assert (scores.argmax(1) == head(real).argmax(1)).mean() > 0.97
