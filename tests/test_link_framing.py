"""Frames come back from any stream that holds them, and broken ones are counted, never believed."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhn_kit.errors import DhnError
from dhn_kit.framing import Decoder, Frame, encode, packbits
from dhn_kit.link import SerialTransport
from dhn_kit.records import ENVIRONMENT
from dhn_kit.sample_stream import ONE, RECORD, SampleStream

FRAMES = st.builds(Frame, st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=600))


@given(st.lists(FRAMES, max_size=5), st.integers(1, 50))
def test_frames_come_back_in_whatever_pieces_they_arrive(frames: list[Frame], step: int) -> None:
    stream = b"".join(encode(f) for f in frames)
    decoder = Decoder()
    got = [f for at in range(0, len(stream), step) for f in decoder.feed(stream[at : at + step])]
    assert got == frames and decoder.bad == 0


@given(FRAMES, st.data())
def test_a_changed_byte_is_never_a_frame_with_other_content(frame: Frame, data: st.DataObject) -> None:
    coded = bytearray(encode(frame))
    at = data.draw(st.integers(0, len(coded) - 1))
    coded[at] ^= data.draw(st.integers(1, 255))
    assert all(f == frame for f in Decoder().feed(bytes(coded)))


@given(st.binary(max_size=300), FRAMES)
def test_the_good_frame_after_noise_is_found(noise: bytes, frame: Frame) -> None:
    assert list(Decoder().feed(noise + encode(frame)))[-1] == frame


def unpackbits(data: bytes) -> bytes:
    out, at = b"", 0
    while at < len(data):
        head = struct.unpack_from("b", data, at)[0]
        count = head + 1 if head >= 0 else 1
        out += data[at + 1 : at + 1 + count] * (1 if head >= 0 else 1 - head)
        at += 1 + count
    return out


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 300)), max_size=20))
def test_packbits_keeps_every_byte(runs: list[tuple[int, int]]) -> None:
    data = b"".join(bytes([v]) * n for v, n in runs)
    assert unpackbits(packbits(data)) == data
    assert len(packbits(data)) <= len(data) + len(data) // 128 + 1


def record(tag: int, size: int) -> bytes:
    return RECORD.pack(tag, ONE, 0, 0, -1, 16, 0, 0, 0, size, 0, bytes(ENVIRONMENT)) + bytes(size)


@given(st.lists(st.integers(0, 700), min_size=1, max_size=12), st.sets(st.integers(0, 60)))
def test_every_sample_is_either_accepted_whole_or_counted_as_lost(sizes: list[int], lost: set[int]) -> None:
    parts = []
    for number, size in enumerate(sizes):
        data = record(number, size)
        parts += [struct.pack("<IHH", number, len(data), at) + data[at : at + 232] for at in range(0, len(data), 232)]
    stream = SampleStream([])
    samples = [stream.feed(p) for i, p in enumerate(parts) if i not in lost]
    got = [s for s in samples if s is not None]
    assert stream.settle(len(sizes)) + len(got) == len(sizes)
    assert all(s.tag == s.number and len(s.output) == sizes[s.number] for s in got)
    assert stream.accepted == len(got) and stream.nonsense == 0


def test_a_port_that_is_absent_is_named_with_the_next_step() -> None:
    with pytest.raises(DhnError, match="/dev/ttyNONE does not exist; plug the board in"):
        SerialTransport("/dev/ttyNONE")
