"""Quantisation follows TFLite's int8 specification, loses little accuracy and refuses data that does not fit."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Graph, Node, Port, Quant, Tensor
from dhn_kit.int_reference import run_int8
from dhn_kit.lower import lower
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


def test_clamps_round_as_tflite_does_in_single_precision() -> None:
    graph, quant = float_net(), Quant(0.09600000083446503, -128)
    node(graph, "conv").attrs["act"] = (0.0, 6.0)
    assert 6.0 / quant.scale < 62.5 == float(np.float32(6.0) / np.float32(quant.scale))
    assert node(quantize(graph, samples(), fixed={"conv": quant}), "conv").attrs["act_q"] == (-128, 63 - 128)


@pytest.mark.filterwarnings("error")
def test_a_clamp_at_the_largest_float_is_none() -> None:
    graph = float_net()
    node(graph, "conv").attrs["act"] = (-3.4e38, 3.4e38)
    assert node(quantize(graph, samples(), fixed={"conv": Quant(0.01, 3)}), "conv").attrs["act_q"] == (-128, 127)


def test_a_bias_beyond_int32_widens_its_channels_weight_scale_only() -> None:
    plain, dead = float_net(), float_net()
    weight, bias = node(dead, "fc").attrs["weight"].copy(), node(dead, "fc").attrs["bias"].copy()
    weight[1], bias[1] = weight[1] * 1e-12, 2.5
    weight[2], bias[2] = 0.0, -1.5
    node(dead, "fc").attrs.update(weight=weight, bias=bias)
    before, after = (node(quantize(g, samples()), "fc").attrs for g in (plain, dead))
    assert (before["weight_scale"][[0, 3]] == after["weight_scale"][[0, 3]]).all()
    quant = quantize(dead, samples()).tensors["flat"].quant
    assert quant is not None
    restored = after["bias"] * quant.scale * after["weight_scale"]
    np.testing.assert_allclose(restored[[1, 2]], [2.5, -1.5], rtol=1e-6)
    assert (np.abs(after["bias"].astype(np.int64)) < 2**31 - 128 * 127 * 72).all()
    wide = quantize(dead, samples())
    x = wide.quantize_input(samples(8))
    taps = Twin(pack(wide)).run(x, taps=["fc"]).layers["fc"]
    logits = wide.tensors["fc"].quant
    assert logits is not None
    assert np.abs(logits.dequantize(taps)[..., [1, 2]] - [2.5, -1.5]).max() <= logits.scale * 0.51


def small_graph(tensors: dict[str, tuple[int, int, int]], nodes: list[Node], output: str) -> Graph:
    made = {name: Tensor(name, shape) for name, shape in tensors.items()}
    return Graph("net", made, nodes, [Port("x", "x", tensors["x"])], [Port(output, output, tensors[output])])


@pytest.mark.parametrize("method", METHODS)
def test_the_range_of_a_pad_holds_its_value(method: Method) -> None:
    pad = Node("pad", "pad", ["x"], "pad", {"pad": ((1, 1), (1, 1), (0, 0)), "value": -9.0})
    q = quantize(small_graph({"x": (6, 6, 3), "pad": (8, 8, 3)}, [pad], "pad"), samples(), method)
    quant = q.tensors["pad"].quant
    assert quant is not None and quant == q.tensors["x"].quant
    result = Twin(pack(q)).run(q.quantize_input(samples(2)), taps=["pad"]).layers["pad"]
    assert np.abs(quant.dequantize(result[:, 0]) + 9.0).max() <= quant.scale


def test_a_pad_value_outside_a_fixed_range_is_refused_by_name() -> None:
    nodes = [
        Node("s", "unary", ["x"], "s", {"fn": "sigmoid"}),
        Node("edge", "pad", ["s"], "edge", {"pad": ((1, 1), (1, 1), (0, 0)), "value": -1.0}),
    ]
    graph = small_graph({"x": (6, 6, 3), "s": (6, 6, 3), "edge": (8, 8, 3)}, nodes, "edge")
    with pytest.raises(DhnError, match=r"node 'edge' \(pad\): pads with -1.*fixed"):
        quantize(graph, samples())


def concat_graph(reuse: bool) -> Graph:
    """relu(x) pooled, and leaky_relu(x), joined. With `reuse` relu(x) is also added to the result."""
    window = {"kernel": (3, 3), "stride": (1, 1), "pad": (1, 1, 1, 1)}
    nodes = [
        Node("a", "unary", ["x"], "a", {"fn": "relu"}),
        Node("b", "unary", ["x"], "b", {"fn": "leaky_relu", "params": {"alpha": 0.5}}),
        Node("p", "max_pool", ["a"], "p", window),
        Node("c", "concat", ["p", "b"], "c", {"axis": 0}),
        Node("r", "concat", ["c", "a"] if reuse else ["c", "c"], "r", {"axis": 0}),
    ]
    shapes = {"x": (6, 6, 3), "a": (6, 6, 3), "b": (6, 6, 3), "p": (6, 6, 3), "c": (12, 6, 3)}
    return small_graph({**shapes, "r": (18, 6, 3) if reuse else (24, 6, 3)}, nodes, "r")


def test_what_only_a_concat_reads_has_the_concats_quantisation() -> None:
    q = quantize(concat_graph(reuse=False), samples())
    assert len({q.tensors[t].quant for t in ("a", "b", "p", "c", "r")}) == 1
    assert {op.kernel.op for op in lower(q).ops} == {"unary", "max_pool", "copy"}
    assert sum(op.kernel.op == "unary" for op in lower(q).ops) == 2


def test_what_others_read_too_keeps_its_own_quantisation() -> None:
    q = quantize(concat_graph(reuse=True), samples())
    assert q.tensors["b"].quant == q.tensors["c"].quant == q.tensors["r"].quant != q.tensors["a"].quant
    x = q.quantize_input(samples(4))
    assert (Twin(pack(q)).run(x).output == run_int8(q, x)["r"].reshape(4, -1)).all()


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
