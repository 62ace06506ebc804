"""Samples in the order of time: how far apart two count as separate draws, and who trains, who certifies."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d

from dhn_kit.errors import DhnError
from dhn_kit.samples import Sample
from dhn_kit.store import UNTAGGED
from dhn_kit.train.data import Ints, sample_name

#: Answers that agree less than this beyond chance no longer know of each other.
CHANCE = 0.05
#: Distances tried grow by this factor; a stream of fewer separate draws than FEWEST says nothing about itself.
GROWTH = 1.2
FEWEST = 8
#: Length of a block in spacings: long enough that few samples lie near the other side.
BLOCK = 8


@dataclass(frozen=True)
class Timeline:
    """``spacing`` as in `Split`, 0 where samples have nothing to do with one another; ``block``: how many neighbours go
    to training or to calibration together."""

    spacing: int = 0
    block: int = 0


UNRELATED = Timeline()


def is_stream(samples: Sequence[Sample], kinds: Sequence[str]) -> bool:
    """Whether neighbours must be expected to resemble each other: what a sensor saw, and whatever is to be reused."""
    return "reuse" in kinds or any(s.tag == UNTAGGED for s in samples)


def timeline(samples: Sequence[Sample], spacing: int, earlier: Timeline | None = None) -> Timeline:
    """For samples in their order. ``earlier``: that of the bundle to go on from, whose blocks stay as they are.

    DhnError where an earlier bundle divided samples one by one and this one must not, or the other way round: what its
    heads were trained on would certify the new ones.
    """
    spacing = spacing if spacing > 1 else 0
    if earlier is None:
        return Timeline(spacing, BLOCK * spacing)
    if (earlier.spacing > 0) != (spacing > 0):
        how = f"in a stream (spacing {earlier.spacing})" if earlier.spacing else "one by one (spacing 0)"
        raise DhnError(f"the bundle to go on from took samples {how}: give the same --spacing, or train without --from")
    return Timeline(spacing, earlier.block)


def estimated_spacing(samples: Sequence[Sample]) -> int:
    """The distance from which on two answers of the full network agree no more often than by chance.

    Agreement at each distance within a session is set against that of two samples by lot; it counts as chance below
    CHANCE, or below its own standard error. An eighth of the samples where it never gets there, 0 where there is
    a single answer.
    """
    ran = [s for s in samples if s.full_run or s.bundle_version == 0]
    answer = np.array([int(s.output.argmax()) for s in ran], np.int64)
    session = np.array([s.session for s in ran], np.int64)
    chance = float(np.sum((np.unique(answer, return_counts=True)[1] / max(1, len(answer))) ** 2))
    if len(answer) < 2 * FEWEST or chance == 1:
        return 0
    distance, most = 1, len(answer) // FEWEST
    while distance < most:
        together = session[distance:] == session[:-distance]
        alike = (answer[distance:] == answer[:-distance])[together]
        error = np.sqrt(chance * (1 - chance) * distance / max(1, len(alike)))
        if not len(alike) or alike.mean() - chance < max(CHANCE * (1 - chance), error):
            break
        distance = max(distance + 1, int(distance * GROWTH))
    return min(distance, most)


def divide_stream(samples: Sequence[Sample], line: Timeline, share: float) -> tuple[list[Sample], list[Sample]]:
    """(training, calibration): blocks of each session in turn, so that they stay where they are when it grows.

    What was played in an earlier session already does not count again. Training leaves out what lies within a spacing
    of a calibration block, and inputs that occur there too.
    """
    first = {sample_name(s): s.session for s in reversed(samples)}
    samples = [s for s in samples if first[sample_name(s)] == s.session]
    session = np.array([s.session for s in samples], np.int64)
    place = np.concatenate([np.arange(n) for n in np.unique(session, return_counts=True)[1]]) if samples else session
    block = place // line.block
    certifies = np.floor((block + 1) * share) > np.floor(block * share)
    near = _near(certifies, session, line.spacing)
    calibration = [s for s, c in zip(samples, certifies, strict=True) if c]
    known = {sample_name(s) for s in calibration}
    training = [s for s, n in zip(samples, near, strict=True) if not n and sample_name(s) not in known]
    return training, calibration


def _near(certifies: npt.NDArray[np.bool_], session: Ints, reach: int) -> npt.NDArray[np.bool_]:
    """(N,): in a block that certifies, or within ``reach`` of one in the same session."""
    found = certifies.copy()
    for number in np.unique(session):
        own = session == number
        found[own] = maximum_filter1d(certifies[own].astype(np.int8), 2 * reach + 1) > 0
    return found
