"""The sample store: it gives back what it got, refuses what is not its own and survives SIGKILL."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dhn_kit.errors import DhnError
from dhn_kit.samples import Reason, Sample
from dhn_kit.store import SampleStore

HASH = "ab" * 16

SAMPLE = Sample(
    number=3,
    tag=77,
    reason=Reason.FULL_RUN | Reason.REQUESTED,
    propensity=0.25,
    full_run=True,
    operating_point=2,
    bundle_version=9,
    exit_hook=-1,
    output=np.array([-128, 0, 127], np.int8),
    decisions=(1, 2, 0),
    scores=(-300, 255, 0),
    features=[np.arange(-4, 4, dtype=np.int8), None, np.zeros(0, np.int8)],
    ticks=(5, 2**40),
    input=np.arange(12, dtype=np.int8).reshape(2, 3, 2),
    env=(100, -128, 127, *range(13)),
)


def equal(a: Sample, b: Sample) -> bool:
    same = [getattr(a, f) == getattr(b, f) for f in vars(a) if f not in ("output", "features", "input")]
    arrays = [(a.output, b.output), (a.input, b.input), *zip(a.features, b.features, strict=True)]
    return all(same) and all(x is y if x is None or y is None else np.array_equal(x, y) for x, y in arrays)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    with SampleStore(tmp_path / "samples.db") as opened:
        yield opened


def test_a_sample_comes_back_as_it_went_in(store: SampleStore) -> None:
    store.add(store.session("m4", HASH, 9), [SAMPLE])
    (back,) = store.load(HASH)
    assert equal(back, replace(SAMPLE, session=1))


def test_a_store_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with SampleStore(path) as store:
        store.add(store.session("m4", HASH), [SAMPLE])
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE samples DROP COLUMN env")
        db.execute("PRAGMA user_version = 1")
    db.close()
    with SampleStore(path) as store:
        (back,) = store.load(HASH)
        assert equal(back, replace(SAMPLE, env=(), session=1))
        store.add(store.session("m4", HASH), [SAMPLE])
        assert equal(store.load(HASH)[1], replace(SAMPLE, session=2))


def test_samples_survive_reopening(store: SampleStore) -> None:
    session = store.session("m4", HASH)
    assert store.add(session, [replace(SAMPLE, number=n) for n in range(50)]) == 50
    store.close()
    with SampleStore(store.path) as again:
        assert [s.number for s in again.load(HASH)] == list(range(50))
        assert again.counts(HASH) == {"m4": 50}


def test_a_repeated_number_is_ignored_within_a_session_and_kept_in_another(store: SampleStore) -> None:
    first, second = store.session("m4", HASH), store.session("m4", HASH)
    assert store.add(first, [SAMPLE]) == 1
    assert store.add(first, [replace(SAMPLE, tag=1), replace(SAMPLE, number=4)]) == 1
    assert store.add(second, [SAMPLE]) == 1
    assert [(s.number, s.tag) for s in store.load(HASH)] == [(3, 77), (4, 77), (3, 77)]


def test_labels_join_by_tag_and_never_to_untagged_samples(store: SampleStore) -> None:
    session = store.session("m4", HASH)
    store.add(session, [SAMPLE, replace(SAMPLE, number=4, tag=0xFFFFFFFF), replace(SAMPLE, number=5, tag=78)])
    store.set_labels({77: 1, 0xFFFFFFFF: 5})
    store.set_labels({77: 6})
    assert [s.label for s in store.load(HASH)] == [6, None, None]


def test_reasons_select_samples(store: SampleStore) -> None:
    session = store.session("m4", HASH)
    store.add(session, [SAMPLE, replace(SAMPLE, number=4, reason=Reason.UNCERTAIN)])
    assert [s.number for s in store.load(HASH, Reason.FULL_RUN | Reason.EVERY_NTH)] == [3]


def test_losses_are_summed_per_model(store: SampleStore) -> None:
    a, b = store.session("m4", HASH), store.session("m4", "cd" * 16)
    store.add_gap(a, -1, 2)
    store.add_gap(a, 10, 5)
    store.add_gap(b, 0, 100)
    assert store.lost(HASH) == 7


def test_another_models_store_is_refused_by_name(store: SampleStore) -> None:
    store.add(store.session("m4", "cd" * 16), [SAMPLE])
    with pytest.raises(DhnError, match="cdcdcdcdcdcd, not of abababababab"):
        store.load(HASH)


def test_an_empty_store_gives_no_samples(store: SampleStore) -> None:
    assert store.load(HASH) == []


def test_a_batch_that_fails_leaves_nothing_behind(store: SampleStore) -> None:
    session = store.session("m4", HASH)

    def batch() -> Iterator[Sample]:
        yield SAMPLE
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add(session, batch())
    assert store.load(HASH) == []
    assert store.add(session, [SAMPLE]) == 1


def test_adding_to_a_session_that_was_never_opened_is_an_error(store: SampleStore) -> None:
    with pytest.raises(DhnError, match="open a session"):
        store.add(5, [SAMPLE])


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are my notes, not a database\n" * 40)
    with pytest.raises(DhnError, match="no sample store"):
        SampleStore(path)
    assert path.read_bytes().startswith(b"these are my notes")


def test_a_foreign_database_and_a_later_version_are_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "foreign.db") as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(DhnError, match="no sample store"):
        SampleStore(tmp_path / "foreign.db")
    SampleStore(tmp_path / "later.db").close()
    with sqlite3.connect(tmp_path / "later.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DhnError, match="version 99"):
        SampleStore(tmp_path / "later.db")


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DhnError, match=r"nowhere/s\.db.*check path"):
        SampleStore(tmp_path / "nowhere" / "s.db")


COLLECTOR = """
import sys
import numpy as np
from dhn_kit.samples import Reason, Sample
from dhn_kit.store import SampleStore
with SampleStore(sys.argv[1]) as store:
    session = store.session("m4", sys.argv[2])
    print("session", session, flush=True)
    for batch in range(100000):
        numbers = range(batch * 7, batch * 7 + 7)
        store.add(session, [
            Sample(n, n, Reason.REQUESTED, 1.0, True, 0, 0, -1, np.full(10, n % 100, np.int8),
                   features=[np.full(500, n % 100, np.int8)]) for n in numbers
        ])
        print("stored", numbers[-1], flush=True)
"""


def test_killing_the_collector_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path, rng = tmp_path / "samples.db", random.Random(5)
    acknowledged: dict[int, int] = {}
    for _ in range(6):
        command = [sys.executable, "-c", COLLECTOR, str(path), HASH]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert child.stdout is not None
        session = int(child.stdout.readline().split()[1])
        time.sleep(rng.uniform(0.0, 0.25))
        child.send_signal(signal.SIGKILL)
        lines = child.stdout.read().splitlines()
        child.wait()
        child.stdout.close()
        # The last line may be cut by the kill: only complete ones count.
        stored = [int(line.split()[1]) for line in lines if line.startswith("stored ") and line.split()[1:]]
        acknowledged[session] = max(stored[:-1], default=-1)
        assert child.returncode == -signal.SIGKILL
    assert sum(last + 1 for last in acknowledged.values()) > 0
    with SampleStore(path) as store:
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
        runs: list[list[Sample]] = []
        for sample in store.load(HASH):
            if sample.number == 0:
                runs.append([])
            runs[-1].append(sample)
            assert all(np.all(a == sample.number % 100) for a in (sample.output, sample.features[0]))
        for run in runs:
            assert [s.number for s in run] == list(range(len(run)))
            assert len(run) % 7 == 0, "a batch is stored whole or not at all"
        needed = sorted(last + 1 for last in acknowledged.values())
        assert all(
            have >= want for have, want in zip(sorted(len(run) for run in runs)[::-1], needed[::-1], strict=False)
        )
        assert sum(len(run) for run in runs) >= sum(needed)
