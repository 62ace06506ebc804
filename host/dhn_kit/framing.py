"""Frames on the link's byte stream, as docs/link-protocol.md specifies them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from cobs import cobs

REPLY = 0x80
#: type, flags, sequence number; the CRC-32 follows the payload
HEAD = struct.Struct("<BBH")
#: What log lines consist of, and how loggers colour them (ECMA-48, SGR).
TEXT, COLOUR = re.compile(rb"[\t -~]+"), re.compile(rb"\x1b\[[0-9;]*m")
SHORTEST_TEXT = 4


@dataclass(frozen=True)
class Frame:
    type: int
    flags: int
    sequence: int
    payload: bytes


def encode(frame: Frame) -> bytes:
    """With a zero before it as well, which ends whatever noise came first."""
    body = HEAD.pack(frame.type, frame.flags, frame.sequence) + frame.payload
    coded: bytes = cobs.encode(body + struct.pack("<I", zlib.crc32(body)))
    return b"\0" + coded + b"\0"


@dataclass
class Decoder:
    """Cuts a stream into frames; what is broken is counted in ``bad``. ``limit`` bounds the memory for one frame."""

    limit: int = 1 << 17
    good: int = 0
    bad: int = 0
    #: called with what stands between two zeros and is no frame
    on_broken: Callable[[bytes], None] = lambda chunk: None
    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._rest += data
        *chunks, rest = bytes(self._rest).split(b"\0")
        self._rest = bytearray(rest[: self.limit])
        for chunk in chunks:
            frame = decode(chunk) if chunk else None
            self.good += frame is not None
            if frame is not None:
                yield frame
            elif chunk:
                self.bad += 1
                self.on_broken(chunk)

    def text(self) -> list[str]:
        """Takes out whole lines of text that stand where the next frame may begin.

        A board that is not ours prints such, and any board that starts. To be asked when the line is quiet: a frame
        that is still arriving could be taken for text.
        """
        end = self._rest.rfind(b"\n") + 1
        lines = text_lines(bytes(self._rest[:end]))
        if lines:
            del self._rest[:end]
        return lines


def decode(chunk: bytes) -> Frame | None:
    """The frame between two zeros, None if it is none."""
    try:
        body = cobs.decode(chunk)
    except cobs.DecodeError:
        return None
    if len(body) < HEAD.size + 4 or zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
        return None
    kind, flags, sequence = HEAD.unpack_from(body)
    return Frame(kind, flags, sequence, body[HEAD.size : -4])


def text_lines(data: bytes) -> list[str]:
    """Those lines of ``data`` that are ASCII text, without colours; shorter ones could be anything."""
    lines = (COLOUR.sub(b"", line).strip() for line in data.splitlines())
    return [line.decode("ascii") for line in lines if len(line) >= SHORTEST_TEXT and TEXT.fullmatch(line)]


def packbits(data: bytes) -> bytes:
    """PackBits (Apple Technical Note TN1023): runs of three and more equal bytes become two."""
    values = np.frombuffer(data, np.uint8)
    if len(values) == 0:
        return b""
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    ends = np.append(starts[1:], len(values))
    out = bytearray()
    literal = 0  # start of bytes not yet written
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start < 3:
            continue
        _literals(out, data[literal:start])
        while end - start > 1:
            run = min(end - start, 128)
            out += bytes((257 - run, data[start]))
            start += run
        literal = start
    _literals(out, data[literal:])
    return bytes(out)


def _literals(out: bytearray, data: bytes) -> None:
    for at in range(0, len(data), 128):
        part = data[at : at + 128]
        out.append(len(part) - 1)
        out += part
