"""What a program can ask of a board, one method per request."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from dhn_kit import perception, records
from dhn_kit.errors import DhnError
from dhn_kit.framing import Frame, packbits
from dhn_kit.hooks import StatisticRange
from dhn_kit.link import Link, SerialTransport
from dhn_kit.sample_stream import SampleStream
from dhn_kit.samples import Int8, Sample

PROTOCOL = 2
HELLO, RESET, BAUD, COUNTERS, INPUT, RUN, PROFILE, STREAM, POINT, SAMPLER, ENVIRONMENT, MONITOR = range(0x01, 0x0D)
SLOT_STATUS, SLOT_BEGIN, SLOT_WRITE, SLOT_FINISH, SLOT_TRIAL, SLOT_CONFIRM, SLOT_REVERT = range(0x10, 0x17)
SAMPLE = 0x40
WANT_OUTPUT, WANT_SAMPLE, PER_OP, POLICIES, HAS_INPUT, PACKBITS, HAS_LABEL = 1, 2, 4, 8, 16, 32, 64
NO_TAG = 0xFFFFFFFF
CURRENT_POINT = 0xFFFF
#: Stands for the operating point that the bundle's policy chooses in the board's environment.
AUTOMATIC = 0xFFFE
MODES = {"gated": 0, "shadow": 1, "detached": 2}
Mode = Literal["gated", "shadow", "detached"]

#: Bundle bytes per SLOT_WRITE are a multiple of this (the largest program unit of a port).
WRITE_UNIT = 32
#: Header bytes in front of the payloads of RUN and INPUT.
RUN_HEAD = struct.Struct("<IBBH")
INPUT_HEAD = struct.Struct("<IB")
LABEL = struct.Struct("<H")
#: every_nth, window, reservoir, band, full share (Q16), flags, points, budget, balance (Q16)
RULES = struct.Struct("<IIHHHHIIH")
WITH_INPUT, DRIFT = 1, 2
#: records that fit, bytes of the largest
SAMPLER_STATE = struct.Struct("<HI")
#: channels, those of them that the host holds (bits), ticks of a full run, operating point that the policy chooses
SURROUNDINGS = struct.Struct(f"<{records.ENVIRONMENT}sBIH")
#: state, rows watched, window, windows judged, falls, inferences held back; of the range that was left: kind, index,
#: operating point, low, high, and the value
MONITOR_STATE = struct.Struct("<BBHIIIBBHiii")
MONITOR_CLEAR = 1

#: What a negative status means and what to do, after "the board refuses: ".
STATUS = {
    -1: "pack or arena is not aligned to 4 bytes; build the firmware again",
    -2: "the pack or bundle is cut off; make it again",
    -3: "these bytes are no dhn pack; make one with 'dhn-kit pack'",
    -4: "the pack has another format version; build pack and firmware with the same dhn-kit",
    -5: "a hook bundle where a main pack belongs, or the reverse",
    -6: "the pack's bytes have changed on the board; flash the firmware again",
    -7: "the pack or bundle reaches outside its memory; make it again",
    -8: "a kernel is missing in the firmware; build and flash it again with this pack",
    -9: "the pack or bundle has parameters that its kernels do not allow; make it again",
    -10: "the program of the pack or bundle is malformed; make it again",
    -11: "the arena is too small for the pack; build the firmware again",
    -12: "the bundle was made for another main pack; train hooks for the model on this board",
    -13: "a hook breaks the rules of its point; make the bundle again",
    -14: "there is no such input, output or operating point",
    -32: "it does not know this request; flash firmware of this dhn-kit version",
    -33: "the request has the wrong length; flash firmware of this dhn-kit version",
    -34: "an argument is out of range",
    -35: "the input is not complete; send all inputs before running",
    -36: "this board cannot do that",
    -37: "its sensor has nothing to read; define app_read_input in the firmware, or play inputs from the host",
    -40: "a bundle is on trial; confirm or revert it first",
    -41: "the bundle is not newer than the one in use; give it a higher version",
    -42: "the bundle does not fit into a slot; use fewer or smaller hooks",
    -43: "the bundle was made for another main pack; train hooks for the model on this board",
    -44: "no upload is under way; push again",
    -45: "bytes of the upload are missing; push again",
    -46: "the bytes in the slot differ from those sent; push again",
    -47: "the flash did not keep what was written; the part may be worn out",
    -48: "there is nothing to try, confirm or revert; push a bundle first",
    -49: "the runtime does not accept the bundle; make it for this firmware",
}


class BoardError(DhnError):
    """The board answered with a negative ``status``; ``hint`` says what may help."""

    def __init__(self, status: int, hint: str = "") -> None:
        super().__init__(f"the board refuses: {STATUS.get(status, f'unknown status {status}')}{hint}")
        self.status = status


class SlotState(IntEnum):
    EMPTY, WRITTEN, PENDING, TRIED, CONFIRMED, REVERTED = range(6)


@dataclass(frozen=True)
class Hello:
    """Who the board is. Sizes in bytes; ``hash`` is the main pack's, as hex. ``automatic``: runs follow the bundle's
    policy, and ``operating_point`` is for surroundings of which it says nothing. ``state_bytes`` is the RAM of the
    application itself: link, sampler, monitor, perception."""

    protocol: int
    mtu: int
    boot_id: int
    tick_hz: int
    load_status: int
    board: str
    hash: str
    pack_bytes: int
    arena_bytes: int
    arena_used: int
    sample_memory: int
    slot_bytes: int
    bundle_version: int
    operating_points: int
    operating_point: int
    sample_cells: int
    ops: int
    automatic: bool
    state_bytes: int
    input_bytes: tuple[int, ...]
    output_bytes: tuple[int, ...]
    feature_bytes: tuple[int, ...]


@dataclass(frozen=True)
class RunReply:
    """One inference. ``ticks`` is the sum of ``segment_ticks`` (one per hook point, and one before the first);
    ``mode`` and operating ``point`` are those in which the board ran it."""

    ticks: int
    exit_hook: int
    point: int
    mode: Mode
    decisions: tuple[int, ...]
    scores: tuple[int, ...]
    segment_ticks: tuple[int, ...]
    output: Int8 | None


@dataclass(frozen=True)
class Counters:
    """Since the board's start; ``samples_sent`` is also the next sample's number, ``stack_bytes`` the deepest stack of
    the last inference that was measured per operator (0: none was, or the board cannot tell). ``over_budget``
    inferences were passed over because the sampler's byte budget was used up. The drift monitor has fallen back
    ``falls`` times, and kept hooks from acting in ``held_back`` inferences."""

    frames_good: int
    frames_bad: int
    bytes_overflowed: int
    requests_repeated: int
    runs: int
    sampler_seen: int
    samples_kept: int
    samples_sent: int
    samples_dropped: int
    slots_corrupt: int
    trials_reverted: int
    ticks: int
    stack_bytes: int
    over_budget: int
    falls: int
    held_back: int


@dataclass(frozen=True)
class SamplerPolicy:
    """Which inferences the board keeps. Zero turns a rule off; rules combine (a reservoir not with ``every_nth`` and
    ``balance``, which would draw from the same inferences).

    ``every_nth``: systematic. ``band``: a score within it of its threshold. ``reservoir`` of each ``window`` inferences
    that nothing else kept. ``full_share`` of all (0..1) are run in full and kept. ``drift``: a feature outside of what
    calibration saw, by the attached bundle's ranges. ``balance`` of all (0..1), the same number of each class: the
    true one where the host sends it along, else the answer. ``budget``: bytes per second on the line for all of these
    together, 0 for no limit. ``with_input`` adds the raw input. ``points`` are the hook points (below 32) whose
    features the samples hold, empty for all: features are most of what a sample weighs on the line.
    """

    every_nth: int = 0
    band: int = 0
    reservoir: int = 0
    window: int = 0
    full_share: float = 0.0
    with_input: bool = False
    points: tuple[int, ...] = ()
    drift: bool = False
    balance: float = 0.0
    budget: int = 0


@dataclass(frozen=True)
class SamplerState:
    """``cells`` records fit into the board's memory under its present policy, the largest is ``record_bytes`` long on
    the line."""

    cells: int
    record_bytes: int


@dataclass(frozen=True)
class Surroundings:
    """``env`` is one number per channel of `perception.CHANNELS`; the host has set those of ``held``. A full run takes
    ``full_ticks`` (0: not known yet). In this environment the bundle's policy chooses operating ``point``."""

    env: tuple[int, ...]
    held: tuple[str, ...]
    full_ticks: int
    point: int


class MonitorState(IntEnum):
    OFF, WATCHING, FALLEN = range(3)


@dataclass(frozen=True)
class Monitor:
    """``left`` is the range that statistics left when it last fell, with the ``value`` that they had; None while they
    are within all ``rows``. ``window`` inferences make one judgement."""

    state: MonitorState
    rows: int
    window: int
    windows: int
    falls: int
    held_back: int
    left: StatisticRange | None
    value: int


@dataclass(frozen=True)
class Slot:
    state: SlotState
    version: int
    bytes: int
    crc32: int


@dataclass(frozen=True)
class Slots:
    """``active`` and ``target`` are slot numbers or -1; ``received`` bytes of an upload are in ``target``."""

    active: int
    trial: bool
    target: int
    received: int
    slots: tuple[Slot, ...]


class BoardClient:
    """A connected board. ``on_sample`` is called with every whole sample, from within requests and `poll`."""

    def __init__(self, link: Link, run_timeout: float = 20.0) -> None:
        self.link = link
        self.run_timeout = run_timeout
        self.on_sample: Callable[[Sample], None] = lambda sample: None
        self.info: Hello | None = None
        self.stream: SampleStream | None = None
        link.on_frame = self._frame

    # -- Requests

    def hello(self, timeout: float | None = None) -> Hello:
        """Must be the first request. After a restart of the board sample numbers begin at 0 again."""
        info = _parse_hello(self._request(HELLO, random.randbytes(4), timeout))
        if info.protocol != PROTOCOL:
            raise DhnError(
                f"the board speaks link protocol {info.protocol}, this dhn-kit {PROTOCOL}; "
                "build and flash the firmware again"
            )
        if self.info is None or self.info.boot_id != info.boot_id:
            self.stream = SampleStream(info.feature_bytes)
            if self.info is None:
                # Not all of a running board's samples are ours to count.
                self.stream.next_number = self.counters().samples_sent
        self.info = info
        return info

    def run(
        self,
        q_input: Int8,
        tag: int = NO_TAG,
        mode: Mode = "gated",
        point: int | None = None,
        *,
        want_output: bool = True,
        want_sample: bool = False,
        policies: bool = False,
        per_op: bool = False,
        label: int | None = None,
    ) -> RunReply:
        """Play canonical int8 inputs (all of them, concatenated, any shape) and run once.

        ``point`` None is the board's current operating point. ``want_sample`` asks for a sample of this run,
        ``policies`` subjects it to the sampler's policy, which may use its true class ``label``; ``per_op`` prepares
        `profile`.
        """
        data = np.ascontiguousarray(q_input, np.int8).tobytes()
        flags = WANT_OUTPUT * want_output | WANT_SAMPLE * want_sample | POLICIES * policies | PER_OP * per_op
        known = b"" if label is None else LABEL.pack(label)
        flags |= HAS_LABEL * bool(known)
        inline = self._inline_input(data)
        if inline is None:
            self._send_input(data)
        else:
            flags |= inline[0]
        head = RUN_HEAD.pack(tag, MODES[mode], flags, CURRENT_POINT if point is None else point) + known
        return _parse_run(self._request(RUN, head + (inline[1] if inline else b""), self.run_timeout), want_output)

    def profile(self) -> npt.NDArray[np.uint32]:
        """Ticks of each operator in the last run with ``per_op``; 0 where it did not run."""
        ticks: list[int] = []
        while True:
            body = self._request(PROFILE, struct.pack("<H", len(ticks)))
            total = int.from_bytes(body[:2], "little")
            ticks += struct.unpack(f"<{(len(body) - 2) // 4}I", body[2:])
            if len(ticks) >= total:
                return np.array(ticks, np.uint32)

    def stream_sensor(self, count: int, timeout: float | None = None) -> int:
        """Run the board's own input callback ``count`` times under the sampler's policy; how often it did."""
        return int.from_bytes(
            self._request(STREAM, struct.pack("<I", count), timeout or self.run_timeout)[:4], "little"
        )

    def set_point(self, point: int) -> None:
        """Operating point of runs that name none; `AUTOMATIC`: they follow the bundle's policy."""
        self._request(POINT, struct.pack("<H", point))

    def surroundings(self, values: Mapping[str, int] | None = None) -> Surroundings:
        """The board's environment; ``values`` sets channels of the application by name and gives all others back to it.

        On emulated boards this stands in for sensors. DhnError for an unknown channel.
        """
        if values is None:
            return _parse_surroundings(self._request(ENVIRONMENT))
        perception.check_settable(values)
        channels = {perception.channel(name).number: value for name, value in values.items()}
        held = [channels.get(k, 0) for k in range(perception.APPLICATION)]
        mask = sum(1 << k for k in channels)
        return _parse_surroundings(self._request(ENVIRONMENT, struct.pack(f"<B{len(held)}b", mask, *held)))

    def monitor(self, clear: bool = False) -> Monitor:
        """State of the drift monitor; ``clear`` lets hooks act again at once."""
        return _parse_monitor(self._request(MONITOR, bytes([MONITOR_CLEAR]) if clear else b""))

    def sampler(self, policy: SamplerPolicy | None = None) -> SamplerPolicy:
        """Set and get the sampler's policy; None only gets."""
        if policy is None:
            return _parse_policy(self._request(SAMPLER))
        payload = RULES.pack(
            policy.every_nth,
            policy.window,
            policy.reservoir,
            policy.band,
            _share(policy.full_share),
            WITH_INPUT * policy.with_input | DRIFT * policy.drift,
            sum(1 << p for p in set(policy.points)),
            policy.budget,
            _share(policy.balance),
        )
        try:
            return _parse_policy(self._request(SAMPLER, payload))
        except BoardError as error:
            both = policy.reservoir and (policy.every_nth or policy.balance)
            why = (
                "a reservoir would draw from the same inferences as every n-th or balanced: choose one of them"
                if both
                else "its memory must hold two such samples, or the reservoir and two more: sample without inputs, or "
                "build with more --sample-bytes"
            )
            raise BoardError(error.status, f"; {why}") from error

    def sampler_state(self) -> SamplerState:
        return SamplerState(*SAMPLER_STATE.unpack(self._request(SAMPLER)[RULES.size :]))

    def counters(self) -> Counters:
        return Counters(*struct.unpack("<16I", self._request(COUNTERS)))

    def reset(self) -> None:
        """The board starts afresh; say `hello` again afterwards."""
        self._request(RESET)

    def set_baud(self, baud: int) -> bool:
        """Change the line's speed on both sides. False: the board or this transport cannot, nothing changed."""
        transport = self.link.transport
        if not isinstance(transport, SerialTransport):
            return False
        try:
            self._request(BAUD, struct.pack("<I", baud))
        except BoardError:
            return False
        transport.set_baud(baud)
        self.hello()
        return True

    # -- Samples

    def poll(self, timeout: float = 0.0) -> bool:
        """Take in what arrives within ``timeout`` seconds; False: nothing did."""
        return self.link.poll(timeout)

    def drain(self, quiet: float = 0.05) -> int:
        """Wait until the board has sent all its samples; returns how many were lost since the first hello."""
        while True:
            sent = self.counters().samples_sent
            while self.poll(quiet):
                pass
            counters = self.counters()
            if counters.samples_sent == sent:
                assert self.stream is not None
                return self.stream.settle(sent)

    # -- Hook slots

    def slots(self) -> Slots:
        body = self._request(SLOT_STATUS)
        active, trial, target, received = struct.unpack_from("<b?bI", body)
        slots = [Slot(SlotState(s), v, b, c) for s, v, b, c in struct.iter_unpack("<BIII", body[7:])]
        return Slots(active, trial, target, received, tuple(slots))

    def push(self, bundle: bytes, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Write a bundle into the inactive slot. Called again after an interruption it goes on where the board is."""
        info = self._info()
        header = records.HEADER.unpack(bundle)
        data = bundle[: header["bytes"]]
        identity = struct.pack("<III", header["bundle_version"], len(data), zlib.crc32(data)) + bytes(
            header["bound_to"]
        )
        at = int.from_bytes(self._request(SLOT_BEGIN, identity, self.run_timeout), "little")
        step = (info.mtu - 4) // WRITE_UNIT * WRITE_UNIT
        while at < len(data):
            progress(at, len(data))
            reply = self._request(SLOT_WRITE, struct.pack("<I", at) + data[at : at + step])
            at = int.from_bytes(reply, "little")
        self._request(SLOT_FINISH, timeout=self.run_timeout)
        progress(len(data), len(data))

    def trial(self) -> Hello:
        """Restart the board with the bundle that was pushed. It runs until confirmed, reverted, or the next restart."""
        self._request(SLOT_TRIAL)
        self.reset()
        return self.hello()

    def confirm(self) -> None:
        self._request(SLOT_CONFIRM)

    def revert(self) -> None:
        """Give up the bundle on trial (or the active one) and go back to the one before, or to none."""
        self._request(SLOT_REVERT)

    # -- Within

    def _info(self) -> Hello:
        return self.info or self.hello()

    def _request(self, kind: int, payload: bytes = b"", timeout: float | None = None) -> bytes:
        reply = self.link.request(kind, payload, timeout)
        status = int.from_bytes(reply[:1], "little", signed=True)
        if status < 0:
            raise BoardError(status)
        return reply[1:]

    def _frame(self, frame: Frame) -> None:
        if frame.type != SAMPLE or self.stream is None:
            return
        sample = self.stream.feed(frame.payload)
        if sample is not None:
            self.on_sample(sample)

    def _inline_input(self, data: bytes) -> tuple[int, bytes] | None:
        """(flags, bytes) that travel with the RUN request itself, packed if that is shorter; None if too long."""
        info = self._info()
        if len(data) != sum(info.input_bytes):
            raise DhnError(f"the input has {len(data)} bytes, the model on the board takes {sum(info.input_bytes)}")
        packed = packbits(data) if len(info.input_bytes) == 1 else data
        flags, best = (HAS_INPUT | PACKBITS, packed) if len(packed) < len(data) else (HAS_INPUT, data)
        return (flags, best) if RUN_HEAD.size + LABEL.size + len(best) <= info.mtu else None

    def _send_input(self, data: bytes) -> None:
        step = self._info().mtu - INPUT_HEAD.size
        for at in range(0, len(data), step):
            self._request(INPUT, INPUT_HEAD.pack(at, 0) + data[at : at + step])


def _parse_hello(body: bytes) -> Hello:
    protocol, mtu, boot_id, tick_hz, status, name_bytes = struct.unpack_from("<HHIIbB", body)
    at = 14 + name_bytes
    board, digest = body[14:at].decode("ascii", "replace"), body[at : at + 16].hex()
    at += 16
    numbers = struct.unpack_from("<6I4H?I", body, at)
    at += struct.calcsize("<6I4H?I")
    sizes: list[tuple[int, ...]] = [(), (), ()]
    if status == 0:
        counts = struct.unpack_from("<3H", body, at)
        at += 6
        for i, count in enumerate(counts):
            sizes[i] = struct.unpack_from(f"<{count}I", body, at)
            at += 4 * count
    return Hello(protocol, mtu, boot_id, tick_hz, status, board, digest, *numbers, *sizes)


def _parse_run(body: bytes, with_output: bool) -> RunReply:
    ticks, exit_hook, hooks, segments, point, mode = struct.unpack_from("<IhBBHB", body)
    at = struct.calcsize("<IhBBHB")
    decisions = tuple(body[at : at + hooks])
    scores = struct.unpack_from(f"<{hooks}h", body, at + hooks)
    at += 3 * hooks
    segment_ticks = struct.unpack_from(f"<{segments}I", body, at)
    output = np.frombuffer(body[at + 4 * segments :], np.int8).copy() if with_output else None
    return RunReply(ticks, exit_hook, point, list(MODES)[mode], decisions, scores, segment_ticks, output)


def _parse_surroundings(body: bytes) -> Surroundings:
    env, mask, ticks, point = SURROUNDINGS.unpack(body)
    held = tuple(c.name for c in perception.CHANNELS[: perception.APPLICATION] if mask >> c.number & 1)
    return Surroundings(tuple(np.frombuffer(env, np.int8).tolist()), held, ticks, point)


def _parse_monitor(body: bytes) -> Monitor:
    state, rows, window, windows, falls, held, *left, value = MONITOR_STATE.unpack(body)
    fallen = state == MonitorState.FALLEN
    return Monitor(
        MonitorState(state), rows, window, windows, falls, held, StatisticRange(*left) if fallen else None, value
    )


def _share(share: float) -> int:
    """A share of all, 0..1, as the board counts it."""
    return min(round(share * 65536), 65535)


def _parse_policy(body: bytes) -> SamplerPolicy:
    every_nth, window, reservoir, band, share, flags, mask, budget, balance = RULES.unpack_from(body)
    return SamplerPolicy(
        every_nth=every_nth,
        band=band,
        reservoir=reservoir,
        window=window,
        full_share=share / 65536,
        with_input=bool(flags & WITH_INPUT),
        points=tuple(p for p in range(32) if mask >> p & 1),
        drift=bool(flags & DRIFT),
        balance=balance / 65536,
        budget=budget,
    )
