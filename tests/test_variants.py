"""Layers with variants: nothing changes while hooks are detached, and masks leave out what the reference leaves out."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from dhn_kit import records
from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Graph, Quant
from dhn_kit.hooks import ALWAYS, NEVER, SILENT, Bundle, HookSpec
from dhn_kit.int_reference import run_int8
from dhn_kit.latency import load_latency
from dhn_kit.lower import lower
from dhn_kit.memory import place, steps_of
from dhn_kit.pack import Pack, load_pack, pack
from dhn_kit.poison import poisoned
from dhn_kit.twin import Twin
from dhn_kit.unpack import unpack
from dhn_kit.variants import Gates, band_count, gate_count
from nets import Net
from test_runtime import refit

KINDS = ("channel", "spatial")


def residual_net(seed: int = 0) -> tuple[Graph, Net]:
    """Two residual blocks of 8 and 16 channels on 16 x 16 x 3, with enough rows and channels for gates."""
    net = Net((16, 16, 3), seed)
    x = net.conv("x", 8)
    x = net.block(x, 8)
    x = net.block(x, 16, 2)
    net.fc(net.mean(x), 5)
    return net.done(), net


def separable_net(seed: int = 0) -> tuple[Graph, Net]:
    """Depthwise and 1 x 1 layers in turn."""
    net = Net((12, 8, 4), seed)
    x = net.conv("x", 16, 1)
    for _ in range(3):
        x = net.conv(net.depthwise(x), 16, 1)
    net.fc(net.mean(x), 5)
    return net.done(), net


NETS = {"residual": residual_net, "separable": separable_net}


def scores(main: Pack, point: int, count: int, seed: int) -> Graph:
    """A random linear score per gate on the point's feature."""
    p = main.points[point]
    net = Net(p.feature_shape, seed)
    net.graph.tensors["x"].quant = p.tap_quant
    flat = net.node("reshape", ["x"], (1, 1, int(np.prod(p.feature_shape))), p.tap_quant)
    return net.done(net.fc(flat, count, Quant(0.02, 0)))


def mask_hook(main: Pack, gates: Gates, threshold: int, seed: int = 0) -> HookSpec:
    point = max(p.index for p in main.points if p.node <= gates.node)
    net = scores(main, point, gates.count, seed)
    spatial = gates.kind == "spatial"
    return HookSpec(point, "mask", net, [threshold], "value", group=gates.group, mask_groups=spatial, name="mask")


def shut_of(
    main: Pack, hooks: Sequence[HookSpec], all_gates: Sequence[Gates], graph: Graph, x: Array
) -> dict[str, Array]:
    """What the hooks leave out of each tensor, one hook after the other, by the integer reference."""
    shut: dict[str, Array] = {}
    for hook, gates in zip(hooks, all_gates, strict=True):
        point = main.points[hook.point]
        tap = Twin(main, pack_bundle(main, Bundle(list(hooks), ["a"]))).run(x, features=True).features[hook.point]
        value = run_int8(hook.net, tap.reshape(len(x), *point.feature_shape))[hook.net.outputs[0].tensor]
        off = value.reshape(len(x), gates.count) < hook.thresholds[0]
        for tensor in gates.tensors:
            h, _, c = graph.tensors[tensor].shape
            if gates.kind == "channel":
                shut[tensor] = np.repeat(off, c // gates.count, axis=1)[:, None, None, :]
            else:
                shut[tensor] = np.repeat(off, h // gates.count, axis=1)[:, :, None, None]
    return shut


@pytest.mark.parametrize("arch", ["ref", "armv7em"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_masks_leave_out_what_the_reference_leaves_out(make, kind: str, arch: str) -> None:  # type: ignore[no-untyped-def]
    graph, net = make()
    main, x = pack(graph, arch, hooks=[kind]), net.inputs(16)
    assert main.gates
    some = 0
    for number, gates in enumerate(main.gates):
        hook = mask_hook(main, gates, 0, number)
        shut = shut_of(main, [hook], [gates], graph, x)
        result = Twin(main, pack_bundle(main, Bundle([hook], ["a"]))).run(x, taps=gates.tensors)
        expected = run_int8(graph, x, shut)
        last = gates.tensors[-1:] if kind == "channel" else gates.tensors
        for tensor in last:
            # Between them, a layer that treats channels one by one may hold anything in those that are shut.
            keep = ~np.broadcast_to(shut[tensor], expected[tensor].shape)
            assert (result.layers[tensor] == expected[tensor])[keep].all()
        assert (result.output == expected[graph.outputs[0].tensor].reshape(16, -1)).all()
        off = next(iter(shut.values())).reshape(16, -1)
        per_gate = off.shape[1] // gates.count
        assert (result.scores[:, 0] == gates.count - off.sum(axis=1) // per_gate).all()
        assert (result.decisions[:, 0] == np.where(off.any(axis=1), 2, 1)).all()
        some += int((off.any(axis=1) & ~off.all(axis=1)).sum())
    assert some, "no input has some gates open and some shut"


@pytest.mark.parametrize("kinds", [("channel",), ("spatial",), KINDS], ids="+".join)
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_detached_and_all_open_equal_the_plain_pack(make, kinds: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    graph, net = make()
    x = net.inputs(8)
    plain = Twin(pack(graph, "armv7em")).run(x)
    main = pack(graph, "armv7em", hooks=kinds)
    assert (Twin(main).run(x).output == plain.output).all()
    for threshold in (ALWAYS, SILENT, NEVER):
        hooks = [mask_hook(main, g, threshold, i) for i, g in enumerate(main.gates)]
        assert (Twin(main, pack_bundle(main, Bundle(hooks, ["a"]))).run(x).output == plain.output).all()


@pytest.mark.parametrize("kinds", [("channel",), ("spatial",), KINDS], ids="+".join)
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_dead_bytes_may_hold_anything_whatever_is_selected(make, kinds: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    graph, net = make()
    main, x = pack(graph, "armv7em", hooks=kinds), net.inputs(16)
    hooks = [mask_hook(main, g, 0, i) for i, g in enumerate(main.gates)]
    expected = Twin(main, pack_bundle(main, Bundle(hooks, ["a"]))).run(x)
    dirty = poisoned(main)
    found = Twin(dirty, pack_bundle(dirty, Bundle(hooks, ["a"]))).run(x)
    assert (found.output == expected.output).all() and (found.decisions == expected.decisions).all()
    assert (Twin(dirty).run(x).output == Twin(main).run(x).output).all()


def test_variants_that_write_the_same_bytes_are_one_step_and_cost_no_arena() -> None:
    graph, _ = separable_net()
    lowered = lower(graph)
    whole = place(lowered, [], steps_of(lowered, []))
    twice = [dataclasses.replace(op, group=i + 1, variant=v) for i, op in enumerate(lowered.ops) for v in (0, 1)]
    both = dataclasses.replace(lowered, ops=twice)
    steps = steps_of(both, [])
    assert steps == [("op", 2 * i) for i in range(len(lowered.ops))]
    assert place(both, [], steps).size == whole.size


def test_a_pack_file_knows_its_gates(tmp_path) -> None:  # type: ignore[no-untyped-def]
    graph, _ = residual_net()
    main = pack(graph, hooks=KINDS)
    main.save(tmp_path / "m.dhn")
    assert load_pack(tmp_path / "m.dhn").gates == main.gates
    assert {g.kind for g in main.gates} == {"channel"}, "a layer whose channels are gated has no bands"
    assert sum(o.macs for o in main.full_run) == sum(o.macs for o in pack(graph).ops)


def test_gates_share_channels_and_rows_evenly() -> None:
    assert [gate_count(c) for c in (4, 8, 12, 16, 24, 32, 64, 96, 7)] == [0, 2, 3, 4, 6, 8, 8, 8, 0]
    assert [band_count(h) for h in (32, 28, 16, 14, 8, 7, 2)] == [8, 7, 4, 2, 2, 0, 0]


def test_a_layer_that_only_reads_gated_channels_stays_plain_where_that_is_cheaper() -> None:
    graph, net = residual_net()
    main = pack(graph, "armv7em", hooks=["channel"], latency=load_latency("qemu-cortex-m4"))
    first, second = ([o for o in main.ops if o.group == main.gates[-1].group and o.node == n] for n in (5, 6))
    assert [o.variant for o in first] == [0, 1] and second == []
    x, hook = net.inputs(16), mask_hook(main, main.gates[-1], 0)
    shut = shut_of(main, [hook], main.gates[-1:], graph, x)
    found = Twin(main, pack_bundle(main, Bundle([hook], ["a"]))).run(x).output
    assert (found == run_int8(graph, x, shut)[graph.outputs[0].tensor].reshape(16, -1)).all()


@pytest.mark.parametrize(
    ("field", "value"), [("in_group", 3), ("out_group", 5), ("out_group", 0), ("groups", 2), ("in_group", 65535)]
)
def test_gates_that_do_not_share_the_channels_evenly_are_refused(field: str, value: int) -> None:
    graph, _ = separable_net()
    main = pack(graph, hooks=["channel"])
    gated = [
        i for i in unpack(main.data).program if i.params and (i.params.get("out_group") or i.params.get("in_group"))
    ]
    data = bytearray(main.data)
    at = gated[0].offset + records.INSTR.size
    data[at : at + records.CONV_MASKED.size] = records.CONV_MASKED.pack(**{**(gated[0].params or {}), field: value})
    with pytest.raises(DhnError, match="the runtime refuses"):
        Twin(dataclasses.replace(main, data=refit(bytes(data))))


def test_gates_that_lie_outside_the_arena_are_refused() -> None:
    graph, _ = separable_net()
    main = pack(graph, hooks=["channel"])
    gated = next(i for i in unpack(main.data).program if i.params and i.params.get("out_group"))
    data = bytearray(main.data)
    fields = {**gated.fields, "in1": main.arena_bytes - 1}
    data[gated.offset : gated.offset + records.INSTR.size] = records.INSTR.pack(**fields)
    with pytest.raises(DhnError, match="the runtime refuses"):
        Twin(dataclasses.replace(main, data=refit(bytes(data))))
