"""Serves a model on a MicroPython board to dhn-kit: frames, inputs, samples, hook slots (docs/link-protocol.md)."""
# SPDX-License-Identifier: Apache-2.0

import binascii
import random
import struct
import time

from dhn_slots import SlotError

_MTU = 512
_NO_SUCH, _SIZE, _RANGE, _INCOMPLETE, _CANNOT, _NO_SENSOR = -32, -33, -34, -35, -36, -37
_SAMPLE = 0x40
_RULES = "<IIHHHHIIH"
# How mpremote and a person's Ctrl-C twice begin; a request begins with 2, because its flags are 0 (COBS).
_STOP = (b"\r\x03", b"\x03\x03")
_ALWAYS = 1 << 24  # propensities count in its parts
_WANT_OUTPUT, _WANT_SAMPLE, _PER_OP, _POLICIES, _HAS_INPUT, _PACKBITS, _HAS_LABEL = 1, 2, 4, 8, 16, 32, 64
_FULL_RUN, _EVERY_NTH, _REQUESTED = 1, 2, 16
_SHADOW = 1
_NO_TAG = 0xFFFFFFFF
_CURRENT, _AUTOMATIC = 0xFFFF, 0xFFFE  # operating points


class LinkError(Exception):
    """``args[0]`` is the status of docs/link-protocol.md."""


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
    """Serves one model on a stream: ``write(bytes)`` sends, `feed` takes what came in. KeyboardInterrupt where that is
    from someone who wants MicroPython's prompt.

    ``slots`` (dhn_slots.Slots) takes bundles that are pushed. ``read_input()`` gives the next input of the board's own
    sensor, None where there is none. Once `restart` is set, the host wants model, slots and link to be made anew.
    """

    def __init__(self, model, pack, write, name="micropython", slots=None, read_input=None):
        self.model, self.write, self.name = model, write, name
        self.slots, self.read_input = slots, read_input
        self.head = bytes(memoryview(pack)[16:32])
        self.pack_bytes = len(pack)
        self.input = bytearray()
        self.rules = struct.unpack(_RULES, bytes(struct.calcsize(_RULES)))
        self.good = self.bad = self.repeats = self.runs = self.seen = self.samples = 0
        self.held = self.full_us = self.point = 0
        self.automatic = True
        self.restart = False
        self.boot = random.getrandbits(31)
        self.last = None
        self.rest = b""
        model.watch()

    def feed(self, data):
        chunks = (self.rest + data).split(b"\0")
        self.rest = chunks.pop()
        if self.rest[:2] in _STOP:
            self.rest = b""
            raise KeyboardInterrupt
        for chunk in chunks:
            frame = decode(chunk) if chunk else None
            self.good += frame is not None
            self.bad += bool(chunk) and frame is None
            if frame is not None and frame[0] < 0x80:
                self._serve(*frame)

    def _serve(self, kind, sequence, payload):
        key = (kind, sequence, binascii.crc32(payload))
        if self.last is None or self.last[0] != key:
            self.last = key, encode(kind | 0x80, sequence, self._reply(kind, payload))
        else:
            self.repeats += 1
        self.write(self.last[1])

    def _reply(self, kind, payload):
        try:
            if kind not in _ANSWERS:
                raise LinkError(_NO_SUCH)
            layout, answer = _ANSWERS[kind]
            if layout is None:
                return b"\0" + answer(self, payload)
            size = struct.calcsize(layout)
            if len(payload) < size:
                raise LinkError(_SIZE)
            return b"\0" + answer(self, payload[size:], *struct.unpack(layout, payload[:size]))
        except (LinkError, SlotError) as error:
            return struct.pack("<b", error.args[0])

    # -- The board

    def _hello(self, seed):
        if len(seed) == 4:
            random.seed(struct.unpack("<I", seed)[0])
        m = self.model
        sizes = m.feature_sizes()
        room = 0 if self.slots is None else self.slots.room
        out = struct.pack("<HHIIbB", 2, _MTU, self.boot, 1000000, 0, len(self.name)) + self.name.encode() + self.head
        out += struct.pack("<6I", self.pack_bytes, m.arena_bytes, m.arena_bytes, 0, room, m.version)
        out += struct.pack("<4HBI", m.operating_points, self.point, 0, 0, self.automatic, 0)
        out += struct.pack("<3H", len(m.inputs), len(m.outputs), len(sizes))
        return out + b"".join([struct.pack("<I", n) for n in m.inputs + m.outputs + sizes])

    def _reset(self, _):
        self.restart = True
        return b""

    def _counters(self, _):
        corrupt, reverted = (0, 0) if self.slots is None else (self.slots.corrupt, self.slots.reverted)
        ticks = time.ticks_us() & 0xFFFFFFFF
        values = [self.good, self.bad, 0, self.repeats, self.runs, self.seen, self.samples, self.samples]
        values += [0, corrupt, reverted, ticks, 0, 0, 0, 0]
        return struct.pack("<16I", *values)

    def _environment(self, payload):
        m = self.model
        if payload:
            if len(payload) < 9:
                raise LinkError(_SIZE)
            self.held = payload[0]
            channels = bytearray(m.environment)
            for i in range(8):
                if self.held >> i & 1:
                    channels[i] = payload[1 + i]
            m.environment = channels
        chosen = m.choose_point(self.point)
        return struct.pack("<16sBIH", bytes(m.environment), self.held, self.full_us, chosen)

    def _monitor(self, _):
        return bytes(32)  # off: there is none

    def _set_point(self, _, point):
        if point != _AUTOMATIC and point >= max(self.model.operating_points, 1):
            raise LinkError(_RANGE)
        self.automatic = point == _AUTOMATIC
        self.point = self.point if self.automatic else point
        return b""

    # -- Inferences

    def _take(self, offset, flags, data):
        if offset > len(self.input):
            raise LinkError(_RANGE)
        self.input[offset:] = unpackbits(data) if flags & _PACKBITS else data
        return b""

    def _input(self, data, offset, flags):
        return self._take(offset, flags, data)

    def _run(self, rest, tag, mode, flags, point):
        m = self.model
        if flags & _HAS_INPUT:
            self._take(0, flags, rest[2 if flags & _HAS_LABEL else 0 :])
        if len(self.input) != m.inputs[0]:
            raise LinkError(_INCOMPLETE)
        automatic = point == _AUTOMATIC or (point == _CURRENT and self.automatic)
        if mode > 2 or (point < _AUTOMATIC and point >= max(m.operating_points, 1)):
            raise LinkError(_RANGE)
        x, self.input = self.input, bytearray()
        m.mode = mode
        m.point = m.choose_point(self.point) if automatic else self.point if point == _CURRENT else point
        output = self._infer(x, tag, flags)
        exit_hook, hooks = m.decision
        segments = len(m.feature_sizes()) + 1
        reply = struct.pack("<IhBBHB", m.ticks_us, exit_hook, len(hooks), segments, m.point, m.mode)
        reply += bytes([d for d, _ in hooks]) + b"".join([struct.pack("<h", s) for _, s in hooks])
        reply += struct.pack("<I", m.ticks_us) + bytes(4 * segments - 4)
        return reply + (bytes(output) if flags & _WANT_OUTPUT else b"")

    def _stream(self, _, count):
        m = self.model
        for _ in range(count):
            x = None if self.read_input is None else self.read_input()
            if x is None:
                raise LinkError(_NO_SENSOR)
            m.mode, m.point = 0, m.choose_point(self.point) if self.automatic else self.point
            self._infer(x, _NO_TAG, _POLICIES)
        return struct.pack("<I", count)

    def _infer(self, x, tag, flags):
        """Rules of firmware/app/policy.c: by lot a run is a full one, and every nth is kept."""
        m = self.model
        full_anyway = m.mode != 0 or m.version == 0
        share = self.rules[4] << 8 if flags & _POLICIES else 0
        full_run = random.getrandbits(24) < share
        if full_run:
            m.mode = max(m.mode, _SHADOW)
        output = m.run(x)
        self.runs += 1
        if m.decision[0] < 0:
            self.full_us = m.ticks_us
        reason, chance = self._judge(full_run, share, full_anyway) if flags & _POLICIES else (0, _ALWAYS)
        if flags & _WANT_SAMPLE:
            reason, chance = reason | _REQUESTED, _ALWAYS
        if reason:
            self.send(m.sample(x if self.rules[5] & 1 else b"", tag, reason, chance, self.rules[6]))
        return output

    def _judge(self, full_run, share, full_anyway):
        """(reasons, propensity) of the record."""
        every = self.rules[0]
        self.seen += 1
        nth = every > 0 and self.seen % every == 0
        by_rule = _ALWAYS // every if every else 0
        if full_anyway:
            chance = _ALWAYS - _both(_ALWAYS - share, _ALWAYS - by_rule)
        else:
            chance = share if full_run else _both(_ALWAYS - share, by_rule)
        return _FULL_RUN * full_run | _EVERY_NTH * nth, chance

    def send(self, record):
        """A sample (`Model.sample`) to the host."""
        step = _MTU - 8
        for at in range(0, len(record), step):
            part = struct.pack("<IHH", self.samples, len(record), at) + record[at : at + step]
            self.write(encode(_SAMPLE, 0, part))
        self.samples += 1

    def _sampler(self, payload):
        if payload:
            if len(payload) != struct.calcsize(_RULES):
                raise LinkError(_SIZE)
            rules = struct.unpack(_RULES, payload)
            _, window, reservoir, band, _, flags, _, budget, balance = rules
            if window or reservoir or band or flags > 1 or budget or balance:
                raise LinkError(_CANNOT)
            self.rules = rules
        record = len(self.model.sample(bytes(self.model.inputs[0]) if self.rules[5] & 1 else b""))
        return struct.pack(_RULES, *self.rules) + struct.pack("<HI", 1, record)

    # -- Slots

    def _need_slots(self):
        if self.slots is None:
            raise LinkError(_CANNOT)
        return self.slots

    def _slot_status(self, _):
        s = self._need_slots()
        rows = b"".join([struct.pack("<BIII", *row[:4]) for row in s.rows])
        return struct.pack("<bBbI", s.active, s.trial, s.target, s.next if s.target >= 0 else 0) + rows

    def _slot_begin(self, _, version, size, crc, model_hash):
        return struct.pack("<I", self._need_slots().begin(version, size, crc, model_hash))

    def _slot_write(self, data, offset):
        return struct.pack("<I", self._need_slots().write(offset, data))


def _both(a, b):
    return (a * b + _ALWAYS // 2) // _ALWAYS


def _slot_step(name):
    """Answers by a method of Slots that takes and gives nothing."""

    def answer(link, _):
        getattr(link._need_slots(), name)()
        return b""

    return answer


# What a request starts with (None: it may be empty), and who answers it.
_ANSWERS = {
    0x01: (None, Link._hello),
    0x02: (None, Link._reset),
    0x04: (None, Link._counters),
    0x05: ("<IB", Link._input),
    0x06: ("<IBBH", Link._run),
    0x08: ("<I", Link._stream),
    0x09: ("<H", Link._set_point),
    0x0A: (None, Link._sampler),
    0x0B: (None, Link._environment),
    0x0C: (None, Link._monitor),
    0x10: (None, Link._slot_status),
    0x11: ("<III16s", Link._slot_begin),
    0x12: ("<I", Link._slot_write),
    0x13: (None, _slot_step("finish")),
    0x14: (None, _slot_step("try_next")),
    0x15: (None, _slot_step("confirm")),
    0x16: (None, _slot_step("revert")),
}
