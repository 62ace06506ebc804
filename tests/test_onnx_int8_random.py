"""Random small networks in int8: the twin equals the integer reference, poisoned, in bands, by anyone's kernels."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph
from dhn_kit.hookpoints import find_points
from dhn_kit.int_reference import run_int8
from dhn_kit.kernels import list_architectures
from dhn_kit.lower import lower
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import Pack, _Made, _packed, pack
from dhn_kit.patch import _lengths, _Region
from dhn_kit.poison import poisoned
from dhn_kit.quantize import METHODS, Method, quantize
from dhn_kit.twin import Twin
from onnx_models import Net, random_inputs
from test_onnx_import_random import QUICK, STEPS

ARCHITECTURES = st.sampled_from(list_architectures())


def assert_exact(graph: Graph, method: Method, arch: str) -> Graph:
    inputs = random_inputs(graph, 4)
    quantized = quantize(graph, inputs, method)
    ints = [quantized.quantize_input(x, i) for i, x in enumerate(inputs)]
    expected = run_int8(quantized, ints)
    main = pack(quantized)
    written = [n.output for n in quantized.nodes]
    result = Twin(main, threads=1).run(ints, taps=written)
    for name in written:
        assert (result.layers[name] == expected[name]).all(), name
    for other in (main, pack(quantized, arch), in_bands(quantized, arch)):
        assert (Twin(poisoned(other), threads=1).run(ints).output == result.output).all()
    return quantized


def in_bands(graph: Graph, arch: str) -> Pack:
    """With as many first operators as possible in two bands of rows, whether that saves RAM or not."""
    lowered, points = lower(graph), find_points(graph)
    for count in list(_lengths(lowered))[::-1]:
        region = _Region(lowered, count)
        if region.rows > 1:
            patched = region.patched(points, 2)
            return _packed(patched.lowered, patched.points, _Made(arch))
    return pack(graph, arch)


@settings(QUICK, max_examples=120)
@given(st.data())
def test_any_chain_that_is_imported_is_exact_in_int8(data: st.DataObject) -> None:
    shape = [1, *data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=3))]
    net = Net(("N", *shape[1:]))
    for _ in range(data.draw(st.integers(1, 6))):
        shape = data.draw(st.sampled_from(STEPS))(net, data, shape)
    assume(math.prod(shape) < 5000 and net.nodes)
    try:
        graph = import_onnx(net.model().SerializeToString())
    except DhnError:
        return
    assert_exact(graph, data.draw(st.sampled_from(METHODS)), data.draw(ARCHITECTURES))


@settings(QUICK, max_examples=40)
@given(st.data())
def test_branches_that_meet_are_exact_in_int8(data: st.DataObject) -> None:
    """Two branches from one convolution, one of them possibly pooled or padded, joined or summed; then a classifier."""
    net = Net(("N", 3, 6, 6))
    stem = net.conv(4, 3, (3, 3), pads=[1, 1, 1, 1])
    branches = []
    for _ in range(data.draw(st.integers(2, 3))):
        net.last = stem
        step = data.draw(st.sampled_from(["conv", "MaxPool", "AveragePool", "HardSwish", "Sigmoid", "pad", "Identity"]))
        if step == "conv":
            net.conv(4, 4, (3, 3), pads=[1, 1, 1, 1], group=data.draw(st.sampled_from([1, 4])))
        elif step == "pad":
            net.conv(4, 4, (3, 3))
            net.add("Pad", net.ints([0, 0, 1, 1, 0, 0, 1, 1]), net.const(data.draw(st.sampled_from([0.0, -7.5, 0.3]))))
        else:
            pool = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]} if step.endswith("Pool") else {}
            net.add(step, **pool)
        branches.append(net.last)
    if data.draw(st.booleans()):
        net.add("Concat", "@", *branches[:-1], axis=data.draw(st.integers(1, 3)))
    else:
        net.add(data.draw(st.sampled_from(["Add", "Sub", "Mul"])), "@", branches[0])
    net.add("Relu")
    net.add("Flatten")
    quantized = assert_exact(net.graph(), data.draw(st.sampled_from(METHODS)), data.draw(ARCHITECTURES))
    assert np.isfinite([t.quant.scale for t in quantized.tensors.values() if t.quant]).all()
