"""Talks to a board: requests that are answered exactly once, and numbered samples with counted gaps."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Callable
from typing import Protocol

from dhn_kit.errors import DhnError
from dhn_kit.framing import REPLY, Decoder, Frame, encode
from dhn_kit.ports import port_error, socket_address

#: Seconds that a frame may take to leave; a device that takes none any more is gone.
WRITE_TIMEOUT = 10.0


class Transport(Protocol):
    """A byte stream. ``read`` waits up to ``timeout`` seconds and returns what is there, b"" for nothing.

    Both raise OSError when the other side is gone.
    """

    def read(self, timeout: float) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class SocketTransport:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def read(self, timeout: float) -> bytes:
        if not select.select([self._socket], [], [], timeout)[0]:
            return b""
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionResetError("the board closed the connection")
        return data

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.close()


class SerialTransport:
    """A serial port or pty through pyserial. DhnError when it is absent or busy."""

    def __init__(self, path: str, baud: int = 115200) -> None:
        import serial

        try:
            self._port = serial.Serial(path, baud, timeout=0, write_timeout=WRITE_TIMEOUT, exclusive=True)
        except serial.SerialException as error:
            raise DhnError(port_error(path, error)) from None

    def read(self, timeout: float) -> bytes:
        if not select.select([self._port.fileno()], [], [], timeout)[0]:
            return b""
        return bytes(self._port.read(65536))

    def write(self, data: bytes) -> None:
        self._port.write(data)

    def set_baud(self, baud: int) -> None:
        self._port.flush()
        self._port.baudrate = baud

    def close(self) -> None:
        self._port.close()


def open_port(port: str, baud: int) -> Transport:
    """A serial port, or one behind a network server: socket://HOST:NUMBER. DhnError when it cannot be had."""
    address = socket_address(port)
    if address is None:
        return SerialTransport(port, baud)
    try:
        connected = socket.create_connection(address, 5)
    except OSError as error:
        raise DhnError(f"nothing answers at {port} ({error}); start the server there") from None
    connected.settimeout(None)
    return SocketTransport(connected)


class NoReply(DhnError):
    """The board stays silent."""


class Link:
    """Requests and replies over a transport. Frames that are no reply go to ``on_frame``.

    A request that gets no reply within ``timeout`` seconds is sent again, up to ``retries`` times; the board executes
    it once. ``repeated`` counts.
    """

    def __init__(self, transport: Transport, timeout: float = 1.0, retries: int = 8) -> None:
        self.transport = transport
        self.timeout = timeout
        self.retries = retries
        self.on_frame: Callable[[Frame], None] = lambda frame: None
        self.decoder = Decoder()
        self.repeated = 0
        self._sequence = random.randrange(1 << 16)

    def request(self, kind: int, payload: bytes = b"", timeout: float | None = None) -> bytes:
        """The reply's payload. DhnError when the board stays silent or the connection is gone."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        data = encode(Frame(kind, 0, self._sequence, payload))
        wait = timeout or self.timeout
        try:
            for attempt in range(self.retries + 1):
                self.repeated += attempt > 0
                self.transport.write(data)
                reply = self._await(kind | REPLY, time.monotonic() + wait)
                if reply is not None:
                    return reply
        except OSError as error:
            raise DhnError(
                f"the connection to the board is gone ({error}); start the board and connect again"
            ) from None
        raise NoReply(
            f"the board does not answer (request 0x{kind:02X}, {self.retries + 1} times {wait:g} s); check that it "
            "runs dhn-kit firmware, then the port and its speed"
        )

    def poll(self, timeout: float = 0.0) -> bool:
        """Handles what has arrived within ``timeout`` seconds. False: nothing did."""
        data = self.transport.read(timeout)
        for frame in self.decoder.feed(data):
            self.on_frame(frame)
        return bool(data)

    def _await(self, kind: int, deadline: float) -> bytes | None:
        reply: bytes | None = None
        while reply is None and (left := deadline - time.monotonic()) > 0:
            for frame in self.decoder.feed(self.transport.read(left)):
                if frame.type == kind and frame.sequence == self._sequence:
                    reply = frame.payload
                else:
                    self.on_frame(frame)
        return reply

    def close(self) -> None:
        self.transport.close()
