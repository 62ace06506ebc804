"""Random small .tflite networks compute what TFLite Micro computes, byte for byte; what import refuses, it names."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tflite
from tflite_micro import runtime

from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Quant
from dhn_kit.int_reference import run_int8
from dhn_kit.pack import pack
from dhn_kit.tflite_import import import_tflite
from dhn_kit.twin import Twin
from tflite_builder import ModelBuilder

SAME, VALID = tflite.Padding.SAME, tflite.Padding.VALID
Activation = tflite.ActivationFunctionType


#: Random networks for each operator; $DHN_SEEDS asks for more.
SEEDS = int(os.environ.get("DHN_SEEDS", "25"))


@dataclass
class Random:
    """Draws shapes and quantisations; appends operators to a model."""

    rng: np.random.Generator
    model: ModelBuilder

    def integer(self, low: int, high: int) -> int:
        """Both ends included."""
        return int(self.rng.integers(low, high + 1))

    def quant(self, low: float = 0.01, high: float = 0.2) -> Quant:
        scale = float(np.float32(math.exp(self.rng.uniform(math.log(low), math.log(high)))))
        return Quant(scale, self.integer(-128, 127))

    def image(self, quant: Quant | None = None) -> tuple[int, tuple[int, ...], Quant]:
        shape = (1, self.integer(1, 9), self.integer(1, 9), self.integer(1, 6))
        quant = quant or self.quant()
        return self.model.activation(shape, quant), shape, quant

    def activation(self) -> int:
        kinds = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)
        return int(kinds[self.integer(0, 3)])

    def weights(self, shape: tuple[int, ...], axis: int, per_channel: bool, x: Quant) -> tuple[int, int]:
        """Weight and bias tensors; the bias is scaled as the specification says."""
        channels = shape[axis]
        scale = self.rng.uniform(0.002, 0.02, channels if per_channel else 1).astype(np.float32)
        weight = self.rng.integers(-127, 128, shape).astype(np.int8)
        bias = self.rng.integers(-3000, 3000, channels).astype(np.int32)
        return (
            self.model.constant(weight, scale, axis=axis % len(shape)),
            self.model.constant(bias, x.scale * scale.astype(np.float64)),
        )

    def window(
        self, shape: tuple[int, ...], dilation: bool = True
    ) -> tuple[tuple[int, int], dict[str, Any], list[int]]:
        """A kernel that fits the image, its options, and the height and width it gives."""
        padding = SAME if self.integer(0, 1) else VALID
        stride = [self.integer(1, 3), self.integer(1, 3)]
        spread = [self.integer(1, 2), self.integer(1, 2)] if dilation and stride == [1, 1] else [1, 1]
        limit = [5, 5] if padding == SAME else [(n - 1) // d + 1 for n, d in zip(shape[1:3], spread, strict=True)]
        kernel = (self.integer(1, min(5, limit[0])), self.integer(1, min(5, limit[1])))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
        size = [
            -(-n // s) if padding == SAME else (n - r) // s + 1
            for n, s, r in zip(shape[1:3], stride, reach, strict=True)
        ]
        options = {"StrideH": stride[0], "StrideW": stride[1], "Padding": padding}
        if dilation:
            options |= {"DilationHFactor": spread[0], "DilationWFactor": spread[1]}
        return kernel, options, size


Case = Callable[[Random], tuple[list[int], int]]


def conv(r: Random) -> tuple[list[int], int]:
    x, shape, qx = r.image()
    kernel, options, size = r.window(shape)
    channels = r.integer(1, 7)
    w, b = r.weights((channels, *kernel, shape[3]), 0, bool(r.integer(0, 1)), qx)
    y = r.model.activation((1, *size, channels), r.quant())
    inputs = [x, w, b] if r.integer(0, 2) else [x, w, -1]
    r.model.op("CONV_2D", inputs, y, **options, FusedActivationFunction=r.activation())
    return [x], y


def grouped_conv(r: Random) -> tuple[list[int], int]:
    groups = r.integer(2, 3)
    shape = (1, r.integer(3, 7), r.integer(3, 7), groups * r.integer(1, 3))
    qx = r.quant()
    x = r.model.activation(shape, qx)
    kernel, options, size = r.window(shape)
    channels = groups * r.integer(1, 3)
    w, b = r.weights((channels, *kernel, shape[3] // groups), 0, True, qx)
    y = r.model.activation((1, *size, channels), r.quant())
    r.model.op("CONV_2D", [x, w, b], y, **options, FusedActivationFunction=r.activation())
    return [x], y


def depthwise(r: Random) -> tuple[list[int], int]:
    x, shape, qx = r.image()
    kernel, options, size = r.window(shape)
    multiplier = r.integer(1, 3)
    channels = shape[3] * multiplier
    w, b = r.weights((1, *kernel, channels), -1, bool(r.integer(0, 1)), qx)
    y = r.model.activation((1, *size, channels), r.quant())
    options |= {"DepthMultiplier": multiplier, "FusedActivationFunction": r.activation()}
    r.model.op("DEPTHWISE_CONV_2D", [x, w, b], y, **options)
    return [x], y


def dense(r: Random) -> tuple[list[int], int]:
    n, channels = r.integer(1, 60), r.integer(1, 12)
    qx = r.quant()
    shape = [(1, n), (1, 2, n), (1, 2, 3, n), (4, n)][r.integer(0, 3)]
    flat = r.model.activation(shape, qx)
    w, b = r.weights((channels, n), 0, bool(r.integer(0, 1)), qx)
    y = r.model.activation((*shape[:-1], channels), r.quant())
    options = {"FusedActivationFunction": r.activation(), "KeepNumDims": True}
    if shape[0] == 1:
        r.model.op("FULLY_CONNECTED", [flat, w, b], y, **options)
        return [flat], y
    x = r.model.activation((1, *shape), qx)
    r.model.op("RESHAPE", [x, r.model.constant(np.array(shape, np.int32))], flat)
    r.model.op("FULLY_CONNECTED", [flat, w, b], y, **options)
    return [x], y


def dense_on_image(r: Random) -> tuple[list[int], int]:
    x, shape, qx = r.image()
    channels = r.integer(1, 5)
    w, b = r.weights((channels, math.prod(shape)), 0, False, qx)
    y = r.model.activation((1, channels), r.quant())
    r.model.op("FULLY_CONNECTED", [x, w, b], y, FusedActivationFunction=r.activation())
    return [x], y


def binary(code: str, kind: str) -> Case:
    def case(r: Random) -> tuple[list[int], int]:
        a, shape, _ = r.image()
        small = {"same": shape, "constant": shape, "vector": (shape[3],), "broadcast": (1, 1, 1, shape[3])}[kind]
        qb = r.quant()
        if kind in ("constant", "vector"):
            values = r.rng.integers(-128, 128, small).astype(np.int8)
            b = r.model.constant(values, qb.scale, qb.zero_point)
        else:
            b = r.model.activation(small, qb)
        y = r.model.activation(shape, r.quant(0.01, 0.4))
        sides = [a, b] if r.integer(0, 1) else [b, a]
        r.model.op(code, sides, y, FusedActivationFunction=r.activation())
        return ([a] if kind in ("constant", "vector") else [a, b]), y

    return case


def concatenation(r: Random) -> tuple[list[int], int]:
    axis = r.integer(1, 3)
    quant = r.quant()
    shape = [1, r.integer(1, 5), r.integer(1, 5), r.integer(1, 5)]
    inputs, total = [], 0
    for _ in range(r.integer(2, 4)):
        part = list(shape)
        part[axis] = r.integer(1, 4)
        total += part[axis]
        inputs.append(r.model.activation(tuple(part), quant))
    shape[axis] = total
    y = r.model.activation(tuple(shape), quant)
    r.model.op("CONCATENATION", inputs, y, Axis=axis - 4 * r.integer(0, 1))
    return inputs, y


def requantised_concatenation(r: Random) -> tuple[list[int], int]:
    """Differing scales, as a converter writes them: one QUANTIZE for each input that differs."""
    a, shape, qa = r.image()
    b = r.model.activation(shape, r.quant())
    other = r.model.op("QUANTIZE", [b], r.model.activation(shape, qa))
    y = r.model.activation((*shape[:3], 2 * shape[3]), qa)
    r.model.op("CONCATENATION", [a, other], y, Axis=3)
    return [a, b], y


def pool(code: str) -> Case:
    def case(r: Random) -> tuple[list[int], int]:
        x, shape, quant = r.image()
        kernel, options, size = r.window(shape, dilation=False)
        y = r.model.activation((1, *size, shape[3]), quant)
        options |= {"FilterHeight": kernel[0], "FilterWidth": kernel[1], "FusedActivationFunction": r.activation()}
        r.model.op(code, [x], y, **options)
        return [x], y

    return case


def mean(r: Random) -> tuple[list[int], int]:
    keep = bool(r.integer(0, 1))
    shape = (1, r.integer(1, 30), r.integer(1, 30), r.integer(1, 6))
    quant = r.quant()
    x = r.model.activation(shape, quant)
    y_quant = quant if r.integer(0, 3) == 0 else r.quant(quant.scale / 4, quant.scale * 2)
    y = r.model.activation((1, 1, 1, shape[3]) if keep else (1, shape[3]), y_quant)
    axes = [[1, 2], [2, 1], [-3, -2]][r.integer(0, 2)]
    r.model.op("MEAN", [x, r.model.constant(np.array(axes, np.int32))], y, KeepDims=keep)
    return [x], y


def sequence_mean(r: Random) -> tuple[list[int], int]:
    steps, channels = r.integer(1, 40), r.integer(1, 8)
    x = r.model.activation((1, steps, channels), r.quant())
    y = r.model.activation((1, channels), r.quant())
    r.model.op("MEAN", [x, r.model.constant(np.array([1], np.int32))], y, KeepDims=False)
    return [x], y


def pad(code: str) -> Case:
    def case(r: Random) -> tuple[list[int], int]:
        x, shape, quant = r.image()
        pairs = np.array([[0, 0], *r.rng.integers(0, 3, (3, 2))], np.int32)
        y = r.model.activation(tuple(int(n + p.sum()) for n, p in zip(shape, pairs, strict=True)), quant)
        inputs = [x, r.model.constant(pairs)]
        if code == "PADV2":
            value = r.rng.integers(-128, 128, 1).astype(np.int8)
            inputs.append(r.model.constant(value, quant.scale, quant.zero_point))
        r.model.op(code, inputs, y)
        return [x], y

    return case


def reshape(r: Random) -> tuple[list[int], int]:
    x, shape, quant = r.image()
    y = r.model.activation((1, math.prod(shape)), quant)
    r.model.op("RESHAPE", [x, r.model.constant(np.array([1, -1], np.int32))], y)
    return [x], y


def squeeze_and_expand(r: Random) -> tuple[list[int], int]:
    shape, quant = (1, 1, r.integer(1, 9), r.integer(1, 9)), r.quant()
    x = r.model.activation(shape, quant)
    y = r.model.op("SQUEEZE", [x], r.model.activation((1, *shape[2:]), quant), SqueezeDims=[1])
    axis = r.model.constant(np.array(2, np.int32))
    z = r.model.op("EXPAND_DIMS", [y, axis], r.model.activation((1, shape[2], 1, shape[3]), quant))
    return [x], z


def unary(code: str, output: Quant | None = None, same: bool = False, **options: float) -> Case:
    """All 256 values through one operator."""

    def case(r: Random) -> tuple[list[int], int]:
        quant = r.quant(0.0005, 2.0)
        x = r.model.activation((1, 256), quant)
        y_quant = output or (quant if same else r.quant(quant.scale / 3, quant.scale * 3))
        y = r.model.activation((1, 256), y_quant)
        drawn = {k: float(np.float32(v if v else r.rng.uniform(0, 1.5))) for k, v in options.items()}
        r.model.op(code, [x], y, **drawn)
        return [x], y

    return case


def softmax(r: Random) -> tuple[list[int], int]:
    rows, c = r.integer(1, 4), r.integer(1, 40)
    shape = (1, rows, c) if rows > 1 else (1, c)
    x = r.model.activation(shape, r.quant(0.002, 0.6))
    y = r.model.activation(shape, Quant(1 / 256, -128))
    r.model.op("SOFTMAX", [x], y, Beta=[1.0, 0.5, 2.0][r.integer(0, 2)])
    return [x], y


CASES: dict[str, Case] = {
    "conv": conv,
    "grouped_conv": grouped_conv,
    "depthwise": depthwise,
    "dense": dense,
    "dense_on_image": dense_on_image,
    **{
        f"{code.lower()}_{kind}": binary(code, kind)
        for code in ("ADD", "SUB", "MUL")
        for kind in ("same", "constant", "vector", "broadcast")
    },
    "concatenation": concatenation,
    "requantised_concatenation": requantised_concatenation,
    "max_pool": pool("MAX_POOL_2D"),
    "average_pool": pool("AVERAGE_POOL_2D"),
    "mean": mean,
    "sequence_mean": sequence_mean,
    "pad": pad("PAD"),
    "padv2": pad("PADV2"),
    "reshape": reshape,
    "squeeze_and_expand": squeeze_and_expand,
    "relu": unary("RELU"),
    "relu6": unary("RELU6", same=True),
    "leaky_relu": unary("LEAKY_RELU", Alpha=0.0),
    "hard_swish": unary("HARD_SWISH"),
    "quantize": unary("QUANTIZE"),
    "logistic": unary("LOGISTIC", Quant(1 / 256, -128)),
    "tanh": unary("TANH", Quant(1 / 128, 0)),
    "softmax": softmax,
}


def random_inputs(rng: np.random.Generator, model: ModelBuilder, numbers: list[int], count: int) -> list[Array]:
    """The first two are ramps, so that a vector of 256 sees every value; the rest random."""
    arrays = []
    for number in numbers:
        shape = model.tensors[number].shape
        ramp = np.arange(math.prod(shape)).astype(np.int8).reshape(shape)
        noise = rng.integers(-128, 128, (count, *shape[1:])).astype(np.int8)
        arrays.append(np.concatenate([ramp, ramp[:, ::-1], noise]))
    return arrays


def run_tflite_micro(data: bytes, arrays: list[Array]) -> Array:
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=1 << 20)
    outputs = []
    for sample in range(len(arrays[0])):
        for index, array in enumerate(arrays):
            interpreter.set_input(array[sample : sample + 1], index)
        interpreter.invoke()
        outputs.append(interpreter.get_output(0).reshape(-1))
    return np.stack(outputs)


@pytest.mark.parametrize("name", CASES)
def test_operator_equals_tflite_micro(name: str) -> None:
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        r = Random(rng, ModelBuilder())
        inputs, output = CASES[name](r)
        data = r.model.build(inputs, [output])
        arrays = random_inputs(rng, r.model, inputs, 3)
        expected = run_tflite_micro(data, arrays)
        graph = import_tflite(data)
        q = [
            port.to_canonical(x, graph.tensors[port.tensor].shape) for port, x in zip(graph.inputs, arrays, strict=True)
        ]
        reference = run_int8(graph, q)[graph.outputs[0].tensor].reshape(len(expected), -1)
        twin = Twin(pack(graph)).run(q).output
        np.testing.assert_array_equal(reference, expected, err_msg=f"integer reference, seed {seed}")
        np.testing.assert_array_equal(twin, expected, err_msg=f"twin, seed {seed}")


def test_dense_layer_rounds_as_tflite_micro_at_every_border() -> None:
    """Biases on both sides of each rounding border: single precision of the effective scale would show."""
    x, w, y = 0.0123, 0.000137, 0.61
    x, w, y = (float(np.float32(v)) for v in (x, w, y))
    borders = (np.arange(20, 120) + 0.5) * y / (x * w)
    bias = (borders[:, None] + np.arange(-4, 5)).astype(np.int32).reshape(-1)
    model = ModelBuilder()
    a, b = model.activation((1, 1), Quant(x, 0)), model.activation((1, len(bias)), Quant(y, 0))
    weight = model.constant(np.zeros((len(bias), 1), np.int8), w)
    model.op("FULLY_CONNECTED", [a, weight, model.constant(bias, x * w)], b)
    data, q = model.build([a], [b]), np.zeros((1, 1), np.int8)
    expected = run_tflite_micro(data, [q])
    graph = import_tflite(data)
    np.testing.assert_array_equal(Twin(pack(graph)).run(q.reshape(1, 1, 1, 1)).output, expected)


@pytest.mark.parametrize("code", ["RELU", "LEAKY_RELU", "QUANTIZE"])
def test_scales_whose_quotient_rounds_differently_in_single_precision_equal_tflite_micro(code: str) -> None:
    model = ModelBuilder()
    x, y = (
        model.activation((1, 256), Quant(0.0750402882695198, 0)),
        model.activation((1, 256), Quant(0.13102272152900696, 0)),
    )
    model.op(code, [x], y, **({"Alpha": 0.1} if code == "LEAKY_RELU" else {}))
    data, q = model.build([x], [y]), np.arange(256).astype(np.int8).reshape(1, 256)
    twin = Twin(pack(import_tflite(data)))
    np.testing.assert_array_equal(twin.run(q.reshape(1, 1, 1, 256)).output, run_tflite_micro(data, [q]))


def test_fused_clamp_is_rounded_in_single_precision_as_in_tflite_micro() -> None:
    for k in range(20, 250):
        scale = float(np.float32(6 / (k + 0.5)))
        model = ModelBuilder()
        x, y = model.activation((1, 1), Quant(6.0, -128)), model.activation((1, 1), Quant(scale, -128))
        model.op("ADD", [x, x], y, FusedActivationFunction=Activation.RELU6)
        data, q = model.build([x], [y]), np.full((1, 1), 127, np.int8)
        assert import_tflite(data).nodes[0].attrs["act_q"] == (-128, int(run_tflite_micro(data, [q])[0, 0])), k


def test_concatenation_of_two_scales_is_refused_as_tflite_micro_refuses_it() -> None:
    model = ModelBuilder()
    inputs = [model.activation((1, 4), Quant(0.05, 0)), model.activation((1, 4), Quant(0.1, 0))]
    output = model.op("CONCATENATION", inputs, model.activation((1, 8), Quant(0.05, 0)), Axis=1)
    data = model.build(inputs, [output])
    with pytest.raises(RuntimeError, match="failed to allocate tensors"):
        runtime.Interpreter.from_bytes(data, arena_size=1 << 20)
    with pytest.raises(DhnError, match="quantised differently"):
        import_tflite(data)


def residual(borders: bool) -> tuple[bytes, dict[str, Quant]]:
    """relu(conv3x3(conv3x3(x)) + conv1x1(x)), pooled, with float32 input and output if ``borders``."""
    r = Random(np.random.default_rng(7), ModelBuilder())
    m, shape = r.model, (1, 6, 6, 4)
    quants = {name: r.quant(0.02, 0.06) for name in ("x", "a", "b", "shortcut", "sum")} | {"y": Quant(0.03125, -5)}

    def conv_to(source: int, name: str, kernel: int) -> int:
        w, b = r.weights((4, kernel, kernel, 4), 0, True, Quant(m.tensors[source].scale[0], 0))
        out = m.activation(shape, quants[name], name=name)
        return m.op("CONV_2D", [source, w, b], out, StrideH=1, StrideW=1, DilationHFactor=1, DilationWFactor=1)

    outer = m.activation(shape, None, "FLOAT32", name="image") if borders else -1
    x = m.activation(shape, quants["x"], name="x")
    if borders:
        m.op("QUANTIZE", [outer], x)
    b = conv_to(conv_to(x, "a", 3), "b", 3)
    total = m.op("ADD", [b, conv_to(x, "shortcut", 1)], m.activation(shape, quants["sum"], name="sum"))
    y = m.activation((1, 4), quants["y"], name="y")
    m.op("MEAN", [total, m.constant(np.array([1, 2], np.int32))], y)
    if borders:
        inner, y = y, m.activation((1, 4), None, "FLOAT32", name="scores")
        m.op("DEQUANTIZE", [inner], y)
    return m.build([outer if borders else x], [y]), quants


def test_quantisation_of_the_file_is_kept_to_the_bit() -> None:
    data, quants = residual(borders=False)
    graph = import_tflite(data)
    assert {name: t.quant for name, t in graph.tensors.items()} == quants
    for node in graph.nodes:
        if node.op == "conv2d":
            scale = node.attrs["weight_scale"]
            assert scale.dtype == np.float64
            np.testing.assert_array_equal(scale, scale.astype(np.float32))


def test_cheaper_side_of_a_residual_comes_first() -> None:
    graph = import_tflite(residual(borders=False)[0])
    assert [n.output for n in graph.nodes] == ["shortcut", "a", "b", "sum", "y"]
    assert [n.attrs["tflite_index"] for n in graph.nodes] == [2, 0, 1, 3, 4]


@pytest.mark.parametrize("borders", [False, True], ids=["int8", "float32"])
def test_residual_network_equals_tflite_micro(borders: bool) -> None:
    data, _ = residual(borders)
    graph = import_tflite(data)
    x = np.random.default_rng(1).uniform(-4, 4, (20, 6, 6, 4)).astype(np.float32)
    q = graph.quantize_input(x)
    expected = run_tflite_micro(data, [x if borders else q])
    output = Twin(pack(graph)).run(q).output.reshape(20, 1, 1, 4)
    if borders:
        assert (graph.inputs[0].name, graph.inputs[0].tensor, graph.inputs[0].dtype) == ("image", "x", "float32")
        assert (graph.outputs[0].name, graph.outputs[0].tensor, graph.outputs[0].dtype) == ("scores", "y", "float32")
        np.testing.assert_array_equal(graph.dequantize_output(output), expected)
    else:
        assert graph.inputs[0].dtype == graph.outputs[0].dtype == "int8"
        np.testing.assert_array_equal(output.reshape(20, 4), expected)


def test_operators_that_compute_a_shape_are_left_out() -> None:
    """Flatten of a dynamic batch: SHAPE makes what RESHAPE reads, though every size is known."""
    model = ModelBuilder()
    quant = Quant(0.05, 3)
    x, y = model.activation((1, 2, 3, 4), quant), model.activation((1, 24), quant)
    sizes = model.op("SHAPE", [x], model.activation((4,), dtype="INT32"))
    model.op("RESHAPE", [x, sizes], y)
    graph = import_tflite(model.build([x], [y]))
    assert [n.op for n in graph.nodes] == ["reshape"]
    assert graph.tensors[graph.outputs[0].tensor].shape == (1, 1, 24)


def test_tensors_without_unique_names_get_them() -> None:
    model = ModelBuilder()
    tensors = [model.activation((1, 4), Quant(0.05, 3), name=name) for name in ("same", "same", "")]
    model.tensors[2] = dataclasses.replace(model.tensors[2], name="")
    model.op("RELU", tensors[:1], tensors[1])
    model.op("RELU", tensors[1:2], tensors[2])
    graph = import_tflite(model.build(tensors[:1], tensors[2:]))
    assert [n.output for n in graph.nodes] == ["same#1", "#2"]
