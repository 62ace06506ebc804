"""Trains one exit head per hook point, with honest scores for every sample it was trained on."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dhn_kit.graph import Graph, Quant
from dhn_kit.hooks import HookPoint
from dhn_kit.train import heads
from dhn_kit.train.heads import Floats, Head, Int8, Ints, Method, Recipe

#: Weight decay of a linear head and of one with a hidden layer: larger values cost agreement, smaller gain none.
DECAYS = {0: 0.1, 8: 0.03, 16: 0.03, 32: 0.03, 64: 0.03, 128: 0.03}
#: The widest hidden layer that is chosen unless others are asked for.
WIDEST = 64
#: A head may cost this share of the multiply-accumulates that are left behind its point.
HEAD_SHARE = 0.1


@dataclass
class Pool:
    """Training rows: the N samples first, then warped copies. ``group`` says whose copy a row is, ``weight`` (N,) of
    how many inputs a sample speaks."""

    features: list[Int8]
    target: Floats
    group: Ints
    fold: Ints  #: (N,) the part of the cross-fit that a sample is left out of
    weight: Floats

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


@dataclass(frozen=True)
class Trial:
    """How one method did on one head: the share of out-of-fold answers that equal the full network's, and the time."""

    head: str
    method: Method
    hidden: int
    agreement: float
    seconds: float


@dataclass(frozen=True)
class Brief:
    """What a head may be. ``weights``: how many it may have; ``start``: an earlier head to go on from."""

    weights: int
    methods: tuple[Method, ...] = ("bp",)
    start: Head | None = None
    widths: tuple[int, ...] | None = None  #: hidden layers to choose from (0: none); None: none or the widest
    pool: tuple[int, int] = (1, 1)  #: cells of the feature over which the head averages first


@dataclass
class ExitFit:
    """A quantised head; its out-of-fold scores (P, N, K) in int8 steps per path, their margins and arg max (P, N)."""

    point: HookPoint
    net: Graph
    answer: Graph | None
    recipe: Recipe
    scores: Ints
    margins: Ints
    choices: Ints
    head: Head
    trials: list[Trial]


def most_weights(macs_left: int, slot_bytes: int) -> int:
    """How many weights a head may have: few beside the work behind it, and a third of the slot it is kept in."""
    return min(int(HEAD_SHARE * macs_left), slot_bytes // 3)


def fit_exit(pool: Pool, point: HookPoint, kind: OutputKind, paths: Sequence[Int8], brief: Brief) -> ExitFit:
    """Chooses a recipe on one fold, cross-fits it, trains the final head on all rows and quantises it.

    ``paths[p]`` (N, F) are the point's features when the hooks of path p have acted; path 0 is none. A sample's margin
    comes from the head that never saw it (nor its warped copies), so that thresholds are tuned on honest scores.
    With several methods the one whose out-of-fold answers agree most with the full network's is kept.
    """
    fits = [_fit_by(method, pool, point, kind, paths, brief) for method in brief.methods]
    best = max(fits, key=lambda fit: fit.trials[0].agreement)
    return replace(best, trials=[trial for fit in fits for trial in fit.trials])


def _fit_by(
    method: Method, pool: Pool, point: HookPoint, kind: OutputKind, paths: Sequence[Int8], brief: Brief
) -> ExitFit:
    began = time.perf_counter()

    def real(features: Int8) -> Floats:
        return heads.pooled(point.tap_quant.dequantize(features), point, brief.pool)

    x = real(pool.features[point.index])
    weight = pool.weight[pool.group]
    recipe = _choose(pool, x, brief, method)
    final = heads.centred(heads.fit(x, pool.target, recipe, weight, brief.start))
    factor, centre = placed(final, x[: pool.n], kind)
    name = f"exit at {point.name}"
    own_features = pool.features[point.index][: pool.n]
    net, answer = quantised(heads.moved(final, factor, centre), point, own_features, kind, name, brief.pool)
    quant = net.tensors["score"].quant
    assert quant is not None
    scores = np.zeros((len(paths), pool.n, kind.classes), np.int64)
    for fold in range(int(pool.fold.max()) + 1):
        rows, own = pool.parts(fold)
        head = heads.fit(x[rows], pool.target[rows], recipe, weight[rows], brief.start)
        head = heads.moved(heads.centred(head), factor, centre)
        for p, features in enumerate(paths):
            scores[p, own] = quant.quantize(head(real(features[own])))
    choices = scores.argmax(axis=2)
    right = choices[0] == pool.target[: pool.n].argmax(axis=1)
    seconds = time.perf_counter() - began
    trial = Trial(name, method, recipe.hidden, float(np.average(right, weights=pool.weight)), seconds)
    return ExitFit(point, net, answer, recipe, scores, margin(scores), choices, final, [trial])


def placed(head: Head, x: Floats, kind: OutputKind) -> tuple[float, float]:
    """(factor, centre) by which a centred head's logits of x (N, F) fit the answer's range; a softmax has its own."""
    return (1.0, 0.0) if kind.probabilities else (heads.room(head(x), kind.quant, kind.centre), kind.centre)


def quantised(
    head: Head, point: HookPoint, features: Int8, kind: OutputKind, name: str, pool: tuple[int, int] = (1, 1)
) -> tuple[Graph, Graph | None]:
    """The head in int8, and what turns its scores into the main network's kind of answer (None: they are one)."""
    net = heads.int8_graph(head, point, features, None if kind.probabilities else kind.quant, name, pool)
    quant = net.tensors["score"].quant
    assert quant is not None
    if not kind.probabilities:
        return net, None
    return net, heads.softmax_answer(quant, kind.classes, kind.quant, f"answer at {point.name}")


def margin(scores: npt.NDArray[np.integer]) -> Ints:
    """Largest minus second largest of the last axis."""
    top = np.partition(scores.astype(np.int64), -2, axis=-1)
    return np.asarray(top[..., -1] - top[..., -2], np.int64)


def _choose(pool: Pool, x: Floats, brief: Brief, method: Method) -> Recipe:
    """Linear or the widest affordable hidden layer (or the widths asked for): least cross-entropy on the first fold.

    A head that goes on from an earlier one keeps its width.
    """
    rows, own = pool.parts(0)
    classes = pool.target.shape[1]
    if brief.start is not None and brief.start.layers[0][0].shape[0] == x.shape[1]:
        hidden = len(brief.start.layers[0][1]) if len(brief.start.layers) > 1 else 0
        return recipe_for(hidden, method)
    affordable = [h for h in DECAYS if h and h * (x.shape[1] + classes) <= brief.weights]
    usual = [h for h in affordable if h <= WIDEST]
    widths = (0, *usual[-1:]) if brief.widths is None else [h for h in brief.widths if h in (0, *affordable)]
    recipes = [recipe_for(h, method) for h in widths or (0,)]
    if len(recipes) == 1:
        return recipes[0]
    weight = pool.weight[pool.group]

    def loss(recipe: Recipe) -> float:
        head = heads.fit(x[rows], pool.target[rows], recipe, weight[rows])
        return heads.cross_entropy(head, x[own], pool.target[own], pool.weight[own])

    return min(recipes, key=loss)


def recipe_for(hidden: int, method: Method) -> Recipe:
    return Recipe(hidden, DECAYS.get(hidden, DECAYS[64]), method=method)


def folds(n: int, count: int, seed: int, together: int = 1) -> Ints:
    """Which part each of n samples belongs to: sizes differ by one run of ``together`` neighbours at most."""
    runs = -(-n // together)
    part = np.random.default_rng(seed).permutation(np.arange(runs, dtype=np.int64) % count)
    return np.repeat(part, together)[:n]


def pool_of(features: Sequence[Int8], target: Floats, weight: Floats, copies: int, fold: Ints) -> Pool:
    """Rows in the order samples, first warped copies, second warped copies, ..."""
    group = np.tile(np.arange(len(weight), dtype=np.int64), 1 + copies)
    assert len(group) == len(target)
    return Pool(list(features), target, group, fold, weight)


def survivors(pool: Pool, margins: Ints, wrong: npt.NDArray[np.bool_], extra: float) -> Pool:
    """The same rows for later heads: inputs that this exit would not let go weigh 1 + extra times as much.

    It lets go what is surer than its surest mistake, out of fold.
    """
    if not extra:
        return pool
    level = int(margins[wrong].max(initial=-1))
    weight = pool.weight * np.where(margins > level, 1.0, 1.0 + extra)
    return replace(pool, weight=np.asarray(weight / weight.mean(), np.float32))
