"""Layers on which every kernel is tried: awkward shapes, extreme numbers, and those of real networks."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit import luts, records
from dhn_kit.graph import Quant
from dhn_kit.kernel_rig import Case, place
from dhn_kit.kernels import Kernel
from dhn_kit.layouts import Call, Prepared, Unfit, prepare
from dhn_kit.quant_math import mean_multiplier, quantize_multiplier

Int8 = npt.NDArray[np.int8]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Layer:
    """One op with its input bytes. ``real``: of a network's kind and size, so worth counting. ``extreme``: its numbers
    are, not only its shape."""

    name: str
    call: Call
    in0: bytes
    out_bytes: int
    in1: bytes | None = None
    macs: int = 0
    real: bool = False
    in_place: bool = False
    extreme: bool = False


def rng_of(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


# -- Numbers: what multipliers, zero points, weights and inputs may be, by name.

#: Real multipliers relative to what fills the output's range.
SPREADS: dict[str, Callable[[np.random.Generator, int], npt.NDArray[np.float64]]] = {
    "typical": lambda rng, n: rng.uniform(0.5, 1.5, n),
    "saturating": lambda rng, n: rng.uniform(8.0, 40.0, n),
    "tiny": lambda rng, n: 2.0 ** -rng.uniform(0.0, 22.0, n),
    "huge": lambda rng, n: 2.0 ** rng.uniform(0.0, 12.0, n),
    "mixed": lambda rng, n: 2.0 ** rng.uniform(-14.0, 6.0, n),
}


@dataclass(frozen=True)
class Numbers:
    """``zps``: zero points of inputs and output. ``act``: output range relative to its zero point, None: all."""

    spread: str = "typical"
    zps: tuple[int, int] = (-3, 5)
    relu: bool = False
    data: str = "any"
    weights: str = "any"


PLAIN = Numbers()
RELU = Numbers(zps=(-128, -128), relu=True)
#: Weights that packed kernels take.
NARROW: dict[str, Numbers] = {
    "four bits": Numbers("saturating", (-128, 5), weights="four bits"),
    "two bits": Numbers("saturating", (-3, 5), weights="two bits"),
}
#: What every kind of kernel must survive besides ordinary values.
EXTREMES: dict[str, Numbers] = {
    "relu": RELU,
    "zp low": Numbers(zps=(-128, 127)),
    "zp high": Numbers(zps=(127, -128)),
    "saturating": Numbers("saturating", (-128, 17), data="edges"),
    "tiny multipliers": Numbers("tiny", (4, -9)),
    "huge multipliers": Numbers("huge", (0, 0)),
    "mixed multipliers": Numbers("mixed", (-20, 11)),
    "largest sums": Numbers("typical", (-128, 0), data="high", weights="high"),
    "smallest sums": Numbers("typical", (127, 0), data="low", weights="high"),
    "zero weights": Numbers("typical", (5, -5), weights="zero"),
    "halves": Numbers("typical", (0, 3), weights="halves"),
}
#: Inputs that kernels may leave out.
ZEROS: dict[str, Numbers] = {
    "mostly zero": Numbers(zps=(-128, -128), relu=True, data="mostly low"),
    "all zero": Numbers(zps=(-7, 4), data="minus seven"),
}


def values_of(kind: str, rng: np.random.Generator, shape: tuple[int, ...], low: int = -128) -> Int8:
    """int8 bytes: "any", "edges" (only the ends of the range), "high", "low", "mostly low", "minus seven", "zero",
    "four bits" or "two bits"."""
    if kind == "mostly low":
        return np.where(rng.random(shape) < 0.8, low, rng.integers(low, 128, shape)).astype(np.int8)
    if kind == "edges":
        return rng.choice(np.array([low, 127]), shape).astype(np.int8)
    fixed = {"high": 127, "low": low, "zero": 0, "minus seven": -7}
    if kind in fixed:
        return np.full(shape, fixed[kind], np.int8)
    bits = {"four bits": 4, "two bits": 2}.get(kind)
    if bits is not None:
        return rng.integers(-(1 << bits - 1), 1 << bits - 1, shape).astype(np.int8)
    return rng.integers(low, 128, shape).astype(np.int8)


def channels(name: str, weight: Int8, fan_in: int, out_c: int, n: Numbers) -> dict[str, Any]:
    """Bias, multipliers and shifts that bring sums of `fan_in` products to int8, spread as `n` says."""
    rng = rng_of(name + "/channels")
    typical = 45.0 / (74.0 * 74.0 * np.sqrt(fan_in))
    pairs = [quantize_multiplier(float(typical * s)) for s in SPREADS[n.spread](rng, out_c)]
    if n.weights == "halves":  # powers of two: results that lie exactly between two numbers
        pairs = [(1 << 30, -int(rng.integers(2, 12))) for _ in range(out_c)]
    bias = rng.integers(-3000, 3001, out_c).astype(np.int32)
    if n.spread == "mixed":
        bias[0] = 2**30
    return {
        "weight": weight,
        "bias": bias,
        "mult": np.array([m for m, _ in pairs], np.int32),
        "shift": np.array([e for _, e in pairs], np.int8),
    }


def weighted(op: str, record: records.Record, values: dict[str, Any], arrays: dict[str, Any], n: Numbers) -> Call:
    low = n.zps[1] if n.relu else -128
    numbers = {"in_zp": n.zps[0], "out_zp": n.zps[1], "act_min": low, "act_max": 127}
    consts = {key: array.tobytes() for key, array in arrays.items()}
    return Call(op, record, {**values, **numbers}, consts, **arrays)


def out_size(size: int, kernel: int, stride: int, dilation: int, pad: tuple[int, int]) -> int:
    return (size + sum(pad) - (kernel - 1) * dilation - 1) // stride + 1


def same_pad(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's SAME: the odd pixel goes behind."""
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


# -- Layers


def conv(
    image: Shape,
    out_c: int,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    *,
    pad: str | tuple[tuple[int, int], tuple[int, int]] = "same",
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    depthwise: bool = False,
    n: Numbers = PLAIN,
    note: str = "",
    real: bool = False,
) -> Layer:
    """A convolution, depthwise or not; ``pad``: "same", "valid", or ((top, bottom), (left, right))."""
    h, w, c = image
    if pad == "same":
        pads = tuple(same_pad(image[i], kernel[i], stride[i], dilation[i]) for i in range(2))
    else:
        pads = ((0, 0), (0, 0)) if isinstance(pad, str) else pad
    out_h, out_w = (out_size(image[i], kernel[i], stride[i], dilation[i], pads[i]) for i in range(2))
    op = "depthwise_conv2d" if depthwise else "conv2d"
    depth = 1 if depthwise else c // groups
    step = f"s{stride[0]}" if stride[0] == stride[1] else f"s{stride[0]}x{stride[1]}"
    label = f"{'depthwise' if depthwise else 'conv'} {kernel[0]}x{kernel[1]} {step} {c}->{out_c} @{h}x{w}"
    extras = [f"d{dilation[0]}x{dilation[1]}" * (dilation != (1, 1)), f"g{groups}" * (groups > 1)]
    extras += [f"p{pads[0][0]}{pads[0][1]}{pads[1][0]}{pads[1][1]}" * (pad != "same"), note]
    name = " ".join([label, *(e for e in extras if e)])
    rng = rng_of(name)
    shape = (*kernel, out_c) if depthwise else (out_c, *kernel, depth)
    weight = values_of(n.weights, rng, shape, -127)
    values = {
        **dict(zip(("in_h", "in_w", "in_c"), image, strict=True)),
        **{"out_h": out_h, "out_w": out_w, "out_c": out_c, "kh": kernel[0], "kw": kernel[1]},
        **{"stride_h": stride[0], "stride_w": stride[1], "dilation_h": dilation[0], "dilation_w": dilation[1]},
        **{"pad_t": pads[0][0], "pad_l": pads[1][0], "groups": groups},
    }
    fan_in = kernel[0] * kernel[1] * depth
    call = weighted(op, records.CONV, values, channels(name, weight, fan_in, out_c, n), n)
    x = values_of(n.data, rng, image)
    outputs = out_h * out_w * out_c
    same = image == (out_h, out_w, out_c)
    return Layer(name, call, x.tobytes(), outputs, macs=outputs * fan_in, real=real, in_place=same)


def depthwise(
    image: Shape, kernel: tuple[int, int] = (3, 3), stride: int = 1, multiplier: int = 1, **more: Any
) -> Layer:
    return conv(image, image[2] * multiplier, kernel, (stride, stride), depthwise=True, **more)


def masked(layer: Layer, gates: tuple[int, int], share: float = 0.5) -> Layer:
    """The convolution with so many gates over input and output channels, each open with probability `share`."""
    c = layer.call
    sides = [c.values[side] // n if n else 0 for side, n in zip(("in_c", "out_c"), gates, strict=True)]
    name = f"{layer.name} gates {gates[0]}+{gates[1]} {share:.0%}"
    mask = rng_of(name).random(sum(gates)) < share
    # Any byte but zero is open.
    in1 = np.where(mask, rng_of(name + "/open").integers(1, 256, len(mask)), 0).astype(np.uint8).tobytes()
    values = {**c.values, "in_group": sides[0], "out_group": sides[1]}
    call = replace(c, op="conv2d_masked", record=records.CONV_MASKED, values=values)
    return replace(layer, name=name, call=call, in1=in1, in_place=False)


def masked_layers() -> Iterator[Layer]:
    """Some gates open, none, all; both sides, one; extreme numbers."""
    for image, out_c, gates in (
        ((8, 8, 16), 16, (4, 4)), ((5, 7, 8), 12, (2, 3)), ((9, 4, 32), 8, (4, 2)), ((1, 1, 4), 2, (1, 1)),
        ((4, 6, 64), 16, (2, 8)), ((6, 5, 6), 9, (3, 3)), ((7, 3, 48), 4, (4, 1)), ((3, 4, 40), 6, (1, 3)),
    ):  # fmt: skip
        for kernel, stride in (((3, 3), (1, 1)), ((1, 1), (1, 1)), ((3, 3), (2, 2)), ((2, 5), (1, 1))):
            for used in (gates, (gates[0], 0), (0, gates[1])):
                yield masked(conv(image, out_c, kernel, stride), used)
        for share in (0.0, 1.0):
            yield masked(conv(image, out_c), gates, share)
    yield masked(conv((9, 9, 8), 4, dilation=(2, 2)), (2, 2))
    yield masked(conv((6, 6, 8), 8, pad=((2, 2), (2, 2))), (2, 2))
    for name, n in EXTREMES.items():
        for kernel in ((3, 3), (1, 1)):
            yield replace(masked(conv((8, 6, 32), 16, kernel, n=n, note=name), (4, 4)), extreme=True)
    for size, c in ((32, 16), (16, 32), (8, 64)):
        for share in (0.5, 1.0):
            yield masked(conv((size, size, c), c, n=RELU, real=True), (c // 8, c // 8), share)
            yield masked(conv((size, size, c), c, (1, 1), n=RELU, real=True), (c // 8, c // 8), share)


def fc(in_c: int, out_c: int, rows: int = 1, n: Numbers = PLAIN, note: str = "", real: bool = False) -> Layer:
    name = " ".join([f"fc {in_c}->{out_c} x{rows}", *([note] if note else [])])
    rng = rng_of(name)
    weight = values_of(n.weights, rng, (out_c, in_c), -127)
    values = {"rows": rows, "in_c": in_c, "out_c": out_c}
    call = weighted("fully_connected", records.FC, values, channels(name, weight, in_c, out_c, n), n)
    x = values_of(n.data, rng, (rows, in_c))
    return Layer(name, call, x.tobytes(), rows * out_c, macs=rows * in_c * out_c, real=real)


def strides(shape: Shape, out: Shape) -> tuple[int, ...]:
    """Element strides of an operand; 0 where it is broadcast."""
    steps = (shape[1] * shape[2], shape[2], 1)
    return tuple(0 if a == 1 and b > 1 else s for a, b, s in zip(shape, out, steps, strict=True))


def binary(
    op: str,
    shape: Shape,
    other: Shape | None = None,
    scales: tuple[float, float, float] = (0.05, 0.03, 0.06),
    zps: tuple[int, int, int] = (-3, 7, 5),
    *,
    negate: bool = False,
    relu: bool = False,
    data: str = "any",
    note: str = "",
    real: bool = False,
) -> Layer:
    """add, sub (``negate``) or mul of two tensors; the second may be broadcast."""
    b_shape = other or shape
    label = f"{'sub' if negate else op} {'x'.join(map(str, shape))}"
    name = " ".join([label, *([f"with {'x'.join(map(str, b_shape))}"] if other else []), *([note] if note else [])])
    values: dict[str, Any] = {
        "shape": shape, "negate_b": int(negate), "a_stride": strides(shape, shape), "b_stride": strides(b_shape, shape),
        "a_zp": zps[0], "b_zp": zps[1], "out_zp": zps[2], "act_min": zps[2] if relu else -128, "act_max": 127,
    }  # fmt: skip
    if op == "add":
        twice = 2.0 * max(scales[0], scales[1])
        factors = {"a": scales[0] / twice, "b": scales[1] / twice, "out": twice / (2**20 * scales[2])}
        values["left_shift"] = 20
    else:
        factors = {"out": scales[0] * scales[1] / scales[2]}
    for key, factor in factors.items():
        values[f"{key}_mult"], values[f"{key}_shift"] = quantize_multiplier(factor)
    rng = rng_of(name)
    a, b = values_of(data, rng, shape), values_of(data, rng, b_shape)
    call = Call(op, records.BINARY, values)
    return Layer(name, call, a.tobytes(), a.size, b.tobytes(), real=real, in_place=True)


def pool(
    op: str,
    image: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    act: tuple[int, int] = (-128, 127),
    data: str = "any",
    real: bool = False,
) -> Layer:
    h, w, c = image
    out_h, out_w = (out_size(image[i], kernel[i], stride[i], 1, pad[i]) for i in range(2))
    window = f"{kernel[0]}x{kernel[1]} s{stride[0]}x{stride[1]}"
    name = f"{op} {window} c{c} @{h}x{w} p{pad[0][0]}{pad[1][0]} {act[0]}:{act[1]} {data}"
    values = {
        "in_h": h, "in_w": w, "c": c, "out_h": out_h, "out_w": out_w, "kh": kernel[0], "kw": kernel[1],
        "stride_h": stride[0], "stride_w": stride[1], "pad_t": pad[0][0], "pad_l": pad[1][0],
        "act_min": act[0], "act_max": act[1],
    }  # fmt: skip
    outputs = out_h * out_w * c
    x = values_of(data, rng_of(name), image)
    macs = outputs * kernel[0] * kernel[1]
    return Layer(name, Call(op, records.POOL, values), x.tobytes(), outputs, macs=macs, real=real)


def mean(
    image: Shape, factor: float = 1.0, zps: tuple[int, int] = (-3, 5), data: str = "any", real: bool = False
) -> Layer:
    h, w, c = image
    name = f"mean c{c} @{h}x{w} x{factor} {zps[0]}:{zps[1]} {data}"
    mult, shift = mean_multiplier(factor, h * w)
    values = {"pixels": h * w, "c": c, "in_zp": zps[0], "out_zp": zps[1], "mult": mult, "shift": shift}
    x = values_of(data, rng_of(name), image)
    return Layer(name, Call("mean", records.MEAN, values), x.tobytes(), c, macs=x.size, real=real)


def lut(count: int, real: bool = False) -> Layer:
    rng = rng_of(f"lut {count}")
    table = rng.integers(-128, 128, 256).astype(np.int8)
    call = Call("unary", records.LUT, {"count": count}, {"table": table.tobytes()})
    x = values_of("any", rng, (count,))
    return Layer(f"lut {count}", call, x.tobytes(), count, real=real, in_place=True)


def softmax(rows: int, c: int, scale: float = 0.1, data: str = "any", real: bool = False) -> Layer:
    name = f"softmax {rows}x{c} scale {scale} {data}"
    table = luts.softmax_table(1.0, Quant(scale, 0))
    call = Call("softmax", records.SOFTMAX, {"rows": rows, "c": c}, {"table": np.asarray(table, np.int32).tobytes()})
    x = values_of(data, rng_of(name), (rows, c))
    return Layer(name, call, x.tobytes(), rows * c, real=real, in_place=True)


def copy(shape: Shape, in_stride: Sequence[int], out_stride: Sequence[int], note: str) -> Layer:
    name = f"copy {'x'.join(map(str, shape))} {note}"
    values = {"shape": shape, "in_stride": tuple(in_stride), "out_stride": tuple(out_stride)}
    reach = [sum((n - 1) * s for n, s in zip(shape, steps, strict=True)) + 1 for steps in (in_stride, out_stride)]
    x = values_of("any", rng_of(name), (reach[0],))
    return Layer(name, Call("copy", records.COPY, values), x.tobytes(), reach[1])


def fill(count: int, value: int) -> Layer:
    return Layer(f"fill {count} with {value}", Call("fill", records.FILL, {"count": count, "value": value}), b"", count)


# -- The tables


def real_layers() -> Iterator[Layer]:
    """Layers of an image classifier (IC), a keyword spotter (KWS), a MobileNet-like network and an autoencoder."""
    r: dict[str, Any] = {"n": RELU, "real": True}
    yield conv((32, 32, 3), 16, **r)
    for size, c in ((32, 16), (16, 32), (8, 64)):
        yield conv((size, size, c), c, **r)
    for size, c in ((32, 16), (16, 32)):
        yield conv((size, size, c), 2 * c, stride=(2, 2), **r)
        yield conv((size, size, c), 2 * c, (1, 1), (2, 2), **r)
    yield conv((49, 10, 1), 64, (10, 4), (2, 2), **r)
    yield depthwise((25, 5, 64), **r)
    yield conv((25, 5, 64), 64, (1, 1), **r)
    yield conv((96, 96, 3), 8, stride=(2, 2), **r)
    for size, c, to in (
        (48, 8, 16), (24, 16, 32), (24, 32, 32), (12, 32, 64), (12, 64, 64), (6, 64, 128), (6, 128, 128),
        (3, 128, 256), (3, 256, 256),
    ):  # fmt: skip
        yield conv((size, size, c), to, (1, 1), **r)
    for size, c, stride in (
        (48, 8, 1), (48, 16, 2), (24, 32, 1), (24, 32, 2), (12, 64, 1), (12, 64, 2), (6, 128, 1), (6, 128, 2),
        (3, 256, 1),
    ):  # fmt: skip
        yield depthwise((size, size, c), stride=stride, **r)
    for a, b in ((640, 128), (128, 128), (128, 8), (8, 128), (128, 640), (64, 10), (64, 12), (256, 2)):
        yield fc(a, b, **r)
    for size, c in ((32, 16), (16, 32), (8, 64)):
        yield binary("add", (size, size, c), zps=(-128, 4, -128), relu=True, real=True)
    yield pool("avg_pool", (8, 8, 64), (8, 8), (8, 8), real=True)
    yield pool("avg_pool", (25, 5, 64), (25, 5), (25, 5), real=True)
    yield pool("avg_pool", (3, 3, 256), (3, 3), (3, 3), real=True)
    yield pool("max_pool", (16, 16, 32), (2, 2), (2, 2), real=True)
    yield mean((8, 8, 64), real=True)
    yield lut(4096, real=True)
    yield softmax(1, 10, real=True)
    yield softmax(1, 12, real=True)


def odd_convs(n: Numbers = PLAIN, note: str = "") -> Iterator[Layer]:
    """Shapes on which tiles, tails and borders go wrong."""
    for image, out_c in (
        ((1, 1, 1), 1), ((1, 1, 4), 4), ((1, 1, 16), 8), ((2, 2, 3), 5), ((3, 3, 4), 4), ((5, 5, 1), 2), ((4, 6, 8), 8),
        ((5, 7, 6), 7), ((7, 5, 16), 12), ((6, 9, 20), 4), ((9, 4, 5), 3), ((2, 13, 8), 16), ((8, 8, 2), 6),
        ((3, 3, 33), 9), ((10, 3, 12), 1),
    ):  # fmt: skip
        yield conv(image, out_c, n=n, note=note)
        yield conv(image, out_c, (1, 1), n=n, note=note)
        yield conv(image, out_c, stride=(2, 2), n=n, note=note)
    for image, out_c in (((9, 11, 3), 8), ((11, 9, 3), 16), ((12, 10, 1), 8), ((7, 7, 3), 4), ((5, 13, 3), 5)):
        yield conv(image, out_c, n=n, note=note)
        yield conv(image, out_c, stride=(2, 2), n=n, note=note)
        yield conv(image, out_c, (5, 5), n=n, note=note)
    for image, out_c in (((13, 10, 1), 8), ((9, 10, 1), 16), ((20, 7, 1), 12)):
        yield conv(image, out_c, (10, 4), (2, 2), n=n, note=note)
        yield conv(image, out_c, (10, 4), (1, 1), n=n, note=note)
    for kernel in ((5, 5), (1, 3), (3, 1), (1, 5), (7, 1), (2, 2), (4, 4), (7, 7)):
        yield conv((6, 7, 4), 8, kernel, n=n, note=note)
        yield conv((9, 8, 8), 4, kernel, (2, 1), n=n, note=note)
    yield conv((3, 2, 4), 4, (5, 5), n=n, note=note)
    yield conv((9, 9, 4), 4, (3, 3), pad="valid", n=n, note=note)
    yield conv((8, 8, 8), 8, (3, 3), (2, 2), pad="valid", n=n, note=note)
    yield conv((8, 8, 8), 8, (3, 3), (2, 2), pad=((1, 1), (1, 1)), n=n, note=note)
    yield conv((6, 6, 4), 8, pad=((2, 2), (2, 2)), n=n, note=note)
    yield conv((6, 6, 8), 8, pad=((0, 2), (2, 0)), n=n, note=note)
    yield conv((5, 5, 8), 8, (1, 1), pad=((1, 1), (1, 1)), n=n, note=note)
    yield conv((9, 9, 4), 8, (1, 1), (2, 2), pad="valid", n=n, note=note)
    yield conv((9, 10, 8), 8, (1, 1), (3, 2), n=n, note=note)
    yield conv((9, 9, 4), 4, dilation=(2, 2), n=n, note=note)
    yield conv((8, 9, 6), 4, dilation=(1, 3), n=n, note=note)
    yield conv((1, 20, 8), 4, (1, 3), dilation=(1, 4), n=n, note=note)
    yield conv((6, 6, 8), 8, groups=2, n=n, note=note)
    yield conv((5, 6, 6), 9, groups=3, n=n, note=note)
    yield conv((4, 4, 8), 16, groups=8, n=n, note=note)
    yield conv((6, 5, 16), 16, (1, 1), groups=4, n=n, note=note)


def odd_depthwise(n: Numbers = PLAIN, note: str = "") -> Iterator[Layer]:
    for image in (
        (1, 1, 1), (1, 1, 4), (2, 2, 8), (3, 3, 5), (5, 5, 4), (4, 7, 12), (7, 4, 16), (9, 3, 3), (2, 11, 20),
        (6, 6, 2), (8, 5, 9), (13, 1, 8), (1, 13, 8),
    ):  # fmt: skip
        yield depthwise(image, n=n, note=note)
        yield depthwise(image, stride=2, n=n, note=note)
    for kernel in ((1, 3), (3, 1), (5, 5), (1, 7), (10, 4), (2, 2), (1, 1), (4, 1)):
        yield depthwise((7, 6, 8), kernel, n=n, note=note)
        yield depthwise((8, 9, 5), kernel, 2, n=n, note=note)
    for image, multiplier in (((5, 5, 1), 8), ((4, 4, 3), 2), ((6, 5, 4), 4)):
        yield depthwise(image, multiplier=multiplier, n=n, note=note)
        yield depthwise(image, (5, 3), 2, multiplier, n=n, note=note)
    yield depthwise((8, 8, 8), pad="valid", n=n, note=note)
    yield depthwise((9, 7, 8), stride=2, pad="valid", n=n, note=note)
    yield depthwise((8, 8, 8), stride=2, pad=((1, 1), (1, 1)), n=n, note=note)
    yield depthwise((6, 6, 8), pad=((2, 2), (2, 2)), n=n, note=note)
    yield depthwise((6, 6, 4), pad=((0, 2), (2, 0)), n=n, note=note)
    yield depthwise((9, 9, 4), dilation=(2, 2), n=n, note=note)
    yield conv((8, 8, 8), 8, (3, 3), (2, 1), depthwise=True, n=n, note=note)


def odd_fc(n: Numbers = PLAIN, note: str = "") -> Iterator[Layer]:
    for in_c, out_c, rows in (
        (1, 1, 1), (2, 3, 1), (3, 2, 1), (4, 4, 1), (5, 7, 1), (8, 8, 1), (16, 10, 1), (17, 4, 1), (64, 12, 1),
        (30, 6, 1), (100, 1, 1), (33, 9, 1), (8, 4, 3), (6, 5, 7), (16, 16, 4), (1, 9, 2), (12, 2, 1), (20, 11, 1),
        (512, 3, 1),
    ):  # fmt: skip
        yield fc(in_c, out_c, rows, n, note)


def odd_rest() -> Iterator[Layer]:
    for shape in ((1, 1, 1), (1, 1, 5), (3, 3, 3), (4, 4, 4), (5, 7, 6), (2, 2, 64), (1, 1, 127)):
        yield binary("add", shape)
        yield binary("mul", shape, scales=(0.05, 0.03, 0.04))
    yield binary("add", (5, 4, 8), negate=True)
    for k, (scales, zps) in enumerate(
        (
            ((0.05, 0.05, 0.05), (0, 0, 0)),
            ((0.02, 0.05, 0.05), (-128, 127, 0)),
            ((0.5, 0.0005, 0.3), (3, -7, 100)),
            ((0.001, 0.4, 0.4), (-128, -128, -128)),
            ((0.3, 0.2, 0.004), (1, 2, 3)),
            ((0.004, 0.005, 0.9), (127, -128, -128)),
            ((0.0625, 0.03125, 0.0625), (0, 1, -1)),
        )
    ):
        for data in ("any", "edges"):
            yield binary("add", (4, 5, 6), scales=scales, zps=zps, data=data, note=f"{k} {data}")
        yield binary("add", (3, 4, 8), scales=scales, zps=zps, negate=True, relu=True, note=f"{k} relu")
        yield binary("mul", (4, 5, 6), scales=scales, zps=zps, data="edges", note=f"{k}")
    for other in ((1, 1, 1), (1, 1, 8), (4, 1, 8), (1, 5, 1), (4, 5, 1)):
        yield binary("add", (4, 5, 8), other)
        yield binary("mul", (4, 5, 8), other)
    for op in ("avg_pool", "max_pool"):
        for image, kernel, stride in (
            ((1, 1, 1), (1, 1), (1, 1)), ((4, 4, 4), (2, 2), (2, 2)), ((5, 7, 3), (2, 3), (1, 2)),
            ((6, 6, 17), (3, 3), (2, 2)),
            ((8, 8, 64), (8, 8), (8, 8)), ((25, 5, 6), (25, 5), (25, 5)), ((9, 5, 8), (1, 5), (1, 5)),
            ((7, 7, 5), (7, 7), (1, 1)),
            ((4, 4, 1), (2, 2), (1, 1)), ((6, 6, 16), (2, 2), (2, 2)),
        ):  # fmt: skip
            yield pool(op, image, kernel, stride)
            yield pool(op, image, kernel, stride, act=(-20, 30), data="edges")
        for image, pad in (
            ((5, 5, 4), ((1, 1), (1, 1))),
            ((7, 6, 9), ((0, 1), (1, 0))),
            ((8, 8, 16), ((1, 0), (0, 1))),
        ):
            yield pool(op, image, (3, 3), (2, 2), pad)
            yield pool(op, image, (2, 2), (1, 1), pad, data="low")
    for image in ((1, 1, 1), (3, 3, 5), (4, 5, 16), (8, 8, 64), (13, 1, 7), (32, 32, 3)):
        yield mean(image)
        yield mean(image, 0.37, (-128, -128), "edges")
        yield mean(image, 2.9, (127, -128), "low")
    for count in (1, 2, 3, 4, 5, 7, 63, 64, 65, 1001):
        yield lut(count)
    for rows, c in ((1, 1), (1, 2), (3, 10), (1, 12), (5, 7), (1, 64), (2, 1000)):
        for scale in (0.001, 0.1, 1.5):
            yield softmax(rows, c, scale)
        yield softmax(rows, c, 0.5, "edges")
        yield softmax(rows, c, 0.5, "high")
    yield copy((4, 5, 6), (30, 6, 1), (30, 6, 1), "as it is")
    yield copy((4, 5, 6), (30, 6, 1), (50, 10, 1), "into a wider row")
    yield copy((3, 5, 7), (35, 7, 1), (90, 9, 1), "between odd channels")
    yield copy((6, 5, 4), (1, 24, 6), (20, 4, 1), "transposed")
    yield copy((2, 3, 8), (60, 10, 1), (24, 8, 1), "cropped")
    yield copy((1, 1, 9), (9, 9, 1), (9, 9, 1), "one row")
    yield copy((5, 1, 1), (3, 3, 1), (1, 1, 1), "single bytes")
    for count in (1, 2, 3, 4, 5, 31, 256, 1001):
        yield fill(count, -128)
        yield fill(count, 77)


@functools.cache
def all_layers() -> tuple[Layer, ...]:
    """Every layer; names are unique."""
    found = [*real_layers(), *masked_layers(), *odd_convs(), *odd_depthwise(), *odd_fc(), *odd_rest()]
    extreme: list[Layer] = []
    for name, n in EXTREMES.items():
        extreme += [*odd_convs(n, name), *odd_depthwise(n, name), *odd_fc(n, name)]
    for name, n in ZEROS.items():
        extreme += odd_fc(n, name)
        extreme += [conv((8, 8, 16), 16, n=n, note=name), conv((8, 6, 32), 16, (1, 1), n=n, note=name)]
        extreme += [fc(128, 20, n=n, note=name), depthwise((9, 9, 16), n=n, note=name)]
    for name, n in NARROW.items():
        extreme += [
            *odd_convs(n, name),
            conv((8, 8, 16), 16, n=n, note=name),
            conv((8, 6, 32), 16, (1, 1), n=n, note=name),
        ]
    found += [replace(layer, extreme=True) for layer in extreme]
    by_name = {layer.name: layer for layer in found}
    return tuple(by_name.values())


def case_of(kernel: Kernel, layer: Layer, prepared: Prepared | None = None, **more: Any) -> Case:
    """The layer for one kernel. Unfit: the kernel does not take it."""
    ready = prepared or prepare(kernel, layer.call)
    params, consts = place(ready)
    scratch = kernel.scratch_bytes(ready.values)
    return Case(kernel, params, consts, layer.in0, layer.in1, layer.out_bytes, scratch, **more)


def cases_of(kernel: Kernel, layer: Layer) -> list[Case]:
    """Apart, at odd addresses, and as close to the input as the kernel allows. Empty: it does not take the layer."""
    if kernel.op != layer.call.op:
        return []
    try:
        prepared = prepare(kernel, layer.call)
    except Unfit:
        return []
    apart = case_of(kernel, layer, prepared)
    # One way of lying askew per layer: there are hundreds of layers. Real ones are large, and lie straight.
    skew = ((1, 3), (2, 1), (3, 2))[zlib.crc32(layer.name.encode()) % 3]
    found = [apart] if layer.real else [apart, replace(apart, skew=skew)]
    lead = kernel.lead_bytes(prepared.values)
    if lead is not None:
        # The planner places tensors at multiples of 4; a kernel must not need that to be right.
        found.append(replace(apart, lead=lead))
        if not layer.real:
            found.append(replace(apart, lead=lead + 4, skew=(0, skew[1])))
    if kernel.in_place and layer.in_place:
        found.append(replace(apart, lead=0))
        if layer.in1 is not None and len(layer.in1) == layer.out_bytes:
            found.append(replace(apart, lead=0, over=1))
    return found
