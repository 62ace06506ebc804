"""What ONNX import does not support is refused in one line that names the thing and the next step."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from dhn_kit.errors import DhnError
from dhn_kit.float_reference import run_float
from dhn_kit.graph import Graph
from dhn_kit.onnx_import import import_onnx
from dhn_kit.onnx_import.check import check
from onnx_models import Net, ops


def refusal(source: object) -> str:
    with pytest.raises(DhnError) as caught:
        import_onnx(source)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text and ";" in text
    return text


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert "nothing.onnx' does not exist" in refusal(tmp_path / "nothing.onnx")


def test_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    net = Net()
    net.conv(4, 3, (3, 3))
    net.add("Relu")
    data = net.model().SerializeToString()
    path = tmp_path / "cut.onnx"
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        assert "cut.onnx' " in refusal(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a model", b"\x00" * 64, "naïve text".encode("latin1")])
def test_other_bytes_are_refused(data: bytes) -> None:
    assert "is not an ONNX model" in refusal(data)


@pytest.mark.parametrize("opset", [10, 22])
def test_other_opsets_are_refused_with_the_range(opset: int) -> None:
    net = Net(opset=opset)
    net.conv(4, 3, (3, 3))
    assert f"opset {opset}, supported are 11 to 21" in refusal(net.model().SerializeToString())


def unsupported(net: Net) -> None:
    net.add("Erf")


def dynamic_height(net: Net) -> None:
    net.inputs = [("x", ("N", 3, "H", 8))]
    net.add("Relu")


def batch_softmax(net: Net) -> None:
    net.add("Softmax", axis=0)


def batch_mean(net: Net) -> None:
    net.add("ReduceMean", axes=[0, 2])


def two_activations_multiplied(net: Net) -> None:
    net.add("MatMul", "@", "x")


def division_by_zero(net: Net) -> None:
    net.add("Div", net.const([[[1.0]], [[0.0]], [[2.0]]]))


def division_by_activation(net: Net) -> None:
    net.add("Div", net.const(1.0), "@")


def reflected_padding(net: Net) -> None:
    net.add("Pad", net.ints([0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect")


def nan_weight(net: Net) -> None:
    net.add("Conv", net.const(np.full((2, 3, 1, 1), np.nan)))


def dilated_pool(net: Net) -> None:
    net.add("MaxPool", kernel_shape=[2, 2], dilations=[2, 2])


def batch_last_output(net: Net) -> None:
    net.add("Transpose", perm=[1, 2, 3, 0])


def volume(net: Net) -> None:
    net.inputs = [("x", (1, 2, 5, 5, 5))]
    net.conv(2, 2, (3, 3, 3))


REFUSED: list[tuple[Callable[[Net], None], str]] = [
    (unsupported, "(Erf): this operator is not supported"),
    (dynamic_height, "input 'x': axis 2 is dynamic"),
    (batch_softmax, "(Softmax): it runs over the batch"),
    (batch_mean, "(ReduceMean): it averages over the batch"),
    (two_activations_multiplied, "(MatMul): both operands are activations"),
    (division_by_zero, "(Div): it divides by zero"),
    (division_by_activation, "(Div): it divides a constant by an activation"),
    (reflected_padding, "(Pad): mode 'reflect'"),
    (nan_weight, "(Conv): weight 'c0' holds NaN"),
    (dilated_pool, "(MaxPool): dilation (2, 2)"),
    (batch_last_output, "output 't0' does not have the batch as first axis"),
    (volume, "(Conv): its input has rank 5"),
]


@pytest.mark.parametrize(("build", "expected"), REFUSED, ids=[build.__name__ for build, _ in REFUSED])
def test_refused_at_import_with_node_and_reason(build: Callable[[Net], None], expected: str) -> None:
    net = Net()
    build(net)
    assert expected in refusal(net.model().SerializeToString())


def test_weight_that_is_an_input_is_refused() -> None:
    net = Net()
    net.inputs.append(("w", ("N", 3, 1, 1)))
    net.add("Conv", "w")
    assert "input 'w' must be a constant" in refusal(net.model().SerializeToString())


def test_unused_input_is_named() -> None:
    net = Net()
    net.inputs.append(("spare", ("N", 3)))
    net.add("Relu")
    assert "input 'spare' is not used" in refusal(net.model().SerializeToString())


def test_inputs_of_another_type_are_refused() -> None:
    net = Net()
    net.add("Relu")
    model = net.model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert "input 'x' is FLOAT16" in refusal(model.SerializeToString())


def test_bytes_that_the_model_casts_to_float_are_an_ordinary_input() -> None:
    net = Net()
    net.add("Cast", to=TensorProto.FLOAT)
    net.add("Mul", net.const(1 / 255))
    net.conv(2, 3, (3, 3))
    model = net.model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    assert ops(import_onnx(model.SerializeToString())) == {"conv2d": 1}


def small() -> tuple[Net, Graph]:
    net = Net()
    net.conv(4, 3, (3, 3))
    return net, net.graph()


def test_a_graph_that_differs_from_onnxruntime_is_refused() -> None:
    net, graph = small()
    graph.nodes[0].attrs["bias"] = graph.nodes[0].attrs["bias"] + 0.1
    with pytest.raises(DhnError, match="differs from onnxruntime"):
        check(graph, net.model())


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 8, 8, 3), (0, 3, 8, 8)])
def test_data_of_a_wrong_shape_is_refused_with_the_right_one(shape: tuple[int, ...]) -> None:
    _, graph = small()
    with pytest.raises(DhnError, match=r"input 'x' has shape .* expected \(N, 3, 8, 8\)"):
        run_float(graph, np.zeros(shape, np.float32))


def test_unknown_tap_is_named() -> None:
    _, graph = small()
    with pytest.raises(DhnError, match="no tensor 'nowhere'"):
        run_float(graph, np.zeros((1, 3, 8, 8), np.float32), taps=["nowhere"])
