"""Every action of a hook does on the twin what the format says, alone and beside others."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest

from dhn_kit import records
from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Graph, Node, Port, Quant, Tensor
from dhn_kit.hooks import ALWAYS, NEVER, SILENT, Bundle, HookSpec, PolicyRow
from dhn_kit.int_reference import run_int8
from dhn_kit.pack import Pack, pack
from dhn_kit.twin import Twin
from nets import Net, residual_net


def head(main: Pack, point: int, seed: int, reads: tuple[str, ...] = (), out: int | None = None) -> Graph:
    """A linear head over a point's feature and, added to it, what others have kept as "keep.NAME"."""
    p = main.points[point]
    net = Net(p.feature_shape, seed)
    net.graph.tensors["x"].quant = p.tap_quant
    answer = main.tensors[main.outputs[0].tensor]
    flat = net.node("reshape", ["x"], (1, 1, int(np.prod(p.feature_shape))), p.tap_quant)
    scores = net.fc(flat, out or answer.size, answer.quant)
    graph = net.done(scores)
    for name in reads:
        graph.tensors[name] = Tensor(name, answer.shape, answer.quant)
        graph.tensors["with " + name] = Tensor("with " + name, answer.shape, answer.quant)
        graph.nodes.append(Node("with " + name, "add", [scores, name], "with " + name, {"act_q": (-128, 127)}))
        graph.inputs.append(Port(name, f"keep.{name}", answer.shape))
        scores = "with " + name
    graph.outputs = [Port(scores, "score", answer.shape)]
    return graph


def run(main: Pack, hooks: list[HookSpec], x: Array, point: int = 0, threads: int | None = None):  # type: ignore[no-untyped-def]
    names = [f"point {k}" for k in range(len(hooks[0].thresholds))]
    return Twin(main, pack_bundle(main, Bundle(hooks, names)), threads).run(x, point=point)


def test_a_later_exit_reads_what_an_earlier_one_has_kept() -> None:
    graph, net = residual_net()
    main, x = pack(graph), net.inputs(12)
    first, second = head(main, 1, 3), head(main, 2, 4, ("early",))
    early = HookSpec(1, "exit", first, [SILENT], name="early", keeps={first.outputs[0].tensor: "early"})
    late = HookSpec(2, "exit", second, [ALWAYS], name="late")
    result = run(main, [early, late], x)
    features = Twin(main).run(x, features=True).features
    kept = run_int8(first, features[1].reshape(12, *main.points[1].feature_shape))[first.outputs[0].tensor]
    scores = run_int8(second, [features[2].reshape(12, *main.points[2].feature_shape), kept])[second.outputs[0].tensor]
    assert (result.exit_hook == 1).all() and (result.decisions == [1, 2]).all()
    assert (result.output == scores.reshape(12, -1)).all()


def test_what_is_read_must_have_been_kept_by_a_hook_that_is_asked() -> None:
    main = pack(residual_net()[0])
    first, second = head(main, 1, 3), head(main, 2, 4, ("early",))
    early = HookSpec(1, "exit", first, [NEVER], name="early", keeps={first.outputs[0].tensor: "early"})
    late = HookSpec(2, "exit", second, [ALWAYS], name="late")
    with pytest.raises(DhnError, match="which no hook before it keeps"):
        pack_bundle(main, Bundle([late], ["all"]))
    with pytest.raises(DhnError, match="off at an operating point"):
        pack_bundle(main, Bundle([early, late], ["all"]))
    small = pack(residual_net()[0], keep=16)
    early.thresholds = [SILENT]
    with pytest.raises(DhnError, match="pack it with --keep 32"):
        pack_bundle(small, Bundle([early], ["all"]))


def test_a_blend_answers_a_run_that_counts_as_full() -> None:
    graph, net = residual_net()
    main, x = pack(graph), net.inputs(9)
    final = main.points[-1]
    assert final.final and final.name == "answer"
    blend = HookSpec(final.index, "blend", head(main, final.index, 5), [ALWAYS, NEVER], name="blend")
    plain = Twin(main).run(x, features=True)
    expected = run_int8(blend.net, plain.features[-1].reshape(9, *final.feature_shape))
    result = run(main, [blend], x)
    assert (result.output == expected[blend.net.outputs[0].tensor].reshape(9, -1)).all()
    assert (result.exit_hook == -1).all() and (result.decisions == 2).all()
    assert (run(main, [blend], x, point=1).output == plain.output).all()


def reuse_hook(main: Pack, threshold: int) -> HookSpec:
    """Scores 100 minus the largest difference of the input's feature from the one that was kept."""
    p = main.points[0]
    c = int(np.prod(p.feature_shape))
    quant = p.tap_quant
    shape = p.feature_shape
    wide = Quant(2 * quant.scale, 0)
    tensors = {
        "x": Tensor("x", shape, quant),
        "old": Tensor("old", shape, quant),
        "change": Tensor("change", shape, wide),
        "size": Tensor("size", shape, wide),
        "flat": Tensor("flat", (1, 1, c), wide),
        "score": Tensor("score", (1, 1, 1), Quant(wide.scale * c, 100)),
    }
    nodes = [
        Node("change", "sub", ["x", "old"], "change", {"act_q": (-128, 127)}),
        Node("size", "unary", ["change"], "size", {"fn": "abs", "params": {}}),
        Node("flat", "reshape", ["size"], "flat", {}),
        Node(
            "score",
            "fully_connected",
            ["flat"],
            "score",
            {
                "weight": np.full((1, c), -127, np.int8),
                "weight_scale": np.array([1 / 127], np.float32),
                "bias": np.zeros(1, np.int32),
                "act_q": (-128, 127),
            },
        ),
    ]
    net = Graph("change", tensors, nodes, [Port("x", "x", shape), Port("old", "keep.ref", shape)], [])
    net.outputs = [Port("score", "score", (1,))]
    copy = Graph(
        "renew",
        {"from": Tensor("from", shape, quant), "to": Tensor("to", shape, quant)},
        [Node("copy", "transpose", ["from"], "to", {"perm": (0, 1, 2)})],
        [Port("from", "net.x", shape)],
        [Port("to", "keep.ref", shape)],
    )
    return HookSpec(0, "reuse", net, [threshold], "value", name="reuse", otherwise=copy)


def test_a_repeated_input_gets_the_last_answer_without_a_run() -> None:
    graph, net = residual_net()
    main = pack(graph, hooks=("reuse",), keep=1024)
    frames = net.inputs(4)
    x = frames[[0, 0, 1, 1, 1, 2, 0, 0]]
    plain = Twin(main).run(x).output
    result = run(main, [reuse_hook(main, 100)], x, threads=1)
    assert result.decisions[:, 0].tolist() == [1, 2, 1, 2, 2, 1, 1, 2]
    assert (result.output == plain).all()
    assert (result.exit_hook == np.where(result.decisions[:, 0] == 2, 0, -1)).all()


def test_shadow_runs_renew_the_reference_and_answer_in_full() -> None:
    graph, net = residual_net()
    main = pack(graph, hooks=("reuse",), keep=1024)
    x = net.inputs(3)[[0, 0, 1]]
    bundle = pack_bundle(main, Bundle([reuse_hook(main, -128)], ["all"]))
    twin = Twin(main, bundle, threads=1)
    gated, shadow = twin.run(x), twin.run(x, mode="shadow")
    assert gated.decisions[:, 0].tolist() == [1, 2, 2] and shadow.decisions[:, 0].tolist() == [1, 2, 2]
    assert (gated.output == gated.output[0]).all()
    assert (shadow.output == Twin(main).run(x).output).all() and (shadow.exit_hook == -1).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"action": "select", "group": 1}, "hook breaks"),
        ({"action": "mask", "group": 1, "mask_groups": True}, "hook breaks"),
        ({"action": "skip"}, "has no branch"),
    ],
)
def test_actions_that_the_pack_has_no_place_for_are_refused(change: dict[str, object], says: str) -> None:
    main = pack(residual_net()[0])
    spec = dataclasses.replace(HookSpec(0, "exit", head(main, 0, 3), [0], name="h"), **change)  # type: ignore[arg-type]
    with pytest.raises(DhnError, match=says):
        Twin(main, pack_bundle(main, Bundle([spec], ["all"])))


def test_a_hook_must_not_write_the_environment() -> None:
    main = pack(residual_net()[0])
    net = head(main, 1, 3)
    keeps = {net.outputs[0].tensor: "mine"}
    data = bytearray(pack_bundle(main, Bundle([HookSpec(1, "exit", net, [0], keeps=keeps)], ["all"])))
    Twin(main, bytes(data))
    hook = records.HOOK.unpack(bytes(data), records.HEADER.unpack(bytes(data))["hooks"])
    at = hook["program"]
    while (instr := records.INSTR.unpack(bytes(data), at))["out"] != hook["score"]:
        at += instr["bytes"]
    instr["out"] -= 4
    data[at : at + records.INSTR.size] = records.INSTR.pack(**instr)
    with pytest.raises(DhnError, match="hook breaks"):
        Twin(main, refit(bytes(data)))


def refit(data: bytes) -> bytes:
    crc = zlib.crc32(data[records.CRC_FROM :]).to_bytes(4, "little")
    return data[:12] + crc + data[16:]


def test_a_policy_must_name_a_channel_and_a_point_that_exist() -> None:
    main = pack(residual_net()[0])
    bundle = Bundle([HookSpec(1, "exit", head(main, 1, 3), [0])], ["all"])
    for row in (PolicyRow(1, 0), PolicyRow(0, 16)):
        with pytest.raises(DhnError, match="hook breaks"):
            Twin(main, pack_bundle(main, dataclasses.replace(bundle, policies=[row])))
    Twin(main, pack_bundle(main, dataclasses.replace(bundle, policies=[PolicyRow(0, 2, -128, 50)])))
