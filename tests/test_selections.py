"""Two versions of layers, or two networks, in one pack: each answers as it does alone."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Call
from dhn_kit import datasets, records
from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.graph import Array, Graph, Quant
from dhn_kit.hooks import ALWAYS, NEVER, Bundle, HookSpec
from dhn_kit.pack import Pack, load_pack, pack
from dhn_kit.poison import poisoned
from dhn_kit.precision import choose_bits
from dhn_kit.train.skips import constant_score
from dhn_kit.twin import Twin
from nets import Net, residual_net
from test_cli import ZOO, assert_one_line

OUT = Quant(0.11, 4)


def pair() -> tuple[Graph, Graph, Array]:
    """A residual network and a smaller one on the same 8 x 8 x 3 inputs, both to 5 classes, and inputs."""
    big, net = residual_net(1)
    big.tensors[big.outputs[0].tensor].quant = OUT
    other = Net((8, 8, 3), 2)
    other.fc(other.mean(other.conv("x", 4, stride=2)), 5, OUT)
    small = other.done()
    small.name = "little"
    return big, small, net.inputs(40)


def selecting(packed: Pack, threshold: int) -> bytes:
    """A bundle whose hooks select variant 1 of everything from this score on; all scores are 0."""
    hooks = [
        HookSpec(s.point, "select", constant_score(packed.points[s.point]), [threshold], "value", group=s.group)
        for s in packed.selections
    ]
    return pack_bundle(packed, Bundle(hooks, ["only"]))


def answers(packed: Pack, q: Array, bundle: bytes | None = None) -> Array:
    return np.asarray(Twin(packed, bundle).run(q).output)


def test_each_of_two_networks_answers_as_it_does_alone() -> None:
    big, small, q = pair()
    packed = pack(big, "armv7em", hooks=["select"], small=small)
    plain, other = answers(pack(big, "armv7em"), q), answers(pack(small, "armv7em"), q)
    assert (answers(packed, q) == plain).all()
    assert (answers(packed, q, selecting(packed, NEVER)) == plain).all()
    assert (answers(packed, q, selecting(packed, ALWAYS)) == other).all()
    assert (plain != other).any()


def test_hook_points_of_a_network_that_does_not_run_are_not_asked() -> None:
    big, small, q = pair()
    packed = pack(big, hooks=["select"], small=small)
    result = Twin(packed, selecting(packed, ALWAYS)).run(q, features=True)
    assert result.reached[0].all()
    assert not any(r.any() for r in result.reached[1:])


def test_the_second_network_costs_flash_and_hardly_any_ram() -> None:
    big, small, _ = pair()
    alone, packed = pack(big, "armv7em"), pack(big, "armv7em", hooks=["select"], small=small)
    print(f"arena {packed.arena_bytes}, alone {alone.arena_bytes}; flash {len(packed.data)}, alone {len(alone.data)}")
    assert packed.arena_bytes <= alone.arena_bytes + 64
    assert len(packed.data) > len(alone.data)


@pytest.mark.parametrize("kind", ["select", "bits"])
def test_what_the_plan_calls_dead_is_dead_for_every_selection(kind: str) -> None:
    big, small, q = pair()
    more: dict[str, Any] = (
        {"small": small} if kind == "select" else {"narrow": choose_bits(big, q, "4", "armv7em").graph}
    )
    packed = pack(big, "armv7em", hooks=[kind], **more)
    dirty = poisoned(packed)
    for threshold in (NEVER, ALWAYS):
        clean = answers(packed, q, selecting(packed, threshold))
        assert (answers(dirty, q, selecting(dirty, threshold)) == clean).all()


@pytest.mark.parametrize("place", ["point", "end"])
def test_a_hook_point_of_no_known_group_and_an_end_of_any_are_refused(place: str) -> None:
    big, small, _ = pair()
    packed = pack(big, hooks=["select"], small=small)
    header, data = packed.header, bytearray(packed.data)
    second = records.POINT.unpack(packed.data, header["points"] + records.POINT.size)["instr"]
    end = header["program"] + header["program_bytes"] - records.INSTR.size
    at, group = {"point": (second, header["group_count"]), "end": (end, 1)}[place]
    data[at + 6] = group
    data[12:16] = zlib.crc32(data[records.CRC_FROM :]).to_bytes(4, "little")
    with pytest.raises(DhnError, match="instructions are inconsistent"):
        Twin(dataclasses.replace(packed, data=bytes(data)))


def wrong_classes(small: Graph) -> None:
    net = Net((8, 8, 3), 2)
    net.fc(net.mean(net.conv("x", 4)), 6, OUT)
    small.__dict__.update(net.done().__dict__)


def wrong_input(small: Graph) -> None:
    net = Net((8, 6, 3), 2)
    net.fc(net.mean(net.conv("x", 4)), 5, OUT)
    small.__dict__.update(net.done().__dict__)


def wrong_quant(small: Graph) -> None:
    small.tensors["x"].quant = Quant(0.2, 0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(wrong_classes, "output .* same shape"), (wrong_input, "input .* same shape"), (wrong_quant, "quantise alike")],
)
def test_networks_that_do_not_fit_each_other_are_refused(spoil: object, words: str) -> None:
    big, small, _ = pair()
    assert callable(spoil)
    spoil(small)
    with pytest.raises(DhnError, match=words):
        pack(big, hooks=["select"], small=small)


def test_narrow_versions_of_layers_answer_as_a_network_with_narrow_weights() -> None:
    big, _, q = pair()
    narrow = choose_bits(big, q, "4", "armv7em").graph
    packed = pack(big, "armv7em", hooks=["bits"], narrow=narrow)
    assert {s.point for s in packed.selections} <= {p.index for p in packed.points}
    assert (answers(packed, q) == answers(pack(big, "armv7em"), q)).all()
    narrowed = answers(packed, q, selecting(packed, ALWAYS))
    assert (narrowed == answers(pack(narrow, "armv7em"), q)).all()
    assert (narrowed != answers(packed, q)).any()


def test_two_networks_are_packed_from_the_command_line(call: Call, tmp_path: Path) -> None:
    calib = tmp_path / "calib.npz"
    np.savez(calib, x=datasets.load("mnist").split("train")[0][:24])
    small = ZOO.with_name("mnist_small.onnx")
    code, _, err = call("pack", ZOO, "--small", small, "--calib", calib, "-o", "both.dhn")
    assert code == 0, err
    found = load_pack(tmp_path / "both.dhn")
    assert [s.kind for s in found.selections] == found.extra["kinds"] == ["select"]
    assert sum(op.macs for op in found.full_run) > 10 * sum(op.macs for op in found.ops if op.variant == 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--small", ZOO.with_name("smartwatch_cnn.onnx")], "smartwatch_cnn.onnx"),
        (["--hooks", "select"], "name the second one with --small"),
        (["--hooks", "bits", "--bits", "4"], "leave one of them out"),
    ],
)
def test_what_cannot_share_a_pack_is_refused_in_one_line(
    call: Call, tmp_path: Path, options: list[object], words: str
) -> None:
    calib = tmp_path / "calib.npz"
    np.savez(calib, x=datasets.load("mnist").split("train")[0][:8])
    code, _, err = call("pack", ZOO, "--calib", calib, *options)
    assert code == 1
    assert_one_line(err, words)
