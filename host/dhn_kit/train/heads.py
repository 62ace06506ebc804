"""Fits small classifiers on int8 features so that they repeat the full network's answers."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit.graph import Graph, Node, Port, Quant, Tensor
from dhn_kit.hooks import HookPoint
from dhn_kit.quantize import quantize

Floats = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]
Ints = npt.NDArray[np.int64]

#: Steps of one fit, and samples per step: a head is small and data are few, more steps only memorise.
STEPS = 900
BATCH = 64
PEAK_RATE = 2e-3
#: Constant features would be blown up by standardisation; this share of the overall spread is added to each.
SPREAD_FLOOR = 0.1
#: Inputs that calibrate the hidden layer's quantisation.
CALIBRATION = 512


@dataclass(frozen=True)
class Recipe:
    """Width of the hidden layer (0: none) and decoupled weight decay."""

    hidden: int = 64
    decay: float = 0.03
    seed: int = 0


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


def softmax(z: npt.NDArray[Any]) -> Floats:
    """Over the last axis, stable."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True), np.float32)


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


def fit(x: Floats, target: Floats, recipe: Recipe) -> Head:
    """Minimises cross-entropy with Adam and a cosine schedule; x (N, F) real features, target (N, K) rows sum to 1.

    Loshchilov, Hutter 2019, "Decoupled weight decay regularization". Same data and recipe, same head.
    """
    mean = x.mean(axis=0)
    spread = x.std(axis=0)
    spread = spread + SPREAD_FLOOR * max(float(x.std()), 1e-6)
    inner = _adam((x - mean) / spread, target, recipe)
    weight, bias = inner[0]
    first = (weight / spread[:, None], bias - (mean / spread) @ weight)
    return Head([first, *inner[1:]])


def _start(features: int, classes: int, recipe: Recipe, rng: np.random.Generator) -> list[Floats]:
    sizes = [features, recipe.hidden, classes] if recipe.hidden else [features, classes]
    parameters: list[Floats] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        weight = rng.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)) if recipe.hidden else np.zeros((fan_in, fan_out))
        parameters += [weight.astype(np.float32), np.zeros(fan_out, np.float32)]
    return parameters


def _gradients(parameters: list[Floats], x: Floats, target: Floats) -> list[Floats]:
    if len(parameters) == 2:
        g = (softmax(x @ parameters[0] + parameters[1]) - target) / np.float32(len(x))
        return [x.T @ g, g.sum(axis=0)]
    w1, b1, w2, b2 = parameters
    h = np.maximum(x @ w1 + b1, 0)
    g = (softmax(h @ w2 + b2) - target) / np.float32(len(x))
    gh = (g @ w2.T) * (h > 0)
    return [x.T @ gh, gh.sum(axis=0), h.T @ g, g.sum(axis=0)]


def _adam(x: Floats, target: Floats, recipe: Recipe) -> list[tuple[Floats, Floats]]:
    """All parameters live in one vector: the update is a handful of passes over it, in place."""
    rng = np.random.default_rng(recipe.seed)
    x = np.ascontiguousarray(x, np.float32)
    start = _start(x.shape[1], target.shape[1], recipe, rng)
    flat = np.concatenate([a.ravel() for a in start])
    decay = np.concatenate([np.full(a.size, recipe.decay if a.ndim > 1 else 0, np.float32) for a in start])
    views = _views(flat, start)
    first, second, g, work = (np.zeros_like(flat) for _ in range(4))
    order = np.concatenate([rng.permutation(len(x)) for _ in range(-(-STEPS * BATCH // len(x)))])
    for step in range(1, STEPS + 1):
        rows = order[(step - 1) * BATCH : step * BATCH]
        rate = PEAK_RATE * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        np.concatenate([a.ravel() for a in _gradients(views, x[rows], target[rows])], out=g)
        first += np.float32(0.1) * (g - first)
        np.multiply(g, g, out=g)
        second += np.float32(0.001) * (g - second)
        np.sqrt(second, out=work)
        work /= np.float32(np.sqrt(1 - 0.999**step))
        work += np.float32(1e-8)
        np.divide(first, work, out=work)
        work /= np.float32(1 - 0.9**step)
        work += decay * flat
        work *= np.float32(rate)
        flat -= work
    return list(zip(views[::2], views[1::2], strict=True))


def _views(flat: Floats, like: list[Floats]) -> list[Floats]:
    ends = np.cumsum([a.size for a in like])
    return [flat[end - a.size : end].reshape(a.shape) for a, end in zip(like, ends, strict=True)]


def cross_entropy(head: Head, x: Floats, target: Floats) -> float:
    """Mean over samples, in nats."""
    return float(-(target * np.log(softmax(head(x)) + 1e-7)).sum(axis=1).mean())


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


def float_graph(head: Head, point: HookPoint, name: str) -> Graph:
    """The head as a canonical network from tensor "feature" to tensor "score"."""
    size = int(np.prod(point.feature_shape))
    tensors = {"feature": Tensor("feature", point.feature_shape), "flat": Tensor("flat", (1, 1, size))}
    nodes = [Node("flatten", "reshape", ["feature"], "flat", {})]
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


def int8_graph(head: Head, point: HookPoint, features: Int8, score: Quant | None, name: str) -> Graph:
    """The quantised head. ``features`` (N, F) int8 calibrate it; ``score`` fixes the output's quantisation."""
    x = point.tap_quant.dequantize(features[:CALIBRATION]).reshape(-1, *point.feature_shape)
    fixed = {"feature": point.tap_quant} | ({"score": score} if score else {})
    return quantize(float_graph(head, point, name), x, fixed=fixed)


def softmax_answer(score: Quant, classes: int, answer: Quant, name: str) -> Graph:
    """The quantised softmax that turns a head's logits into the answer of a network that ends in one."""
    tensors = {"score": Tensor("score", (1, 1, classes), score), "answer": Tensor("answer", (1, 1, classes), answer)}
    node = Node("softmax", "softmax", ["score"], "answer", {"beta": 1.0, "act_q": (-128, 127)})
    return Graph(name, tensors, [node], [Port("score", "score", (classes,))], [Port("answer", "answer", (classes,))])
