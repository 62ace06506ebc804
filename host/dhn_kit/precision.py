"""Decides how many bits the weights of each layer get: the change of the answers against the flash they save."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph
from dhn_kit.latency import LatencyModel
from dhn_kit.lower import lower
from dhn_kit.narrow import WIDTHS, may_narrow, narrow, statistics
from dhn_kit.pack import pack
from dhn_kit.strategy import Candidate, Policy, affordable, candidates_of
from dhn_kit.twin import Twin

Int8 = npt.NDArray[np.int8]
Bits = Literal["8", "4", "2", "auto"]

#: Calibration inputs on which each layer's change is measured, one layer and width at a time.
INPUTS = 96
#: What the whole run's time is worth in divergence: a hundredth of it, as much as one of 0.0001.
TIME_IS_WORTH = 0.01
#: Kernels of this architecture run fastest on the host; all give the same bytes.
HOST_ARCH = "portable"


@dataclass(frozen=True)
class Width:
    """The bits of one layer's weights. ``flash``: bytes of its constants; ``divergence``: what this width alone does to
    the answers (Kullback-Leibler, nats); ``why``: a phrase."""

    bits: int
    flash: int
    divergence: float
    why: str


@dataclass
class Precision:
    """A network with mixed weights. ``kernels`` names what reads the narrow ones; ``widths`` by node; ``agreement``:
    share of the calibration inputs that it answers as with eight bits."""

    graph: Graph
    kernels: dict[str, str]
    widths: dict[str, Width]
    agreement: float
    inputs: int

    def facts(self) -> dict[str, Any]:
        """For the pack's trailer."""
        widths = {name: dataclasses.asdict(w) for name, w in self.widths.items()}
        return {"agreement": self.agreement, "inputs": self.inputs, "widths": widths}


@dataclass(frozen=True)
class _Option:
    """One way to hold a layer's weights: bits, the kernel that reads them, and what that costs."""

    bits: int
    candidate: Candidate
    divergence: float


def choose_bits(
    graph: Graph, q: Int8, bits: Bits, arch: str, latency: LatencyModel | None = None, policy: Policy | None = None
) -> Precision:
    """`graph` (int8) with narrower weights; ``q``: canonical int8 calibration inputs (N, H, W, C).

    "4" and "2" narrow every layer down to so many bits, as far as `arch` has kernels that then take less flash. "auto"
    picks per layer, so that all constants fit ``policy.flash_budget`` with the least change of the answers: the
    question of "HAQ: Hardware-Aware Automated Quantization with Mixed Precision" (Wang et al., 2019), answered by one
    measurement per layer and a knapsack. DhnError: no such kernels, or a budget that not even two bits meet.
    """
    widths = WIDTHS if bits == "auto" else tuple(w for w in WIDTHS if w >= int(bits))
    policy = policy or Policy()
    study = Study(graph, q, arch, latency, policy, widths)
    return study.within(policy.flash_budget) if bits == "auto" else study.narrowest()


class Study:
    """What each width of each layer costs and does; ask it for any number of budgets."""

    def __init__(
        self,
        graph: Graph,
        q: Int8,
        arch: str,
        latency: LatencyModel | None = None,
        policy: Policy | None = None,
        widths: tuple[int, ...] = WIDTHS,
    ) -> None:
        self._work = _Measured(graph, q[:: max(1, len(q) // INPUTS)][:INPUTS], widths)
        self._options = _options(self._work, arch, latency or LatencyModel(), policy or Policy())
        if all(o.bits == 8 for layer in self._options for o in layer):
            raise DhnError(f"no layer of '{graph.name}' gets smaller with fewer bits on {arch}; leave --bits out")

    def within(self, flash_budget: int | None) -> Precision:
        """The least change of the answers whose constants take at most so many bytes."""
        return _built(self._work, self._options, _cheapest(self._options, flash_budget))

    def narrowest(self) -> Precision:
        """As few bits as there are kernels for, everywhere."""
        return _built(self._work, self._options, [_narrowest(layer) for layer in self._options])


def _narrowest(layer: list[_Option]) -> _Option:
    """The fewest bits, read with the least flash; layers that stay at eight bits get their kernel later."""
    return min(layer, key=lambda o: (o.bits, o.candidate.flash, o.candidate.cost))


class _Measured:
    """The network at eight bits: its answers and layer inputs on the calibration inputs, and its narrow versions."""

    def __init__(self, graph: Graph, q: Int8, widths: tuple[int, ...]) -> None:
        self.graph, self.q = graph, q
        self.nodes = [n for n in graph.nodes if may_narrow(n)]
        result = self._run(graph, [n.inputs[0] for n in self.nodes])
        self.output = result.output
        known = {n.name: statistics(graph, n, result.layers[n.inputs[0]]) for n in self.nodes}
        self.versions = {w: narrow(graph, {n.name: w for n in self.nodes}, known) for w in widths}

    def _run(self, graph: Graph, taps: list[str]) -> Any:
        return Twin(pack(graph, HOST_ARCH, hooks=False)).run(self.q, taps=sorted(set(taps)))

    def mixed(self, bits: dict[str, int]) -> Graph:
        """The network with so many bits in these nodes, eight elsewhere."""
        nodes = [
            next(v for v in self.versions[bits[n.name]].nodes if v.name == n.name) if bits.get(n.name, 8) < 8 else n
            for n in self.graph.nodes
        ]
        return dataclasses.replace(self.graph, nodes=nodes)

    def divergence(self, bits: dict[str, int]) -> float:
        """Mean Kullback-Leibler divergence of the answers from those at eight bits, nats."""
        return _divergence(self._likelihoods(self.output), self._likelihoods(self._run(self.mixed(bits), []).output))

    def agreement(self, graph: Graph) -> float:
        return float((self._run(graph, []).output.argmax(axis=1) == self.output.argmax(axis=1)).mean())

    def _likelihoods(self, output: Int8) -> npt.NDArray[np.float64]:
        tensor = self.graph.tensors[self.graph.outputs[0].tensor]
        assert tensor.quant is not None
        real = tensor.quant.dequantize(output).astype(np.float64)
        producer = self.graph.producer(tensor.name)
        if producer is not None and producer.op == "softmax":
            likely = real + tensor.quant.scale / 2  # what rounds to nothing is not impossible
        else:
            likely = np.exp(real - real.max(axis=1, keepdims=True))
        return np.asarray(likely / likely.sum(axis=1, keepdims=True), np.float64)


def _divergence(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    tiny = 1e-12
    return float((p * (np.log(p + tiny) - np.log(q + tiny))).sum(axis=1).mean())


def _options(work: _Measured, arch: str, latency: LatencyModel, policy: Policy) -> list[list[_Option]]:
    """By op: every kernel at eight bits, and of the narrower widths those that take less flash than any at eight."""
    policy = dataclasses.replace(policy, kernels={})
    found = [[_Option(8, c, 0.0) for c in layer] for layer in candidates_of(lower(work.graph), arch, latency, policy)]
    for width, version in work.versions.items():
        narrowed = candidates_of(lower(version), arch, latency, policy)
        for layer, candidates in zip(found, narrowed, strict=True):
            smaller = [c for c in candidates if c.flash < min(o.candidate.flash for o in layer)]
            if smaller:
                moved = work.divergence({smaller[0].op.name: width})
                layer += [_Option(width, c, moved) for c in smaller]
    return found


def _cheapest(options: list[list[_Option]], flash_budget: int | None) -> list[_Option]:
    """The knapsack over widths and kernels at once; time counts as `TIME_IS_WORTH` says."""
    total = sum(min(o.candidate.cost for o in layer) for layer in options) or 1.0
    by_id: dict[int, _Option] = {}
    layers = []
    for layer in options:
        costs = [o.divergence + TIME_IS_WORTH * o.candidate.cost / total for o in layer]
        priced = [dataclasses.replace(o.candidate, cost=cost) for o, cost in zip(layer, costs, strict=True)]
        by_id.update({id(c): o for c, o in zip(priced, layer, strict=True)})
        layers.append(priced)
    return [by_id[id(c)] for c in affordable(layers, flash_budget)]


def _built(work: _Measured, options: list[list[_Option]], picked: list[_Option]) -> Precision:
    narrowed = {o.candidate.op.name: o for o in picked if o.bits < 8}
    graph = work.mixed({name: o.bits for name, o in narrowed.items()})
    widths = {
        o.candidate.op.name: _width(layer, o)
        for layer, o in zip(options, picked, strict=True)
        if o.candidate.op.call.weight is not None
    }
    kernels = {name: o.candidate.op.kernel.name for name, o in narrowed.items()}
    return Precision(graph, kernels, widths, work.agreement(graph), len(work.q))


def _width(layer: list[_Option], picked: _Option) -> Width:
    flash = {bits: min(o.candidate.flash for o in layer if o.bits == bits) for bits in {o.bits for o in layer}}
    moved = {o.bits: o.divergence for o in layer}
    if picked.bits < 8:
        why = f"saves {flash[8] - flash[picked.bits]:,} B, moves answers by {picked.divergence:.2g}"
    elif len(flash) == 1:
        why = "no kernel takes less flash with fewer bits"
    else:
        widest = max(b for b in flash if b < 8)
        why = f"{widest} bits would save {flash[8] - flash[widest]:,} B and move answers by {moved[widest]:.2g}"
    return Width(picked.bits, picked.candidate.flash, picked.divergence, why)
