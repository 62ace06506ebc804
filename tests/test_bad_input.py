"""Mistakes around hooks, through the command line: one line that says what to do, and nothing written or pushed."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from conftest import Call
from dhn_kit import records, risk, workflow
from dhn_kit.bundle import BundleFile, bundle_file, save_bundle
from dhn_kit.hooks import Bundle, HookSpec
from dhn_kit.pack import Pack, pack
from dhn_kit.samples import Int8
from dhn_kit.store import SampleStore
from dhn_kit.train import certify, heads, split_from_inputs
from dhn_kit.train.data import packed_tags
from dhn_kit.verify import played_split, verify
from nets import Net, residual_net
from sample_stores import fill, samples_of, varied_inputs

#: Network whose random weights give all five classes, and one that never answers class 0.
ALL_CLASSES, NO_CLASS_0 = 4, 3

Refused = Callable[..., str]


@pytest.fixture
def refused(call: Call) -> Refused:
    """The one line that a command says before it gives up; it has printed nothing else."""

    def _refused(*argv: object) -> str:
        code, out, err = call(*argv)
        assert (code, out, err.count("\n")) == (1, "", 1), (out, err)
        return err

    return _refused


@pytest.fixture(scope="module")
def net() -> tuple[Pack, Int8]:
    packed = pack(residual_net(ALL_CLASSES)[0])
    return packed, varied_inputs(packed, 400)


def stored(folder: Path, net: tuple[Pack, Int8], **changes: Any) -> None:
    """model.dhn and samples.db in the folder."""
    packed, q = net
    packed.save(folder / "model.dhn")
    fill(folder / "samples.db", packed, changes.pop("q", q), **changes)


TRAIN = ("train", "model.dhn", "samples.db", "--risk", "0.3")


def test_too_few_samples_for_the_asked_risk_say_how_many_are_needed(
    refused: Refused, tmp_path: Path, net: tuple[Pack, Int8]
) -> None:
    stored(tmp_path, net)
    said = refused(*TRAIN[:-1], "0.001", "--delta", "0.01")
    # Twice the target is the loosest operating point that training offers.
    assert "cannot certify a risk of 0.20%" in said and "at least 2301 are needed" in said
    assert not (tmp_path / "hooks.dhn").exists()


def test_a_store_from_another_model_is_refused(refused: Refused, tmp_path: Path, net: tuple[Pack, Int8]) -> None:
    stored(tmp_path, net)
    pack(residual_net(NO_CLASS_0)[0]).save(tmp_path / "model.dhn")
    said = refused(*TRAIN)
    assert f"samples.db holds samples of model {net[0].hash[:12]}" in said and "collect again" in said
    assert not (tmp_path / "hooks.dhn").exists()


@pytest.mark.parametrize("command", ["collect", "run", "report", "loop"])
@pytest.mark.parametrize(
    ("label", "says"), [(5, "label 5 of sample 3 is out of range"), (-2, "label -2 of sample 3 is out of range")]
)
def test_a_label_that_is_no_class_is_refused_before_anything_is_played(
    refused: Refused, tmp_path: Path, net: tuple[Pack, Int8], bundle: BundleFile, command: str, label: int, says: str
) -> None:
    packed, q = net
    packed.save(tmp_path / "model.dhn")
    y = np.zeros(9, np.int64)
    y[3] = label
    np.savez(tmp_path / "x.npz", x=q[:9], y=y)
    rest = {"collect": ("s.db", "--board", "posix"), "loop": ("s.db", "--board", "posix"), "run": ("-o", "y.npz")}
    if command == "report":
        save_bundle(bundle, tmp_path / "hooks.dhn")
        rest["report"] = ("--hooks", "hooks.dhn")
    said = refused(command, "model.dhn", *rest[command], "-i", "x.npz")
    assert says in said and "classes 0 to 4" in said
    assert not {"s.db", "y.npz", "report.html"} & {p.name for p in tmp_path.iterdir()}


def test_labels_that_are_no_integers_are_refused(refused: Refused, tmp_path: Path, net: tuple[Pack, Int8]) -> None:
    net[0].save(tmp_path / "model.dhn")
    np.savez(tmp_path / "x.npz", x=net[1][:4], y=np.array([0.0, 1.5, 2.0, 3.0]))
    assert "give class numbers as integers" in refused("run", "model.dhn", "-i", "x.npz", "-o", "y.npz")


def test_a_label_out_of_range_in_a_store_is_refused(refused: Refused, tmp_path: Path, net: tuple[Pack, Int8]) -> None:
    stored(tmp_path, net, labels=[7] * 400)
    assert "label 7 of a training sample is out of range: classes are 0 to 4" in refused(*TRAIN)


def test_a_class_that_was_never_seen_is_refused_unless_allowed(refused: Refused, tmp_path: Path) -> None:
    packed = pack(residual_net(NO_CLASS_0)[0])
    stored(tmp_path, (packed, varied_inputs(packed, 300)))
    said = refused(*TRAIN)
    assert "class 0 never occurs among" in said and "--allow-unseen" in said
    assert not (tmp_path / "hooks.dhn").exists()


@pytest.mark.parametrize("noted", [True, False])
def test_samples_with_gaps_are_refused_unless_allowed(
    refused: Refused, tmp_path: Path, net: tuple[Pack, Int8], noted: bool
) -> None:
    packed, q = net
    packed.save(tmp_path / "model.dhn")
    samples = samples_of(packed, q)
    with SampleStore(tmp_path / "samples.db") as store:
        session = store.session("posix", packed.hash)
        if noted:
            store.add(session, samples)
            store.add_gap(session, 399, 12)
        else:
            store.add(session, samples[:100] + samples[112:])
    said = refused(*TRAIN)
    assert f"12 of {412 if noted else 400} samples never arrived" in said and "--allow-gaps" in said
    assert not (tmp_path / "hooks.dhn").exists()


@pytest.fixture(scope="module")
def bundle(net: tuple[Pack, Int8]) -> BundleFile:
    """An exit with a random head for the surest few, certified on all inputs, error risk included."""
    packed, q = net
    split = split_from_inputs(packed, q, labels_of(net), [workflow.input_tag(x) for x in q])
    point = [p for p in packed.points if not p.final][-1]
    size = int(np.prod(point.feature_shape))
    rng = np.random.default_rng(0)
    head = heads.Head([(rng.normal(0, 0.3, (size, 5)).astype(np.float32), np.zeros(5, np.float32))])
    output = packed.tensors[packed.outputs[0].tensor].quant
    graph = heads.int8_graph(head, point, split.features[point.index], output, "exit")
    scores = np.sort(certify.head_scores(HookSpec(point.index, "exit", graph, []), split), axis=1).astype(int)
    surest = np.sort(scores[:, -1] - scores[:, -2])
    spec = HookSpec(point.index, "exit", graph, [int(surest[-10]), int(surest[-60])], name="exit")
    rungs = Bundle([spec], ["cautious", "thrifty"])
    outcomes = certify.run_gated(packed, rungs, split, certify.predicted_costs(packed))
    verdict = certify.judge(outcomes, split, (0.1, 0.25), 0.05)
    assert len(verdict.choices) == 2
    facts: dict[str, object] = {"calibration_tags": packed_tags(split.tags)}
    return bundle_file(packed, replace(rungs, certificates=verdict.certificates, report=facts))


def labels_of(net: tuple[Pack, Int8]) -> npt.NDArray[np.int64]:
    """Labels that the full network mostly agrees with."""
    answer = split_from_inputs(*net).answer
    return np.asarray((answer + (np.arange(len(answer)) % 10 == 0)) % 5, np.int64)


def test_a_bundle_that_needs_more_scratch_than_the_pack_reserved_is_not_sent(
    refused: Refused, tmp_path: Path, net: tuple[Pack, Int8], bundle: BundleFile
) -> None:
    net[0].save(tmp_path / "model.dhn")
    image = bytearray(bundle.data)
    hook = records.HOOK.unpack(bundle.data, bundle.header["hooks"])
    # The first call of the hook now writes behind its point's scratch.
    call = {**records.INSTR.unpack(bundle.data, hook["program"]), "out": net[0].arena_bytes - 4}
    image[hook["program"] : hook["program"] + records.INSTR.size] = records.INSTR.pack(**call)
    save_bundle(replace(bundle, data=signed(image)), tmp_path / "hooks.dhn")
    said = refused("push", "hooks.dhn", "--pack", "model.dhn", "--board", "posix")
    assert "does not fit 'net'" in said and "train hooks for this pack again" in said
    assert not (tmp_path / "build").exists(), "no board was even started"


def signed(image: bytearray) -> bytes:
    """The same bytes with hash and checksum in order, as a faulty trainer would write them."""
    image[16:32] = hashlib.sha256(image[records.HASH_FROM :]).digest()[:16]
    image[12:16] = zlib.crc32(image[records.CRC_FROM :]).to_bytes(4, "little")
    return bytes(image)


VERIFY = ("report", "model.dhn", "--hooks", "hooks.dhn", "--verify")


def test_verify_finds_every_certificate_equal_from_the_store_and_from_the_inputs(
    call: Call, tmp_path: Path, net: tuple[Pack, Int8], bundle: BundleFile
) -> None:
    packed, q = net
    stored(tmp_path, net, labels=labels_of(net).tolist())
    save_bundle(bundle, tmp_path / "hooks.dhn")
    # Another session, as it comes after training, changes nothing about what was promised.
    fill(tmp_path / "samples.db", packed, varied_inputs(packed, 50, 9))
    np.savez(tmp_path / "x.npz", x=q, y=labels_of(net))
    for source in (("--store", "samples.db"), ("-i", "x.npz"), ("--store", "samples.db", "-i", "x.npz")):
        code, out, _ = call(*VERIFY, *source, "--json")
        result = json.loads(out)
        assert code == 0 and result["equal"] and not (tmp_path / "report.html").exists()
        kinds = [c["claimed"]["kind"] for c in result["certificates"]]
        assert kinds == ["consistency", "consistency", "error", "error"]


def test_verify_says_what_differs_and_exits_with_1(
    call: Call, tmp_path: Path, net: tuple[Pack, Int8], bundle: BundleFile
) -> None:
    stored(tmp_path, net, labels=labels_of(net).tolist())
    first, *others = bundle.certificates
    boast = replace(first, errors=first.errors - 1)
    save_bundle(replace(bundle, certificates=[boast, *others]), tmp_path / "hooks.dhn")
    code, out, _ = call(*VERIFY, "--store", "samples.db", "--json")
    wrong, *right = json.loads(out)["certificates"]
    assert code == 1 and wrong["differences"] == [f"errors {first.errors}, not {first.errors - 1}"]
    assert not any(c["differences"] for c in right)
    code, out, _ = call(*VERIFY, "--store", "samples.db")
    assert code == 1 and "1 of 4 certificates differ" in out


def test_verify_knows_error_risk_that_was_asked_for_in_advance(net: tuple[Pack, Int8], bundle: BundleFile) -> None:
    packed, q = net
    bound = [risk.upper_bound(c.errors, c.n, c.delta) for c in bundle.certificates]
    asked = [
        replace(c, kind="error", epsilon=0.5, bound=b, candidates=1, method=risk.METHOD)
        for c, b in zip(bundle.certificates, bound, strict=True)
        if c.kind == "error"
    ]
    split = played_split(packed, bundle, q, labels_of(net))
    assert all(not c.differences for c in verify(packed, replace(bundle, certificates=asked), split))
    (broken, _) = verify(packed, replace(bundle, certificates=[replace(asked[0], epsilon=0.01), asked[1]]), split)
    assert "above the promise" in broken.differences[0]


def test_verify_without_the_samples_says_how_many_are_missing(
    refused: Refused, tmp_path: Path, net: tuple[Pack, Int8], bundle: BundleFile
) -> None:
    packed, q = net
    stored(tmp_path, net, q=q[:300])
    save_bundle(bundle, tmp_path / "hooks.dhn")
    assert "100 of the 400 samples that certified the bundle are not there" in refused(*VERIFY, "--store", "samples.db")
    assert "--store samples.db" in refused(*VERIFY)
    fill(tmp_path / "samples.db", packed, q[300:])
    assert "error risk needs the labels" in refused(*VERIFY, "--store", "samples.db")


def test_a_report_compares_with_a_smaller_network_and_names_each_kind(
    call: Call, refused: Refused, tmp_path: Path, net: tuple[Pack, Int8], bundle: BundleFile
) -> None:
    packed, q = net
    packed.save(tmp_path / "model.dhn")
    save_bundle(bundle, tmp_path / "hooks.dhn")
    np.savez(tmp_path / "x.npz", x=q[:80], y=labels_of(net)[:80])
    small = Net((8, 8, 3), 2)
    small.fc(small.mean(small.conv("x", 4)), 5)
    pack(small.done()).save(tmp_path / "small.dhn")
    command = ("report", "model.dhn", "--hooks", "hooks.dhn", "-i", "x.npz", "--smaller", "small.dhn", "--json")
    code, out, _ = call(*command)
    result = json.loads(out)
    other = next(c for c in result["comparisons"] if c["kind"] == "smaller")
    assert code == 0 and 0 < other["cost"] < result["full"]["mean"] and 0 <= other["accuracy"] <= 1
    assert [a["kind"] for a in result["ablation"]] == ["exit"]
    assert "smaller network net" in (tmp_path / "report.html").read_text()
    wrong = Net((8, 8, 3), 2)
    wrong.fc(wrong.mean(wrong.conv("x", 4)), 3)
    pack(wrong.done()).save(tmp_path / "small.dhn")
    assert "tells 3 classes apart" in refused(*command[:-1])
