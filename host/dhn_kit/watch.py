"""Turns what a running board says, asked and unasked, into a stream of events."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from dhn_kit.board_client import BoardClient, Counters, SamplerPolicy
from dhn_kit.errors import DhnError
from dhn_kit.framing import text_lines
from dhn_kit.link import NoReply
from dhn_kit.samples import Int8

Kind = Literal["hello", "sample", "counters", "drift", "log", "silent"]
#: Has the board do something; False when there is nothing left to do.
Feed = Callable[[], bool]
#: Seconds without a byte after which what stands there may be a line of text.
QUIET = 0.1
#: Counters that every question moves.
RESTLESS = ("frames_good", "ticks", "stack_bytes")
#: Inferences on the board's own input between two looks at the line.
STRETCH = 4


@dataclass(frozen=True)
class Event:
    """``data`` is a Hello, Sample, Counters or Monitor of the board, a line of text that it printed, or why it is
    silent. ``time`` is the host's, in seconds since 1970."""

    time: float
    kind: Kind
    data: Any


class Watch:
    """Events of a connected board; every ``every`` seconds it is asked for counters and drift monitor, of which only
    changes are events. Takes over ``on_sample`` of the client."""

    def __init__(self, client: BoardClient, every: float = 1.0) -> None:
        self.client = client
        self.every = every
        self._events: list[Event] = []
        self._shown: dict[Kind, object] = {}
        self._silent = False
        self._counters: Counters | None = None
        client.on_sample = lambda sample: self._put("sample", sample)
        client.link.decoder.on_broken = self._broken
        # A board that restarts is missed for a moment only.
        client.link.retries = 2

    def events(self, feed: Feed | None = None) -> Iterator[Event]:
        """Without end, or until ``feed`` has nothing left. DhnError when the line is gone."""
        self._put("hello", self.client.hello())
        due = 0.0
        goes_on = True
        while goes_on:
            if time.monotonic() >= due:
                self._ask()
                due = time.monotonic() + self.every
            goes_on = self._step(feed)
            yield from self._taken()
        self._ask()
        yield from self._taken()

    def _step(self, feed: Feed | None) -> bool:
        more = feed is None or self._silent or feed()
        try:
            if not self.client.poll(QUIET if feed is None or self._silent else 0.0):
                for line in self.client.link.decoder.text():
                    self._put("log", line)
        except OSError as error:
            raise DhnError(f"the connection to the board is gone ({error}); plug it in and call again") from None
        return more

    def _ask(self) -> None:
        """Counters and monitor; hello first where the board has restarted or was silent."""
        try:
            counters = self.client.counters()
            if self._silent or (self._counters and counters.frames_good < self._counters.frames_good):
                self._put("hello", self.client.hello())
            self._counters = counters
            values = {k: v for k, v in vars(counters).items() if k not in RESTLESS}
            self._put_change("counters", values, counters)
            drift = self.client.monitor()
            self._put_change("drift", (drift.state, drift.falls, drift.held_back, drift.rows), drift)
            self._silent = False
        except NoReply as error:
            if not self._silent:
                self._put("silent", str(error))
            self._silent = True

    def _broken(self, chunk: bytes) -> None:
        for line in text_lines(chunk):
            self._put("log", line)

    def _put_change(self, kind: Kind, value: object, data: object) -> None:
        if self._shown.get(kind) != value:
            self._shown[kind] = value
            self._put(kind, data)

    def _put(self, kind: Kind, data: object) -> None:
        self._events.append(Event(time.time(), kind, data))

    def _taken(self) -> list[Event]:
        taken, self._events = self._events, []
        return taken


def playing(client: BoardClient, q: Int8) -> Feed:
    """Plays canonical int8 inputs (N, H, W, C), one at a time, under the sampler's policies; tags are their numbers."""
    left = iter(range(len(q)))

    def feed() -> bool:
        number = next(left, None)
        if number is not None:
            client.run(q[number], number, policies=True)
        return number is not None

    return feed


def sensing(client: BoardClient) -> Feed:
    """Has the board read its own sensor, a few inferences at a time."""

    def feed() -> bool:
        client.stream_sensor(STRETCH)
        return True

    return feed


@contextlib.contextmanager
def sampling(client: BoardClient, policy: SamplerPolicy | None) -> Iterator[None]:
    """The board samples by ``policy``, and by its own again even after an interruption; None leaves it alone."""
    before = client.sampler() if policy is not None else None
    try:
        if policy is not None:
            client.sampler(policy)
        yield
    finally:
        if before is not None:
            # A board that is gone has forgotten it anyway.
            with contextlib.suppress(DhnError):
                client.sampler(before)
