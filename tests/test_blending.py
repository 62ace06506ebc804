"""Answers judged by labels, blends where they help, and exits of a network on the input: what the trainer composes."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dhn_kit import workflow
from dhn_kit.errors import DhnError
from dhn_kit.float_reference import run_float
from dhn_kit.graph import Graph, Node, Port, Tensor
from dhn_kit.hooks import ALWAYS, SILENT
from dhn_kit.pack import Pack, pack
from dhn_kit.train import Options, Split, split_from_inputs, train
from dhn_kit.train.certify import predicted_costs, run_gated
from nets import residual_net

OPTIONS = Options(
    kinds=("exit", "blend"), copies=0, folds=2, risks=(0.5, 0.9), label_share=0.0, least_gain=-1.0, allow_unseen=True
)
Splits = tuple[Split, Split]


@pytest.fixture(scope="module")
def packed() -> Pack:
    return pack(residual_net(0)[0], hooks=("input",), keep=1024)


def side_network() -> Graph:
    """Mean of the input's channels, then a linear layer: float, canonical."""
    tensors = {"x": Tensor("x", (8, 8, 3)), "m": Tensor("m", (1, 1, 3)), "y": Tensor("y", (1, 1, 5))}
    rng = np.random.default_rng(0)
    weight = np.asarray(20 * rng.normal(size=(5, 3)), np.float32)
    dense = {"weight": weight, "bias": np.zeros(5, np.float32), "act": (None, None)}
    nodes = [Node("mean", "mean", ["x"], "m", {}), Node("fc", "fully_connected", ["m"], "y", dense)]
    return Graph("side", tensors, nodes, [Port("x", "x", (8, 8, 3))], [Port("y", "y", (5,))])


@pytest.fixture(scope="module")
def splits(packed: Pack) -> Splits:
    """Labels are the network's answers but for a third of the inputs, in which the side network is right."""
    q = np.random.default_rng(0).integers(-128, 128, (480, 8, 8, 3)).astype(np.int8)
    found = [split_from_inputs(packed, part) for part in (q[:180], q[180:])]
    quant = packed.points[0].tap_quant
    for split in found:
        assert split.input is not None
        side = run_float(side_network(), quant.dequantize(split.input))["y"].reshape(len(split), 5)
        split.label = np.where(np.arange(len(split)) % 3 == 0, side.argmax(axis=1), split.answer)
    return found[0], found[1]


def test_errors_against_labels_are_certified_as_such(packed: Pack, splits: Splits) -> None:
    result = train(packed, *splits, options=replace(OPTIONS, kinds=("exit",), against="label"))
    outcomes = run_gated(packed, result.bundle, splits[1], predicted_costs(packed))
    assert result.bundle.certificates and result.bundle.operating_points[0].startswith("error")
    for c, outcome in zip(result.bundle.certificates, outcomes, strict=True):
        assert c.kind == "error" and outcome.answer is not None and splits[1].label is not None
        assert c.errors == int((outcome.answer != splits[1].label).sum()) and c.bound <= c.epsilon


def test_a_blend_is_taken_only_where_labels_say_that_it_is_right_more_often(packed: Pack, splits: Splits) -> None:
    by_network = train(packed, *splits, options=OPTIONS)
    assert any(d.name == "blend" and "--against label" in d.reason for d in by_network.dropped)
    result = train(packed, *splits, options=replace(OPTIONS, against="label"))
    blends = [h for h in result.bundle.hooks if h.kind == "blend"]
    if not blends:
        dropped = next(d for d in result.dropped if d.name == "blend")
        assert dropped.numbers["accuracy of the blend"] <= dropped.numbers["accuracy of the network"]
    else:
        assert all(t == ALWAYS for t in blends[0].thresholds)


def test_a_blend_answers_on_the_twin_as_training_expected(packed: Pack, splits: Splits) -> None:
    # Labels that the network on the input knows and the main one does not.
    quant, told = packed.points[0].tap_quant, []
    for split in splits:
        assert split.input is not None
        side = run_float(side_network(), quant.dequantize(split.input))["y"].reshape(len(split), 5)
        told.append(replace(split, label=side.argmax(axis=1)))
    options = replace(OPTIONS, kinds=("exit", "input", "blend"), side=side_network(), against="label")
    result = train(packed, told[0], told[1], options=options)
    assert "blend" in {h.kind for h in result.bundle.hooks}, result.dropped
    everybody = [
        replace(h, thresholds=[ALWAYS if h.kind == "blend" else SILENT])
        for h in result.bundle.hooks
        if h.kind == "blend" or h.keeps
    ]
    bundle = replace(result.bundle, hooks=everybody, operating_points=["full runs"])
    outcome = run_gated(packed, bundle, told[1], predicted_costs(packed))[0]
    assert outcome.answer is not None and (outcome.left_at == -1).all()
    assert (outcome.answer != told[1].label).mean() < (told[1].answer != told[1].label).mean()


def test_a_network_on_the_input_joins_the_exits(packed: Pack, splits: Splits) -> None:
    options = replace(OPTIONS, kinds=("exit", "input"), side=side_network())
    result = train(packed, *splits, options=options)
    named = {h.name for h in result.bundle.hooks} | {d.name for d in result.dropped}
    assert any("input" in name and "exit at" not in name for name in named)
    assert run_gated(packed, result.bundle, splits[1], predicted_costs(packed))


def test_what_is_missing_is_named(packed: Pack, splits: Splits) -> None:
    with pytest.raises(DhnError, match=r"--side NET\.onnx"):
        train(packed, *splits, options=replace(OPTIONS, kinds=("input",)))
    with pytest.raises(DhnError, match="leave out --side"):
        train(packed, *splits, options=replace(OPTIONS, kinds=("exit",), side=side_network()))
    bare = replace(splits[0], label=None)
    with pytest.raises(DhnError, match="180 of 180 samples have no label"):
        train(packed, bare, splits[1], options=replace(OPTIONS, against="label"))
    with pytest.raises(DhnError, match="choose one of network, label"):
        workflow.against_for("truth")
