"""Trains exit heads that also read what earlier exits have kept, and blends of their answers with the final one."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from dhn_kit.bundle import pack_bundle
from dhn_kit.graph import Graph, Node, Port, Quant, Shape, Tensor
from dhn_kit.hooks import ALWAYS, NEVER, SILENT, Bundle, HookPoint, HookSpec
from dhn_kit.pack import Pack
from dhn_kit.quantize import quantize
from dhn_kit.train import exits, heads
from dhn_kit.train.certify import Costs, stage
from dhn_kit.train.data import Split
from dhn_kit.train.heads import Floats, Head, Int8, Ints, Recipe
from dhn_kit.train.thresholds import Cascade, Stage
from dhn_kit.twin import Twin

#: A fused clamp, as canonical nodes have it.
Act = tuple[float | None, float | None]
#: Rows that calibrate the quantisation of a head's inner tensors.
CALIBRATION = 1024


@dataclass(frozen=True)
class Source:
    """Something that a head reads. ``port`` as in `HookSpec.net`: "feature" or "keep.NAME"; ``values`` (rows, F)."""

    port: str
    shape: Shape
    quant: Quant
    values: Int8

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def real(self) -> Floats:
        return np.asarray(self.quant.dequantize(self.values), np.float32)

    def rows(self, rows: npt.NDArray[np.intp]) -> Source:
        return Source(self.port, self.shape, self.quant, self.values[rows])


@dataclass
class Fitted:
    """A hook of a cascade without thresholds, and what it says to each of the N samples that it was trained on.

    Out of fold, in int8 steps: ``margins`` (N,), ``choices`` (N,) the arg max, ``scores`` (rows, K) for later heads.
    """

    spec: HookSpec
    margins: Ints
    choices: Ints
    scores: Int8


def joined(sources: Sequence[Source]) -> Floats:
    """Real values of all sources side by side, (rows, F)."""
    return np.concatenate([s.real for s in sources], axis=1)


def head_graph(head: Head, sources: Sequence[Source], name: str) -> Graph:
    """The head as a canonical network: its first layer is one per source, and their sums are added.

    Sources keep their own scales that way, which side by side in one tensor they could not.
    """
    graph = Graph(name, {}, [], [], [])
    (weight, bias), *rest = head.layers
    ends = np.cumsum([s.size for s in sources])
    act = (0.0, None) if rest else (None, None)
    total = ""
    for number, (source, end) in enumerate(zip(sources, ends, strict=True)):
        graph.tensors[source.port] = Tensor(source.port, source.shape)
        graph.inputs.append(Port(source.port, source.port, source.shape))
        flat = _node(graph, "reshape", f"flat{number}", [source.port], source.size)
        last = act if number == len(sources) - 1 else (None, None)
        matrix = weight[end - source.size : end]
        if not number:
            total = _dense(graph, f"part{number}", flat, matrix, bias, last)
            continue
        part = _dense(graph, f"part{number}", flat, matrix, np.zeros_like(bias))
        total = _node(graph, "add", f"sum{number}", [total, part], len(bias), act=last)
    for weight, bias in rest:
        total = _dense(graph, "last", total, weight, bias)
    graph.outputs = [Port("score", total, (len(bias),))]
    return _renamed(graph, total, "score")


def _node(graph: Graph, op: str, name: str, inputs: list[str], size: int, **attrs: Any) -> str:
    graph.tensors[name] = Tensor(name, (1, 1, size))
    graph.nodes.append(Node(name, op, inputs, name, attrs))
    return name


def _dense(graph: Graph, name: str, x: str, weight: Floats, bias: Floats, act: Act = (None, None)) -> str:
    """``weight`` (in, out)."""
    matrix = np.ascontiguousarray(weight.T)
    return _node(graph, "fully_connected", name, [x], len(bias), weight=matrix, bias=bias, act=act)


def _renamed(graph: Graph, old: str, new: str) -> Graph:
    """The last node's output under another name; nothing reads it."""
    graph.tensors[new] = Tensor(new, graph.tensors.pop(old).shape)
    graph.nodes[-1].output = graph.outputs[0].tensor = new
    return graph


def int8_head(head: Head, sources: Sequence[Source], score: Quant | None, name: str) -> Graph:
    """The quantised head; ``score`` fixes the quantisation of what it says."""
    fixed = {s.port: s.quant for s in sources} | ({"score": score} if score else {})
    arrays = [s.quant.dequantize(s.values[:CALIBRATION]).reshape(-1, *s.shape) for s in sources]
    return quantize(head_graph(head, sources, name), arrays, fixed=fixed)


def fit_exits(
    pool: exits.Pool, points: Sequence[HookPoint], kind: exits.OutputKind, recipes: Sequence[Recipe]
) -> list[Fitted]:
    """One head per point, of the point's recipe; each also reads the scores of those before it.

    After Wójcik et al. 2023, "Zero time waste in pre-trained early exit neural networks": a head that knows what
    earlier heads said need not find it out again. Heads learn from, and are tuned on, scores of earlier heads that
    never saw the sample (Wolpert 1992, "Stacked generalization").
    """
    found: list[Fitted] = []
    for point, recipe in zip(points, recipes, strict=True):
        features = pool.features[point.index].reshape(len(pool.group), -1)
        sources = [Source("feature", point.feature_shape, point.tap_quant, features)]
        found.append(_fit(pool, point, kind, [*sources, *map(_kept, found)], recipe))
    return found


def _kept(earlier: Fitted) -> Source:
    tensor = earlier.spec.net.tensors[earlier.spec.net.outputs[0].tensor]
    assert tensor.quant is not None
    return Source(f"keep.{earlier.spec.keeps[tensor.name]}", tensor.shape, tensor.quant, earlier.scores)


def _fit(
    pool: exits.Pool, point: HookPoint, kind: exits.OutputKind, sources: Sequence[Source], recipe: Recipe
) -> Fitted:
    x = joined(sources)
    final = heads.centred(heads.fit(x, pool.target, recipe))
    factor, centre = _place(final(x[: pool.n]), kind)
    own = [s.rows(np.arange(pool.n)) for s in sources]
    name = f"exit at {point.name}"
    score = None if kind.probabilities else kind.quant
    net = int8_head(heads.moved(final, factor, centre), own, score, name)
    scores = _out_of_fold(pool, x, recipe, (factor, centre), net)
    spec = HookSpec(point.index, "exit", net, [], answer=_answer(net, kind, point), name=name, kind="exit")
    spec.keeps = {"score": f"{point.name}.score"}
    return Fitted(spec, exits.margin(scores[: pool.n]), scores[: pool.n].argmax(axis=1), scores)


def _place(logits: Floats, kind: exits.OutputKind) -> tuple[float, float]:
    """(factor, shift) with which logits fit the answer's range; a softmax has its own."""
    return (1.0, 0.0) if kind.probabilities else (heads.room(logits, kind.quant, kind.centre), kind.centre)


def _answer(net: Graph, kind: exits.OutputKind, point: HookPoint) -> Graph | None:
    quant = net.tensors["score"].quant
    assert quant is not None
    if not kind.probabilities:
        return None
    return heads.softmax_answer(quant, kind.classes, kind.quant, f"answer at {point.name}")


def _out_of_fold(pool: exits.Pool, x: Floats, recipe: Recipe, placed: tuple[float, float], net: Graph) -> Int8:
    """Scores (rows, K) of samples and copies, each from a head that saw neither the sample nor its copies."""
    quant = net.tensors["score"].quant
    assert quant is not None
    scores = np.zeros((len(x), pool.target.shape[1]), np.int8)
    of_row = pool.fold[pool.group]
    for fold in range(int(pool.fold.max()) + 1):
        rows = of_row == fold
        head = heads.moved(heads.centred(heads.fit(x[~rows], pool.target[~rows], recipe)), *placed)
        scores[rows] = quant.quantize(head(x[rows]))
    return scores


def fit_blend(point: HookPoint, kind: exits.OutputKind, logits: Int8, earlier: Sequence[Fitted], label: Ints) -> Fitted:
    """A fixed weighted sum of the final logits and of what earlier exits have kept, instead of the final answer alone.

    ``point`` is the final one, ``logits`` (N, K) its tap, ``label`` (N,) with -1 where unknown. One weight per source,
    by maximum likelihood: after Wójcik et al. 2023, "Zero time waste", which averages geometrically, as a sum of logits
    does. It saves nothing; what it adds to the accuracy of full runs lets more inputs leave early at the same accuracy.
    """
    n = len(logits)
    sources = [Source("feature", point.feature_shape, point.tap_quant, logits)]
    sources += [_kept(f).rows(np.arange(n)) for f in earlier]
    known = label >= 0
    shares = blend_weights([s.real[known] for s in sources], label[known])
    head = Head([(np.concatenate([w * np.eye(kind.classes, dtype=np.float32) for w in shares]), _no_bias(kind))])
    factor, centre = _place(heads.centred(head)(joined(sources)), kind)
    score = None if kind.probabilities else kind.quant
    net = int8_head(heads.moved(heads.centred(head), factor, centre), sources, score, "blend")
    quant = net.tensors["score"].quant
    assert quant is not None
    scores = quant.quantize(heads.moved(heads.centred(head), factor, centre)(joined(sources)))
    spec = HookSpec(point.index, "blend", net, [], answer=_answer(net, kind, point), name="blend", kind="blend")
    return Fitted(spec, exits.margin(scores), scores.argmax(axis=1), scores)


def _no_bias(kind: exits.OutputKind) -> Floats:
    return np.zeros(kind.classes, np.float32)


def blend_weights(logits: Sequence[Floats], label: Ints) -> Floats:
    """The weight of each set of logits (N, K) in the sum that makes the labels (N,) most likely."""
    stack = np.stack([z - z.mean(axis=1, keepdims=True) for z in logits]).astype(np.float64)
    rows = np.arange(len(label))

    def loss(w: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        z = np.tensordot(w, stack, 1)
        p = heads.softmax(z)
        value = -np.log(p[rows, label] + 1e-12).mean()
        p[rows, label] -= 1
        return float(value), np.einsum("snk,nk->s", stack, p) / len(label)

    start = np.full(len(stack), 1 / len(stack))
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(stack))
    return np.asarray(found.x, np.float32)


def recorded(pack: Pack, specs: Sequence[HookSpec], split: Split) -> list[Int8]:
    """What each exit in ``specs`` (in program order) would say to everyone: (N, K) int8 answers of the twin.

    The inputs go through the bundle once per exit: this one acts always, those before it never.
    """
    assert split.input is not None
    rows = []
    for number in range(len(specs)):
        rows.append([SILENT] * number + [ALWAYS] + [NEVER] * (len(specs) - number - 1))
    table = [replace(spec, thresholds=[row[k] for row in rows]) for k, spec in enumerate(specs)]
    twin = Twin(pack, pack_bundle(pack, Bundle(table, [spec.name for spec in specs])))
    return [twin.run(split.input, point=k).output for k in range(len(specs))]


def observed(pack: Pack, specs: Sequence[HookSpec], split: Split) -> list[Fitted]:
    """Exits whose networks were trained elsewhere, with what they say to the split's inputs, which they never saw."""
    said = recorded(pack, specs, split)
    return [Fitted(s, exits.margin(q), q.argmax(axis=1), q) for s, q in zip(specs, said, strict=True)]


def labelled_cascade(pack: Pack, found: Sequence[Fitted], blend: Fitted | None, split: Split, costs: Costs) -> Cascade:
    """The recorded cascade for threshold search where being wrong means to differ from the label, not from the network.

    A blend is no stage of it: it is part of every full run, and its answer is the final one.
    """
    assert split.label is not None
    specs = [f.spec for f in found]
    stages = [_stage(pack, spec, specs[k + 1 :], blend, costs) for k, spec in enumerate(specs)]
    final = split.answer if blend is None else blend.choices
    full = costs.full + (stage(blend.spec, pack.points[blend.spec.point], costs).decide if blend else 0.0)
    values = np.stack([f.margins for f in found])[None]
    wrong = np.stack([f.choices != split.label for f in found])[None]
    return Cascade(stages, values, wrong, (final != split.label)[None], full)


def _stage(pack: Pack, spec: HookSpec, later: Sequence[HookSpec], blend: Fitted | None, costs: Costs) -> Stage:
    readers = [*later, *([blend.spec] if blend else [])]
    read = {port.name for reader in readers for port in reader.net.inputs}
    silenced = SILENT if read & {f"keep.{name}" for name in spec.keeps.values()} else NEVER
    return replace(stage(spec, pack.points[spec.point], costs), off=silenced)
