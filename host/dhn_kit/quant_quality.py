"""Measures what quantisation costs: noise per layer, and answers that change."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dhn_kit.float_reference import float_outputs, run_float
from dhn_kit.graph import Array, Graph
from dhn_kit.int_reference import run_int8

BATCH = 32
#: Samples that the layer table looks at.
SQNR_SAMPLES = 64

Int8 = npt.NDArray[np.int8]
#: Canonical int8 inputs (N, H, W, C), one per port, to output 0 (N, H, W, C).
RunInt8 = Callable[[list[Int8]], Int8]


def _batches(x: Array | Sequence[Array], limit: int | None = None) -> Iterator[list[Array]]:
    arrays = [x] if isinstance(x, np.ndarray) else list(x)
    count = min(len(arrays[0]), limit or len(arrays[0]))
    for start in range(0, count, BATCH):
        yield [a[start : min(start + BATCH, count)] for a in arrays]


def _quantized_inputs(graph: Graph, arrays: list[Array]) -> list[Int8]:
    return [graph.quantize_input(a, i) for i, a in enumerate(arrays)]


def sqnr_table(float_graph: Graph, q_graph: Graph, x: Array | Sequence[Array]) -> list[tuple[str, str, float]]:
    """(node, op, dB) in execution order: signal power over the power of int8's error, from the network's input on.

    Looks at the first SQNR_SAMPLES samples of x, in the user's layout. Infinite where nothing is lost."""
    signal = {n.output: 0.0 for n in q_graph.nodes}
    noise = dict(signal)
    for arrays in _batches(x, SQNR_SAMPLES):
        real = run_float(float_graph, arrays)
        ints = run_int8(q_graph, _quantized_inputs(q_graph, arrays))
        for name in signal:
            quant = q_graph.tensors[name].quant
            assert quant is not None
            signal[name] += float(np.square(real[name], dtype=np.float64).sum())
            noise[name] += float(np.square(real[name] - quant.dequantize(ints[name]), dtype=np.float64).sum())
    return [(n.name, n.op, _decibels(signal[n.output], noise[n.output])) for n in q_graph.nodes]


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


@dataclass(frozen=True)
class Agreement:
    """Shares in 0..1 over n samples. The accuracies are None where no labels were given."""

    top1_agreement: float
    accuracy_float: float | None
    accuracy_int8: float | None
    n: int

    def __str__(self) -> str:
        text = f"{self.top1_agreement:.2%} of {self.n:,} answers"
        if self.accuracy_float is None or self.accuracy_int8 is None:
            return text
        return f"{text}; accuracy {self.accuracy_float:.2%} float, {self.accuracy_int8:.2%} int8"


def agreement(
    float_graph: Graph,
    q_graph: Graph,
    x: Array | Sequence[Array],
    y: Array | None = None,
    run: RunInt8 | None = None,
) -> Agreement:
    """Compares the largest value of output 0, int8 with float, on the user's samples x.

    ``run`` computes the int8 output; without it the NumPy reference does, which takes about a second for 100 CIFAR
    images on a small residual network."""
    output = q_graph.outputs[0].tensor
    run = run or (lambda inputs: run_int8(q_graph, inputs)[output])
    real, ints = [], []
    for arrays in _batches(x):
        answer = float_outputs(float_graph, arrays)[0]
        real.append(answer.reshape(len(answer), -1).argmax(axis=1))
        q = run(_quantized_inputs(q_graph, arrays))
        ints.append(q.reshape(len(q), -1).argmax(axis=1))
    a, b = np.concatenate(real), np.concatenate(ints)
    labels = None if y is None else np.asarray(y).reshape(-1)
    return Agreement(
        float((a == b).mean()),
        None if labels is None else float((a == labels).mean()),
        None if labels is None else float((b == labels).mean()),
        len(a),
    )
