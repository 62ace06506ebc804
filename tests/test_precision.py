"""Bits per layer: budgets are met with the least change, reasons are given, mistakes are named."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import Call
from dhn_kit import datasets
from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph
from dhn_kit.latency import load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import pack
from dhn_kit.precision import Study, choose_bits
from dhn_kit.quantize import quantize
from dhn_kit.strategy import Policy
from dhn_kit.twin import Twin
from nets import residual_net
from test_cli import ZOO, assert_one_line

Studied = tuple[Graph, Study]


@pytest.fixture(scope="module")
def mnist() -> Studied:
    x, _ = datasets.load("mnist").split("train")
    graph = quantize(import_onnx(ZOO), x[:100])
    return graph, Study(graph, graph.quantize_input(x[:64]), "armv7em", load_latency("qemu-cortex-m4"))


def test_budgets_are_met_and_smaller_ones_take_fewer_bits(mnist: Studied) -> None:
    graph, study = mnist
    x, y = datasets.load("mnist").split("test")
    q = graph.quantize_input(x[:500])
    whole = Twin(pack(graph, "portable", hooks=False)).run(q).output.argmax(axis=1)
    bits = []
    for budget, least in ((110_000, 0.99), (28_000, 0.98)):
        found = study.within(budget)
        policy = Policy(flash_budget=budget, kernels=found.kernels)
        packed = pack(found.graph, "armv7em", latency=load_latency("qemu-cortex-m4"), policy=policy)
        answers = Twin(packed).run(q).output.argmax(axis=1)
        constants, agreed = sum(op.flash for op in packed.ops), float((answers == whole).mean())
        bits.append(sum(w.bits for w in found.widths.values()))
        print(
            f"budget {budget}: constants {constants}, {sum(op.instructions for op in packed.ops):,.0f} instructions, "
            f"agreement {agreed:.2%}, accuracy {(answers == y[:500]).mean():.2%}, "
            f"{[w.bits for w in found.widths.values()]}"
        )
        assert constants <= budget
        assert agreed >= least
        assert found.agreement >= 0.98
    assert bits[1] < bits[0]


def test_each_layer_has_a_reason(mnist: Studied) -> None:
    graph, study = mnist
    found = study.within(50_000)
    assert set(found.widths) == {n.name for n in graph.nodes if "weight" in n.attrs}
    assert found.widths["head"].why == "no kernel takes less flash with fewer bits"
    for width in found.widths.values():
        assert width.bits == 8 or width.why.startswith("saves ")
    assert set(found.kernels) == {name for name, w in found.widths.items() if w.bits < 8}


def test_without_a_budget_all_layers_stay_as_they_are(mnist: Studied) -> None:
    found = mnist[1].within(None)
    assert {w.bits for w in found.widths.values()} == {8}
    assert found.agreement == 1.0 and not found.kernels


def test_a_budget_that_no_bits_meet_says_the_least(mnist: Studied) -> None:
    with pytest.raises(DhnError, match=r"need \d+ bytes of flash, the budget is 9000; raise it"):
        mnist[1].within(9_000)


def test_cores_without_narrow_kernels_are_named() -> None:
    graph, net = residual_net()
    with pytest.raises(DhnError, match="no layer of 'net' gets smaller with fewer bits on rv32imc"):
        choose_bits(graph, net.inputs(8), "auto", "rv32imc")


def test_pack_and_inspect_show_bits_and_reasons(call: Call, tmp_path: Path) -> None:
    calib = tmp_path / "calib.npz"
    np.savez(calib, x=datasets.load("mnist").split("train")[0][:24])
    code, out, _ = call("pack", ZOO, "--calib", calib, "--bits", "auto", "--flash-budget", 40_000, "-o", "small.dhn")
    assert code == 0
    assert "answers as with 8 bits for" in out.splitlines()[-1]
    table = call("inspect", "small.dhn")[1].partition("Bits of weights")[2]
    assert "saves" in table and "no kernel takes less flash" in table
    facts = json.loads(call("inspect", "small.dhn", "--json")[1])["summary"]["precision"]
    assert {w["bits"] for w in facts["widths"].values()} > {8}


@pytest.mark.reference
def test_bits_need_calibration_data(call: Call, reference_dir: Path) -> None:
    network = reference_dir / "models" / "kws_dscnn_int8.tflite"
    code, _, err = call("pack", network, "--bits", "auto", "-o", "net.dhn")
    assert code == 1
    assert_one_line(err, "--bits auto", "give --calib data.npz")
