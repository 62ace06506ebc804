"""Heads that read earlier heads' scores use them; blends weigh by what the labels say; recordings are the twin's."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dhn_kit.bundle import pack_bundle
from dhn_kit.graph import Quant
from dhn_kit.hooks import ALWAYS, NEVER, SILENT, Bundle, HookPoint
from dhn_kit.pack import Pack, pack
from dhn_kit.train import Options, Split, cascade, exits, split_from_inputs, train
from dhn_kit.train.certify import predicted_costs, run_gated
from dhn_kit.train.heads import Recipe, softmax
from dhn_kit.train.thresholds import search, simulate
from dhn_kit.twin import Twin
from nets import residual_net

RECIPE = Recipe(16, 0.03, steps=300)


@pytest.fixture(scope="module")
def trained() -> tuple[Pack, Split, exits.Pool, exits.OutputKind, list[cascade.Fitted]]:
    """Two exits of the small residual network, the second reading the first, from 400 random inputs."""
    graph, net = residual_net()
    packed = pack(graph)
    split = split_from_inputs(packed, net.inputs(400))
    quant = packed.tensors[packed.outputs[0].tensor].quant
    assert quant is not None
    real = quant.dequantize(split.output)
    split.label = np.where(np.arange(400) % 10 == 0, (split.answer + 1) % 5, split.answer)
    kind = exits.OutputKind(quant, 5, False, float(real.mean()))
    pool = exits.pool_of(split.features, softmax(real), np.ones(400, np.float32), 0, exits.folds(400, 2, 0))
    points = [packed.points[1], packed.points[3]]
    return packed, split, pool, kind, cascade.fit_exits(pool, points, kind, [RECIPE, RECIPE])


def test_a_later_head_reads_what_an_earlier_one_kept(trained) -> None:  # type: ignore[no-untyped-def]
    first, second = (f.spec for f in trained[4])
    assert [p.name for p in first.net.inputs] == ["feature"]
    assert [p.name for p in second.net.inputs] == ["feature", f"keep.{first.keeps['score']}"]


def test_a_head_passes_on_what_only_the_earlier_one_could_see() -> None:
    """The second point's feature is noise: whatever its head knows, it knows from the kept scores."""
    rng = np.random.default_rng(1)
    label = rng.integers(0, 3, 600)
    points = [HookPoint(k, f"p{k}", k, "t", (1, 1, 6), Quant(0.05, 0), (1, 1), (1, 1, 6)) for k in range(2)]
    told = points[0].tap_quant.quantize(np.repeat(np.eye(3)[label], 2, axis=1) + 0.3 * rng.normal(size=(600, 6)))
    noise = points[1].tap_quant.quantize(rng.normal(size=(600, 6)))
    fold = exits.folds(600, 3, 0)
    pool = exits.pool_of([told, noise], np.eye(3, dtype=np.float32)[label], np.ones(600, np.float32), 0, fold)
    kind = exits.OutputKind(Quant(0.1, 0), 3, False, 0.0)
    linear = Recipe(0, 0.01, steps=300)
    alone = cascade.fit_exits(pool, points[1:], kind, [linear])[0]
    joined = cascade.fit_exits(pool, points, kind, [linear, linear])[1]
    assert (alone.choices == label).mean() < 0.5
    assert (joined.choices == label).mean() > 0.9


def test_the_twin_says_what_was_fitted(trained) -> None:  # type: ignore[no-untyped-def]
    """Out of fold differs from the final head in what it was trained on, so only most answers are the same."""
    packed, split, _, _, fitted = trained
    said = cascade.recorded(packed, [f.spec for f in fitted], split)
    for f, q in zip(fitted, said, strict=True):
        assert (q.argmax(axis=1) == f.choices).mean() > 0.6, f.spec.name


def test_blending_weighs_sources_by_what_the_labels_say() -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(0, 4, 3000)
    good = (2 * np.eye(4)[label] + rng.normal(size=(3000, 4))).astype(np.float32)
    useful = (np.eye(4)[label] + rng.normal(size=(3000, 4))).astype(np.float32)
    noise = rng.normal(size=(3000, 4)).astype(np.float32)
    weights = cascade.blend_weights([good, useful, noise], label)
    # For Gaussian noise of variance 1 the likelihood ratio weighs a source by the height of its signal.
    np.testing.assert_allclose(weights, [2, 1, 0], atol=0.15)


def test_a_blended_run_is_what_tuning_saw(trained) -> None:  # type: ignore[no-untyped-def]
    packed, split, _, kind, fitted = trained
    found = cascade.observed(packed, [f.spec for f in fitted], split)
    assert split.label is not None
    blend = cascade.fit_blend(packed.points[-1], kind, split.output, found, split.label)
    specs = [replace(f.spec, thresholds=[SILENT]) for f in found] + [replace(blend.spec, thresholds=[ALWAYS])]
    result = Twin(packed, pack_bundle(packed, Bundle(specs, ["all"]))).run(split.input)
    assert (result.output.argmax(axis=1) == blend.choices).mean() > 0.97
    assert (result.exit_hook == -1).all()


def test_the_recorded_cascade_predicts_the_bundle(trained) -> None:  # type: ignore[no-untyped-def]
    packed, split, _, _, fitted = trained
    costs = predicted_costs(packed)
    found = cascade.observed(packed, [f.spec for f in fitted], split)
    recorded = cascade.labelled_cascade(packed, found, None, split, costs)
    assert [s.off for s in recorded.stages] == [SILENT, NEVER]
    candidate = search(recorded, [0.15])[0]
    outcome = simulate(recorded, candidate.thresholds)
    specs = [replace(f.spec, thresholds=[t]) for f, t in zip(found, candidate.thresholds, strict=True)]
    result = Twin(packed, pack_bundle(packed, Bundle(specs, ["all"]))).run(split.input)
    assert (result.exit_hook == outcome.left_at).all()
    assert ((result.output.argmax(axis=1) != split.label) == outcome.wrong).all()


def test_training_joins_the_exits_that_pay_and_certifies_them(trained) -> None:  # type: ignore[no-untyped-def]
    packed, split, *_ = trained
    _, net = residual_net()
    net.rng = np.random.default_rng(9)
    fresh = split_from_inputs(packed, net.inputs(300))
    costs = predicted_costs(packed)
    options = Options(
        risks=(0.4,), kinds=("exit",), copies=0, prune_at=0.35, least_gain=-1.0, cascade=True, allow_unseen=True
    )
    result = train(packed, split, fresh, costs, options)
    readers = [h for h in result.bundle.hooks if any(p.name.startswith("keep.") for p in h.net.inputs)]
    assert readers, [vars(d) for d in result.dropped]
    for k, outcome in enumerate(run_gated(packed, result.bundle, fresh, costs)):
        assert result.bundle.certificates[k].errors == int(outcome.wrong.sum())
