"""ONNX's own node tests in int8: the twin equals the integer reference, and both are near the float result."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from dhn_kit import optable
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import pack
from onnx_cases import ACTIVATIONS, OnnxCase, node_cases


@functools.cache
def verdict(case_name: str) -> optable.Verdict:
    return optable.judge(case(case_name))


def case(name: str) -> OnnxCase:
    return next(c for c in node_cases() if c.name == name)


@pytest.mark.parametrize("op", sorted(ACTIVATIONS))
def test_every_imported_node_test_holds_in_int8(op: str) -> None:
    verdicts = [verdict(c.name) for c in node_cases() if c.op == op]
    imported = [v for v in verdicts if v.refusal is None]
    assert [v for v in imported if v.int8 and v.name not in optable.NOT_INT8] == []
    print(f"{op}: {len(imported)} node tests, at most {max(v.steps for v in imported):.2f} output steps off float")


@pytest.mark.parametrize("name", sorted(optable.NOT_INT8))
def test_what_int8_cannot_represent_is_still_exact_and_really_far_off(name: str) -> None:
    found = verdict(name)
    assert found.int8 is not None and "off the float result" in found.int8 and found.steps > 50


@pytest.mark.parametrize("name", ["test_add", "test_sub", "test_mul", "test_concat_3d_axis_1"])
def test_cases_of_several_inputs_run_with_all_of_them(name: str) -> None:
    graph = import_onnx(case(name).model.SerializeToString())
    assert len(graph.inputs) == 2
    assert verdict(name) == optable.Verdict(name, case(name).op, steps=verdict(name).steps)


def test_a_wrong_kernel_result_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pack with one multiplier changed must not pass for right."""
    name = "test_conv_with_strides_padding"

    def damaged(graph):  # type: ignore[no-untyped-def]
        for node in graph.nodes:
            if "weight_scale" in node.attrs:
                node = replace(
                    node, attrs={**node.attrs, "weight_scale": node.attrs["weight_scale"] * np.float64(0.98)}
                )
                graph = replace(graph, nodes=[node if n.name == node.name else n for n in graph.nodes])
        return pack(graph)

    monkeypatch.setattr(optable, "pack", damaged)
    problem = optable.judge(case(name)).int8
    assert problem is not None and "differs from the integer reference" in problem
