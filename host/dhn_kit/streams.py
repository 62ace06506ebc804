"""Inputs in the order of time, as a sensor delivers them: movement, a camera's scene, spoken digits take by take."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dhn_kit import datasets
from dhn_kit.datasets import Floats, Labels
from dhn_kit.errors import DhnError

#: Hooks' training, thresholds with their certificate, final figures: the main network has a data set of its own.
SPLITS = ("hook", "cal", "test")


@dataclass(frozen=True)
class Stream:
    """``x[split]`` float32 (N, ...) as the main network's user gives them, ``y[split]`` int64 (N,), -1 where there is
    nothing to recognise. ``calibration``: inputs that the main network is quantised on.

    ``spacing`` 0: inputs have nothing to do with one another, any order will do. Otherwise they follow one another in
    time, and only inputs at least ``spacing`` apart count as separate draws when a risk is certified.
    """

    name: str
    classes: tuple[str, ...]
    calibration: Floats
    x: dict[str, Floats]
    y: dict[str, Labels]
    spacing: int = 0

    @property
    def sequence(self) -> bool:
        return self.spacing > 0


#: People whose movements the main network has never seen.
WATCH_PEOPLE = (6, 7, 8, 9, 10)
#: New samples between two answers: 0.32 s at 50 Hz, three answers per second.
WATCH_HOP = 16


def smartwatch() -> Stream:
    """Shoulder exercises of people the network was not trained on, as overlapping windows (N, 6, 128) in time order.

    Every recording (one person, one exercise, one arm) is cut into three blocks of equal length, which go to hook, cal
    and test in rotation; no sample of a recording is in two splits. So hooks meet the same people and exercises at
    other times, and a certificate speaks of these people, not of everybody. Windows share no sample when 8 apart.
    """
    blocks: dict[str, list[Floats]] = {split: [] for split in SPLITS}
    labels: dict[str, list[Labels]] = {split: [] for split in SPLITS}
    recordings, classes = datasets.watch_recordings()
    wanted = [r for r in recordings if r.subject in WATCH_PEOPLE]
    for number, recording in enumerate(wanted):
        edges = [len(recording.signal) * k // 3 for k in range(4)]
        for part in range(3):
            split = SPLITS[(part + number) % 3]
            windows = datasets.windows(recording.signal[edges[part] : edges[part + 1]], WATCH_HOP)
            blocks[split].append(windows)
            labels[split].append(np.full(len(windows), recording.label, np.int64))
    return Stream(
        "smartwatch",
        classes,
        datasets.load("smartwatch").x_train[:500],
        {split: np.concatenate(b) for split, b in blocks.items()},
        {split: np.concatenate(b) for split, b in labels.items()},
        spacing=datasets.WATCH_WINDOW // WATCH_HOP,
    )


@dataclass(frozen=True)
class Scene:
    """What passes in front of a camera. Lengths are means of geometric distributions, in frames."""

    hold: float = 20.0  #: an object stays
    pause: float = 10.0  #: nothing is there
    pauses: float = 0.7  #: share of objects that a pause follows; the others are replaced at once
    repeats: float = 0.15  #: share of objects that come again
    moves: float = 0.1  #: share of frames in which the object moves by a pixel
    reach: int = 2  #: pixels from the centre that it moves at most
    noise: float = 0.03  #: of the sensor, standard deviation, white being 1


#: Objects of each split's scene, and frames between two that hardly know of each other: three holds.
SCENE_OBJECTS = {"hook": 240, "cal": 300, "test": 400}
SCENE_SPACING = 60


def scene(settings: Scene | None = None, seed: int = 0, objects: Mapping[str, int] = SCENE_OBJECTS) -> Stream:
    """Digits before a camera, (N, 1, 28, 28) in 0..1: one holds, moves a little, goes, comes again, another one comes.

    Made from the MNIST splits, so that no digit is in two of them and none was used to train the main network. A frame
    without a digit has label -1. ``objects`` says how many pass in each split. The same seed gives the same frames.
    """
    data, settings = datasets.load("mnist"), settings or Scene()
    x, y = {}, {}
    for number, split in enumerate(SPLITS):
        images, labels = data.split(split)
        rng = np.random.default_rng((seed, number))
        frames = list(_frames(images, objects[split], settings, rng))
        clean = np.stack([_placed(images, frame) for frame in frames])
        noise = rng.standard_normal(clean.shape, np.float32) * np.float32(settings.noise)
        x[split] = np.clip(clean + noise, 0, 1)
        y[split] = np.array([-1 if f.image < 0 else labels[f.image] for f in frames], np.int64)
    return Stream("stream", data.classes, data.x_train[:500], x, y, spacing=SCENE_SPACING)


@dataclass(frozen=True)
class _Frame:
    """Which image is seen (-1: none), moved by so many pixels."""

    image: int
    down: int = 0
    right: int = 0


def _frames(images: Floats, objects: int, s: Scene, rng: np.random.Generator) -> Iterator[_Frame]:
    previous, order = 0, rng.permutation(len(images))
    for number in range(objects):
        image = previous if number and rng.random() < s.repeats else int(order[number % len(images)])
        previous = image
        place = [0, 0]
        for _ in range(int(rng.geometric(1 / s.hold))):
            if rng.random() < s.moves:
                axis = int(rng.integers(2))
                place[axis] = int(np.clip(place[axis] + rng.choice((-1, 1)), -s.reach, s.reach))
            yield _Frame(image, *place)
        if rng.random() < s.pauses:
            for _ in range(int(rng.geometric(1 / s.pause))):
                yield _Frame(-1)


def _placed(images: Floats, frame: _Frame) -> npt.NDArray[np.float32]:
    """What leaves the picture is cut off, what comes in is dark."""
    if frame.image < 0:
        return np.zeros_like(images[0])
    reach = max(abs(frame.down), abs(frame.right))
    wide = np.pad(images[frame.image], ((0, 0), (reach, reach), (reach, reach)))
    top, left = reach - frame.down, reach - frame.right
    return np.asarray(wide[:, top : top + images.shape[2], left : left + images.shape[3]])


def fsdd(path: Path) -> Stream:
    """Spoken digits of six speakers as MFCC (N, 1, 49, 10), in no particular order.

    ``path``: an archive with x_train, x_cal, x_test and their labels, split by take: every speaker said every digit
    50 times, takes 20-49 are x_train, 10-19 x_cal, 0-9 x_test. Hooks learn from x_train, which the main network was
    trained on as well: they imitate it, and its answers there are sure ones. Certificates speak of these speakers.
    DhnError when the archive is missing or lacks an array.
    """
    names = {"hook": "train", "cal": "cal", "test": "test"}
    try:
        with np.load(path) as archive:
            x = {split: archive[f"x_{name}"].reshape(-1, 1, 49, 10).astype(np.float32) for split, name in names.items()}
            y = {split: archive[f"y_{name}"].astype(np.int64) for split, name in names.items()}
    except (OSError, KeyError, ValueError) as error:
        raise DhnError(
            f"{path} is not the archive of spoken digits ({error}); name the folder that holds it"
        ) from error
    return Stream("fsdd", tuple("0123456789"), x["hook"][:500], x, y)
