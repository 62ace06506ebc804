"""Training end to end: certified hooks from samples of a real network, and refusals that say what is missing."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dhn_kit import datasets, resources, risk, workflow
from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.graph import Port, Quant
from dhn_kit.hooks import ALWAYS, NEVER, Bundle, HookPoint, promises
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, pack
from dhn_kit.quantize import quantize
from dhn_kit.samples import Int8, Reason, Sample
from dhn_kit.train import Options, Split, TrainResult, split_from_inputs, split_from_samples, train
from dhn_kit.train.certify import choose, judge, predicted_costs, run_gated
from dhn_kit.train.data import sample_name
from dhn_kit.train.thresholds import Outcome
from dhn_kit.twin import Twin
from nets import Net

Mnist = tuple[Pack, dict[str, Split]]


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    data = datasets.load("mnist")
    graph = import_onnx(resources.path("zoo") / "mnist_resnet8.onnx")
    quantized = quantize(graph, data.x_train[:200])
    packed = pack(quantized)
    splits = {
        name: split_from_inputs(packed, quantized.quantize_input(data.split(name)[0]), data.split(name)[1])
        for name in ("hook", "cal", "test")
    }
    return packed, splits


@pytest.fixture(scope="module")
def result(mnist: Mnist) -> TrainResult:
    packed, splits = mnist
    return train(packed, splits["hook"], splits["cal"], options=Options(copies=2, most_skips=1))


def inputs(split: Split) -> Int8:
    assert split.input is not None
    return split.input


def at_one_percent(result: TrainResult) -> int:
    return max(k for k, c in promises(result.bundle.certificates).items() if c.epsilon <= 0.01)


def test_trained_hooks_halve_the_cost_at_a_certified_risk_of_one_percent(mnist: Mnist, result: TrainResult) -> None:
    packed, splits = mnist
    k = at_one_percent(result)
    outcome = run_gated(packed, result.bundle, splits["test"], predicted_costs(packed))[k]
    assert outcome.mean_cost <= 0.5 * result.full_cost
    assert promises(result.bundle.certificates)[k].bound <= 0.01


def test_gated_accuracy_stays_within_one_point_on_images_that_nobody_saw(mnist: Mnist, result: TrainResult) -> None:
    packed, splits = mnist
    test = splits["test"]
    twin = Twin(packed, pack_bundle(packed, result.bundle)).run(inputs(test), point=at_one_percent(result))
    assert (twin.output.argmax(1) == test.label).mean() >= (test.answer == test.label).mean() - 0.01


def test_every_certificate_is_what_the_twin_counts_on_the_calibration_split(mnist: Mnist, result: TrainResult) -> None:
    packed, splits = mnist
    outcomes = run_gated(packed, result.bundle, splits["cal"], predicted_costs(packed))
    for k, c in promises(result.bundle.certificates).items():
        assert (c.kind, c.errors, c.n) == ("consistency", int(outcomes[k].wrong.sum()), len(splits["cal"]))
        assert c.bound == risk.upper_bound(c.errors, c.n, c.delta) <= c.epsilon
        assert c.split_hash == splits["cal"].hash


def test_labels_give_each_operating_point_a_certificate_of_error_as_well(mnist: Mnist, result: TrainResult) -> None:
    packed, splits = mnist
    cal = splits["cal"]
    outcomes = run_gated(packed, result.bundle, cal, predicted_costs(packed))
    found = {c.operating_point: c for c in result.bundle.certificates if c.kind == "error"}
    assert set(found) == set(promises(result.bundle.certificates))
    for k, c in found.items():
        assert c.errors == np.count_nonzero(outcomes[k].answer != cal.label)
        assert c.full_errors is not None and c.full_errors == np.count_nonzero(cal.answer != cal.label)
        assert c.excess == (c.errors - c.full_errors) / 1200
        assert c.candidates == len(result.ladder) > 1, "the operating point was chosen on these very samples"
        assert c.epsilon == c.bound == risk.upper_bound(c.errors, c.n, c.delta / c.candidates)


def test_samples_of_unequal_propensity_are_certified_by_weights(mnist: Mnist) -> None:
    _, splits = mnist
    cal = replace(splits["cal"], propensity=np.where(np.arange(1200) % 2, 0.5, 1.0))
    nothing, wrong = np.zeros(1200, bool), np.arange(1200) < 4
    zeros = np.zeros(1200, np.int64)
    outcomes = [Outcome(np.ones(1200), w, zeros, zeros, cal.answer) for w in (nothing, wrong)]
    verdict = judge(outcomes, cal, (0.002, 0.012, 0.05), 0.05)
    assert [c.rung for c in verdict.choices] == [0, 1] and 0.002 in verdict.refused
    for c in verdict.certificates:
        assert "Maurer, Pontil 2009" in c.method
    first = verdict.certificates[0]
    assert first.bound == risk.weighted_bound(nothing, np.asarray(cal.propensity), 0.05) <= first.epsilon


def test_features_alone_predict_exactly_what_the_twin_does(mnist: Mnist, result: TrainResult) -> None:
    packed, splits = mnist
    exits = replace(result.bundle, hooks=[h for h in result.bundle.hooks if h.action == "exit"])
    costs = predicted_costs(packed)
    ran = run_gated(packed, exits, splits["test"], costs)
    told = run_gated(packed, exits, replace(splits["test"], input=None), costs)
    for a, b in zip(ran, told, strict=True):
        np.testing.assert_array_equal(a.wrong, b.wrong)
        np.testing.assert_array_equal(a.left_at, b.left_at)
        np.testing.assert_allclose(a.cost, b.cost)


def test_operating_points_go_from_cautious_to_thrifty(mnist: Mnist, result: TrainResult) -> None:
    packed, splits = mnist
    outcomes = run_gated(packed, result.bundle, splits["test"], predicted_costs(packed))
    assert result.bundle.operating_points == sorted(result.bundle.operating_points)
    assert [o.mean_cost for o in outcomes] == sorted((o.mean_cost for o in outcomes), reverse=True)


def test_the_report_is_json_and_names_every_hook_that_was_tried(mnist: Mnist, result: TrainResult) -> None:
    packed, _ = mnist
    facts = json.loads(json.dumps(result.bundle.report))
    named = {h.name for h in result.bundle.hooks} | {d["name"] for d in facts["dropped"]}
    assert {f"exit at {p.name}" for p in packed.points if not p.final} <= named
    assert {f"skip at {p.name}" for p in packed.points if p.skip} <= named
    assert all(d["reason"] for d in facts["dropped"])


def test_skip_hooks_alone_are_certified_or_reported(mnist: Mnist) -> None:
    packed, splits = mnist
    got = train(packed, splits["hook"], splits["cal"], options=Options(kinds=("skip",), most_skips=1))
    assert {h.action for h in got.bundle.hooks} <= {"skip"}
    assert got.bundle.hooks or got.dropped
    assert all(c.bound <= c.epsilon for c in got.bundle.certificates)


def test_main_network_is_bit_identical_with_the_trained_hooks_detached(mnist: Mnist, result: TrainResult) -> None:
    packed, splits = mnist
    q = inputs(splits["test"])[:200]
    attached = Twin(packed, pack_bundle(packed, result.bundle)).run(q, mode="detached")
    np.testing.assert_array_equal(attached.output, Twin(packed).run(q).output)


def test_an_exit_head_that_always_exits_answers_in_the_main_networks_quantisation(
    mnist: Mnist, result: TrainResult
) -> None:
    packed, splits = mnist
    spec = next(h for h in result.bundle.hooks if h.action == "exit" and h.point >= 4)
    bundle = Bundle([replace(spec, thresholds=[ALWAYS])], ["always"])
    q = inputs(splits["test"])
    got = Twin(packed, pack_bundle(packed, bundle)).run(q)
    assert (got.exit_hook == 0).all()
    assert spec.net.tensors["score"].quant == packed.tensors[packed.outputs[0].tensor].quant
    assert (got.output.argmax(1) == splits["test"].answer).mean() > 0.9


def test_samples_that_were_trained_on_may_not_certify(mnist: Mnist) -> None:
    packed, splits = mnist
    with pytest.raises(DhnError, match="800 calibration samples were also trained on"):
        train(packed, splits["hook"], splits["hook"])


def cut(split: Split, n: int) -> Split:
    return replace(
        split,
        features=[f[:n] for f in split.features],
        output=split.output[:n],
        input=None,
        label=None,
        tags=split.tags[:n],
    )


def test_too_few_samples_are_refused_with_the_number_needed(mnist: Mnist) -> None:
    packed, splits = mnist
    with pytest.raises(DhnError, match="at least 100 are needed"):
        train(packed, cut(splits["hook"], 60), splits["cal"])
    with pytest.raises(DhnError, match="at least 299 are needed"):
        train(packed, splits["hook"], cut(splits["cal"], 200), options=Options(risks=(0.01,)))


def test_a_target_beyond_the_samples_is_refused_with_the_number_needed() -> None:
    chosen, refused = choose([0, 0, 2, 8, 9], 300, (0.001, 0.01, 0.05), 0.05)
    assert [(c.rung, c.epsilon) for c in chosen] == [(1, 0.01), (3, 0.05)]
    assert "2995 are needed" in refused[0.001]


def test_a_target_that_even_the_most_cautious_rung_misses_is_refused() -> None:
    chosen, refused = choose([5, 6], 300, (0.01,), 0.05)
    assert not chosen and "erred 5 times of 300, 0 are allowed" in refused[0.01]


def test_a_network_that_ends_in_softmax_gets_exits_that_answer_in_probabilities() -> None:
    net = Net((8, 8, 2), seed=1)
    x = net.block(net.conv("x", 8), 8)
    x = net.node("mean", [net.conv(x, 16)], (1, 1, 16))
    logits = net.node("fully_connected", [x], (1, 1, 4), act_q=(-128, 127), **net.weights((4, 16), 4, 16))
    out = net.node("softmax", [logits], (1, 1, 4), Quant(1 / 256, -128), beta=1.0, act_q=(-128, 127))
    net.graph.outputs = [Port(out, "y", (4,))]
    packed = pack(net.graph)
    q = np.random.default_rng(0).integers(-128, 128, (400, 8, 8, 2)).astype(np.int8)
    hook, cal = split_from_inputs(packed, q[:200]), split_from_inputs(packed, q[200:])
    got = train(
        packed,
        hook,
        cal,
        options=Options(kinds=("exit",), copies=0, risks=(0.9,), least_gain=-1.0, allow_unseen=True),
    )
    (spec, *_) = got.bundle.hooks
    assert spec.answer is not None and spec.answer.tensors["answer"].quant == packed.tensors[out].quant
    always = Bundle([replace(spec, thresholds=[ALWAYS])], ["always"])
    ran = Twin(packed, pack_bundle(packed, always)).run(inputs(cal)).output.astype(int) + 128
    assert (abs(ran.sum(1) - 256) <= 4).all(), "probabilities in 1/256 sum to one"


POINTS = 2


def sample(number: int, **changes: Any) -> Sample:
    features: list[Int8 | None] = [np.full(4, number % 100, np.int8), np.full(6, 1, np.int8)]
    base = Sample(
        number,
        number,
        Reason.REQUESTED,
        1.0,
        True,
        0,
        0,
        -1,
        np.array([0, number % 100, 0], np.int8),
        features=features,
    )
    return replace(base, **changes)


@pytest.fixture(scope="module")
def two_points(mnist: Mnist) -> list[HookPoint]:
    return mnist[0].points[:POINTS]


def test_only_full_runs_drawn_without_looking_at_the_input_are_used(two_points: list[HookPoint]) -> None:
    samples = [
        sample(1),
        sample(2, reason=Reason.UNCERTAIN),
        sample(3, full_run=False, bundle_version=4),
        sample(4, features=[None, np.zeros(6, np.int8)]),
        sample(5, full_run=False, bundle_version=0),
    ]
    split = split_from_samples(samples, two_points)
    assert split.tags == [1, 5] and split.input is None and split.label is None


def test_what_was_sought_among_full_runs_counts_beside_lots_and_not_alone(two_points: list[HookPoint]) -> None:
    """Every fourth input drifts; of all one in five is drawn. Beyond the lots a drifted one is kept for certain."""
    drift, lot = Reason.DRIFT, Reason.FULL_RUN
    drawn = [sample(n, reason=lot | drift if n % 4 == 0 else lot, bundle_version=3) for n in range(0, 100, 5)]
    drawn = [replace(s, propensity=1.0 if s.reason & drift else 0.2) for s in drawn]
    sought = [sample(n, reason=drift, bundle_version=3) for n in range(0, 100, 4) if n % 5]
    split = split_from_samples(drawn + sought, two_points)
    assert split.propensity is not None
    drifted = np.array(split.tags) % 4 == 0
    assert (1 / split.propensity)[drifted].sum() / (1 / split.propensity).sum() == pytest.approx(0.25)
    with pytest.raises(DhnError, match="none of 20 samples"):
        split_from_samples(sought, two_points)
    gated = [replace(s, full_run=False) for s in sought]
    assert len(split_from_samples(drawn + gated, two_points)) == len(drawn)


def test_a_tag_that_was_sampled_twice_counts_once_but_untagged_samples_all_count(two_points: list[HookPoint]) -> None:
    samples = [sample(1), sample(2, tag=1), sample(3, tag=0xFFFFFFFF), sample(4, tag=0xFFFFFFFF)]
    assert len(split_from_samples(samples, two_points)) == 3


def test_samples_without_a_tag_are_divided_by_what_they_hold() -> None:
    samples = [sample(n, tag=0xFFFFFFFF) for n in range(1, 90)]
    training, calibration = workflow.divide(samples, 0.5)
    assert len(training) > 20 and len(calibration) > 20
    names = [{sample_name(s) for s in part} for part in (training, calibration)]
    assert not names[0] & names[1] and all(n >= 2**31 for n in names[0] | names[1])


def test_inputs_and_labels_join_by_tag(two_points: list[HookPoint]) -> None:
    inputs = {1: np.ones((2, 2, 1), np.int8), 2: np.zeros((2, 2, 1), np.int8)}
    split = split_from_samples([sample(1, label=7), sample(2)], two_points, inputs)
    assert split.input is not None and split.label is not None
    assert split.input.shape == (2, 2, 2, 1) and split.label.tolist() == [7, -1]
    assert split_from_samples([sample(1), sample(3)], two_points, inputs).input is None


def test_samples_without_a_single_full_run_are_an_error(two_points: list[HookPoint]) -> None:
    with pytest.raises(DhnError, match="none of 1 samples is a full run"):
        split_from_samples([sample(1, full_run=False, bundle_version=2)], two_points)


def test_the_bundle_fits_the_flash_slot(mnist: Mnist, result: TrainResult) -> None:
    assert len(pack_bundle(mnist[0], result.bundle)) <= Options().slot_bytes


def test_a_silent_hook_is_not_packed(result: TrainResult) -> None:
    assert all(any(t != NEVER for t in h.thresholds) for h in result.bundle.hooks)
