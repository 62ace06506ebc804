"""What the .tflite importer cannot run it refuses in one line: the operator or tensor, the reason, the next step."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tflite

from dhn_kit.errors import DhnError
from dhn_kit.graph import Quant
from dhn_kit.tflite_import import import_tflite
from tflite_builder import ModelBuilder

Q = Quant(0.05, 3)
IMAGE = (1, 4, 4, 2)


def conv(dtype: str = "INT8", weight_dtype: type = np.int8, zero_point: int = 0, scales: int = 2) -> bytes:
    """One 1x1 convolution, spoiled as asked."""
    m = ModelBuilder()
    quant = None if dtype == "FLOAT32" else Q
    x, y = m.activation(IMAGE, quant, dtype), m.activation(IMAGE, quant, dtype)
    scale, zeros = np.full(scales, 0.01), np.full(scales, zero_point)
    w = m.constant(np.ones((2, 1, 1, 2), weight_dtype), scale, zeros)
    m.op("CONV_2D", [x, w, -1], y, StrideH=1, StrideW=1)
    return m.build([x], [y])


def one(
    code: str, x_shape: tuple[int, ...], y_shape: tuple[int, ...], y: Quant = Q, x: Quant = Q, **options: int
) -> bytes:
    m = ModelBuilder()
    a, b = m.activation(x_shape, Q, name="left"), m.activation(y_shape, y, name="right")
    m.op(code, [a], b, **options)
    return m.build([a], [b])


def mean_over(axis: int, shape: tuple[int, ...]) -> bytes:
    m = ModelBuilder()
    x, y = m.activation(IMAGE, Q), m.activation(shape, Q)
    m.op("MEAN", [x, m.constant(np.array([axis], np.int32))], y, KeepDims=True)
    return m.build([x], [y])


def concat_of_two_scales() -> bytes:
    m = ModelBuilder()
    x, y = m.activation(IMAGE, Q, name="left"), m.activation(IMAGE, Quant(0.1, 0), name="right")
    z = m.activation((1, 4, 4, 4), Q)
    m.op("CONCATENATION", [x, y], z, Axis=3)
    return m.build([x, y], [z])


def float_in_the_middle() -> bytes:
    m = ModelBuilder()
    x, f, y = m.activation(IMAGE, Q), m.activation(IMAGE, None, "FLOAT32"), m.activation(IMAGE, None, "FLOAT32")
    m.op("DEQUANTIZE", [x], f)
    m.op("RELU", [f], y)
    return m.build([x], [y])


def arg_max() -> bytes:
    m = ModelBuilder()
    x, y = m.activation((1, 4), Q), m.activation((1,), dtype="INT32")
    m.op("ARG_MAX", [x, m.constant(np.array([1], np.int32))], y)
    return m.build([x], [y])


def pad_by_odd_widths() -> bytes:
    m = ModelBuilder()
    x, y = m.activation(IMAGE, Q), m.activation(IMAGE, Q)
    m.op("PAD", [x, m.constant(np.zeros(7, np.int32))], y)
    return m.build([x], [y])


def pool_of_wrong_size() -> bytes:
    options = {"StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2, "Padding": tflite.Padding.VALID}
    return one("MAX_POOL_2D", IMAGE, (1, 3, 2, 2), **options)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "float": (lambda: conv("FLOAT32", np.float32), "computes in float: input 't0'.*full integer quantisation"),
    "dynamic range": (lambda: conv("FLOAT32"), "computes in float: input 't0'.*full integer quantisation"),
    "uint8": (lambda: conv("UINT8"), "input 't0' is UINT8; .*full integer quantisation"),
    "int16": (lambda: conv("INT16"), "input 't0' is INT16; .*full integer quantisation"),
    "float inside": (float_in_the_middle, "operator 0 DEQUANTIZE: the network computes in float behind 't0'"),
    "float weight": (lambda: conv(weight_dtype=np.float32), "operator 0 CONV_2D: constant 't2' is FLOAT32"),
    "asymmetric weight": (lambda: conv(zero_point=1), "operator 0 CONV_2D: weight 't2' is not symmetric"),
    "weight scales": (lambda: conv(scales=3), "operator 0 CONV_2D: weight 't2' has 3 scales for 2 output channels"),
    "operator": (lambda: one("DEPTH_TO_SPACE", IMAGE, IMAGE), r"0 DEPTH_TO_SPACE: not supported \(output 'right'\)"),
    "batch": (lambda: one("RELU", (2, 4, 4, 2), (2, 4, 4, 2)), "input 'left' has batch 2.*convert with batch 1"),
    "rank": (lambda: one("RELU", (1, 2, 2, 2, 2), (1, 2, 2, 2, 2)), r"tensor 'left' has shape \(1, 2, 2, 2, 2\)"),
    "open size": (lambda: one("RELU", (1, -1, 4, 2), (1, -1, 4, 2)), "'left' has shape.*every size fixed"),
    "concat scales": (concat_of_two_scales, "0 CONCATENATION: input 'right' and its output are quantised differently"),
    "mean axis": (lambda: mean_over(1, (1, 1, 4, 2)), "operator 0 MEAN: only the mean over height and width"),
    "mean channels": (lambda: mean_over(3, (1, 4, 4, 1)), "operator 0 MEAN: only the mean over height and width"),
    "softmax scale": (lambda: one("SOFTMAX", (1, 4), (1, 4)), "0 SOFTMAX: its output must have scale 0.00390625"),
    "pool size": (pool_of_wrong_size, r"0 MAX_POOL_2D: output 'right' should have .*\(2, 2, 2\), not \(3, 2, 2\)"),
    "reshape size": (lambda: one("RESHAPE", IMAGE, (1, 33)), "operator 0 RESHAPE: 32 values do not fit"),
    "integer output": (arg_max, "output 't1' is INT32; end the network at its int8 scores"),
    "pad widths": (pad_by_odd_widths, "operator 0 PAD: 7 widths do not fit 4 axes"),
    "zero stride": (lambda: one("MAX_POOL_2D", IMAGE, IMAGE), r"operator 0 MAX_POOL_2D: stride \(0, 0\)"),
    "zero scale": (lambda: one("RELU", IMAGE, IMAGE, y=Quant(0.0, 0)), "tensor 'right' has scale 0.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_network_is_refused_with_reason(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(DhnError, match=message) as caught:
        import_tflite(build())
    assert "\n" not in str(caught.value)


def test_file_that_is_no_tflite_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(b"\x08\x07ONNX and so on, certainly no flatbuffer")
    with pytest.raises(DhnError, match=r"'a' is not a \.tflite file"):
        import_tflite(tmp_path / "a.tflite")
    with pytest.raises(DhnError, match=r"cannot read '.*b.tflite': No such file"):
        import_tflite(tmp_path / "b.tflite")


def test_every_truncation_is_refused() -> None:
    data = conv()
    import_tflite(data)
    for length in range(len(data)):
        with pytest.raises(DhnError):
            import_tflite(data[:length])


def test_damaged_bytes_are_refused_or_harmless() -> None:
    """A flipped byte gives a graph or a DhnError, never another exception."""
    rng, data, refused = np.random.default_rng(0), conv(), 0
    for _ in range(3000):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[position] = rng.integers(256)
        try:
            import_tflite(bytes(damaged))
        except DhnError:
            refused += 1
    assert 0 < refused < 3000
