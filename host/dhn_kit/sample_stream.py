"""Puts samples together from their parts and counts exactly what was lost on the way."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dhn_kit import records
from dhn_kit.samples import Int8, Reason, Sample

#: number, total bytes, offset of this part
PART = struct.Struct("<IHH")
#: tag, propensity (Q24), bundle version, operating point, exit hook, reason, full run, hooks, segments, output bytes,
#: input bytes, environment
RECORD = struct.Struct(f"<IIIHhBBBBII{records.ENVIRONMENT}s")
#: A propensity of one.
ONE = 1 << 24


@dataclass
class SampleStream:
    """Fed with the payloads of SAMPLE frames in order of arrival. ``feature_bytes`` is one size per hook point.

    ``lost`` counts the samples between the first and the last number seen of which a part is missing; `settle`
    adds those that the board sent after the last one seen.
    """

    feature_bytes: Sequence[int]
    accepted: int = 0
    #: numbers of which a part was seen but which did not become whole, or of which nothing was seen
    lost: int = 0
    #: payloads of good frames that are no part of any sample; a board never sends those
    nonsense: int = 0
    #: the next number expected to begin
    next_number: int = 0
    _number: int = -1
    _parts: bytearray = field(default_factory=bytearray)

    def feed(self, payload: bytes) -> Sample | None:
        """A whole sample once its last part is in."""
        if len(payload) < PART.size:
            self.nonsense += 1
            return None
        number, total, offset = PART.unpack_from(payload)
        if number != self._number:
            self._begin(number)
        if number != self._number or offset != len(self._parts):
            return None  # a part before this one is missing; the sample counts as lost when the next one begins
        self._parts += payload[PART.size :]
        if len(self._parts) < total:
            return None
        sample = parse_record(number, bytes(self._parts), self.feature_bytes)
        self._number = -1
        self._parts.clear()
        if sample is None:
            self.nonsense += 1
            self.lost += 1
        else:
            self.accepted += 1
        return sample

    def _begin(self, number: int) -> None:
        if number < self.next_number:
            return  # the tail of a sample that is given up already
        self.lost += number - self.next_number + (self._number >= 0)
        self.next_number = number + 1
        self._number = number
        self._parts.clear()

    def settle(self, sent: int) -> int:
        """Given the number of samples that the board says it has sent, closes the account; returns ``lost``."""
        self.lost += max(sent - self.next_number, 0) + (self._number >= 0)
        self.next_number = max(sent, self.next_number)
        self._number = -1
        self._parts.clear()
        return self.lost


def parse_record(number: int, data: bytes, feature_bytes: Sequence[int]) -> Sample | None:
    """None if the record's lengths contradict each other."""
    if len(data) < RECORD.size:
        return None
    head = RECORD.unpack_from(data)
    tag, propensity, version, point, exit_hook, reason, full, hooks, segments, out, inp, env = head
    fixed = hooks + 2 * hooks + 4 * segments + out + inp
    if len(data) < RECORD.size + fixed:
        return None
    at = RECORD.size
    decisions = tuple(data[at : at + hooks])
    scores = struct.unpack_from(f"<{hooks}h", data, at + hooks)
    ticks = struct.unpack_from(f"<{segments}I", data, at + 3 * hooks)
    at += 3 * hooks + 4 * segments
    features = _features(data[at + out + inp :], feature_bytes)
    if features is None:
        return None
    return Sample(
        number=number,
        tag=tag,
        reason=Reason(reason),
        propensity=propensity / ONE,
        full_run=bool(full & 1),
        operating_point=point,
        bundle_version=version,
        exit_hook=exit_hook,
        output=_int8(data[at : at + out]),
        decisions=decisions,
        scores=scores,
        features=features,
        ticks=ticks,
        input=_int8(data[at + out : at + out + inp]) if inp else None,
        env=tuple(_int8(env).tolist()),
    )


def _features(data: bytes, sizes: Sequence[int]) -> list[Int8 | None] | None:
    features: list[Int8 | None] = [None] * len(sizes)
    at = 0
    while at + 2 <= len(data):
        point = int.from_bytes(data[at : at + 2], "little")
        if point >= len(sizes) or at + 2 + sizes[point] > len(data):
            return None
        features[point] = _int8(data[at + 2 : at + 2 + sizes[point]])
        at += 2 + sizes[point]
    return features if at == len(data) else None


def _int8(data: bytes) -> Int8:
    return np.frombuffer(data, np.int8).copy()
