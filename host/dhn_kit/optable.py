"""Writes docs/operators.md from what ONNX's own node tests show to work.

``PYTHONPATH=host:tests python -m dhn_kit.optable > docs/operators.md``
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx

from dhn_kit.errors import DhnError
from dhn_kit.float_reference import float_outputs
from dhn_kit.graph import Array, Graph
from dhn_kit.int_reference import run_int8
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import pack
from dhn_kit.quantize import quantize
from dhn_kit.twin import Twin

#: What no test name tells.
NOTES = {
    "Add": "two activations (broadcast) or a constant",
    "Sub": "two activations (broadcast) or a constant",
    "Mul": "two activations (broadcast) or a constant",
    "Div": "by a constant",
    "AveragePool": "1-D, 2-D; no dilation",
    "MaxPool": "1-D, 2-D; no dilation, no indices",
    "Conv": "1-D, 2-D; any groups, dilation, padding; constant weight",
    "Gemm": "constant weight and bias; A not transposed",
    "MatMul": "constant matrix as second operand",
    "BatchNormalization": "inference form",
    "Cast": "float32 to float32, uint8 input to float32",
    "Concat": "any axis but the batch",
    "Constant": "dense numbers",
    "Dropout": "inference form",
    "Pad": "constant mode, any axis but the batch",
    "ReduceMean": "any axes but the batch",
    "Reshape": "the batch stays first",
    "Flatten": "the batch stays first",
    "Softmax": "any axis but the batch",
    "Squeeze": "any axis but the batch",
    "Transpose": "absorbed where possible; the batch may move in between",
}


#: Steps of the output's quantisation by which int8 may differ from float, where it is not 1: the input's rounding (half
#: a step of a scale that may be coarser than the output's) adds up over a sum, or is stretched by a steep function.
INT8_STEPS = {
    "Abs": 2.0, "BatchNormalization": 1.5, "Clip": 2.0, "Exp": 2.5, "Gemm": 1.5, "HardSigmoid": 2.0, "HardSwish": 2.0,
    "LeakyRelu": 1.5, "MatMul": 1.5, "Mul": 1.5, "Relu": 2.0, "Sigmoid": 1.5, "Tanh": 2.0,
}  # fmt: skip
#: Node tests whose numbers int8 cannot hold, and why. They too equal the integer reference.
NOT_INT8 = {
    "test_softmax_large_number": "its inputs span 0 to 10,003; one int8 step of 40 hides the differences that matter",
}
#: Arrays of samples around a case's own input that widen the observed ranges and are compared as well.
NEIGHBOURS = 3


class Case(Protocol):
    """One node test: a model, arrays of its inputs, and the outputs they must give."""

    # Properties, because a case may be frozen.
    @property
    def name(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def model(self) -> onnx.ModelProto: ...
    @property
    def inputs(self) -> list[Array]: ...
    @property
    def outputs(self) -> list[Array]: ...


@dataclass(frozen=True)
class Verdict:
    """``refusal`` is what import said, ``difference`` what went wrong in float, ``int8`` what went wrong in int8; all
    None where the case passes. ``steps`` is the largest difference of int8 from float in steps of the output."""

    name: str
    op: str
    refusal: str | None = None
    difference: str | None = None
    int8: str | None = None
    steps: float = 0.0


def judge(case: Case) -> Verdict:
    """Import one node test, run it in float, and in int8 on the host twin."""
    try:
        graph = import_onnx(case.model.SerializeToString())
    except DhnError as error:
        return Verdict(case.name, case.op, refusal=str(error))
    for mine, wanted in zip(float_outputs(graph, case.inputs), case.outputs, strict=False):
        if mine.shape != wanted.shape or not np.allclose(mine, wanted, rtol=1e-3, atol=1e-6):
            return Verdict(case.name, case.op, difference=f"{mine.shape} {mine} is not {wanted.shape} {wanted}")
    problem, steps = judge_int8(graph, case)
    return Verdict(case.name, case.op, int8=problem, steps=steps)


def judge_int8(graph: Graph, case: Case) -> tuple[str | None, float]:
    """What is wrong with the twin's int8 results (None: nothing), and how many output steps they are off float.

    Right is: every tensor equals the integer reference bit for bit, and the outputs are near those of the float graph.
    """
    inputs = neighbourhood(case)
    quantized = quantize(graph, inputs)
    ints = [quantized.quantize_input(x, i) for i, x in enumerate(inputs)]
    tensors = [name for name in quantized.tensors if quantized.producer(name)]
    result = Twin(pack(quantized), threads=1).run(ints, taps=tensors)
    expected = run_int8(quantized, ints)
    for name in tensors:
        if (result.layers[name] != expected[name]).any():
            return f"tensor '{name}' differs from the integer reference", 0.0
    steps = 0.0
    for i, (port, real) in enumerate(zip(quantized.outputs, float_outputs(graph, inputs), strict=True)):
        quant = quantized.tensors[port.tensor].quant
        assert quant is not None
        mine = quantized.dequantize_output(result.outputs[i].reshape(-1, *quantized.tensors[port.tensor].shape), i)
        steps = max(steps, float(np.abs(mine - real).max()) / quant.scale)
    allowed = INT8_STEPS.get(case.op, 1.0)
    return None if steps <= allowed else f"{steps:.2f} output steps off the float result, {allowed} allowed", steps


def neighbourhood(case: Case) -> list[Array]:
    """The case's own samples, and some around them."""
    rng = np.random.default_rng(0)
    arrays = []
    for x in (np.asarray(x, np.float32) for x in case.inputs):
        near = [x + rng.normal(0, 0.25 * float(x.std()), x.shape) for _ in range(NEIGHBOURS)]
        arrays.append(np.concatenate([x, *near]).astype(np.float32))
    return arrays


def render(verdicts: Iterable[Verdict]) -> str:
    """The table of operators, and every refused case with its reason, as Markdown."""
    verdicts = list(verdicts)
    lines = [
        "# ONNX operators",
        "",
        "Generated by `python -m dhn_kit.optable` from ONNX's own node tests: imported, run in float and compared;",
        "quantised on their own input and samples around it, packed, and run in int8 on the host twin. There every",
        "tensor must equal the integer reference bit for bit, and every output must be within one step of its",
        "quantisation (steep or summing operators: up to 2.5) of the float result.",
        f"The tests are those of onnx {onnx.__version__}.",
        "Opset 11 to 21. Axis 0 is the batch. Refused cases are refused at import, with the node's name.",
        "",
        "| operator | what is supported | node tests passed | in int8 | refused |",
        "|---|---|---|---|---|",
    ]
    for op in sorted({v.op for v in verdicts}):
        mine = [v for v in verdicts if v.op == op]
        passed = [v for v in mine if v.refusal is None and v.difference is None]
        refused = [v for v in mine if v.refusal is not None]
        if passed:
            ints = sum(v.int8 is None for v in passed)
            lines.append(f"| {op} | {NOTES.get(op, '')} | {len(passed)} | {ints} | {len(refused)} |")
    lines += ["", "## Refused node tests", "", "| test | reason |", "|---|---|"]
    lines += [f"| {v.name} | {_cell(v.refusal)} |" for v in sorted(verdicts, key=lambda v: v.name) if v.refusal]
    lines += ["", "## Node tests that int8 cannot represent", "", "| test | reason |", "|---|---|"]
    lines += [f"| {v.name} | {NOT_INT8.get(v.name, 'unknown')} |" for v in verdicts if v.int8]
    return "\n".join(lines) + "\n"


def _cell(reason: str) -> str:
    return reason.replace("|", "\\|")


def main() -> None:
    cases: Iterable[Case] = importlib.import_module("onnx_cases").node_cases()
    print(render(judge(case) for case in cases), end="")


if __name__ == "__main__":
    main()
