"""Finds the serial port that a board is attached to, and says in one line why a port cannot be used."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dhn_kit.boards import Board
from dhn_kit.errors import DhnError


@dataclass(frozen=True)
class SerialPort:
    """``device`` is what opens it; ``usb`` is its "vid:pid" in hexadecimal, empty for a port that is not on USB."""

    device: str
    usb: str
    title: str

    def __str__(self) -> str:
        return f"{self.device} ({', '.join(part for part in (self.usb, self.title) if part)})"


#: Asks the user for one of several ports; None: there is nobody to ask.
Choose = Callable[[Sequence[SerialPort]], SerialPort] | None


def attached_ports() -> list[SerialPort]:
    """Serial ports of USB devices. Others are always there, whether or not something is attached to them."""
    from serial.tools import list_ports

    return [
        SerialPort(port.device, f"{port.vid:04x}:{port.pid:04x}", port.product or port.description or "")
        for port in sorted(list_ports.comports())
        if port.vid is not None and port.pid is not None
    ]


def candidates(board: Board, ports: Sequence[SerialPort]) -> list[SerialPort]:
    """Those whose USB id is one of the board's; all where its file names none."""
    return [port for port in ports if not board.usb or port.usb in board.usb]


def find_port(board: Board, choose: Choose = None) -> str:
    """The device of the one port that fits the board, else the one that ``choose`` says.

    DhnError when none fits, or several do and there is nobody to ask.
    """
    ports = attached_ports()
    fitting = candidates(board, ports)
    if not fitting:
        ids = f" with a USB id of {', '.join(board.usb)}" if board.usb else " on USB"
        others = f" (there are {', '.join(map(str, ports))})" if ports else ""
        raise DhnError(
            f"no {board.name} is attached: no serial port{ids}{others}; plug it in with a cable that carries data, "
            "or name its port with --port"
        )
    if len(fitting) == 1:
        return fitting[0].device
    if choose is None:
        raise DhnError(f"{len(fitting)} ports fit {board.name}: {', '.join(map(str, fitting))}; name one with --port")
    return choose(fitting).device


def check_exists(path: str) -> None:
    """DhnError for a device file that is not there; other names (COM3, socket://) are only known when opened."""
    if path.startswith("/dev/") and not Path(path).exists():
        raise DhnError(_absent(path))


def _absent(path: str) -> str:
    return (
        f"serial port {path} does not exist; plug the board in, "
        "'python -m serial.tools.list_ports' lists what is attached"
    )


def port_error(path: str, error: Exception) -> str:
    """What keeps ``path`` from being opened, and what to do about it."""
    device = Path(path)
    if not device.exists():
        return _absent(path)
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        group = _group(device)
        return (
            f"no permission for serial port {path}, which is for group {group}; join it with "
            f"'sudo usermod -aG {group} $USER' and log in again"
        )
    if number in (errno.EBUSY, errno.EAGAIN):
        return f"serial port {path} is busy; close the program that has it open (a monitor, an IDE)"
    return f"serial port {path} is not usable ({error}); unplug the board and plug it in again"


def _group(device: Path) -> str:
    try:
        return device.group()
    except (KeyError, NotImplementedError):  # a group without a name; a system without groups
        return "dialout"


def socket_address(port: str) -> tuple[str, int] | None:
    """Host and number of a port that is given as socket://HOST:NUMBER (a serial port behind a network server)."""
    if not port.startswith("socket://"):
        return None
    host, _, number = port.removeprefix("socket://").rpartition(":")
    if not host or not number.isdecimal():
        raise DhnError(f"{port} is no address; write socket://HOST:NUMBER")
    return host, int(number)
