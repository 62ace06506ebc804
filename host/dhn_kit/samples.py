"""One logged inference, as the link decodes it and the store keeps it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag

import numpy as np
import numpy.typing as npt

Int8 = npt.NDArray[np.int8]


class Reason(IntFlag):
    """Why the board's sampler kept this inference; several may hold."""

    FULL_RUN = 1  #: drawn by lot and run in full regardless of the gates
    EVERY_NTH = 2
    UNCERTAIN = 4  #: a hook's score lay in the band around its threshold
    RESERVOIR = 8
    REQUESTED = 16  #: the host asked for this very input to be logged (playback)
    DRIFT = 32  #: a feature lay outside of what calibration saw
    BALANCED = 64  #: drawn by lot at a rate that evens out the classes


@dataclass
class Sample:
    """``features[p]`` is hook point p's default feature (int8, flattened h, w, c), None where the run
    did not come by. ``decisions`` and ``scores`` are per hook of the attached bundle (0 not reached,
    1 kept, 2 acted). ``ticks[s]`` are board ticks of segment s; segments are the stretches between
    hook points, the last one ends with the run. ``propensity`` is the probability with which the board makes a record
    of this kind (full runs are one kind, all others the other) of this inference, given what it knew before: weights
    1 / propensity undo the choice as long as every input had a chance. Rules that keep what they look for and
    nothing else (UNCERTAIN, DRIFT) give no such chance to the rest, so they may train but never certify.
    """

    number: int  #: of the board's samples since boot; gaps mean losses
    tag: int  #: the host's name for a played input, 0xFFFFFFFF without one
    reason: Reason
    propensity: float
    full_run: bool  #: hooks were evaluated but none acted, `output` is the full network's
    operating_point: int
    bundle_version: int  #: 0: no hooks attached
    exit_hook: int  #: -1: ran to the end
    output: Int8
    decisions: tuple[int, ...] = ()
    scores: tuple[int, ...] = ()
    features: list[Int8 | None] = field(default_factory=list)
    ticks: tuple[int, ...] = ()
    input: Int8 | None = None
    env: tuple[int, ...] = ()  #: the 16 channels of `perception`, as the hooks saw them; () from older stores
    session: int = 0  #: of the store; within one, samples are in the order of time
    label: int | None = None  #: never from the board; joined on the host by tag
