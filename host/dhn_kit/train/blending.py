"""Adds a blend of final and exits' answers to trained hooks, where it is right more often than the network alone."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dhn_kit.hooks import SILENT, HookSpec
from dhn_kit.int_reference import run_int8
from dhn_kit.pack import Pack
from dhn_kit.train import cascade, exits
from dhn_kit.train.certify import Costs, stage
from dhn_kit.train.data import Ints, Split
from dhn_kit.train.fitting import Fitted
from dhn_kit.train.options import Dropped, Options


def add_blend(
    pack: Pack, fitted: Fitted, kept: Sequence[int], kind: exits.OutputKind, hook: Split, costs: Costs, options: Options
) -> HookSpec | Dropped:
    """A blend over the exits in ``kept``, entered into every cascade of ``fitted``; or why there is none.

    It changes what full runs answer and cost, and from then on exits that it reads are asked in every run. Weights come
    from the labels of the training samples, on scores out of fold.
    """
    point = pack.points[-1]
    earlier = [fitted.specs[s] for s in kept if fitted.specs[s].name in fitted.scores]
    if options.against != "label":
        return Dropped("blend", "judged by agreement with the full network a blend can only lose: use --against label")
    if not point.final or not earlier or hook.label is None:
        return Dropped("blend", "there is no final hook point, or no exit whose scores it could read")
    sources = [_as_fitted(spec, fitted, 0) for spec in earlier]
    blend = cascade.fit_blend(point, kind, hook.features[point.index], sources, hook.label)
    before = float(np.average(hook.answer == hook.label, weights=hook.weight))
    after = float(np.average(_choices(blend.spec, fitted, earlier, 0) == hook.label, weights=hook.weight))
    numbers = {"accuracy of the network": before, "accuracy of the blend": after}
    if after <= before:
        return Dropped("blend", f"right in {after:.2%} of the full runs, the network alone in {before:.2%}", numbers)
    decide, act = stage(blend.spec, point, costs).decide, stage(blend.spec, point, costs).act
    names = {spec.name for spec in earlier}
    for b, c in enumerate(fitted.cascades):
        c.final_wrong[0] = _choices(blend.spec, fitted, earlier, b) != hook.label
        c.full += decide + act
        if c.ends is not None and c.reused is not None:
            c.ends = c.ends + (decide + act) * (c.reused < 0)
        c.stages[:] = [replace(g, off=SILENT) if g.name in names else g for g in c.stages]
    return blend.spec


def _as_fitted(spec: HookSpec, fitted: Fitted, base: int) -> cascade.Fitted:
    scores = fitted.scores[spec.name][base]
    return cascade.Fitted(spec, exits.margin(scores), np.asarray(scores.argmax(axis=1), np.int64), scores)


def _choices(spec: HookSpec, fitted: Fitted, earlier: Sequence[HookSpec], base: int) -> Ints:
    """What the blend answers under one base, (N,)."""
    shapes = [spec.net.tensors[port.tensor].shape for port in spec.net.inputs]
    arrays = [fitted.bases[base].features[spec.point], *(fitted.scores[e.name][base] for e in earlier)]
    inputs = [a.reshape(-1, *shape) for a, shape in zip(arrays, shapes, strict=True)]
    scores = run_int8(spec.net, inputs)[spec.net.outputs[0].tensor]
    return np.asarray(scores.reshape(len(scores), -1).argmax(axis=1), np.int64)
