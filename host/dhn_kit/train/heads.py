"""Fits small classifiers on int8 features so that they repeat the full network's answers."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dhn_kit.graph import Graph, Node, Port, Quant, Tensor
from dhn_kit.hooks import HookPoint
from dhn_kit.quantize import quantize
from dhn_kit.train import back_propagation, forward_forward
from dhn_kit.train.descent import Floats as Floats
from dhn_kit.train.descent import Schedule, minimise
from dhn_kit.train.descent import softmax as softmax

Int8 = npt.NDArray[np.int8]
Ints = npt.NDArray[np.int64]
Method = Literal["bp", "ff"]

#: Steps of one fit: a head is small and data are few, more steps only memorise.
STEPS = 900
#: Share of them for a head that goes on from an earlier one.
WARM_SHARE = 1 / 3
#: Constant features would be blown up by standardisation; this share of the overall spread is added to each.
SPREAD_FLOOR = 0.1
#: Inputs that calibrate the hidden layer's quantisation.
CALIBRATION = 512


@dataclass(frozen=True)
class Recipe:
    """Width of the hidden layer (0: none), decoupled weight decay, and how it learns: back-propagation ("bp") or
    Forward-Forward ("ff")."""

    hidden: int = 64
    decay: float = 0.03
    seed: int = 0
    method: Method = "bp"
    steps: int = STEPS


@dataclass
class Head:
    """Layers as (weight (in, out), bias (out,)), ReLU between them; reads real-valued features."""

    layers: list[tuple[Floats, Floats]]

    def __call__(self, x: Floats) -> Floats:
        """Features (N, F) to logits (N, K)."""
        for weight, bias in self.layers[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = self.layers[-1]
        return np.asarray(x @ weight + bias, np.float32)


def targets(output: Floats, label: Ints | None, label_share: float, is_probability: bool) -> Floats:
    """What a head learns: the full network's distribution, mixed with labels where they are known.

    Hinton, Vinyals, Dean 2015, "Distilling the knowledge in a neural network". A label counts only where the full
    network agrees with it: a head that is right where the full network is wrong would count as a risk.
    """
    p = output / np.maximum(output.sum(1, keepdims=True), 1e-6) if is_probability else softmax(output)
    if label is None or not label_share:
        return np.asarray(p, np.float32)
    use = label == p.argmax(1)
    hard = np.eye(p.shape[1], dtype=np.float32)[np.maximum(label, 0)]
    return np.where(use[:, None], (1 - label_share) * p + label_share * hard, p).astype(np.float32)


def fit(x: Floats, target: Floats, recipe: Recipe, weight: Floats | None = None, start: Head | None = None) -> Head:
    """Minimises cross-entropy; x (N, F) real features, target (N, K) rows that sum to 1, weight (N,) of each row (1).

    ``start`` is a head of an earlier fit to go on from; one of other sizes is ignored. It takes a third of the steps,
    because little has to change. Same arguments, same head.
    """
    mean = x.mean(axis=0)
    spread = x.std(axis=0)
    spread = spread + SPREAD_FLOOR * max(float(x.std()), 1e-6)
    goes_on = start is not None and _sizes(start) == _sizes_of(x, target, recipe)
    layers = _standardised(start, mean, spread) if start and goes_on else _fresh(x.shape[1], target.shape[1], recipe)
    z = np.ascontiguousarray((x - mean) / spread, np.float32)
    rows = np.ones(len(x), np.float32) if weight is None else (weight / weight.mean()).astype(np.float32)
    rule = forward_forward if recipe.method == "ff" else back_propagation
    schedule = Schedule(_steps(recipe, goes_on), recipe.decay, recipe.seed)
    inner = minimise(layers, rule.gradients(z, target, rows), len(z), schedule)
    pairs = list(zip(inner[::2], inner[1::2], strict=True))
    first, bias = pairs[0]
    return Head([(first / spread[:, None], bias - (mean / spread) @ first), *pairs[1:]])


def _steps(recipe: Recipe, goes_on: bool) -> int:
    # A single layer has nothing to be local about: both methods are the same rule there.
    factor = forward_forward.STEPS_FACTOR if recipe.method == "ff" and recipe.hidden else 1
    return int((WARM_SHARE if goes_on else 1) * recipe.steps * factor)


def _sizes(head: Head) -> list[int]:
    return [head.layers[0][0].shape[0], *(len(bias) for _, bias in head.layers)]


def _sizes_of(x: Floats, target: Floats, recipe: Recipe) -> list[int]:
    return [x.shape[1], *([recipe.hidden] if recipe.hidden else []), target.shape[1]]


def _standardised(head: Head, mean: Floats, spread: Floats) -> list[Floats]:
    """The head's parameters for features that were standardised by these."""
    (weight, bias), *rest = head.layers
    layers = [(weight * spread[:, None], bias + mean @ weight), *rest]
    return [np.asarray(a, np.float32) for pair in layers for a in pair]


def _fresh(features: int, classes: int, recipe: Recipe) -> list[Floats]:
    rng = np.random.default_rng(recipe.seed)
    sizes = [features, recipe.hidden, classes] if recipe.hidden else [features, classes]
    parameters: list[Floats] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        weight = rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)) if recipe.hidden else np.zeros((fan_in, fan_out))
        parameters += [weight.astype(np.float32), np.zeros(fan_out, np.float32)]
    return parameters


def packed(head: Head) -> list[dict[str, str]]:
    """The head as text that a bundle's host part can carry, to go on from: weights in 8 bits, one scale per unit."""
    layers = []
    for weight, bias in head.layers:
        scale = np.maximum(np.abs(weight).max(axis=0), 1e-12).astype("<f4") / np.float32(127)
        steps = np.rint(weight / scale).astype(np.int8)
        parts = {"weight": steps.tobytes(), "scale": scale.tobytes(), "bias": bias.astype("<f4").tobytes()}
        layers.append({name: base64.b64encode(data).decode() for name, data in parts.items()})
    return layers


def unpacked(layers: Sequence[Mapping[str, str]]) -> Head:
    """What `packed` has written, within half a step of each weight."""
    found = []
    for layer in layers:
        weight, scale, bias = (base64.b64decode(layer[name]) for name in ("weight", "scale", "bias"))
        scales = np.frombuffer(scale, "<f4").astype(np.float32)
        steps = np.frombuffer(weight, np.int8).reshape(-1, len(scales))
        found.append((np.asarray(steps * scales, np.float32), np.frombuffer(bias, "<f4").astype(np.float32)))
    return Head(found)


def cross_entropy(head: Head, x: Floats, target: Floats, weight: Floats | None = None) -> float:
    """(Weighted) mean over samples, in nats."""
    each = -(target * np.log(softmax(head(x)) + 1e-7)).sum(axis=1)
    return float(np.average(each, weights=weight))


def centred(head: Head) -> Head:
    """The same classifier with logits that sum to zero over classes (a softmax does not see the difference)."""
    weight, bias = head.layers[-1]
    return Head([*head.layers[:-1], (weight - weight.mean(axis=1, keepdims=True), bias - bias.mean())])


def moved(head: Head, factor: float, centre: float) -> Head:
    """Logits times factor plus centre; neither changes the arg max."""
    weight, bias = head.layers[-1]
    return Head([*head.layers[:-1], (weight * np.float32(factor), bias * np.float32(factor) + np.float32(centre))])


def room(logits: Floats, quant: Quant, centre: float) -> float:
    """The factor, at most 1, by which centred logits must shrink to fit the quantisation's range around `centre`."""
    top, bottom = float(np.quantile(logits, 0.9995)), float(np.quantile(logits, 0.0005))
    high, low = quant.scale * (127 - quant.zero_point) - centre, quant.scale * (-128 - quant.zero_point) - centre
    return min(1.0, high / top if top > 0 < high else 1.0, low / bottom if bottom < 0 > low else 1.0)


def pooled(x: Floats, point: HookPoint, pool: tuple[int, int]) -> Floats:
    """Features (N, F) of a point, averaged once more over ``pool`` of its cells; cells left over are not read."""
    if pool == (1, 1):
        return x
    (h, w, c), (ph, pw) = point.feature_shape, pool
    cells = x.reshape(-1, h, w, c)[:, : h // ph * ph, : w // pw * pw]
    return np.asarray(cells.reshape(len(x), h // ph, ph, w // pw, pw, c).mean(axis=(2, 4)).reshape(len(x), -1))


def float_graph(head: Head, point: HookPoint, name: str, pool: tuple[int, int] = (1, 1)) -> Graph:
    """The head as a canonical network from tensor "feature" to tensor "score"; ``pool`` as in `pooled`."""
    h, w, c = point.feature_shape
    shape = (h // pool[0], w // pool[1], c)
    size = int(np.prod(shape))
    tensors = {"feature": Tensor("feature", point.feature_shape), "flat": Tensor("flat", (1, 1, size))}
    source, nodes = "feature", []
    if pool != (1, 1):
        tensors["pooled"] = Tensor("pooled", shape)
        attrs: dict[str, Any] = {"kernel": pool, "stride": pool, "pad": (0, 0, 0, 0)}
        nodes.append(Node("pool", "avg_pool", ["feature"], "pooled", attrs))
        source = "pooled"
    nodes.append(Node("flatten", "reshape", [source], "flat", {}))
    source = "flat"
    for number, (weight, bias) in enumerate(head.layers):
        last = number == len(head.layers) - 1
        target = "score" if last else f"hidden{number}"
        tensors[target] = Tensor(target, (1, 1, weight.shape[1]))
        attrs = {"weight": np.ascontiguousarray(weight.T), "bias": bias, "act": (None if last else 0.0, None)}
        nodes.append(Node(f"fc{number}", "fully_connected", [source], target, attrs))
        source = target
    inputs = [Port("feature", "feature", point.feature_shape)]
    return Graph(name, tensors, nodes, inputs, [Port("score", "score", (int(bias.shape[0]),))])


def int8_graph(
    head: Head, point: HookPoint, features: Int8, score: Quant | None, name: str, pool: tuple[int, int] = (1, 1)
) -> Graph:
    """The quantised head. ``features`` (N, F) int8 calibrate it; ``score`` fixes the output's quantisation."""
    x = point.tap_quant.dequantize(features[:CALIBRATION]).reshape(-1, *point.feature_shape)
    fixed = {"feature": point.tap_quant} | ({"score": score} if score else {})
    return quantize(float_graph(head, point, name, pool), x, fixed=fixed)


def softmax_answer(score: Quant, classes: int, answer: Quant, name: str) -> Graph:
    """The quantised softmax that turns a head's logits into the answer of a network that ends in one."""
    tensors = {"score": Tensor("score", (1, 1, classes), score), "answer": Tensor("answer", (1, 1, classes), answer)}
    node = Node("softmax", "softmax", ["score"], "answer", {"beta": 1.0, "act_q": (-128, 127)})
    return Graph(name, tensors, [node], [Port("score", "score", (classes,))], [Port("answer", "answer", (classes,))])
