"""ONNX's own node tests, imported and run in float; the table in the documentation is what they show."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
from pathlib import Path

import onnx
import pytest

from dhn_kit import optable
from onnx_cases import ACTIVATIONS, OnnxCase, node_cases

DOCS = Path(__file__).resolve().parents[1] / "docs" / "operators.md"


@functools.cache
def verdict(case_name: str) -> optable.Verdict:
    case: OnnxCase = next(c for c in node_cases() if c.name == case_name)
    return optable.judge(case)


@pytest.mark.parametrize("op", sorted(ACTIVATIONS))
def test_each_node_test_passes_or_is_refused_by_name(op: str) -> None:
    verdicts = [verdict(c.name) for c in node_cases() if c.op == op]
    assert [v for v in verdicts if v.difference] == []
    assert any(v.refusal is None for v in verdicts), f"nothing of {op} is supported"
    for v in verdicts:
        assert v.refusal is None or v.refusal.startswith(("node '", "input '", "output '", "the model")), v.refusal
        assert "report this model" not in (v.refusal or ""), v.refusal


def test_operator_table_in_the_docs_is_current() -> None:
    text, docs = optable.render(verdict(c.name) for c in node_cases()), DOCS.read_text()
    if f"onnx {onnx.__version__}." not in docs:  # another release has other tests, but not other operators
        text, docs = "\n".join(operators(text)), "\n".join(operators(docs))
    assert text == docs, "run: PYTHONPATH=host:tests python -m dhn_kit.optable > docs/operators.md"


def operators(table: str) -> list[str]:
    return [line.split("|")[1] for line in table.split("## Refused")[0].splitlines() if line.startswith("|")]
