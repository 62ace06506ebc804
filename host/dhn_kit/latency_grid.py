"""Random layers of real networks' kinds, one op each, on which a board's kernels are counted."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dhn_kit.graph import Graph, Node, Port, Quant, Shape, Tensor
from dhn_kit.kernel_rig import Case, place
from dhn_kit.kernels import Kernel
from dhn_kit.layouts import Unfit
from dhn_kit.lower import Op, Operand, lower
from dhn_kit.variants import gate_count, masked

#: More products would take the emulator long and teach the fit nothing new.
MAX_WORK = 400_000
#: Input and output together: what an emulated board's RAM holds beside its guards.
MAX_BYTES = 80_000
CHANNELS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 160, 192, 256)
#: Kernel height, width and stride, as often as networks have them.
WINDOWS = (
    *((3, 3, 1),) * 8, *((3, 3, 2),) * 5, *((1, 1, 1),) * 6, *((1, 1, 2),) * 3, (5, 5, 1), (5, 5, 2),
    (7, 7, 2), (10, 4, 2), (1, 3, 1), (1, 5, 1), (1, 9, 1), (3, 1, 1), (5, 1, 1), (1, 3, 2), (2, 2, 2), (4, 4, 4),
)  # fmt: skip
#: Spread and largest size of weights: of eight, four and two bits.
WEIGHTS = ((40, 127), (3, 7), (1, 1))
ATTEMPTS = 4000


def grid(kernel: Kernel, count: int, seed: int = 0) -> list[Op]:
    """Up to `count` different ops that the kernel covers, from far below to `MAX_WORK` products."""
    rng = random.Random(zlib.crc32(kernel.name.encode()) + seed)
    found: dict[str, Op] = {}
    for _ in range(ATTEMPTS):
        if len(found) == count:
            break
        op = _random_op(kernel.op, rng)
        if not _is_worth(op, kernel):
            continue
        try:
            op = op.with_kernel(kernel)
        except Unfit:
            continue
        found.setdefault(str(sorted(counted_values(op).items())), op)
    return list(found.values())


def _random_op(name: str, rng: random.Random) -> Op:
    if name == "conv2d_masked":
        return _random_gates(_random_op("conv2d", rng), rng)
    return next(o for o in lower(_SHAPES[name](rng)).ops if o.call.op == name)


def _random_gates(op: Op, rng: random.Random) -> Op:
    """The convolution with gates, some of which are open, over its inputs, its outputs or both."""
    sides = [gate_count(op.call.values[side]) or 1 for side in ("in_c", "out_c")]
    used = rng.choice(((1, 0), (0, 1), (1, 1)))
    gates = (sides[0] * used[0], sides[1] * used[1])
    share = rng.uniform(0.2, 1.0)
    mask = [rng.random() < share for _ in range(sum(gates))]
    for first, count in ((0, gates[0]), (gates[0], gates[1])):
        if count:
            mask[first + rng.randrange(count)] = True
    return masked(op, gates, Operand(const=bytes(mask)))


def counted_values(op: Op) -> dict[str, Any]:
    """The record's fields, and how many channels the op's gates leave open."""
    values = dict(op.prepared.values)
    if op.call.op != "conv2d_masked":
        return values
    assert op.in1 is not None and op.in1.const is not None
    gates = op.in1.const
    for side in ("in", "out"):
        group = values[f"{side}_group"]
        count = values[f"{side}_c"] // group if group else 0
        values[f"{side}_open"] = sum(gates[:count]) * group if group else values[f"{side}_c"]
        gates = gates[count:]
    return values


def _is_worth(op: Op, kernel: Kernel) -> bool:
    if op.macs > MAX_WORK or op.outputs + sum(_operand_sizes(op)) > MAX_BYTES:
        return False
    return kernel.record is not op.call.record or kernel.covers(op.call.values)


def case_of(op: Op, seed: int) -> Case:
    """The op on random input bytes."""
    rng = np.random.default_rng(seed)
    params, consts = place(op.prepared)
    sizes = _operand_sizes(op)
    in0, in1 = (rng.integers(-128, 128, n).astype(np.int8).tobytes() if n else None for n in sizes)
    if op.in1 is not None and op.in1.const is not None:
        in1 = op.in1.const
    return Case(op.kernel, params, consts, in0 or b"", in1, op.outputs, op.scratch_bytes)


def _operand_sizes(op: Op) -> tuple[int, int]:
    v = op.call.values
    if "in_h" in v:
        return v["in_h"] * v["in_w"] * v.get("in_c", v.get("c", 0)), 0
    if "shape" in v:
        size = int(np.prod(v["shape"]))
        return size, size if op.in1 is not None else 0
    if "pixels" in v:
        return v["pixels"] * v["c"], 0
    if "rows" in v:
        return v["rows"] * v.get("in_c", v.get("c", 0)), 0
    return v["count"], 0


# -- One-node networks


@dataclass
class _Net:
    rng: random.Random

    def quant(self, relu: bool = False) -> Quant:
        return Quant(self.rng.uniform(0.02, 0.08), -128 if relu else self.rng.randrange(-20, 20))

    def graph(self, op: str, image: Shape, out: Shape, inputs: int = 1, **attrs: Any) -> Graph:
        names = ["a", "b"][:inputs]
        tensors = {n: Tensor(n, image, self.quant()) for n in names}
        tensors["y"] = Tensor("y", out, self.quant(relu=self.rng.random() < 0.5))
        ports = [Port(n, n, image, dtype="int8") for n in names]
        return Graph("grid", tensors, [Node("op", op, names, "y", attrs)], ports, [Port("y", "y", out, dtype="int8")])

    def weights(self, shape: tuple[int, ...], channels: int, fan_in: int) -> dict[str, Any]:
        rng = np.random.default_rng(self.rng.randrange(1 << 32))
        scale = rng.uniform(0.5, 1.5, channels) * 0.02 / np.sqrt(fan_in)
        bias = rng.integers(-2000, 2000, channels).astype(np.int32)
        spread, most = rng.choice(WEIGHTS, p=(0.6, 0.2, 0.2))
        weight = rng.normal(0, spread, shape).round().clip(-most, most).astype(np.int8)
        return {"weight": weight, "bias": bias, "weight_scale": scale, "act_q": (-128, 127)}


def _window(rng: random.Random, image: Shape) -> tuple[int, int, dict[str, Any]]:
    """Output height and width, and the attributes of a window that fits the image; SAME or VALID padding."""
    kh, kw, stride = rng.choice(WINDOWS)
    h, w, _ = image
    kh, kw = min(kh, h), min(kw, w)
    if rng.random() < 0.8:
        out = -(-h // stride), -(-w // stride)
        total = [max(0, (o - 1) * stride + k - n) for o, k, n in zip(out, (kh, kw), (h, w), strict=True)]
        pad = (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    else:
        out, pad = ((h - kh) // stride + 1, (w - kw) // stride + 1), (0, 0, 0, 0)
    return *out, {"kernel": (kh, kw), "stride": (stride, stride), "pad": pad}


def _image(rng: random.Random) -> Shape:
    """Early layers are wide and shallow, late ones small and deep."""
    side = round(2 ** rng.uniform(1.0, 5.6))
    width = side if rng.random() < 0.7 else round(2 ** rng.uniform(0.0, 5.6))
    return side, width, rng.choice(CHANNELS)


def _conv(rng: random.Random) -> Graph:
    net, image = _Net(rng), _image(rng)
    out_c = rng.choice(CHANNELS[4:]) if rng.random() < 0.85 else rng.randrange(1, 40)
    h, w, window = _window(rng, image)
    kh, kw = window.pop("kernel")
    weights = net.weights((out_c, kh, kw, image[2]), out_c, kh * kw * image[2])
    return net.graph("conv2d", image, (h, w, out_c), **window, **weights, dilation=(1, 1), groups=1)


def _depthwise(rng: random.Random) -> Graph:
    net, image = _Net(rng), _image(rng)
    h, w, window = _window(rng, image)
    kh, kw = window.pop("kernel")
    weights = net.weights((kh, kw, image[2]), image[2], kh * kw)
    return net.graph("depthwise_conv2d", image, (h, w, image[2]), **window, **weights, dilation=(1, 1))


def _fc(rng: random.Random) -> Graph:
    net = _Net(rng)
    in_c, out_c = (rng.choice((*CHANNELS, 320, 512, 640, 1024)) for _ in range(2))
    weights = net.weights((out_c, in_c), out_c, in_c)
    return net.graph("fully_connected", (1, 1, in_c), (1, 1, out_c), **weights)


def _pool(op: str) -> Callable[[random.Random], Graph]:
    def make(rng: random.Random) -> Graph:
        image = _image(rng)
        if rng.random() < 0.5:
            h, w, window = _window(rng, image)
        else:
            h, w, window = 1, 1, {"kernel": image[:2], "stride": image[:2], "pad": (0, 0, 0, 0)}
        return _Net(rng).graph(op, image, (h, w, image[2]), **window, act_q=(-128, 127))

    return make


def _flat(op: str, inputs: int = 1, **attrs: Any) -> Callable[[random.Random], Graph]:
    def make(rng: random.Random) -> Graph:
        image = _image(rng)
        return _Net(rng).graph(op, image, image, inputs, act_q=(-128, 127), **attrs)

    return make


def _mean(rng: random.Random) -> Graph:
    image = _image(rng)
    return _Net(rng).graph("mean", image, (1, 1, image[2]))


def _softmax(rng: random.Random) -> Graph:
    image = (1, 1, rng.randrange(2, 200))
    graph = _Net(rng).graph("softmax", image, image)
    graph.tensors["y"].quant = Quant(1 / 256, -128)
    return graph


def _transpose(rng: random.Random) -> Graph:
    h, w, c = _image(rng)
    return _Net(rng).graph("transpose", (h, w, c), (w, h, c), perm=(1, 0, 2))


def _pad(rng: random.Random) -> Graph:
    h, w, c = _image(rng)
    graph = _Net(rng).graph("pad", (h, w, c), (h + 2, w + 2, c), pad=((1, 1), (1, 1), (0, 0)))
    graph.tensors["y"].quant = graph.tensors["a"].quant
    return graph


_SHAPES: dict[str, Callable[[random.Random], Graph]] = {
    "conv2d": _conv,
    "depthwise_conv2d": _depthwise,
    "fully_connected": _fc,
    "add": _flat("add", 2),
    "mul": _flat("mul", 2),
    "avg_pool": _pool("avg_pool"),
    "max_pool": _pool("max_pool"),
    "mean": _mean,
    "unary": _flat("unary", fn="relu"),
    "softmax": _softmax,
    "copy": _transpose,
    "fill": _pad,
}
