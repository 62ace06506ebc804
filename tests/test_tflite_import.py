"""Random small .tflite networks compute what TFLite Micro computes, byte for byte; what import refuses, it names."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tflite
from tflite_micro import runtime

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
        return kinds[self.integer(0, 3)]

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
