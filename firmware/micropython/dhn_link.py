"""Answers 'dhn-kit collect' from MicroPython: frames, played inputs and samples (docs/link-protocol.md)."""
# SPDX-License-Identifier: Apache-2.0

import binascii
import struct
import time

_MTU = 512
_NO_SUCH, _SIZE, _RANGE, _INCOMPLETE = -32, -33, -34, -35
_SAMPLE = 0x40


def encode(kind, sequence, payload):
    body = struct.pack("<BBH", kind, 0, sequence) + payload
    body += struct.pack("<I", binascii.crc32(body))
    out = bytearray(1)
    for part in body.split(b"\0"):
        while len(part) >= 254:
            out += b"\xff" + part[:254]
            part = part[254:]
        out.append(len(part) + 1)
        out += part
    out.append(0)
    return out


def decode(chunk):
    """(kind, sequence, payload) of what lay between two zeros, None if it is no frame."""
    body = bytearray()
    at = 0
    while at < len(chunk):
        size = chunk[at]
        body += chunk[at + 1 : at + size]
        at += size
        if size < 255 and at < len(chunk):
            body.append(0)
    if at != len(chunk) or len(body) < 8:
        return None
    if binascii.crc32(body[:-4]) != struct.unpack("<I", body[-4:])[0]:
        return None
    kind, _, sequence = struct.unpack("<BBH", body[:4])
    return kind, sequence, bytes(body[4:-4])


def unpackbits(data):
    out = bytearray()
    at = 0
    while at < len(data):
        n = data[at]
        if n < 128:
            out += data[at + 1 : at + 2 + n]
            at += 2 + n
        else:
            out += data[at + 1 : at + 2] * (257 - n if n > 128 else 0)
            at += 2 if n > 128 else 1
    return out


class Link:
    """Serves one model on a stream: ``write(bytes)`` sends, `feed` takes what came in."""

    def __init__(self, model, pack, write, name="micropython"):
        self.model, self.write, self.name = model, write, name
        self.head = bytes(memoryview(pack)[16:32])
        self.pack_bytes = len(pack)
        self.input = bytearray()
        self.rules = struct.pack("<IIHHHHIIH", 1, 0, 0, 0, 0, 0, 0, 0, 0)
        self.good = self.bad = self.runs = self.samples = 0
        self.last = None
        self.rest = b""
        model.watch()

    def feed(self, data):
        chunks = (self.rest + data).split(b"\0")
        self.rest = chunks.pop()
        for chunk in chunks:
            frame = decode(chunk) if chunk else None
            self.good += frame is not None
            self.bad += bool(chunk) and frame is None
            if frame is not None and frame[0] < 0x80:
                self._serve(*frame)

    def _serve(self, kind, sequence, payload):
        key = (kind, sequence, binascii.crc32(payload))
        if self.last is None or self.last[0] != key:
            answer = _ANSWERS.get(kind)
            reply = struct.pack("<b", _NO_SUCH) if answer is None else answer(self, payload)
            self.last = key, encode(kind | 0x80, sequence, reply)
        self.write(self.last[1])

    def _hello(self, payload):
        m = self.model
        sizes = m.feature_sizes()
        out = struct.pack("<bHHIIbB", 0, 2, _MTU, time.ticks_us() & 0x7FFFFFFF, 1000000, 0, len(self.name))
        out += self.name.encode() + self.head
        arena = m.arena_bytes
        out += struct.pack("<6I4HBI", self.pack_bytes, arena, arena, 0, 0, m.version, 1, m.point, 0, 0, 0, 0)
        out += struct.pack("<3H", len(m.inputs), len(m.outputs), len(sizes))
        return out + b"".join([struct.pack("<I", n) for n in m.inputs + m.outputs + sizes])

    def _counters(self, payload):
        values = [self.good, self.bad, 0, 0, self.runs, self.runs, self.samples, self.samples] + [0] * 8
        return struct.pack("<b16I", 0, *values)

    def _environment(self, payload):
        channels = bytearray(self.model.environment)
        mask = payload[0] if payload else 0
        for i in range(8):
            if mask >> i & 1:
                channels[i] = payload[1 + i]
        self.model.environment = channels
        return struct.pack("<b16sBIH", 0, bytes(channels), mask, 0, self.model.point)

    def _sampler(self, payload):
        if payload and len(payload) != len(self.rules):
            return struct.pack("<b", _SIZE)
        self.rules = payload or self.rules
        return b"\0" + self.rules + struct.pack("<HI", 1, 0)

    def _input(self, payload):
        offset, flags = struct.unpack("<IB", payload[:5])
        if offset > len(self.input):
            return struct.pack("<b", _RANGE)
        self.input[offset:] = unpackbits(payload[5:]) if flags & 0x20 else payload[5:]
        return b"\0"

    def _run(self, payload):
        m = self.model
        tag, mode, flags, point = struct.unpack("<IBBH", payload[:8])
        if flags & 0x10:
            data = payload[10 if flags & 0x40 else 8 :]
            self.input = bytearray(unpackbits(data) if flags & 0x20 else data)
        if len(self.input) != m.inputs[0]:
            return struct.pack("<b", _INCOMPLETE)
        m.mode, m.point = mode, point if point < 0xFFF0 else 0
        x, self.input = self.input, bytearray()
        output = m.run(x)
        self.runs += 1
        every = struct.unpack("<I", self.rules[:4])[0]
        if flags & 2 or (flags & 8 and every and self.runs % every == 0):
            keeps_input = struct.unpack("<H", self.rules[16:18])[0] & 1
            self.send(m.sample(x if keeps_input else b"", tag, 16 if flags & 2 else 2))
        exit_hook, hooks = m.decision
        segments = len(m.feature_sizes()) + 1
        reply = struct.pack("<bIhBBHB", 0, m.ticks_us, exit_hook, len(hooks), segments, m.point, mode)
        reply += bytes([d for d, _ in hooks]) + b"".join([struct.pack("<h", s) for _, s in hooks])
        reply += struct.pack("<I", m.ticks_us) + bytes(4 * segments - 4)
        return reply + (bytes(output) if flags & 1 else b"")

    def send(self, record):
        """A sample (`Model.sample`) to the host."""
        step = _MTU - 8
        for at in range(0, len(record), step):
            part = struct.pack("<IHH", self.samples, len(record), at) + record[at : at + step]
            self.write(encode(_SAMPLE, 0, part))
        self.samples += 1


_ANSWERS = {
    0x01: Link._hello,
    0x04: Link._counters,
    0x05: Link._input,
    0x06: Link._run,
    0x0A: Link._sampler,
    0x0B: Link._environment,
}
