"""Random small networks: an import equals onnxruntime or is refused, and the ordinary ones are not refused."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dhn_kit.errors import DhnError
from dhn_kit.onnx_import import import_onnx
from onnx_models import Net, assert_equal_to_onnxruntime, assert_same, onnxruntime_outputs

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
Draw = st.DataObject


def window(data: Draw, spatial: int, dilation: bool) -> dict[str, object]:
    """Random stride, padding and dilation attributes."""
    attrs: dict[str, object] = {"strides": [data.draw(st.integers(1, 3)) for _ in range(spatial)]}
    if dilation:
        attrs["dilations"] = [data.draw(st.integers(1, 2)) for _ in range(spatial)]
    auto = data.draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto == "NOTSET":
        attrs["pads"] = [data.draw(st.integers(0, 1)) for _ in range(2 * spatial)]
    else:
        attrs["auto_pad"] = auto
    return attrs


def runs_in_onnxruntime(net: Net) -> bool:
    """False where the drawn window does not fit its input."""
    import numpy as np

    shape = [2 if isinstance(d, str) else d for d in net.inputs[0][1]]
    try:
        onnxruntime_outputs(net.model(), [np.zeros(shape, np.float32)])
    except Exception:
        return False
    return True


@QUICK
@given(st.data())
def test_convolutions_of_every_geometry_equal_onnxruntime(data: Draw) -> None:
    spatial = data.draw(st.integers(1, 2))
    groups = data.draw(st.sampled_from([1, 1, 2, 4]))
    channels = groups * data.draw(st.integers(1, 2))
    out = groups * data.draw(st.integers(1, 3))
    net = Net(("N", channels, *(data.draw(st.integers(5, 9)) for _ in range(spatial))))
    kernel = [data.draw(st.integers(1, 3)) for _ in range(spatial)]
    net.conv(out, channels, kernel, bias=data.draw(st.booleans()), group=groups, **window(data, spatial, True))
    if data.draw(st.booleans()):
        net.batch_norm(out)
    net.add(data.draw(st.sampled_from(["Relu", "LeakyRelu", "HardSwish", "Sigmoid", "Tanh", "Identity"])))
    assume(runs_in_onnxruntime(net))
    assert_same(net)


@QUICK
@given(st.data())
def test_pools_of_every_geometry_equal_onnxruntime(data: Draw) -> None:
    spatial = data.draw(st.integers(1, 2))
    net = Net(("N", 3, *(data.draw(st.integers(4, 9)) for _ in range(spatial))))
    op = data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    attrs = window(data, spatial, False)
    if "pads" in attrs:
        attrs["ceil_mode"] = data.draw(st.integers(0, 1))
    if op == "AveragePool":
        attrs["count_include_pad"] = data.draw(st.integers(0, 1))
    net.add(op, kernel_shape=[data.draw(st.integers(2, 3)) for _ in range(spatial)], **attrs)
    net.add("Relu")
    assume(runs_in_onnxruntime(net))
    assert_same(net)


def _reshape(net: Net, data: Draw, shape: list[int]) -> list[int]:
    """A random factorisation of the sample's size, the batch in front."""
    rest, dims = math.prod(shape[1:]), []
    for _ in range(data.draw(st.integers(0, 3))):
        divisors = [d for d in range(1, rest + 1) if rest % d == 0]
        dims.append(data.draw(st.sampled_from(divisors)))
        rest //= dims[-1]
    dims.append(rest)
    net.add("Reshape", net.ints([-1, *dims]))
    return [1, *dims]


def _transpose(net: Net, data: Draw, shape: list[int]) -> list[int]:
    perm = data.draw(st.permutations(range(1, len(shape))))
    net.add("Transpose", perm=[0, *perm])
    return [1, *(shape[p] for p in perm)]


def _constant(net: Net, data: Draw, shape: list[int]) -> list[int]:
    dims = [1, *(d if data.draw(st.booleans()) else 1 for d in shape[1:])]
    dims = dims[data.draw(st.integers(0, len(dims))) :]
    op = data.draw(st.sampled_from(["Add", "Sub", "Mul"]))
    c = net.randn(*dims)
    net.add(op, *(["@", c] if data.draw(st.booleans()) else [c, "@"]))
    return shape


def _matmul(net: Net, data: Draw, shape: list[int]) -> list[int]:
    if len(shape) < 2:
        return shape
    out = data.draw(st.integers(1, 6))
    net.add("MatMul", net.randn(shape[-1], out))
    return [*shape[:-1], out]


def _softmax(net: Net, data: Draw, shape: list[int]) -> list[int]:
    net.add("Softmax", axis=data.draw(st.integers(1, len(shape) - 1)))
    return shape


def _mean(net: Net, data: Draw, shape: list[int]) -> list[int]:
    axes = data.draw(st.sets(st.integers(1, len(shape) - 1), min_size=1))
    net.add("ReduceMean", axes=sorted(axes), keepdims=1)
    return [1 if i in axes else d for i, d in enumerate(shape)]


def _pad(net: Net, data: Draw, shape: list[int]) -> list[int]:
    before = [0, *(data.draw(st.integers(0, 1)) for _ in shape[1:])]
    after = [0, *(data.draw(st.integers(0, 1)) for _ in shape[1:])]
    net.add("Pad", net.ints([*before, *after]), net.const(0.5))
    return [b + d + a for b, d, a in zip(before, shape, after, strict=True)]


def _twice(net: Net, data: Draw, shape: list[int]) -> list[int]:
    """The tensor joined with, or added to, a permuted copy of itself."""
    x = net.last
    perm = data.draw(st.permutations(range(1, len(shape))))
    if [shape[p] for p in perm] == shape[1:]:
        net.add("Transpose", perm=[0, *perm])
    else:
        net.add("Abs")
    if data.draw(st.booleans()):
        net.add("Add", "@", x)
        return shape
    axis = data.draw(st.integers(1, len(shape) - 1))
    net.add("Concat", "@", x, axis=axis)
    return [2 * d if i == axis else d for i, d in enumerate(shape)]


def _convolve(net: Net, data: Draw, shape: list[int]) -> list[int]:
    if len(shape) not in (3, 4):
        return shape
    out = data.draw(st.integers(1, 4))
    net.conv(out, shape[1], [1] * (len(shape) - 2))
    return [1, out, *shape[2:]]


STEPS = (_reshape, _transpose, _transpose, _constant, _constant, _matmul, _softmax, _mean, _pad, _twice, _convolve)


@settings(QUICK, max_examples=250)
@given(st.data())
def test_any_chain_of_views_and_arithmetic_is_equal_or_refused(data: Draw) -> None:
    shape = [1, *data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=3))]
    net = Net(("N", *shape[1:]))
    for _ in range(data.draw(st.integers(1, 7))):
        shape = data.draw(st.sampled_from(STEPS))(net, data, shape)
    assume(math.prod(shape) < 5000 and net.nodes)
    model = net.model()
    try:
        graph = import_onnx(model.SerializeToString())
    except DhnError as error:
        assert "report this model" not in str(error), error
        return
    assert_equal_to_onnxruntime(graph, model, batch=2)


@QUICK
@given(st.data())
def test_small_classifiers_in_either_layout_are_never_refused(data: Draw) -> None:
    channels_last = data.draw(st.booleans())
    h, w, c = (data.draw(st.integers(5, 8)) for _ in range(3))
    net = Net(("N", h, w, c) if channels_last else ("N", c, h, w))
    net.add("Mul", net.const(0.5))
    if channels_last:
        net.add("Transpose", perm=[0, 3, 1, 2])
    x = net.conv(4, c, (3, 3), pads=[1, 1, 1, 1])
    net.batch_norm(4)
    net.add("Clip", net.const(0), net.const(6))
    net.conv(4, 4, (3, 3), pads=[1, 1, 1, 1], group=data.draw(st.sampled_from([1, 2, 4])))
    net.add("Add", "@", x)
    net.add(data.draw(st.sampled_from(["Relu", "HardSwish"])))
    head = data.draw(st.sampled_from(["gap", "mean", "flatten", "nhwc_flatten"]))
    features = 4
    if head == "gap":
        net.add("GlobalAveragePool")
        net.add("Flatten")
    elif head == "mean":
        net.add("ReduceMean", axes=[2, 3], keepdims=0)
    else:
        if head == "nhwc_flatten":
            net.add("Transpose", perm=[0, 2, 3, 1])
        net.add("Reshape", net.ints([-1, 4 * h * w]))
        features = 4 * h * w
    net.add("Gemm", net.randn(5, features), net.randn(5), transB=1)
    if data.draw(st.booleans()):
        net.add("Softmax", axis=1)
    graph = assert_same(net)
    assert all(n.op != "transpose" for n in graph.nodes)
    assert graph.inputs[0].scale == 0.5
