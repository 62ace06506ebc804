"""Zero skipping: how often inputs are zero is counted, and decides about the kernel."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import bench_networks

from dhn_kit.cost import op_costs
from dhn_kit.graph import Graph
from dhn_kit.latency import load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import load_pack, pack
from dhn_kit.quantize import quantize
from dhn_kit.sparsity import nonzero_inputs
from dhn_kit.strategy import Policy
from dhn_kit.twin import Twin

LATENCY = load_latency("qemu-cortex-m4")


def images(share: float, count: int = 40) -> np.ndarray:
    """Of which this share of pixels is dark."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 1, (count, 1, 12, 12)) * (rng.random((count, 1, 12, 12)) >= share)
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Graph:
    x = images(0.8)
    return quantize(import_onnx(bench_networks.digits(x, np.arange(len(x)) % 10, hidden=64)), x)


def test_zeros_are_counted_by_input_and_by_pair(network: Graph) -> None:
    q = network.quantize_input(images(0.0, 1))
    first = network.nodes[1].name
    zero = network.tensors[network.inputs[0].tensor].quant
    assert zero is not None
    assert nonzero_inputs(network, q)[first] == {"nonzero": 144, "nonzero_pairs": 72}
    q.reshape(-1)[[0, 2, 5]] = zero.zero_point  # one whole pair, and one half
    assert nonzero_inputs(network, q)[first] == {"nonzero": 141, "nonzero_pairs": 71}


@pytest.mark.parametrize(("share", "kernel"), [(0.9, "dhn_fc_sparse_s8__armv7em"), (0.1, "dhn_fc_pairs_s8__armv7em")])
def test_a_kernel_that_skips_zeros_is_taken_where_there_are_many(network: Graph, share: float, kernel: str) -> None:
    nonzero = nonzero_inputs(network, network.quantize_input(images(share)))
    packed = pack(network, "armv7em", latency=LATENCY, policy=Policy(nonzero=nonzero))
    assert packed.ops[0].kernel == kernel


def test_nobody_skips_zeros_unasked(network: Graph) -> None:
    packed = pack(network, "armv7em", latency=LATENCY)
    assert all("sparse" not in op.kernel for op in packed.ops)
    assert ("dhn_fc_sparse_s8__armv7em", "needs to know how often inputs are zero") in packed.ops[0].others


def test_skipping_zeros_changes_no_output_and_its_prediction_is_kept(network: Graph, tmp_path: Path) -> None:
    q = network.quantize_input(images(0.5))
    plain = pack(network, "armv7em", latency=LATENCY)
    dark = nonzero_inputs(network, np.full_like(q[:1], -128))
    sparse = pack(network, "armv7em", latency=LATENCY, policy=Policy(nonzero=dark))
    assert "sparse" in sparse.ops[0].kernel
    assert (Twin(plain).run(q).output == Twin(sparse).run(q).output).all()
    sparse.save(tmp_path / "model.dhn")
    again = load_pack(tmp_path / "model.dhn")
    assert op_costs(again, LATENCY)[0] == pytest.approx(sparse.ops[0].instructions)
