"""Samples of unequal propensity train and tune as a fair draw would; training goes on from an earlier bundle."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dhn_kit import workflow
from dhn_kit.bundle import bundle_file, save_bundle
from dhn_kit.errors import DhnError
from dhn_kit.hooks import HookPoint
from dhn_kit.pack import Pack, pack
from dhn_kit.samples import Reason, Sample
from dhn_kit.train import Options, Split, TrainResult, exits, heads, split_from_inputs, split_from_samples, train
from dhn_kit.train.data import MOST_WEIGHT
from dhn_kit.train.thresholds import Cascade, Stage, search
from nets import residual_net

Floats = npt.NDArray[np.float64]
FULL_SHARE = 0.1


@pytest.fixture(scope="module")
def packed() -> Pack:
    return pack(residual_net(0)[0])


def sampled(points: list[HookPoint], count: int, seed: int = 0) -> tuple[list[Sample], list[int]]:
    """What a board with an uncertainty band and a full share logs of `count` inferences, and what was there.

    Inference k's value is its first feature; the hook acts from 20 on and hesitates between 0 and 40.
    """
    rng = np.random.default_rng(seed)
    values = rng.integers(-100, 100, count)
    samples = []
    for k, value in enumerate(values.tolist()):
        acts, hesitates, drawn = value >= 20, 0 <= value < 40, bool(rng.random() < FULL_SHARE)
        if not drawn and not hesitates:
            continue
        reason = (Reason.FULL_RUN if drawn else Reason(0)) | (Reason.UNCERTAIN if hesitates else Reason(0))
        features = [np.full(int(np.prod(p.feature_shape)), value, np.int8) for p in points]
        samples.append(
            Sample(
                number=k,
                tag=k,
                reason=reason,
                propensity=FULL_SHARE if drawn else 1 - FULL_SHARE,
                full_run=drawn,
                operating_point=0,
                bundle_version=1,
                exit_hook=0 if acts and not drawn else -1,
                output=np.array([value, 0], np.int8),
                decisions=(2 if acts else 1,),
                features=[None if acts and not drawn and p.index else f for p, f in zip(points, features, strict=True)],
            )
        )
    return samples, values.tolist()


def test_weighted_samples_of_a_biased_sampler_match_what_was_there(packed: Pack) -> None:
    samples, values = sampled(packed.points, 20000)
    split = split_from_samples(samples, packed.points, sought=True)
    kept = split.features[0][:, 0].astype(float)
    truth = np.array(values, float)
    statistics: list[Callable[[Floats], Floats]] = [
        lambda v: v,
        lambda v: (v >= 0).astype(float),
        lambda v: ((v >= 0) & (v < 20)).astype(float),
    ]
    for statistic in statistics:
        wanted, got = float(statistic(truth).mean()), float(np.average(statistic(kept), weights=split.weight))
        plain = float(statistic(kept).mean())
        assert abs(got - wanted) < 0.05 * abs(wanted) + (1.5 if abs(wanted) < 0.01 or wanted < 0 else 0)
        assert abs(got - wanted) < abs(plain - wanted), "nearer to what was there than the plain mean"


def test_looked_for_samples_join_training_only(packed: Pack) -> None:
    samples, _ = sampled(packed.points, 2000)
    fair = split_from_samples(samples, packed.points)
    both = split_from_samples(samples, packed.points, sought=True)
    sought = {s.number for s in samples if not s.full_run and s.exit_hook < 0}
    assert sought and sought <= set(both.tags) and not sought & set(fair.tags)
    hesitated = {s.number for s in samples if s.full_run and s.reason & Reason.UNCERTAIN and s.decisions == (1,)}
    assert hesitated <= set(fair.tags) and not hesitated & set(both.tags), "each input is covered by one design"


def test_weights_end_at_a_stated_multiple_of_the_mean(packed: Pack) -> None:
    samples, _ = sampled(packed.points, 2000)
    split = split_from_samples(samples, packed.points)
    assert split.propensity is not None
    rare = np.where(np.arange(len(split)) == 0, 1e-6, split.propensity)
    weight = replace(split, propensity=rare).weight
    assert abs(float(weight.mean()) - 1) < 1e-4
    assert weight[0] == weight.max() <= 1.001 * MOST_WEIGHT * np.median(weight)
    np.testing.assert_allclose(replace(split, propensity=None).weight, 1)


def test_thresholds_keep_a_budget_of_weighted_risk() -> None:
    values = np.arange(100)[None, None]
    wrong = (values < 50) & (values % 10 == 0)
    weight = np.where(wrong[0, 0], 5.0, 1.0)
    c = Cascade([Stage("e", "exit", 10.0, 1.0, 0.0)], values, wrong, np.zeros((1, 100), bool), 100.0)
    (plain,), (weighted,) = search(c, [0.05]), search(replace(c, weight=weight / weight.mean()), [0.05])
    assert plain.cost < weighted.cost and weighted.risk <= 0.05


@pytest.fixture(scope="module")
def splits(packed: Pack) -> tuple[Split, Split]:
    q = np.random.default_rng(0).integers(-128, 128, (700, 8, 8, 3)).astype(np.int8)
    return split_from_inputs(packed, q[:300]), split_from_inputs(packed, q[300:])


QUICK = Options(kinds=("exit",), copies=0, risks=(0.9,), least_gain=-1.0, folds=2, allow_unseen=True)


@pytest.fixture(scope="module")
def result(packed: Pack, splits: tuple[Split, Split]) -> TrainResult:
    return train(packed, *splits, options=replace(QUICK, methods=("bp", "ff")))


def test_both_methods_report_agreement_and_time_for_every_head(packed: Pack, result: TrainResult) -> None:
    tried = {(t.head, t.method) for t in result.trials}
    names = {t.head for t in result.trials}
    assert tried == {(name, method) for name in names for method in ("bp", "ff")}
    assert all(0 <= t.agreement <= 1 and t.seconds > 0 for t in result.trials)
    assert set(result.seconds) == {"kinds", "features", "heads", "thresholds", "calibration"}


def test_training_goes_on_from_the_heads_in_a_bundle_file(
    packed: Pack, splits: tuple[Split, Split], result: TrainResult, tmp_path: Path
) -> None:
    save_bundle(bundle_file(packed, result.bundle), tmp_path / "h.dhn")
    start = workflow.heads_of(packed, tmp_path / "h.dhn")
    assert set(start) == {h.name for h in result.bundle.hooks}
    again = train(packed, *splits, options=replace(QUICK, start=start))
    before = {t.head: t.agreement for t in result.trials if t.method == "bp"}
    assert all(t.agreement >= before[t.head] - 0.05 for t in again.trials if t.head in start)


def test_a_head_in_a_bundle_file_is_within_half_a_step_of_itself() -> None:
    rng = np.random.default_rng(0)
    head = heads.Head([(rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32))])
    (weight, bias), (was, old) = heads.unpacked(heads.packed(head)).layers[0], head.layers[0]
    assert (abs(weight - was) <= abs(was).max(axis=0) / 127 * 0.501).all()
    np.testing.assert_array_equal(bias, old)


def test_going_on_from_a_bundle_of_another_model_or_without_heads_is_refused(
    packed: Pack, result: TrainResult, tmp_path: Path
) -> None:
    other = pack(residual_net(1)[0])
    save_bundle(bundle_file(packed, result.bundle), tmp_path / "h.dhn")
    with pytest.raises(DhnError, match="another model"):
        workflow.heads_of(other, tmp_path / "h.dhn")
    bare = replace(result.bundle, report={})
    save_bundle(bundle_file(packed, bare), tmp_path / "bare.dhn")
    with pytest.raises(DhnError, match="holds no heads"):
        workflow.heads_of(packed, tmp_path / "bare.dhn")
    with pytest.raises(DhnError, match="'hebb' is unknown; choose one of bp, ff, both"):
        workflow.methods_for("hebb")
    assert workflow.methods_for("forward-forward") == ("ff",) and workflow.methods_for("back-propagation") == ("bp",)


def test_the_same_seed_gives_the_same_bundle(packed: Pack, splits: tuple[Split, Split], result: TrainResult) -> None:
    again = train(packed, *splits, options=replace(QUICK, methods=("bp", "ff")))
    assert bundle_file(packed, again.bundle).data == bundle_file(packed, result.bundle).data


def test_survivors_of_an_exit_weigh_more_in_later_heads() -> None:
    pool = exits.pool_of([], np.eye(2, dtype=np.float32), np.ones(6, np.float32)[:2], 0, np.zeros(2, np.int64))
    margins, wrong = np.array([50, 10]), np.array([False, True])
    weight = exits.survivors(pool, margins, wrong, extra=3.0).weight
    np.testing.assert_allclose(weight, [0.4, 1.6])
    assert exits.survivors(pool, margins, wrong, extra=0.0) is pool
