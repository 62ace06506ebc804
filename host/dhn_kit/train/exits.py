"""Trains one exit head per hook point, with honest scores for every sample it was trained on."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dhn_kit.graph import Graph, Quant
from dhn_kit.hooks import HookPoint
from dhn_kit.train import heads
from dhn_kit.train.heads import Floats, Int8, Ints, Recipe

#: Weight decay of a linear head and of one with a hidden layer: larger values cost agreement, smaller gain none.
DECAYS = {0: 0.1, 8: 0.03, 16: 0.03, 32: 0.03, 64: 0.03}
#: A head may cost this share of the multiply-accumulates that are left behind its point.
HEAD_SHARE = 0.1


@dataclass
class Pool:
    """Training rows: the N samples first, then warped copies. ``group`` says whose copy a row is."""

    features: list[Int8]
    target: Floats
    group: Ints
    fold: Ints  #: (N,) the part of the cross-fit that a sample is left out of

    @property
    def n(self) -> int:
        return len(self.fold)

    def parts(self, fold: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Rows to train on (none from `fold`, copies included) and the fold's own N-rows."""
        return np.flatnonzero(self.fold[self.group] != fold), np.flatnonzero(self.fold == fold)


@dataclass(frozen=True)
class OutputKind:
    """What the main network ends in: logits in ``quant``, or probabilities in ``quant`` (after a softmax)."""

    quant: Quant
    classes: int
    probabilities: bool
    centre: float  #: mean of the full network's logits


@dataclass
class ExitFit:
    """A quantised head and its out-of-fold margins (P, N) in int8 steps, with the arg max (P, N), per path."""

    point: HookPoint
    net: Graph
    answer: Graph | None
    recipe: Recipe
    margins: Ints
    choices: Ints


def most_weights(macs_left: int, slot_bytes: int) -> int:
    """How many weights a head may have: few beside the work behind it, and a third of the slot it is kept in."""
    return min(int(HEAD_SHARE * macs_left), slot_bytes // 3)


def fit_exit(pool: Pool, point: HookPoint, kind: OutputKind, paths: Sequence[Int8], weights: int) -> ExitFit:
    """Chooses a recipe on one fold, cross-fits it, trains the final head on all rows and quantises it.

    ``paths[p]`` (N, F) are the point's features when the skips of path p have acted; path 0 is none. A sample's margin
    comes from the head that never saw it (nor its warped copies), so that thresholds are tuned on honest scores.
    """
    x = point.tap_quant.dequantize(pool.features[point.index])
    recipe = _choose(pool, x, weights)
    final = heads.centred(heads.fit(x, pool.target, recipe))
    factor, centre = 1.0, 0.0
    if not kind.probabilities:
        centre = kind.centre
        factor = heads.room(final(x[: pool.n]), kind.quant, centre)
    score = None if kind.probabilities else kind.quant
    name = f"exit at {point.name}"
    net = heads.int8_graph(heads.moved(final, factor, centre), point, pool.features[point.index][: pool.n], score, name)
    quant = net.tensors["score"].quant
    assert quant is not None
    answer = heads.softmax_answer(quant, kind.classes, kind.quant, f"answer at {point.name}") if not score else None
    scores = np.zeros((len(paths), pool.n, kind.classes), np.int64)
    for fold in range(int(pool.fold.max()) + 1):
        rows, own = pool.parts(fold)
        head = heads.moved(heads.centred(heads.fit(x[rows], pool.target[rows], recipe)), factor, centre)
        for p, features in enumerate(paths):
            scores[p, own] = quant.quantize(head(point.tap_quant.dequantize(features[own])))
    return ExitFit(point, net, answer, recipe, margin(scores), scores.argmax(axis=2))


def margin(scores: npt.NDArray[np.integer]) -> Ints:
    """Largest minus second largest of the last axis."""
    top = np.partition(scores.astype(np.int64), -2, axis=-1)
    return np.asarray(top[..., -1] - top[..., -2], np.int64)


def _choose(pool: Pool, x: Floats, weights: int) -> Recipe:
    """Linear or the widest hidden layer of at most that many weights: what has less cross-entropy on the first fold."""
    rows, own = pool.parts(0)
    classes = pool.target.shape[1]
    affordable = [h for h in DECAYS if h and h * (x.shape[1] + classes) <= weights]
    recipes = [Recipe(h, DECAYS[h]) for h in (0, *affordable[-1:])]

    def loss(recipe: Recipe) -> float:
        return heads.cross_entropy(heads.fit(x[rows], pool.target[rows], recipe), x[own], pool.target[own])

    return min(recipes, key=loss)


def folds(n: int, count: int, seed: int) -> Ints:
    """Which part each of n samples belongs to: sizes differ by one at most."""
    return np.random.default_rng(seed).permutation(np.arange(n, dtype=np.int64) % count)


def pool_of(features: Sequence[Int8], target: Floats, n: int, copies: int, fold: Ints) -> Pool:
    """Rows in the order samples, first warped copies, second warped copies, ..."""
    group = np.tile(np.arange(n, dtype=np.int64), 1 + copies)
    assert len(group) == len(target)
    return Pool(list(features), target, group, fold)
