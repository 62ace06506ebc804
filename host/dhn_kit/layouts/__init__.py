"""Host-made constants of kernels: one function per layout that kernels.toml names."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from functools import partial

from dhn_kit.kernels import Kernel
from dhn_kit.layouts import add, common, depthwise, direct, fully_connected, mve, scalar, winograd
from dhn_kit.layouts.common import Call, Layout, Prepared, Unfit

__all__ = ["LAYOUTS", "Call", "Layout", "Prepared", "Unfit", "prepare"]

LAYOUTS: dict[str, Layout] = {
    "tflite": common.tflite,
    "conv_pairs": scalar.conv_pairs,
    "conv_quads": scalar.conv_quads,
    "conv_quads_biased": scalar.conv_quads_biased,
    "fc_fields": scalar.fc_fields,
    "fc_quads": scalar.fc_quads,
    "fc_sparse_quads": scalar.fc_sparse,
    "fc_word_pairs": scalar.fc_word_pairs,
    "fc_halves_4": partial(scalar.fc_halves, channels=4),
    "fc_halves_8": partial(scalar.fc_halves, channels=8),
    "depthwise_taps": scalar.depthwise_taps,
    "conv_s8": direct.conv_s8,
    "conv_s8_gated": direct.conv_s8_gated,
    "conv_w16": direct.conv_w16,
    "conv_any": direct.conv_any,
    "conv_w4": direct.conv_w4,
    "conv_w2": direct.conv_w2,
    "depthwise_3x3": depthwise.depthwise_3x3,
    "depthwise_any": depthwise.depthwise_any,
    "fc_pairs": fully_connected.fc_pairs,
    "fc_sparse": fully_connected.fc_sparse,
    "add_shifted": add.add_shifted,
    "add_exact": add.add_exact,
    "winograd_2x2": winograd.winograd_2x2,
    "winograd_4x4": winograd.winograd_4x4,
    "winograd_4x4_lean": winograd.winograd_4x4_lean,
    "winograd_4x4_lean_scalar": winograd.winograd_4x4_lean_scalar,
    "winograd_4x4_scalar": winograd.winograd_4x4_scalar,
    **mve.LAYOUTS,
}


def prepare(kernel: Kernel, call: Call) -> Prepared:
    """The constants of `call` for `kernel`. Unfit: its condition or its layout rules the layer out."""
    if kernel.record is call.record and not kernel.covers(call.values):
        raise Unfit("shape")
    prepared = LAYOUTS[kernel.layout](call)
    if not kernel.covers(prepared.values):
        raise Unfit("shape")
    common.check(kernel, prepared)
    return prepared
