"""Samples of a stream: how far apart they count, and that what trains stays away from what certifies."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dhn_kit import cli
from dhn_kit.errors import DhnError
from dhn_kit.pack import Pack, pack
from dhn_kit.samples import Int8, Reason, Sample
from dhn_kit.store import UNTAGGED
from dhn_kit.train.data import sample_name
from dhn_kit.train.timeline import Timeline, divide_stream, estimated_spacing, is_stream, timeline
from nets import residual_net
from sample_stores import fill, varied_inputs

HOLD = 8


def answered(classes: Sequence[int] | npt.NDArray[np.int64], session: int = 0, first: int = 0) -> list[Sample]:
    """Full runs that answered these classes, one after the other."""
    eye = np.eye(max(classes) + 1, dtype=np.int8)
    whole = Sample(0, 0, Reason.REQUESTED, 1.0, True, 0, 0, -1, eye[0], session=session)
    return [replace(whole, number=i, tag=first + i, output=eye[c]) for i, c in enumerate(classes)]


def test_the_spacing_of_a_stream_is_a_few_holds_and_that_of_a_shuffled_one_none() -> None:
    rng = np.random.default_rng(0)
    held = np.repeat(rng.integers(0, 5, 400), rng.geometric(1 / HOLD, 400))
    assert HOLD < estimated_spacing(answered(held)) <= 5 * HOLD
    assert estimated_spacing(answered(rng.permutation(held))) <= 1
    assert estimated_spacing(answered([3] * 200)) == 0 == estimated_spacing(answered([0, 1, 2]))
    assert estimated_spacing(answered([0] * 200 + [1] * 200)) == 50, "one change proves nothing: hardly any draws"


def test_only_reuse_and_sensors_make_samples_a_stream() -> None:
    played = answered([0, 1, 0, 1])
    assert is_stream(played, ("exit", "reuse")) and not is_stream(played, ("exit",))
    assert is_stream([replace(s, tag=UNTAGGED) for s in played], ("exit",))


def test_blocks_stay_on_their_side_when_a_stream_grows() -> None:
    samples, line = answered([0, 1] * 1000), Timeline(10, 80)
    training, calibration = divide_stream(samples, line, 0.6)
    fewer_training, fewer = divide_stream(samples[:1200], line, 0.6)
    assert {s.number for s in fewer} == {s.number for s in calibration if s.number < 1200}
    assert {s.number for s in fewer_training} >= {s.number for s in training if s.number < 1190}
    assert 0.55 < len(calibration) / len(samples) < 0.65
    apart = np.abs(np.array([s.number for s in training])[:, None] - [s.number for s in calibration])
    assert apart.min() == 11, "training keeps more than a spacing away"


def test_what_is_played_again_or_looks_the_same_does_not_train_and_certify() -> None:
    line = Timeline(2, 16)
    once = answered([0, 1] * 100)
    training, calibration = divide_stream(once + answered([0, 1] * 100, session=1), line, 0.6)
    assert {s.session for s in training + calibration} == {0}
    alike = [replace(s, tag=s.tag % 40) for s in once]
    training, calibration = divide_stream(alike, line, 0.6)
    assert calibration and not {sample_name(s) for s in training} & {sample_name(s) for s in calibration}


def test_going_on_from_a_bundle_keeps_its_blocks() -> None:
    assert timeline([], 7, Timeline(5, 40)) == Timeline(7, 40)
    assert timeline([], 1) == timeline([], 0) == Timeline()
    for now, then in ((0, Timeline(5, 40)), (5, Timeline())):
        with pytest.raises(DhnError, match="give the same --spacing"):
            timeline([], now, then)


@pytest.fixture(scope="module")
def held() -> tuple[Pack, Int8]:
    packed = pack(residual_net(4)[0], hooks=("reuse",))
    x = np.repeat(varied_inputs(packed, 200), HOLD, axis=0).astype(np.int64)
    return packed, np.clip(x + np.random.default_rng(0).integers(-1, 2, x.shape), -128, 127).astype(np.int8)


def test_certificates_of_reuse_count_separate_draws_and_can_be_verified(
    held: tuple[Pack, Int8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*argv: str) -> str:
        with pytest.raises(SystemExit) as stop:
            cli.main([*argv])
        said = capsys.readouterr()
        return said.out if not stop.value.code else said.err

    monkeypatch.chdir(tmp_path)
    held[0].save(tmp_path / "model.dhn")
    fill(tmp_path / "samples.db", *held)
    train = (
        "train",
        "model.dhn",
        "samples.db",
        "--risk",
        "0.1",
        "--hooks",
        "reuse",
        "--allow-unseen",
        "--spacing",
        "16",
    )
    trained = json.loads(call(*train, "--json"))
    assert trained["hooks"] == ["reuse"] and trained["spacing"] == 16
    stream = trained["calibration_samples"]
    n = -(-stream // 16)
    assert {p["n"] for p in trained["operating_points"]} == {n} and n < 100
    checked = json.loads(
        call("report", "model.dhn", "--hooks", "hooks.dhn", "--verify", "--store", "samples.db", "--json")
    )
    assert checked["equal"] and all(c["found"]["n"] == n for c in checked["certificates"])
    few = call(*train[:3], "--risk", "0.01", "--hooks", "reuse", "--spacing", "16")
    assert f"{n} calibration samples ({stream} of a stream, counted every 16) cannot certify a risk of 2.00%" in few
