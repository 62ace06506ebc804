"""A convolution that leaves out channels equals the integer reference with those channels at real zero."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from dhn_kit import kernel_rig, records
from dhn_kit.int_reference import run_int8
from dhn_kit.kernels import all_by_name
from dhn_kit.layouts import prepare
from dhn_kit.lower import lower
from kernel_cases import Layer, case_of, masked
from nets import Net

KERNELS = ["dhn_conv_masked_s8__ref", "dhn_conv_masked_s8__armv7em"]


def pair() -> tuple[Net, str, str]:
    """Two convolutions, 8 channels between them."""
    net = Net((6, 5, 4), 3)
    first = net.conv("x", 8)
    second = net.conv(first, 6, relu=False)
    net.done()
    return net, first, second


def run(kernel: str, layer: Layer, gate: bytes) -> np.ndarray:
    case = case_of(all_by_name()[kernel], layer)
    case = kernel_rig.Case(case.kernel, case.params, case.consts, case.in0, gate, case.out_bytes, case.scratch_bytes)
    (outcome,) = kernel_rig.run_on_twin([case])
    assert not outcome.faults
    return np.frombuffer(outcome.output, np.int8)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_masked_layer_and_the_one_behind_it_equal_the_reference_with_channels_at_zero(kernel: str) -> None:
    net, first, second = pair()
    a, b = lower(net.graph).ops
    x = net.inputs(1)
    gate = np.array([1, 0], np.int8)  # of four channels each
    shut = np.repeat(gate == 0, 4)
    expected = run_int8(net.graph, x, {first: shut})
    layer = Layer("a", a.call, x.tobytes(), a.outputs, in1=b"")
    made = run(kernel, masked(layer, (0, 2)), gate.tobytes())
    assert (made == expected[first].ravel()).all()
    layer = Layer("b", b.call, made.tobytes(), b.outputs, in1=b"")
    assert (run(kernel, masked(layer, (2, 0)), gate.tobytes()) == expected[second].ravel()).all()
    # What a shut channel holds does not matter.
    noise = np.where(shut, 55, made.reshape(-1, 8)).astype(np.int8)
    layer = Layer("b", b.call, noise.tobytes(), b.outputs, in1=b"")
    assert (run(kernel, masked(layer, (2, 0)), gate.tobytes()) == expected[second].ravel()).all()


def test_plain_and_masked_kernels_have_the_same_weights_in_flash() -> None:
    net, _, _ = pair()
    for op in lower(net.graph).ops:
        layer = masked(Layer("", op.call, b"", 0, in1=b""), (1, 1))
        plain = prepare(all_by_name()["dhn_conv_s8__armv7em"], op.call)
        gated = prepare(all_by_name()["dhn_conv_masked_s8__armv7em"], layer.call)
        assert plain.consts["weight"] == gated.consts["weight"]
        assert gated.record is records.CONV_MASKED
