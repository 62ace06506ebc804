"""Streams: order, disjoint splits, and what counts as separate draws."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dhn_kit import datasets, streams
from dhn_kit.errors import DhnError
from dhn_kit.streams import Stream

load_smartwatch = functools.cache(streams.smartwatch)
#: Few enough to be quick.
OBJECTS = {"hook": 30, "cal": 150, "test": 20}
load_scene = functools.cache(lambda: streams.scene(objects=OBJECTS))


def rows(x: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in x}


@pytest.mark.parametrize("load", [load_smartwatch, load_scene])
def test_splits_share_no_input(load: Callable[[], Stream]) -> None:
    stream = load()
    for one, other in itertools.combinations(streams.SPLITS, 2):
        assert not rows(stream.x[one]) & rows(stream.x[other])
    assert all(len(stream.x[s]) == len(stream.y[s]) for s in streams.SPLITS)


def test_smartwatch_blocks_share_no_sample_of_a_recording() -> None:
    """Single samples at rest may coincide; runs of sixteen, a hop's length, may not."""
    seen: dict[str, set[bytes]] = {}
    for split in streams.SPLITS:
        x = load_smartwatch().x[split]
        seen[split] = {np.ascontiguousarray(w[:, k : k + 16]).tobytes() for w in x for k in range(0, 128, 16)}
    for one, other in itertools.combinations(seen.values(), 2):
        assert not one & other


def test_smartwatch_windows_follow_one_another_by_a_hop() -> None:
    x = load_smartwatch().x["test"]
    follows = [(a[:, streams.WATCH_HOP :] == b[:, : -streams.WATCH_HOP]).all() for a, b in itertools.pairwise(x)]
    assert len(follows) - sum(follows) == 5 * 14 - 1  # every block but the first breaks the chain once


def test_smartwatch_windows_a_spacing_apart_share_no_sample() -> None:
    stream = load_smartwatch()
    assert stream.sequence and stream.spacing * streams.WATCH_HOP >= datasets.WATCH_WINDOW


def test_every_exercise_and_no_person_of_the_training_is_in_every_split() -> None:
    assert not set(streams.WATCH_PEOPLE) & set(datasets.WATCH_SUBJECTS["train"])
    for split in streams.SPLITS:
        assert set(np.unique(load_smartwatch().y[split])) == set(range(7))


def test_the_scene_is_the_same_for_the_same_seed_and_only_then() -> None:
    again, other = streams.scene(objects=OBJECTS), streams.scene(seed=1, objects=OBJECTS)
    assert (again.x["test"] == load_scene().x["test"]).all()
    assert len(other.x["test"]) != len(again.x["test"]) or (other.x["test"] != again.x["test"]).any()


def test_the_scene_has_the_pauses_and_holds_it_was_asked_for() -> None:
    y = load_scene().y["cal"]
    asked = streams.Scene()
    paused = asked.pauses * asked.pause
    changes = np.flatnonzero(np.diff(y) != 0)
    assert np.mean(y < 0) == pytest.approx(paused / (asked.hold + paused), abs=0.05)
    assert len(y) / OBJECTS["cal"] == pytest.approx(asked.hold + paused, rel=0.15)
    assert len(changes) >= OBJECTS["cal"]


def test_what_moves_out_of_the_picture_does_not_come_in_again() -> None:
    still = streams.Scene(moves=0, noise=0, repeats=0)
    moving = streams.Scene(moves=1, noise=0, repeats=0)
    ink = [np.unique(streams.scene(s, objects=OBJECTS).x["test"].sum(axis=(1, 2, 3))) for s in (still, moving)]
    assert ink[1].max() <= ink[0].max() and len(ink[1]) > len(ink[0])


@pytest.mark.reference
def test_spoken_digits_are_split_by_take(reference_dir: Path) -> None:
    stream = streams.fsdd(reference_dir / "data" / "fsdd_mfcc.npz")
    assert {s: len(x) for s, x in stream.x.items()} == {"hook": 1800, "cal": 600, "test": 600}
    assert not stream.sequence
    assert not rows(stream.x["cal"]) & rows(stream.x["test"])


def test_an_archive_without_its_arrays_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros(3))
    with pytest.raises(DhnError, match=r"a\.npz is not the archive of spoken digits"):
        streams.fsdd(tmp_path / "a.npz")


def test_a_scene_of_eighty_objects_shows_every_digit() -> None:
    y = streams.scene(objects={"hook": 80, "cal": 1, "test": 1}).y["hook"]
    assert set(np.unique(y)) == set(range(-1, 10))
