"""Runs a canonical float graph on NumPy: what calibration observes and int8 results are judged by."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Graph, Node, Shape

Floats = npt.NDArray[np.float32]
Attrs = dict[str, Any]

#: Largest temporary of one operator, in bytes; batches are cut to stay below it.
CHUNK_BYTES = 32 << 20


def run_float(graph: Graph, x: Array | Sequence[Array], taps: Collection[str] | None = None) -> dict[str, Floats]:
    """Run user arrays (N, *user_shape), one per input, through the float graph.

    Returns canonical (N, H, W, C) float32 tensors: all of them, or ``taps`` and the outputs. The ports' normalisation
    is applied first, so that an input's tensor is what the first operator reads. DhnError on arrays of a wrong shape.
    """
    arrays = _inputs(graph, x)
    wanted = set(graph.tensors) if taps is None else {*taps, *(p.tensor for p in graph.outputs)}
    unknown = wanted - set(graph.tensors)
    if unknown:
        raise DhnError(f"there is no tensor '{min(unknown)}' in '{graph.name}'; take a name from its tensors")
    count = len(arrays[0])
    step = _chunk(graph)
    parts = [_run(graph, [a[i : i + step] for a in arrays], wanted) for i in range(0, count, step)]
    return {name: parts[0][name] if len(parts) == 1 else np.concatenate([p[name] for p in parts]) for name in parts[0]}


def float_outputs(graph: Graph, x: Array | Sequence[Array]) -> list[Floats]:
    """The outputs in the user's layout, (N, *user_shape) each."""
    tensors = run_float(graph, x, taps=())
    return [np.asarray(p.to_user(tensors[p.tensor]), np.float32) for p in graph.outputs]


def _inputs(graph: Graph, x: Array | Sequence[Array]) -> list[Floats]:
    given = [x] if isinstance(x, np.ndarray) else [np.asarray(a) for a in x]
    if len(given) != len(graph.inputs):
        raise DhnError(f"'{graph.name}' has {len(graph.inputs)} inputs but {len(given)} arrays were given")
    arrays = []
    for port, array in zip(graph.inputs, given, strict=True):
        if array.shape[1:] != port.user_shape or len(array) != len(given[0]) or not len(array):
            raise DhnError(
                f"input '{port.name}' has shape {list(array.shape)}; expected (N, {str(port.user_shape)[1:]} with N > 0"
            )
        canonical = port.to_canonical(array, graph.tensors[port.tensor].shape).astype(np.float32)
        arrays.append(canonical * np.float32(port.scale) + np.float32(port.offset))
    return arrays


def _chunk(graph: Graph) -> int:
    """Samples per pass, such that no im2col matrix outgrows CHUNK_BYTES."""
    largest = max(t.size for t in graph.tensors.values())
    for n in graph.nodes:
        if n.op == "conv2d":
            h, w, _ = graph.tensors[n.output].shape
            largest = max(largest, h * w * n.attrs["weight"][0].size)
    return max(1, CHUNK_BYTES // (4 * largest))


def _run(graph: Graph, arrays: list[Floats], wanted: Collection[str]) -> dict[str, Floats]:
    live = {port.tensor: a for port, a in zip(graph.inputs, arrays, strict=True)}
    last_use = {name: i for i, n in enumerate(graph.nodes) for name in n.inputs}
    for i, node in enumerate(graph.nodes):
        result = run_node(node, [live[name] for name in node.inputs], graph.tensors[node.output].shape)
        live[node.output] = result
        for name in {*node.inputs, node.output}:
            if name not in wanted and last_use.get(name, -1) <= i:
                del live[name]
    return {name: a for name, a in live.items() if name in wanted}


def run_node(node: Node, inputs: list[Floats], shape: Shape) -> Floats:
    """One operator on (N, H, W, C) arrays; ``shape`` is its output's (H, W, C)."""
    y = _OPS[node.op](inputs, node.attrs, shape)
    if node.attrs.get("act") is not None:
        y = np.clip(y, *node.attrs["act"])
    assert y.shape[1:] == shape, (node.name, y.shape, shape)
    return np.ascontiguousarray(y, np.float32)


def windows(x: Array, kernel: tuple[int, int], attrs: Attrs, shape: Shape, fill: float) -> Array:
    """View (N, OH, OW, KH, KW, C) of the padded input."""
    top, left, bottom, right = attrs["pad"]
    sh, sw = attrs["stride"]
    dh, dw = attrs.get("dilation", (1, 1))
    if top or left or bottom or right:
        x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    n, h, w, c = x.strides
    view = (len(x), shape[0], shape[1], *kernel, x.shape[3])
    strides = (n, h * sh, w * sw, h * dh, w * dw, c)
    return np.lib.stride_tricks.as_strided(x, view, strides, writeable=False)


def convolve(x: Array, weight: Array, attrs: Attrs, shape: Shape) -> Array:
    """(N, H, W, C) with (OC, KH, KW, IC / groups) to (N, *shape) without bias, in the arrays' own dtype."""
    groups, (oc, kh, kw, ic) = attrs.get("groups", 1), weight.shape
    view = windows(x, (kh, kw), attrs, shape, 0.0)
    per = oc // groups
    parts = []
    for g in range(groups):
        columns = view[..., g * ic : (g + 1) * ic].reshape(-1, kh * kw * ic)
        parts.append(columns @ weight[g * per : (g + 1) * per].reshape(per, -1).T)
    y = parts[0] if groups == 1 else np.concatenate(parts, axis=-1)
    return y.reshape(len(x), *shape)


def depthwise(x: Array, weight: Array, attrs: Attrs, shape: Shape) -> Array:
    """(N, H, W, C) with (KH, KW, OC) to (N, *shape) without bias, in the arrays' own dtype."""
    kh, kw, oc = weight.shape
    repeated = x if oc == x.shape[3] else np.repeat(x, oc // x.shape[3], axis=3)
    view = windows(repeated, (kh, kw), attrs, shape, 0.0)
    y = np.zeros((len(x), *shape), x.dtype)
    for i in range(kh):
        for j in range(kw):
            y += view[:, :, :, i, j] * weight[i, j]
    return y


def _conv2d(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    return np.asarray(convolve(inputs[0], attrs["weight"], attrs, shape) + attrs["bias"], np.float32)


def _depthwise_conv2d(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    return np.asarray(depthwise(inputs[0], attrs["weight"], attrs, shape) + attrs["bias"], np.float32)


def _fully_connected(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    return np.asarray(inputs[0] @ attrs["weight"].T + attrs["bias"], np.float32)


def _arithmetic(function: Callable[..., Any]) -> Callable[[list[Floats], Attrs, Shape], Floats]:
    def run(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
        operands = list(inputs)
        if "const" in attrs:
            operands.insert(0 if attrs["const_first"] else 1, np.asarray(attrs["const"], np.float32)[None])
        return np.asarray(function(*operands), np.float32)

    return run


def _concat(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    return np.concatenate(inputs, axis=1 + attrs["axis"])


def _max_pool(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    view = windows(inputs[0], attrs["kernel"], attrs, shape, -np.inf)
    y = view[:, :, :, 0, 0].copy()
    for i, j in np.ndindex(*attrs["kernel"]):
        np.maximum(y, view[:, :, :, i, j], out=y)
    return y


def _avg_pool(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    total = windows(inputs[0], attrs["kernel"], attrs, shape, 0.0).sum(axis=(3, 4), dtype=np.float64)
    ones = np.ones((1, *inputs[0].shape[1:3], 1), np.float32)
    count = windows(ones, attrs["kernel"], attrs, shape, 0.0).sum(axis=(3, 4))
    return np.asarray(total / count, np.float32)


def _mean(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    return np.asarray(inputs[0].mean(axis=(1, 2), keepdims=True, dtype=np.float64), np.float32)


def _pad(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    return np.pad(inputs[0], ((0, 0), *attrs["pad"]), constant_values=attrs["value"])


def _reshape(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    return inputs[0].reshape(len(inputs[0]), *shape)


def _transpose(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    return inputs[0].transpose(0, *(p + 1 for p in attrs["perm"]))


def _softmax(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    z = attrs.get("beta", 1.0) * inputs[0].astype(np.float64)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True), np.float32)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -80.0, None))))


#: Canonical unary functions on arrays of real numbers, parameters by keyword.
UNARY: dict[str, Callable[..., Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "clip": lambda x, low=None, high=None: np.clip(x, low, high),
    "leaky_relu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "requantize": lambda x: x,
    "neg": np.negative,
    "abs": np.abs,
    "exp": np.exp,
}  # fmt: skip


def _unary(inputs: list[Floats], attrs: Attrs, shape: Shape) -> Floats:
    return np.asarray(UNARY[attrs["fn"]](inputs[0].astype(np.float64), **attrs.get("params", {})), np.float32)


_OPS: dict[str, Callable[[list[Floats], Attrs, Shape], Floats]] = {
    "conv2d": _conv2d, "depthwise_conv2d": _depthwise_conv2d, "fully_connected": _fully_connected,
    "add": _arithmetic(np.add), "sub": _arithmetic(np.subtract), "mul": _arithmetic(np.multiply),
    "concat": _concat, "max_pool": _max_pool, "avg_pool": _avg_pool, "mean": _mean, "pad": _pad,
    "reshape": _reshape, "transpose": _transpose, "unary": _unary, "softmax": _softmax,
}  # fmt: skip
