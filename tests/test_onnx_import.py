"""ONNX import: what is folded, absorbed and fused, and that the result equals onnxruntime."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from dhn_kit.float_reference import run_float
from dhn_kit.onnx_import import import_onnx
from onnx_models import Net, assert_equal_to_onnxruntime, assert_same, ops

REFERENCE = ("cifar_resnet8", "cifar_resnet20", "ic_resnet8", "kws_dscnn", "fsdd_dscnn")


@pytest.mark.reference
@pytest.mark.parametrize("name", REFERENCE)
def test_reference_network_equals_onnxruntime(name: str, reference_dir: Path) -> None:
    import onnx

    path = reference_dir / "models" / f"{name}.onnx"
    graph = import_onnx(path)
    assert graph.name == name
    assert ops(graph)["transpose"] == 0
    assert_equal_to_onnxruntime(graph, onnx.load(path), batch=3)


@pytest.mark.reference
def test_five_hundred_images_run_in_float_within_six_seconds(reference_dir: Path) -> None:
    graph = import_onnx(reference_dir / "models" / "ic_resnet8.onnx")
    images = np.random.default_rng(0).integers(0, 256, (500, 32, 32, 3), np.uint8)
    start = time.process_time()  # not wall time: other tests may share the cores
    run_float(graph, images, taps=())
    assert time.process_time() - start < 12.0  # two cores for six seconds


def test_scalar_normalisation_moves_into_the_port() -> None:
    net = Net()
    net.add("Sub", net.const(0.5))
    net.add("Div", net.const(0.25))
    net.conv(4, 3, (3, 3))
    graph = assert_same(net)
    assert ops(graph) == {"conv2d": 1}
    assert (graph.inputs[0].scale, graph.inputs[0].offset) == (4.0, -2.0)
    assert graph.inputs[0].perm == (1, 2, 0)


def test_input_with_two_readers_is_not_normalised_in_the_port() -> None:
    net = Net()
    net.add("Mul", net.const(0.5))
    net.add("Add", "@", "x")
    graph = assert_same(net)
    assert graph.inputs[0].scale == 1.0


def test_channel_normalisation_is_one_depthwise_node() -> None:
    net = Net()
    net.add("Sub", net.randn(1, 3, 1, 1))
    net.add("Mul", net.randn(3, 1, 1))
    net.conv(4, 3, (3, 3))
    assert ops(assert_same(net)) == {"depthwise_conv2d": 1, "conv2d": 1}


def test_vector_along_the_width_of_one_channel_is_one_depthwise_node() -> None:
    net = Net(("N", 1, 9, 5))
    net.add("Sub", net.randn(5))
    net.add("Mul", net.randn(5))
    net.conv(4, 1, (3, 2))
    graph = assert_same(net)
    assert ops(graph)["depthwise_conv2d"] == 1
    assert ops(graph)["transpose"] == 0


def test_constant_along_the_height_is_multiplied_elementwise() -> None:
    net = Net()
    net.conv(4, 3, (1, 1))
    net.add("Mul", net.randn(8, 1))
    net.add("Add", net.randn(4, 8, 8))
    assert ops(assert_same(net)) == {"conv2d": 1, "mul": 1, "add": 1}


def test_batch_norm_loose_scale_and_activation_fold_into_the_convolution() -> None:
    net = Net()
    net.conv(4, 3, (3, 3), bias=False, pads=[1, 1, 1, 1])
    net.batch_norm(4)
    net.add("Mul", net.randn(4, 1, 1))
    net.add("Add", net.randn(1, 4, 1, 1))
    net.add("Clip", net.const(0), net.const(6))
    net.add("Relu")
    graph = assert_same(net)
    assert ops(graph) == {"conv2d": 1}
    assert graph.nodes[0].attrs["act"] == (0.0, 6.0)


def test_depthwise_and_grouped_convolutions_keep_their_groups() -> None:
    net = Net(("N", 4, 8, 8))
    net.conv(8, 4, (3, 3), group=4, pads=[1, 1, 1, 1])
    net.batch_norm(8)
    net.conv(6, 8, (3, 1), group=2)
    graph = assert_same(net)
    assert ops(graph) == {"depthwise_conv2d": 1, "conv2d": 1}
    assert graph.nodes[1].attrs["weight"].shape == (6, 3, 1, 4)


def test_activation_with_a_second_reader_stays_a_node() -> None:
    net = Net()
    y = net.conv(4, 3, (1, 1))
    net.add("Relu")
    net.add("Add", "@", y)
    assert ops(assert_same(net)) == {"conv2d": 1, "unary": 1, "add": 1}


def test_graph_output_is_not_folded_into() -> None:
    net = Net()
    y = net.conv(4, 3, (1, 1))
    z = net.add("Relu")
    graph = net.graph(y, z)
    assert ops(graph) == {"conv2d": 1, "unary": 1}
    assert_equal_to_onnxruntime(graph, net.model(y, z))


def test_flatten_permutes_the_weights_and_not_the_data() -> None:
    net = Net()
    net.conv(4, 3, (3, 3))
    net.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    net.add("Flatten")
    net.add("Gemm", net.randn(10, 36), net.randn(10), transB=1)
    assert ops(assert_same(net)) == {"conv2d": 1, "max_pool": 1, "reshape": 1, "fully_connected": 1}


def test_nhwc_model_between_transposes_moves_no_data() -> None:
    net = Net(("N", 8, 6, 3))
    net.add("Transpose", perm=[0, 3, 1, 2])
    net.conv(4, 3, (3, 3))
    net.add("Transpose", perm=[0, 2, 3, 1])
    net.add("Add", net.randn(4))
    net.add("Softmax", axis=-1)
    graph = assert_same(net)
    assert ops(graph) == {"conv2d": 1, "softmax": 1}
    assert graph.inputs[0].perm is None and graph.outputs[0].perm is None


def test_channel_shuffle_becomes_one_transpose() -> None:
    net = Net(("N", 6, 4, 4))
    net.conv(6, 6, (1, 1), group=2)
    net.add("Reshape", net.ints([-1, 2, 3, 4, 4]))
    net.add("Transpose", perm=[0, 2, 1, 3, 4])
    net.add("Reshape", net.ints([0, 6, 4, 4]))
    net.conv(6, 6, (1, 1), group=2)
    assert ops(assert_same(net))["transpose"] == 1


def test_hidden_order_of_a_flattened_output_is_restored() -> None:
    net = Net()
    net.conv(4, 3, (3, 3))
    net.add("Flatten")
    graph = assert_same(net)
    assert graph.outputs[0].user_shape == (4 * 36,)


def test_sequence_is_a_row_of_height_one() -> None:
    net = Net(("N", 6, 20))
    net.conv(8, 6, (5,), strides=[2], pads=[1, 2], dilations=[2])
    net.add("AveragePool", kernel_shape=[3], strides=[2], pads=[1, 1], count_include_pad=1)
    net.add("GlobalAveragePool")
    net.add("Squeeze", net.ints([2]))
    net.add("Gemm", net.randn(8, 3), net.randn(3))
    graph = assert_same(net)
    assert graph.tensors[graph.inputs[0].tensor].shape == (1, 20, 6)
    assert ops(graph)["transpose"] == 0


def test_squeeze_and_excite_broadcasts_over_the_image() -> None:
    net = Net(("N", 8, 5, 5))
    x = net.conv(8, 8, (3, 3))
    net.add("ReduceMean", axes=[2, 3])
    net.conv(4, 8, (1, 1))
    net.add("Relu")
    net.conv(8, 4, (1, 1))
    net.add("HardSigmoid", alpha=1 / 6)
    net.add("Mul", "@", x)
    assert ops(assert_same(net)) == {"conv2d": 3, "mean": 1, "unary": 1, "mul": 1}


@pytest.mark.parametrize("form", ["hard_sigmoid", "div_last", "mul_last", "div_first"])
def test_spelt_out_hard_swish_is_one_node(form: str) -> None:
    net = Net()
    x = net.conv(4, 3, (3, 3))
    if form == "hard_sigmoid":
        net.add("HardSigmoid", alpha=1 / 6)
        net.add("Mul", "@", x)
    else:
        net.add("Add", net.const(3))
        net.add("Clip", net.const(0), net.const(6))
        if form == "div_first":
            net.add("Div", net.const(6))
        net.add("Mul", "@", x)
        if form == "div_last":
            net.add("Div", net.const(6))
        elif form == "mul_last":
            net.add("Mul", net.const(1 / 6))
    graph = assert_same(net)
    assert [n.attrs.get("fn") for n in graph.nodes] == [None, "hard_swish"]


def test_shortcut_runs_before_the_heavy_branch() -> None:
    net = Net(("N", 4, 8, 8))
    x = net.conv(4, 4, (1, 1))
    net.conv(8, 4, (3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
    y = net.conv(8, 8, (3, 3), pads=[1, 1, 1, 1])
    net.last = x
    net.conv(8, 4, (1, 1), strides=[2, 2])
    net.add("Add", "@", y)
    graph = assert_same(net)
    assert [n.attrs["weight"].shape[1] for n in graph.nodes if n.op == "conv2d"] == [1, 1, 3, 3]


def test_dead_branch_and_its_tensors_are_removed() -> None:
    net = Net()
    y = net.conv(4, 3, (1, 1))
    net.conv(5, 4, (1, 1))
    graph = net.graph(y)
    assert set(graph.tensors) == {"x", y}


def test_zero_padding_before_a_convolution_becomes_its_own() -> None:
    net = Net(("N", 3, 7, 6))
    net.add("Pad", net.ints([0, 0, 0, 1, 0, 0, 2, 1]))
    net.conv(4, 3, (3, 3), strides=[2, 2], pads=[1, 0, 0, 0])
    graph = assert_same(net)
    assert ops(graph) == {"conv2d": 1}
    assert graph.nodes[0].attrs["pad"] == (1, 1, 1, 0)  # as far as windows reach


def test_other_padding_before_a_convolution_stays_a_node() -> None:
    for amounts, value in (([0, 0, 1, 1, 0, 0, 1, 1], 0.5), ([0, 1, 1, 1, 0, 0, 1, 1], 0.0)):
        net = Net()
        net.add("Pad", net.ints(amounts), net.const(value))
        net.conv(4, 3 + amounts[1], (3, 3))
        assert ops(assert_same(net)) == {"pad": 1, "conv2d": 1}


def test_constant_along_the_width_after_a_convolution_is_not_taken_for_one_per_channel() -> None:
    net = Net(("N", 1, 3, 3))
    net.conv(3, 1, (1, 1))
    net.add("Mul", net.randn(3))
    assert_same(net)


def test_average_that_counts_padding_pads_explicitly() -> None:
    net = Net()
    net.add("AveragePool", kernel_shape=[3, 3], pads=[1, 0, 1, 1], strides=[2, 2], count_include_pad=1)
    assert ops(assert_same(net)) == {"pad": 1, "avg_pool": 1}


def test_average_over_the_whole_map_is_a_mean() -> None:
    for attrs in ({"kernel_shape": [8, 8]}, {"kernel_shape": [10, 8], "pads": [1, 0, 1, 0], "count_include_pad": 1}):
        net = Net()
        net.add("AveragePool", **attrs)
        assert ops(assert_same(net)).get("mean") == 1


def test_average_over_the_whole_map_and_uncounted_padding_stays_a_pool() -> None:
    net = Net()
    net.add("AveragePool", kernel_shape=[10, 10], pads=[1, 1, 1, 1])
    assert ops(assert_same(net)) == {"avg_pool": 1}


def test_mean_over_one_axis_or_the_channels() -> None:
    for axes in ([3], [2], [1], [1, 2]):
        net = Net(("N", 3, 4, 5))
        net.conv(6, 3, (1, 1))
        net.add("ReduceMean", axes=axes, keepdims=0)
        assert_same(net)


def test_concat_joins_any_axis_but_the_batch() -> None:
    for axis in (1, 2, 3, -1):
        net = Net(("N", 3, 4, 5))
        a = net.conv(6, 3, (1, 1))
        net.last = "x"
        b = net.conv(6, 3, (1, 1))
        net.add("Concat", a, "@", b, axis=axis)
        graph = assert_same(net)
        assert ops(graph)["transpose"] == 0


def test_dynamic_batch_reshaped_by_a_shape_computation_is_fixed_to_one_sample() -> None:
    net = Net()
    net.conv(4, 3, (3, 3))
    features = net.last
    net.add("Shape")
    net.add("Gather", net.ints(0), axis=0)
    net.add("Unsqueeze", net.ints([0]))
    net.add("Concat", "@", net.ints([-1]), axis=0)
    net.add("Reshape", features, "@")
    net.add("MatMul", net.randn(144, 5))
    net.add("Add", net.randn(5))
    assert ops(assert_same(net)) == {"conv2d": 1, "reshape": 1, "fully_connected": 1}


def test_rows_of_a_sequence_share_one_matrix() -> None:
    net = Net(("N", 7, 6))
    net.add("MatMul", net.randn(6, 5))
    net.add("Add", net.randn(5))
    net.add("Relu")
    net.add("Transpose", perm=[0, 2, 1])
    net.conv(3, 5, (3,))
    graph = assert_same(net)
    assert ops(graph) == {"fully_connected": 1, "conv2d": 1}


def test_two_inputs_and_two_outputs_keep_their_order() -> None:
    net = Net(("N", 3, 6, 6))
    net.inputs.append(("y", ("N", 3, 1, 1)))
    a = net.add("Mul", "@", "y")
    b = net.conv(2, 3, (3, 3))
    graph = net.graph(b, a)
    assert [p.name for p in graph.inputs] == ["x", "y"]
    assert [p.name for p in graph.outputs] == [b, a]
    assert_equal_to_onnxruntime(graph, net.model(b, a))


@pytest.mark.parametrize("opset", range(11, 22))
def test_small_residual_network_imports_at_every_opset(opset: int) -> None:
    net = Net(opset=opset)
    x = net.conv(4, 3, (3, 3), auto_pad="SAME_UPPER")
    net.batch_norm(4)
    net.add("Clip", net.const(0))
    net.conv(4, 4, (3, 3), auto_pad="SAME_LOWER", strides=[1, 1])
    net.add("Add", "@", x)
    net.add("Dropout")
    if opset >= 18:
        net.add("ReduceMean", net.ints([-1]), keepdims=1)
    else:
        net.add("ReduceMean", axes=[-1], keepdims=1)
    if opset >= 13:
        net.add("Squeeze", net.ints([3]))
        net.add("Unsqueeze", net.ints([-1]))
    else:
        net.add("Squeeze", axes=[3])
        net.add("Unsqueeze", axes=[-1])
    net.add("Flatten")
    net.add("Gemm", net.randn(5, 32), net.randn(5), transB=1, alpha=0.5, beta=2.0)
    net.add("Softmax")
    assert_same(net)


def test_output_in_channels_first_returns_to_the_users_layout() -> None:
    net = Net(("N", 3, 6, 7))
    net.conv(5, 3, (3, 3))
    graph = assert_same(net)
    assert graph.outputs[0].user_shape == (5, 4, 5)
    assert graph.outputs[0].perm == (1, 2, 0)


def test_taps_return_only_what_was_asked_for() -> None:
    net = Net()
    a = net.conv(4, 3, (1, 1))
    net.conv(4, 4, (1, 1))
    net.conv(4, 4, (1, 1))
    graph = net.graph()
    x = np.zeros((2, 3, 8, 8), np.float32)
    assert set(run_float(graph, x, taps=[a])) == {a, graph.outputs[0].tensor}
    assert set(run_float(graph, x)) == set(graph.tensors)


def test_a_batch_larger_than_one_chunk_gives_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    net.conv(4, 3, (3, 3))
    graph = net.graph()
    x = np.random.default_rng(0).standard_normal((7, 3, 8, 8)).astype(np.float32)
    whole = run_float(graph, x)
    monkeypatch.setattr("dhn_kit.float_reference.CHUNK_BYTES", 20_000)
    cut = run_float(graph, x)
    for name, tensor in whole.items():
        np.testing.assert_allclose(cut[name], tensor, rtol=1e-6, atol=1e-6)
