"""Sliding-window arithmetic of ONNX: auto_pad, ceil_mode, dilation, output size and the padding really used."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass

from dhn_kit.graph import Shape
from dhn_kit.onnx_import.builder import OnnxNode

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or pool. ``pad`` is (top, left, bottom, right) as far as windows reach into it."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    pad: tuple[int, int, int, int]
    #: the padding that the model declares, which an average may have to count
    declared: tuple[int, int, int, int]
    output: Pair


def window_of(n: OnnxNode, shape: Shape, kernel: Pair, spatial: int) -> Window:
    """Geometry of node ``n`` on a canonical input; ``spatial`` is 1 for sequences (the attributes name only W) or 2."""
    stride = _pair(n, "strides", spatial)
    dilation = _pair(n, "dilations", spatial)
    pads = [int(p) for p in n.attrs.get("pads", [0] * 2 * spatial)]
    if spatial == 1:
        pads = [0, pads[0], 0, pads[1]]
    if min(pads) < 0:
        n.refuse(f"negative padding {pads}", "crop the input before the network")
    auto = n.attrs.get("auto_pad", "NOTSET")
    ceil = bool(n.attrs.get("ceil_mode", 0))
    axes = [_axis(n, shape[i], kernel[i], stride[i], dilation[i], (pads[i], pads[2 + i]), auto, ceil) for i in (0, 1)]
    (h, top, bottom, dtop, dbottom), (w, left, right, dleft, dright) = axes
    return Window(kernel, stride, dilation, (top, left, bottom, right), (dtop, dleft, dbottom, dright), (h, w))


def _pair(n: OnnxNode, attr: str, spatial: int) -> Pair:
    values = [1] * (2 - spatial) + [int(x) for x in n.attrs.get(attr, [1] * spatial)]
    if len(values) != 2 or min(values) < 1:
        n.refuse(f"{attr} = {values}", "use one positive number per spatial axis")
    return values[0], values[1]


def _axis(
    n: OnnxNode, size: int, kernel: int, stride: int, dilation: int, pads: Pair, auto: str, ceil: bool
) -> tuple[int, int, int, int, int]:
    """Output size, padding used before and after, padding declared before and after."""
    reach = (kernel - 1) * dilation + 1
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        out = -(-size // stride)
        total = max((out - 1) * stride + reach - size, 0)
        before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        pads = (before, total - before)
    else:
        if auto == "VALID":
            pads = (0, 0)
        room = size + sum(pads) - reach
        out = (-(-room // stride) if ceil else room // stride) + 1
        # a window that would start in the padding after the end does not exist
        if ceil and (out - 1) * stride >= size + pads[0]:
            out -= 1
    if out < 1:
        n.refuse(f"a window of {reach} does not fit {size} inputs padded by {pads}", "use a larger input")
    used = max((out - 1) * stride + reach - size - pads[0], 0)
    return out, pads[0], used, pads[0], pads[1]
