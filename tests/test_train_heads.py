"""Heads learn, repeat themselves, and their int8 form says what their float form says."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from dhn_kit.graph import Quant
from dhn_kit.hooks import HookPoint
from dhn_kit.int_reference import run_int8
from dhn_kit.train import heads, skips
from dhn_kit.train.data import warped
from dhn_kit.train.exits import folds, margin

POINT = HookPoint(0, "p", 0, "t", (8, 8, 3), Quant(0.05, -10), (2, 2), (4, 4, 3))
LOGITS = Quant(0.1, 7)
#: Features and one-hot targets.
Problem = tuple[heads.Int8, heads.Floats]


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Four classes on a ring, told by 48 noisy int8 features: not linearly separable, easy with a hidden layer."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1500, 2))
    label = (z[:, 0] * z[:, 1] > 0).astype(int) * 2 + (np.hypot(*z.T) > 1.2)
    x = z @ rng.normal(size=(2, 48)) + 0.1 * rng.normal(size=(1500, 48))
    features = POINT.tap_quant.quantize(x)
    return features, np.eye(4, dtype=np.float32)[label]


@pytest.fixture(scope="module")
def head(problem: Problem) -> heads.Head:
    features, target = problem
    return heads.centred(heads.fit(POINT.tap_quant.dequantize(features), target, heads.Recipe(32)))


def test_a_hidden_layer_learns_what_a_linear_head_cannot(problem: Problem, head: heads.Head) -> None:
    features, target = problem
    x = POINT.tap_quant.dequantize(features)
    linear = heads.fit(x, target, heads.Recipe(0))
    truth = target.argmax(1)
    assert (head(x).argmax(1) == truth).mean() > 0.95
    assert (linear(x).argmax(1) == truth).mean() < 0.85


def test_the_same_data_and_recipe_give_the_same_head(problem: Problem, head: heads.Head) -> None:
    features, target = problem
    again = heads.centred(heads.fit(POINT.tap_quant.dequantize(features), target, heads.Recipe(32)))
    for (w, b), (v, c) in zip(head.layers, again.layers, strict=True):
        np.testing.assert_array_equal(w, v)
        np.testing.assert_array_equal(b, c)


def test_int8_head_answers_as_float_head_and_carries_the_demanded_quantisations(
    problem: Problem, head: heads.Head
) -> None:
    features, _ = problem
    factor = heads.room(head(POINT.tap_quant.dequantize(features)), LOGITS, 0.5)
    head = heads.moved(head, factor, 0.5)
    graph = heads.int8_graph(head, POINT, features, LOGITS, "h")
    assert graph.tensors["feature"].quant == POINT.tap_quant and graph.tensors["score"].quant == LOGITS
    scores = run_int8(graph, features.reshape(-1, 4, 4, 3))["score"].reshape(-1, 4)
    real = head(POINT.tap_quant.dequantize(features))
    assert np.abs(LOGITS.dequantize(scores) - np.clip(real, -13.4, 12.0)).mean() < 0.2
    assert (scores.argmax(1) == real.argmax(1)).mean() > 0.98


def test_room_shrinks_large_logits_into_the_range_and_leaves_small_ones() -> None:
    logits = np.random.default_rng(0).normal(0, 30, (500, 4)).astype(np.float32)
    factor = heads.room(logits, LOGITS, 0.0)
    assert factor < 1 and np.abs(logits * factor).max() < 20
    assert heads.room(logits / np.float32(100), LOGITS, 0.0) == 1.0


def test_a_label_counts_only_where_the_full_network_agrees() -> None:
    output = np.array([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0]], np.float32)
    got = heads.targets(output, np.array([0, 1, -1]), 0.5, False)
    soft = heads.softmax(output)
    np.testing.assert_allclose(got[0], 0.5 * soft[0] + [0.5, 0.0])
    np.testing.assert_allclose(got[1:], soft[1:])


def test_margin_is_largest_minus_second_largest() -> None:
    assert margin(np.array([[3, -7, 1], [5, 5, 0], [-128, 127, 0]])).tolist() == [2, 0, 127]


def test_folds_are_even_and_cover_everyone() -> None:
    assert np.bincount(folds(103, 4, 0)).tolist() == [26, 26, 26, 25]


def test_gate_predicts_the_lead_after_a_skip() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 10)).astype(np.float32)
    lead = (x[:, 3] * 4 - x[:, 5] + 2 + 0.1 * rng.normal(size=500)).astype(np.float32)
    assert np.corrcoef(skips.fit_gate(x[:300], lead[:300])(x[300:])[:, 0], lead[300:])[0, 1] > 0.98


def test_lead_is_negative_exactly_where_the_answer_is_lost() -> None:
    output = np.array([[1.0, 4.0, 2.0], [5.0, 0.0, 6.5]], np.float32)
    assert skips.advantage(output, np.array([1, 0])).tolist() == [2.0, -1.5]


@pytest.mark.parametrize("mixing", [False, True])
def test_least_squares_recovers_an_affine_map(mixing: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    matrix = rng.normal(size=(3, 3)) if mixing else np.diag([2.0, -1.0, 0.5])
    weight, bias = (skips._mixing if mixing else skips._affine)(x, (x @ matrix + [1, 2, 3]).astype(np.float32))
    want = matrix.T.reshape(3, 1, 1, 3) if mixing else np.diag(matrix).reshape(1, 1, 3)
    np.testing.assert_allclose(weight, want, atol=1e-4)
    np.testing.assert_allclose(bias, [1, 2, 3], atol=1e-4)


def test_warped_images_differ_a_little_and_repeat_with_the_seed() -> None:
    rng = np.random.default_rng(0)
    smooth = np.clip(np.cumsum(rng.normal(0, 6, (5, 16, 16, 1)), axis=2), -128, 127).astype(np.int8)
    out = warped(smooth, 3, seed=1)
    assert out.shape == (15, 16, 16, 1) and out.dtype == np.int8
    np.testing.assert_array_equal(out, warped(smooth, 3, seed=1))
    change = np.abs(out.astype(int) - np.tile(smooth, (3, 1, 1, 1)).astype(int)).mean()
    assert 0.5 < change < 40


def test_warping_a_sequence_never_mixes_its_rows() -> None:
    x = np.zeros((2, 1, 50, 2), np.int8)
    x[:, :, :, 1] = 100
    out = warped(x, 2, seed=0)
    assert (out[..., 0] == 0).all() and (out[..., 1] == 100).all()


def test_a_head_that_goes_on_needs_fewer_steps_to_the_same_loss(problem: Problem, head: heads.Head) -> None:
    features, target = problem
    x = POINT.tap_quant.dequantize(features)
    old, new = slice(0, 750), slice(750, None)
    earlier = heads.fit(x[old], target[old], heads.Recipe(32))
    few = heads.Recipe(32, steps=90)
    on = heads.fit(x[new], target[new], few, start=earlier)
    anew = heads.fit(x[new], target[new], few)
    assert heads.cross_entropy(on, x[new], target[new]) < 0.5 * heads.cross_entropy(anew, x[new], target[new])


def test_going_on_without_a_step_changes_nothing(problem: Problem, head: heads.Head) -> None:
    features, target = problem
    x = POINT.tap_quant.dequantize(features)
    same = heads.fit(x[:300], target[:300], heads.Recipe(32, steps=0), start=head)
    np.testing.assert_allclose(same(x), head(x), atol=1e-3)


def test_a_start_of_another_size_is_ignored(problem: Problem, head: heads.Head) -> None:
    features, target = problem
    x = POINT.tap_quant.dequantize(features)
    got = heads.fit(x, target, heads.Recipe(16, steps=20), start=head)
    assert got.layers[0][0].shape == (48, 16)


def test_weights_make_a_biased_draw_learn_what_a_fair_one_does(problem: Problem) -> None:
    features, target = problem
    x = POINT.tap_quant.dequantize(features)
    # Two classes are kept with a tenth of the others' probability: unweighted, a linear head gives them up.
    rare = target.argmax(1) >= 2
    kept = ~rare | (np.random.default_rng(0).random(len(x)) < 0.1)
    weight = np.where(rare[kept], 10.0, 1.0).astype(np.float32)
    fair = heads.fit(x, target, heads.Recipe(0))
    weighted = heads.fit(x[kept], target[kept], heads.Recipe(0), weight)
    plain = heads.fit(x[kept], target[kept], heads.Recipe(0))
    loss = [heads.cross_entropy(h, x, target) for h in (fair, weighted, plain)]
    assert loss[1] < loss[0] + 0.5 * (loss[2] - loss[0])
