"""Quantisation follows TFLite's int8 specification, loses little accuracy and refuses data that does not fit."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Graph, Node, Port, Quant, Tensor
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import pack
from dhn_kit.quantize import METHODS, Method, affine, agreement, check_calibration, quantize, sqnr_table, top1
from dhn_kit.twin import Twin


def float_net(seed: int = 0) -> Graph:
    """Conv with ReLU, max pool, dense layer, softmax: 6 x 6 x 3 to 4 classes."""
    rng = np.random.default_rng(seed)
    shapes = {"x": (6, 6, 3), "conv": (6, 6, 8), "pool": (3, 3, 8), "flat": (1, 1, 72), "fc": (1, 1, 4), "y": (1, 1, 4)}
    window = {"stride": (1, 1), "dilation": (1, 1), "pad": (1, 1, 1, 1), "groups": 1, "act": (0.0, None)}
    conv = {"weight": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32), "bias": np.zeros(8, np.float32), **window}
    dense = {"weight": rng.normal(0, 0.2, (4, 72)).astype(np.float32), "bias": rng.normal(0, 1, 4).astype(np.float32)}
    nodes = [
        Node("conv", "conv2d", ["x"], "conv", conv),
        Node("pool", "max_pool", ["conv"], "pool", {"kernel": (2, 2), "stride": (2, 2), "pad": (0, 0, 0, 0)}),
        Node("flat", "reshape", ["pool"], "flat"),
        Node("fc", "fully_connected", ["flat"], "fc", dense),
        Node("y", "softmax", ["fc"], "y", {"beta": 1.0}),
    ]
    tensors = {name: Tensor(name, shape) for name, shape in shapes.items()}
    return Graph("net", tensors, nodes, [Port("x", "x", (6, 6, 3))], [Port("y", "y", (4,))])


def samples(count: int = 64, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(0, 1, (count, 6, 6, 3)).astype(np.float32)


def node(graph: Graph, name: str) -> Node:
    return next(n for n in graph.nodes if n.name == name)


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_symmetric_per_channel_and_reach_127(method: Method) -> None:
    real, ints = (node(g, "conv").attrs for g in (float_net(), quantize(float_net(), samples(), method)))
    assert (np.abs(ints["weight"].reshape(8, -1).astype(int)).max(axis=1) == 127).all()
    restored = ints["weight"] * ints["weight_scale"].reshape(8, 1, 1, 1)
    assert (np.abs(restored - real["weight"]).reshape(8, -1).max(axis=1) <= ints["weight_scale"] * 0.5001).all()


def test_bias_has_input_scale_times_weight_scale() -> None:
    real, q = float_net(), quantize(float_net(), samples())
    quant, ints = q.tensors["flat"].quant, node(q, "fc").attrs
    assert quant is not None and ints["bias"].dtype == np.int32
    step = quant.scale * ints["weight_scale"]
    assert (np.abs(ints["bias"] * step - node(real, "fc").attrs["bias"]) <= step * 0.5001).all()


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (-1e-3, 7.0)])
def test_range_includes_an_exact_zero(low: float, high: float) -> None:
    quant = affine(low, high)
    assert quant.dequantize(quant.quantize(np.zeros(1)))[0] == 0.0
    assert np.float32(quant.scale) == quant.scale
    for end in (low, high):
        assert abs(quant.dequantize(quant.quantize(np.array([end])))[0] - end) <= quant.scale


def test_pool_and_reshape_share_their_input_quantisation() -> None:
    q = quantize(float_net(), samples())
    assert q.tensors["conv"].quant == q.tensors["pool"].quant == q.tensors["flat"].quant


def test_softmax_has_the_prescribed_quantisation() -> None:
    assert quantize(float_net(), samples()).tensors["y"].quant == Quant(1 / 256, -128)


def test_relu_clamps_at_the_zero_point() -> None:
    q = quantize(float_net(), samples())
    quant = q.tensors["conv"].quant
    assert quant is not None and node(q, "conv").attrs["act_q"] == (quant.zero_point, 127)


def test_fixed_quantisation_is_kept_and_passed_on() -> None:
    tap = Quant(0.03125, 7)
    q = quantize(float_net(), samples(), fixed={"conv": tap})
    assert {q.tensors[t].quant for t in ("conv", "pool", "flat")} == {tap}


def test_quantising_leaves_the_float_graph_alone() -> None:
    graph = float_net()
    before = node(graph, "conv").attrs["weight"].copy()
    quantize(graph, samples())
    assert not graph.quantized and node(graph, "conv").attrs["act"] == (0.0, None)
    np.testing.assert_array_equal(node(graph, "conv").attrs["weight"], before)


def test_unknown_method_is_named() -> None:
    with pytest.raises(DhnError, match="'entropy' is unknown"):
        quantize(float_net(), samples(), "entropy")  # type: ignore[arg-type]


def test_every_layer_of_a_small_net_keeps_20_db() -> None:
    real, x = float_net(), samples()
    rows = sqnr_table(real, quantize(real, x), x)
    assert [r.node for r in rows] == [n.name for n in real.nodes]
    assert min(r.db for r in rows) > 20


BAD = {
    "shape": (np.zeros((4, 3, 6, 6), np.float32), r"shape \[4, 3, 6, 6\]"),
    "no batch": (np.zeros((6, 6, 3), np.float32), "shape"),
    "text": (np.full((4, 6, 6, 3), "a"), "dtype"),
    "objects": (np.full((4, 6, 6, 3), None), "dtype"),
    "empty": (np.zeros((0, 6, 6, 3), np.float32), "empty"),
    "nan": (np.full((4, 6, 6, 3), np.nan, np.float32), "NaN"),
    "infinity": (np.full((4, 6, 6, 3), np.inf, np.float32), "infinite"),
}


@pytest.mark.parametrize("case", BAD)
def test_calibration_data_that_does_not_fit_is_refused_by_reason(case: str) -> None:
    x, reason = BAD[case]
    with pytest.raises(DhnError, match=reason):
        check_calibration(float_net(), x)


def test_labels_must_match_the_samples() -> None:
    with pytest.raises(DhnError, match="y has shape"):
        check_calibration(float_net(), samples(4), np.zeros(3, int))


#: Reference network -> (calibration x, test x, test y).
REFERENCE = ("ic_resnet8", "cifar_resnet8", "cifar_resnet20", "fsdd_dscnn")


def reference_data(name: str, folder: Path) -> tuple[Array, Array, Array]:
    if name == "fsdd_dscnn":
        with np.load(folder / "data" / "fsdd_mfcc.npz") as file:
            return file["x_cal"], file["x_test"], file["y_test"]
    with np.load(folder / "data" / "cifar10_jpeg_train10k.npz") as file:
        calib = file["x"][:500].astype(np.float32)
    with np.load(folder / "data" / "cifar10_jpeg_test5k.npz") as file:
        x, y = file["x"].astype(np.float32), file["y"]
    if name.startswith("cifar"):
        calib, x = (np.ascontiguousarray(a.transpose(0, 3, 1, 2)) / np.float32(255) for a in (calib, x))
    return calib, x, y


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("name", REFERENCE)
def test_int8_accuracy_is_within_half_a_point_of_float(name: str, reference_dir: Path) -> None:
    calib, x, y = reference_data(name, reference_dir)
    graph = import_onnx(reference_dir / "models" / f"{name}.onnx")
    start = time.perf_counter()
    q = quantize(graph, calib)
    elapsed = time.perf_counter() - start
    answers = Twin(pack(q)).run(q.quantize_input(x)).output
    result = agreement(graph, answers, x, y)
    print(f"{name}: quantised in {elapsed:.1f} s; {result}")
    assert result.accuracy_float is not None and result.accuracy_int8 is not None
    assert result.accuracy_int8 >= result.accuracy_float - 0.005
    assert result.accuracy_int8 == float((top1(answers) == y).mean())
