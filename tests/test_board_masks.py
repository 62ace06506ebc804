"""What masks leave out is not executed: instructions on an emulated Cortex-M4F, gates and their network included."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dhn_kit.boards import load_board
from dhn_kit.bundle import pack_bundle
from dhn_kit.hooks import Bundle
from dhn_kit.latency import load_latency
from dhn_kit.pack import Pack, pack
from dhn_kit.playback import install, play, powered
from dhn_kit.train.certify import predicted_costs, run_gated
from dhn_kit.train.data import split_from_inputs
from dhn_kit.twin import Twin
from nets import Net
from test_variants import mask_hook

#: Largest relative error of a predicted run.
WITHIN = 0.05


def net_of(kind: str) -> tuple[Pack, Net]:
    """1 x 1 layers of 64 channels, or a residual block of 16 channels on 16 rows: where each kind pays."""
    net = Net((16, 8, 8), 5)
    if kind == "channel":
        x = net.conv("x", 64, 1)
        for _ in range(3):
            x = net.conv(net.depthwise(x), 64, 1)
    else:
        x = net.block(net.conv("x", 16), 16)
    net.fc(net.mean(x), 5)
    return pack(net.done(), "armv7em", hooks=[kind], latency=load_latency("qemu-cortex-m4")), net


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["channel", "spatial"])
def test_shut_gates_save_the_instructions_that_are_predicted(kind: str, tmp_path: Path) -> None:
    main, net = net_of(kind)
    board, x = load_board("qemu-cortex-m4"), net.inputs(12)
    assert main.gates
    hooks = [replace(mask_hook(main, g, 0, i), name=f"mask {i}") for i, g in enumerate(main.gates)]
    bundle = Bundle(hooks, ["masked"])
    data = pack_bundle(main, bundle)
    with powered(main, board, tmp_path) as (session, _):
        plain = play(session.client, board, x, "detached")
        install(session.client, data)
        masked = play(session.client, board, x)
    twin = Twin(main, data).run(x)
    assert (masked.output == twin.output).all() and (masked.scores == twin.scores).all()
    assert (plain.output == Twin(main).run(x).output).all()
    assert plain.instructions is not None and masked.instructions is not None
    (outcome,) = run_gated(main, bundle, split_from_inputs(main, x), predicted_costs(main, load_latency(board.name)))
    ratio = masked.instructions.mean() / plain.instructions.mean()
    error = masked.instructions / outcome.cost - 1
    total = sum(g.count for g in main.gates)
    print(
        f"{kind}: {twin.scores.sum(axis=1).mean():.1f} of {total} gates open, {ratio:.3f} of the instructions, "
        f"predicted within {np.abs(error).max():.1%}"
    )
    assert ratio < 0.96 and np.abs(error).max() < WITHIN
