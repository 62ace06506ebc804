"""Proposes a reuse gate for streams: the last answer stands while the input has not changed in a way that matters."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from dhn_kit.graph import Graph, Node, Port, Quant, Shape, Tensor
from dhn_kit.hookpoints import feature_shape
from dhn_kit.hooks import HookPoint, HookSpec
from dhn_kit.int_reference import run_int8
from dhn_kit.quantize import quantize
from dhn_kit.records import ENVIRONMENT
from dhn_kit.train.data import Int8, Ints
from dhn_kit.train.kinds import Context, Proposal

Floats = npt.NDArray[np.float64]

#: How many inputs apart two inputs are whose change is learned from. Pairs by chance are added: they look different.
LAGS = (1, 2, 4, 8, 16, 32)
#: Ridge penalty, as a share of the changes' mean square.
PENALTY = 1e-3
#: Shares of wrong answers at which a threshold is proposed; views are compared by what they save at COMPARED_AT.
RISKS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08)
COMPARED_AT = 0.01
#: Distances tried while simulating.
STEPS = 48
#: Most cells of a view: the gate runs on every input and must stay small beside the network.
MOST_CELLS = 64
#: An input that swings around zero, at least this share of it below: its mean size says what its mean does not.
SWINGS = 0.05


@dataclass(frozen=True)
class View:
    """What is compared: means over ``window``, with ``activity`` also those of the absolute values."""

    window: tuple[int, int]
    activity: bool

    @property
    def name(self) -> str:
        return f"means over {self.window[0]}x{self.window[1]}" + (" and mean sizes" if self.activity else "")


def propose(context: Context) -> list[Proposal]:
    """One gate at the input: cells of a pooled view, weighted by how well their change foretells another answer.

    After frame differencing. The weights are a non-negative ridge regression of "the answer changed" on absolute
    differences; the view is the one of several that would have saved most on the later half of the training stream.
    Samples must be in the order of time. Nothing is proposed where the pack has no room to remember.
    """
    hook, pack = context.hook, context.pack
    if hook.input is None or not pack.points or pack.points[0].node != 0:
        return []
    point, answer = pack.points[0], hook.answer
    room = int(pack.header["keep_bytes"]) - ENVIRONMENT - -(-hook.output.shape[1] // 4) * 4
    fits = [_fit(view, point, hook.input, answer, context.seed) for view in views(point, hook.input, room)]
    if not fits:
        return []
    best = min(fits, key=lambda fit: fit.saved_at(COMPARED_AT))
    numbers = {f"full runs at risk {COMPARED_AT:g}, {fit.view.name}": fit.saved_at(COMPARED_AT) for fit in fits}
    net, score = gate(best, point, hook.input)
    spec = HookSpec(
        point.index,
        "reuse",
        net,
        [],
        "value",
        name="reuse",
        kind="reuse",
        otherwise=remember(best.view, point),
    )
    grid = score.quantize(-point.tap_quant.scale * np.array(best.thresholds())).tolist()
    return [Proposal(spec, list(dict.fromkeys(grid)), best.view.name, numbers)]


def views(point: HookPoint, q: Int8, room: int) -> list[View]:
    """The default feature's window, finer and coarser ones, with and without activity, as far as they can be kept."""
    h, w, _ = point.tap_shape
    windows = {
        (min(h, max(1, int(point.window[0] * f))), min(w, max(1, int(point.window[1] * f)))) for f in (0.5, 1, 2, 4)
    }
    swings = float((q < point.tap_quant.zero_point).mean()) >= SWINGS
    found = []
    for window in sorted(windows):
        cells = int(np.prod(feature_shape(point.tap_shape, window)))
        for activity in (False, True) if swings else (False,):
            kept = -(-cells // 4) * 4 * (1 + activity)
            if kept <= room and cells * (1 + activity) <= MOST_CELLS:
                found.append(View(window, activity))
    return found


@dataclass(frozen=True)
class Fit:
    """``weights`` (cells,) per step of the features' quantisation; ``curve`` (distance, full runs' share, risk)."""

    view: View
    weights: Floats
    reach: float  #: distance beyond which nothing is worth telling apart
    curve: list[tuple[float, float, float]]

    def saved_at(self, risk: float) -> float:
        """Least share of full runs at this risk or less."""
        return min((share for _, share, r in self.curve if r <= risk), default=1.0)

    def thresholds(self) -> list[float]:
        """Distances up to which to reuse: the largest at each of RISKS, small ones first."""
        found = (max((t for t, _, r in self.curve if r <= risk), default=0.0) for risk in RISKS)
        return sorted({t for t in found if t > 0}) or [self.curve[0][0]]


def _fit(view: View, point: HookPoint, q: Int8, answer: Ints, seed: int) -> Fit:
    x = features(view, point, q).astype(np.float64)
    half = len(x) // 2
    trial = weights(x[:half], answer[:half], seed)
    first, second = pairs(half, seed)
    distance = np.abs(x[first] - x[second]) @ trial
    tried = np.unique(np.quantile(distance, np.linspace(0.005, 0.7, STEPS)))
    curve = simulate(x[half:], answer[half:], trial, tried[tried > 0])
    return Fit(view, weights(x, answer, seed), float(np.quantile(distance, 0.8)) or 1.0, curve)


def pairs(n: int, seed: int) -> tuple[Ints, Ints]:
    """Rows of a stream of n to compare: some steps apart, and a quarter as many at random."""
    starts = [np.arange(max(0, n - lag), dtype=np.int64) for lag in LAGS]
    first = np.concatenate(starts)
    second = np.concatenate([s + lag for s, lag in zip(starts, LAGS, strict=True)])
    chance = np.random.default_rng(seed).integers(0, n, (2, len(first) // 4))
    return np.concatenate([first, chance[0]]), np.concatenate([second, chance[1]])


def weights(x: Floats, answer: Ints, seed: int) -> Floats:
    """Non-negative ridge regression of "another answer" on absolute differences of features x (N, cells)."""
    first, second = pairs(len(x), seed)
    change = np.abs(x[first] - x[second])
    other = (answer[first] != answer[second]).astype(np.float64)
    penalty = PENALTY * len(change) * max(float(np.mean(change**2)), 1e-9)
    root = cholesky(change.T @ change + penalty * np.eye(x.shape[1]), lower=True)
    found, _ = nnls(root.T, solve_triangular(root, change.T @ other, lower=True))
    return np.asarray(found if found.any() else np.ones(x.shape[1]) / x.shape[1], np.float64)


def simulate(x: Floats, answer: Ints, weight: Floats, tried: Floats) -> list[tuple[float, float, float]]:
    """(distance, share of full runs, share of answers that differ from the full network's) per distance tried."""
    scaled = x * weight
    reference = np.full((len(tried), x.shape[1]), np.inf)
    last = np.zeros(len(tried), np.int64)
    full, wrong = np.zeros(len(tried)), np.zeros(len(tried))
    for row, known in zip(scaled, answer, strict=True):
        new = np.abs(reference - row).sum(axis=1) > tried
        reference[new], last[new] = row, known
        full += new
        wrong += last != known
    return list(zip(tried.tolist(), (full / len(x)).tolist(), (wrong / len(x)).tolist(), strict=True))


def features(view: View, point: HookPoint, q: Int8) -> Int8:
    """The view of inputs (N, H, W, C), as the board computes it: (N, cells) int8."""
    graph = _view_graph(view, point)
    tensors = run_int8(graph, q)
    return np.concatenate([tensors[p.tensor].reshape(len(q), -1) for p in graph.outputs], axis=1)


def _size_quant(quant: Quant) -> Quant:
    """For absolute values: the same steps, all of them on one side of zero."""
    return Quant(quant.scale, -128)


def _view_graph(view: View, point: HookPoint) -> Graph:
    """From the tap to one or two maps of means, quantised."""
    quant, shape = point.tap_quant, feature_shape(point.tap_shape, view.window)
    attrs = {"kernel": view.window, "stride": view.window, "pad": (0, 0, 0, 0)}
    tensors = {"tap": Tensor("tap", point.tap_shape, quant), "mean": Tensor("mean", shape, quant)}
    nodes = [Node("mean", "avg_pool", ["tap"], "mean", dict(attrs))]
    if view.activity:
        size = _size_quant(quant)
        tensors |= {"size": Tensor("size", point.tap_shape, size), "activity": Tensor("activity", shape, size)}
        nodes += [
            Node("size", "unary", ["tap"], "size", {"fn": "abs"}),
            Node("activity", "avg_pool", ["size"], "activity", dict(attrs)),
        ]
    outputs = [Port(name, name, shape) for name in _maps(view)]
    return Graph("reuse", tensors, nodes, [Port("tap", "tap", point.tap_shape)], outputs)


def _maps(view: View) -> tuple[str, ...]:
    return ("mean", "activity") if view.activity else ("mean",)


def gate(fit: Fit, point: HookPoint, q: Int8) -> tuple[Graph, Quant]:
    """The gate's int8 network from the tap and the kept maps to one score, and its Quant: 0 is "nothing has changed",
    lower is further away. ``q``: inputs (N, H, W, C) to calibrate on."""
    graph = _view_graph(fit.view, point)
    quant, shape = point.tap_quant, graph.tensors["mean"].shape
    cells = int(np.prod(shape))
    difference, size = Quant(quant.scale, 0), _size_quant(quant)
    score = Quant(fit.reach * quant.scale / 254, 127)
    graph.outputs = []
    fixed = {name: t.quant for name, t in graph.tensors.items() if t.quant is not None}
    for name in _maps(fit.view):
        kept, delta, flat = f"kept {name}", f"change of {name}", f"flat {name}"
        shapes: dict[str, Shape] = {kept: shape, delta: shape, f"|{delta}|": shape, flat: (1, 1, cells)}
        graph.tensors |= {n: Tensor(n, s) for n, s in shapes.items()}
        fixed |= {kept: fixed[name], delta: difference, f"|{delta}|": size, flat: size}
        graph.inputs.append(Port(kept, f"keep.reuse {name}", shape))
        graph.nodes += [
            Node(delta, "sub", [name, kept], delta, {"act": (None, None)}),
            Node(f"|{delta}|", "unary", [delta], f"|{delta}|", {"fn": "abs"}),
            Node(flat, "reshape", [f"|{delta}|"], flat, {}),
        ]
    source = _joined(graph, fixed, [f"flat {name}" for name in _maps(fit.view)], size)
    graph.tensors["score"] = Tensor("score", (1, 1, 1))
    weight = -fit.weights[None, :].astype(np.float32)
    attrs = {"weight": weight, "bias": np.zeros(1, np.float32), "act": (None, None)}
    graph.nodes.append(Node("score", "fully_connected", [source], "score", attrs))
    graph.outputs = [Port("score", "score", (1,))]
    return _quantized(graph, fit.view, point, q, fixed | {"score": score}), score


def _joined(graph: Graph, fixed: dict[str, Quant], flats: Sequence[str], size: Quant) -> str:
    if len(flats) == 1:
        return flats[0]
    cells = sum(graph.tensors[f].size for f in flats)
    graph.tensors["changes"] = Tensor("changes", (1, 1, cells))
    fixed["changes"] = size
    graph.nodes.append(Node("changes", "concat", list(flats), "changes", {"axis": 2}))
    return "changes"


def _quantized(graph: Graph, view: View, point: HookPoint, q: Int8, fixed: dict[str, Quant]) -> Graph:
    seen = q[:64]
    tensors = run_int8(_view_graph(view, point), seen)
    arrays = [point.tap_quant.dequantize(seen)]
    arrays += [fixed[name].dequantize(tensors[name]) for name in _maps(view)]
    return quantize(graph, arrays, fixed=fixed)


def remember(view: View, point: HookPoint) -> Graph:
    """What runs when the gate does not act: this input becomes the one that later ones are compared with."""
    source = _view_graph(view, point)
    graph = Graph("remember", {}, [], [], [])
    for name in _maps(view):
        tensor, kept = source.tensors[name], f"kept {name}"
        graph.tensors |= {name: tensor, kept: Tensor(kept, tensor.shape, tensor.quant)}
        graph.nodes.append(Node(f"keep {name}", "transpose", [name], kept, {"perm": (0, 1, 2)}))
        graph.inputs.append(Port(name, f"net.{name}", tensor.shape))
        graph.outputs.append(Port(kept, f"keep.reuse {name}", tensor.shape))
    return graph
