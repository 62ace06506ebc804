"""The runtime loads what the packer writes, refuses what was damaged, and gates as it should."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import random
import zlib

import numpy as np
import pytest

from dhn_kit import records
from dhn_kit.bundle import bundle_file, load_bundle, pack_bundle, save_bundle
from dhn_kit.errors import DhnError
from dhn_kit.graph import Graph
from dhn_kit.hooks import ALWAYS, NEVER, Bundle, Certificate, HookSpec
from dhn_kit.int_reference import run_int8
from dhn_kit.kernels import all_by_name, list_architectures
from dhn_kit.latency import KernelLatency, LatencyModel
from dhn_kit.pack import Pack, load_pack, pack
from dhn_kit.poison import poisoned
from dhn_kit.twin import Twin
from dhn_kit.unpack import unpack
from nets import Net, residual_net


def exit_net(main: Pack, point: int, seed: int = 7) -> Graph:
    """A linear head from a point's feature to the main output's quantisation."""
    p = main.points[point]
    net = Net(p.feature_shape, seed)
    net.graph.tensors["x"].quant = p.tap_quant
    flat = net.node("reshape", ["x"], (1, 1, int(np.prod(p.feature_shape))), p.tap_quant)
    out = main.tensors[main.outputs[0].tensor]
    return net.done(net.fc(flat, out.size, out.quant))


def gate_net(main: Pack, point: int) -> Graph:
    p = main.points[point]
    net = Net(p.feature_shape, 9)
    net.graph.tensors["x"].quant = p.tap_quant
    flat = net.node("reshape", ["x"], (1, 1, int(np.prod(p.feature_shape))), p.tap_quant)
    return net.done(net.fc(flat, 1))


def test_the_runtime_computes_what_the_integer_reference_computes_in_every_tensor() -> None:
    graph, net = residual_net()
    x = net.inputs(20)
    expected = run_int8(graph, x)
    result = Twin(pack(graph)).run(x, taps=[n.output for n in graph.nodes])
    for name, value in result.layers.items():
        assert (value == expected[name]).all(), name
    assert (result.output == expected[graph.outputs[0].tensor].reshape(20, -1)).all()


def test_hook_points_do_not_change_any_output() -> None:
    graph, net = residual_net()
    x = net.inputs(8)
    with_points, without = pack(graph), pack(graph, hooks=False)
    assert len(with_points.points) >= 4 and not without.points
    assert (Twin(with_points).run(x).output == Twin(without).run(x).output).all()


def test_residual_branches_are_found_with_their_shortcuts() -> None:
    graph, _ = residual_net()
    skips = {p.name: p.skip for p in pack(graph).points if p.skip}
    adds = [n.output for n in graph.nodes if n.op == "add"]
    assert [s[1] for s in skips.values() if s] == adds


def test_an_exit_answers_with_its_head_and_stops_the_run() -> None:
    graph, net = residual_net()
    main, x = pack(graph), net.inputs(30)
    head = exit_net(main, 2)
    feature = Twin(main).run(x, features=True).features[2]
    expected = run_int8(head, feature.reshape(30, *main.points[2].feature_shape))[head.outputs[0].tensor]
    sorted_scores = np.sort(expected.reshape(30, -1).astype(int), axis=1)
    margin = sorted_scores[:, -1] - sorted_scores[:, -2]
    threshold = int(np.median(margin)) + 1
    data = pack_bundle(main, Bundle([HookSpec(2, "exit", head, [NEVER, threshold, ALWAYS])], ["off", "half", "all"]))
    twin, plain = Twin(main, data), Twin(main).run(x).output
    assert (twin.run(x, point=0).output == plain).all()
    half = twin.run(x, point=1)
    assert (half.scores[:, 0] == margin).all()
    left = margin >= threshold
    assert ((half.exit_hook == 0) == left).all() and 0 < left.sum() < 30
    assert (half.output[left] == expected.reshape(30, -1)[left]).all()
    assert (half.output[~left] == plain[~left]).all()
    assert (twin.run(x, point=2).exit_hook == 0).all()


def test_shadow_and_detached_runs_give_the_full_networks_answer() -> None:
    graph, net = residual_net()
    main, x = pack(graph), net.inputs(10)
    data = pack_bundle(main, Bundle([HookSpec(1, "exit", exit_net(main, 1), [ALWAYS])], ["all"]))
    twin, plain = Twin(main, data), Twin(main).run(x).output
    shadow = twin.run(x, mode="shadow")
    assert (shadow.output == plain).all() and (shadow.decisions[:, 0] == 2).all() and (shadow.exit_hook == -1).all()
    assert (twin.run(x, mode="detached").output == plain).all()


@pytest.mark.parametrize("name", ["block0.branch", "block1.branch"])
def test_a_skip_without_repair_passes_the_shortcut_on(name: str) -> None:
    graph, net = residual_net()
    adds = [n for n in graph.nodes if n.op == "add"]
    for node in adds:  # the copy needs one quantisation on both sides
        graph.tensors[node.output].quant = graph.tensors[node.inputs[1]].quant
    main, x = pack(graph), net.inputs(10)
    point = next(p for p in main.points if p.name == name)
    assert point.skip is not None
    source, target, _ = point.skip
    spec = HookSpec(point.index, "skip", gate_net(main, point.index), [ALWAYS], decide="value")
    result = Twin(main, pack_bundle(main, Bundle([spec], ["all"]))).run(x, taps=[source])
    following = graph.copy()
    index = next(i for i, n in enumerate(following.nodes) if n.output == target)
    following.nodes[index].op, following.nodes[index].inputs = "reshape", [source]
    expected = run_int8(following, x)[graph.outputs[0].tensor]
    assert (result.decisions == 2).all()
    assert (result.output == expected.reshape(10, -1)).all()


def test_no_live_byte_is_ever_called_dead() -> None:
    graph, net = residual_net(3)
    x = net.inputs(12)
    main = pack(graph)
    poison = poisoned(main)
    assert poison.header["program_bytes"] > main.header["program_bytes"]
    assert (Twin(poison).run(x).output == Twin(main).run(x).output).all()


def test_a_plan_that_calls_a_live_tensor_dead_is_caught_by_poison() -> None:
    graph, net = residual_net(3)
    x = net.inputs(12)
    main = pack(graph)
    shortcut = graph.nodes[0].output
    start, _, size = main.lifetimes[shortcut]
    wrong = dataclasses.replace(main, lifetimes={**main.lifetimes, shortcut: (start, start + 2, size)})
    assert (Twin(poisoned(wrong)).run(x).output != Twin(main).run(x).output).any()


def refit(data: bytes) -> bytes:
    """The CRC made right again, so that the checks behind it are reached."""
    crc = zlib.crc32(data[records.CRC_FROM :]).to_bytes(4, "little")
    return data[:12] + crc + data[16:]


def test_every_flipped_bit_is_refused_by_the_crc() -> None:
    main = pack(residual_net()[0])
    rng = random.Random(1)
    for _ in range(200):
        data = bytearray(main.data)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        with pytest.raises(DhnError, match="the runtime refuses"):
            Twin(dataclasses.replace(main, data=bytes(data)))


def any_choice(rng: random.Random) -> LatencyModel:
    """Every kernel has its chance: what each is said to cost is drawn by lot."""
    return LatencyModel(kernels={k: KernelLatency((("1", rng.uniform(1, 100)),)) for k in all_by_name()})


def hostile_net() -> tuple[Graph, Net]:
    """A residual network with a depthwise layer and a pool, so that most kernels find something to do."""
    net = Net((8, 8, 3), 1)
    x = net.block(net.conv("x", 8), 8)
    x = net.block(net.depthwise(x), 12, 2)
    pooled = net.node(
        "avg_pool", [x], (2, 2, 12), net.graph.tensors[x].quant, kernel=(2, 2), stride=(2, 2), pad=(0,) * 4
    )
    net.fc(net.mean(pooled), 5)
    return net.done(), net


@pytest.mark.parametrize("arch", list_architectures())
def test_hostile_packs_are_refused_or_stay_inside_their_arena(arch: str) -> None:
    """Damage with a right CRC: header, instructions, parameters and points. The twin checks guards around the arena."""
    graph, net = hostile_net()
    x = net.inputs(1)
    rng = random.Random(2)
    refused = 0
    for attempt in range(2400):
        if attempt % 300 == 0:
            main = pack(graph, arch, latency=any_choice(rng))
            program = main.header["program"]
        data = bytearray(main.data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            where = rng.randrange(program, len(data)) if rng.random() < 0.8 else rng.randrange(48, records.HEADER.size)
            data[where] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        if bytes(data) == main.data:
            continue
        damaged = dataclasses.replace(main, data=refit(bytes(data)))
        if damaged.header["arena_bytes"] > 1 << 24:
            continue
        try:
            Twin(damaged, threads=1).run(x)
        except DhnError:
            refused += 1
    assert refused > 800


def test_a_kernel_is_not_given_a_shape_that_it_does_not_cover() -> None:
    """Stride 2 for a kernel of stride 1 only, and a byte of scratch less than it uses: the loader refuses both."""
    main = pack(hostile_net()[0], "armv7em")
    found = 0
    for call in unpack(main.data).program:
        kernel = all_by_name().get(call.kernel)
        if kernel is None or call.params is None:
            continue
        if kernel.condition and "stride_h" in call.params and not kernel.covers({**call.params, "stride_h": 7}):
            data = bytearray(main.data)
            at = call.offset + records.INSTR.size
            data[at : at + kernel.record.size] = kernel.record.pack(**{**call.params, "stride_h": 7})
            with pytest.raises(DhnError, match="does not cover"):
                Twin(dataclasses.replace(main, data=refit(bytes(data))))
            found += 1
        if call.fields["scratch_bytes"]:
            data = bytearray(main.data)
            less = {**call.fields, "scratch_bytes": call.fields["scratch_bytes"] - 1}
            data[call.offset : call.offset + records.INSTR.size] = records.INSTR.pack(**less)
            with pytest.raises(DhnError, match="outside"):
                Twin(dataclasses.replace(main, data=refit(bytes(data))))
            found += 1
    assert found > 3


def changed(main: Pack, record: records.Record, at: int, **fields: int) -> Pack:
    """The pack with other fields in the record at ``at``, and a right CRC."""
    data = bytearray(main.data)
    data[at : at + record.size] = record.pack(**{**record.unpack(main.data, at), **fields})
    return dataclasses.replace(main, data=refit(bytes(data)))


def test_an_arena_that_references_cannot_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    main = pack(residual_net()[0])
    monkeypatch.setattr(Pack, "arena_bytes", main.arena_bytes)  # what the twin allocates
    with pytest.raises(DhnError, match="outside"):
        Twin(changed(main, records.HEADER, 0, arena_bytes=1 << 31))


@pytest.mark.parametrize("where", ["at itself", "inside an instruction", "behind the end", "before it"])
def test_a_skip_lands_on_a_later_instruction(where: str) -> None:
    main = pack(residual_net()[0])
    header = main.header
    offsets = [header["points"] + k * records.POINT.size for k in range(header["point_count"])]
    at, point = next((o, p) for o in offsets if (p := records.POINT.unpack(main.data, o))["skip_to"])
    lands = {
        "at itself": point["instr"],
        "inside an instruction": point["skip_to"] + 4,
        "behind the end": header["program"] + header["program_bytes"],
        "before it": header["program"],
    }
    Twin(changed(main, records.POINT, at, skip_to=point["instr"] + records.INSTR.size))
    with pytest.raises(DhnError, match="instructions are inconsistent"):
        Twin(changed(main, records.POINT, at, skip_to=lands[where]))


def test_a_bundle_for_another_model_is_refused() -> None:
    one, other = pack(residual_net(0)[0]), pack(residual_net(1)[0])
    data = pack_bundle(one, Bundle([HookSpec(1, "exit", exit_net(one, 1), [ALWAYS])], ["all"]))
    with pytest.raises(DhnError, match="another model"):
        Twin(other, data)


def test_a_hook_that_writes_outside_its_scratch_is_refused() -> None:
    main = pack(residual_net()[0])
    data = bytearray(pack_bundle(main, Bundle([HookSpec(1, "exit", exit_net(main, 1), [ALWAYS])], ["all"])))
    hook = records.HOOK.unpack(bytes(data), records.HEADER.unpack(bytes(data))["hooks"])
    first = hook["program"]
    instr = records.INSTR.unpack(bytes(data), first)
    instr["out"] = (instr["out"] + main.points[1].feature_shape[0] * 4096) % (main.arena_bytes // 2)
    data[first : first + records.INSTR.size] = records.INSTR.pack(**instr)
    with pytest.raises(DhnError, match=r"hook breaks the rules|outside"):
        Twin(main, refit(bytes(data)))


def test_packs_and_bundles_come_back_from_files_as_they_were(tmp_path) -> None:  # type: ignore[no-untyped-def]
    main = pack(residual_net()[0])
    main.save(tmp_path / "m.dhn")
    assert load_pack(tmp_path / "m.dhn") == main
    certificate = Certificate(0, "consistency", 0.01, 0.05, 500, 0, 0.006, "test", "00")
    bundle = Bundle([HookSpec(1, "exit", exit_net(main, 1), [5], name="e")], ["careful"], [certificate], 3)
    save_bundle(bundle_file(main, bundle), tmp_path / "h.dhn")
    back = load_bundle(tmp_path / "h.dhn")
    assert back == bundle_file(main, bundle) and back.version == 3 and back.model_hash == main.hash


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: b"nonsense", "not a dhn pack"),
        (lambda d: d[:300], "cut off"),
        (lambda d: d[:200] + b"\xff" + d[201:], "corrupted"),
        (lambda d: d[: records.HEADER.unpack(d)["bytes"]], "lacks its host part"),
    ],
)
def test_a_damaged_pack_file_gets_a_clear_error(tmp_path, damage, says: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "m.dhn"
    pack(residual_net()[0]).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DhnError, match=says):
        load_pack(path)


def test_packing_twice_gives_the_same_bytes() -> None:
    assert pack(residual_net()[0]).data == pack(residual_net()[0]).data
