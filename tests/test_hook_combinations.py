"""Hooks of every kind together, in any combination: the board computes what the twin computes, and detached nothing."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from dhn_kit.boards import load_board
from dhn_kit.bundle import pack_bundle
from dhn_kit.graph import Array, Graph, Port
from dhn_kit.hooks import ALWAYS, PACKED_KINDS, Bundle, HookSpec
from dhn_kit.pack import Pack, pack
from dhn_kit.playback import install, play, powered
from dhn_kit.poison import poisoned
from dhn_kit.precision import choose_bits
from dhn_kit.twin import Twin
from nets import Net
from test_hook_actions import head, reuse_hook
from test_runtime import gate_net
from test_variants import mask_hook

#: Everything that `train --hooks` takes but "zero", which is a choice of kernels in the pack.
KINDS = ("reuse", "select", "input", "exit", "skip", "channel", "spatial", "bits", "blend")


def network() -> tuple[Graph, Graph, Net]:
    """A network in which every kind has a place, one that may run instead, and a source of inputs."""
    net = Net((16, 8, 4), 5)
    x = net.conv("x", 10)
    shortcut = net.graph.tensors[x].quant
    x = net.block(x, 10)  # too few channels to gate them, but rows
    net.graph.tensors[x].quant = shortcut  # a skip without repair copies
    x = net.conv(net.depthwise(net.conv(x, 64, 1)), 64, 1)
    net.fc(net.mean(x), 5)
    small = Net((16, 8, 4), 6)
    small.fc(small.mean(small.conv("x", 4, stride=2)), 5, net.graph.tensors[net.graph.nodes[-1].output].quant)
    return net.done(), small.done(), net


def side_network(main: Pack) -> Graph:
    """Reads the whole input and keeps its scores for the blend."""
    answer = main.tensors[main.outputs[0].tensor]
    net = Net(main.points[0].tap_shape, 8)
    net.graph.tensors["x"].quant = main.points[0].tap_quant
    graph = net.done(net.fc(net.mean(net.conv("x", 4, stride=2)), answer.size, answer.quant))
    graph.inputs = [Port("x", "tap", main.points[0].tap_shape)]
    return graph


def hooks_of(main: Pack, kind: str) -> list[HookSpec]:
    """Untrained hooks whose scores vary from input to input."""
    points, final = main.points, len(main.points) - 1
    if kind == "exit":
        return [HookSpec(1, "exit", head(main, 1, 3), [4], name="exit", kind="exit")]
    if kind == "input":
        return [HookSpec(0, "exit", side_network(main), [15], name="input", kind="input")]
    if kind == "blend":
        return [HookSpec(final, "blend", head(main, final, 5), [ALWAYS], name="blend", kind="blend")]
    if kind == "reuse":
        return [reuse_hook(main, 100)]
    if kind == "skip":
        branch = next(p for p in points if p.skip)
        return [HookSpec(branch.index, "skip", gate_net(main, branch.index), [6], "value", name="skip", kind="skip")]
    if kind in ("channel", "spatial"):
        return [mask_hook(main, g, 0, i) for i, g in enumerate(main.gates) if g.kind == kind]
    selections = [s for s in main.selections if s.kind == kind]
    return [
        HookSpec(s.point, "select", gate_net(main, s.point), [0], "value", group=s.group, name=f"{kind} {s.group}")
        for s in selections
    ]


def bundle_of(main: Pack, kinds: tuple[str, ...], version: int) -> bytes:
    hooks = [h for kind in kinds for h in hooks_of(main, kind)]
    for number, hook in enumerate(hooks):
        hook.name = f"{hook.name} {number}"
    return pack_bundle(main, Bundle(hooks, ["only"], version=version))


def everything() -> tuple[Pack, Array, Graph]:
    graph, small, net = network()
    x = net.inputs(24)
    x[5], x[6], x[13] = x[4], x[4], x[12]  # repeats, for what remembers
    narrow = choose_bits(graph, x, "4", "armv7em").graph
    main = pack(graph, "armv7em", hooks=PACKED_KINDS, keep=2048, narrow=narrow, small=small)
    return main, x, graph


def combinations(count: int) -> list[tuple[str, ...]]:
    """Each kind alone, all together, and others by lot."""
    rng = random.Random(4)
    drawn = [tuple(k for k in KINDS if rng.random() < 0.6) for _ in range(count)]
    return [*((k,) for k in KINDS), KINDS, *(d for d in drawn if d)]


def test_every_kind_has_a_place_beside_the_others() -> None:
    main, x, graph = everything()
    assert {g.kind for g in main.gates} == {"channel", "spatial"}
    assert {s.kind for s in main.selections} == {"bits", "select"}
    plain = Twin(pack(graph, "armv7em")).run(x).output
    assert (Twin(main).run(x).output == plain).all()
    changed = {}
    for kinds in combinations(20):
        twin = Twin(main, bundle_of(main, kinds, 1), threads=1)
        assert (twin.run(x, mode="detached").output == plain).all()
        gated = twin.run(x)
        assert (gated.decisions == 2).any(), kinds
        changed[kinds] = bool((gated.output != plain).any())
    # What is reused here is the answer to the very same input.
    assert [kinds for kinds, does in changed.items() if not does] == [("reuse",)]


def test_no_combination_reads_a_byte_that_the_plan_calls_dead() -> None:
    main, x, _ = everything()
    dirty = poisoned(main)
    for kinds in combinations(6):
        clean = Twin(main, bundle_of(main, kinds, 1), threads=1).run(x)
        again = Twin(dirty, bundle_of(dirty, kinds, 1), threads=1).run(x)
        assert (clean.output == again.output).all() and (clean.decisions == again.decisions).all(), kinds


@pytest.mark.slow
def test_the_board_equals_the_twin_in_every_combination(tmp_path: Path) -> None:
    main, x, _ = everything()
    board = load_board("qemu-cortex-m4")
    with powered(main, board, tmp_path) as (session, _):
        plain = play(session.client, board, x, "detached")
        assert (plain.output == Twin(main).run(x).output).all()
        for version, kinds in enumerate(combinations(8), 1):
            data = bundle_of(main, kinds, version)
            install(session.client, data)
            found, expected = play(session.client, board, x), Twin(main, data, threads=1).run(x)
            assert np.array_equal(found.output, expected.output), kinds
            assert np.array_equal(found.decisions, expected.decisions), kinds
            assert np.array_equal(found.scores, expected.scores), kinds
            off = play(session.client, board, x[:4], "detached")
            assert np.array_equal(off.output, plain.output[:4])
