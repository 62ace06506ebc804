"""Starts a board (emulator, process or serial port), connects to it, and ends it without leaving anything behind."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from dhn_kit.board_client import BoardClient, Hello
from dhn_kit.boards import Board
from dhn_kit.errors import DhnError
from dhn_kit.link import Link, NoReply, SocketTransport, Transport, open_port

FLASH_FILE = "flash.img"
#: What firmware that is not made for one board calls itself (firmware/micropython/dhn_link.py).
ANY_BOARD = "micropython"


def open_board(board: Board, elf: Path | None, workdir: Path, port: str | None = None) -> BoardSession:
    """A session, to be used as a context manager, in which ``client`` is connected and has said hello.

    Emulated boards run ``elf`` with their flash in ``workdir``/flash.img, which outlives the session. With ``port``
    a real board that is flashed already is reached there. DhnError: no answer, emulator missing, port absent or busy.
    """
    return BoardSession(board, elf, workdir, port)


class BoardSession:
    """``client`` is valid between `start` (or entering) and `close` (or leaving)."""

    client: BoardClient

    def __init__(self, board: Board, elf: Path | None, workdir: Path, port: str | None = None) -> None:
        self.board = board
        self.elf = elf
        self.workdir = workdir
        self.port = port
        self.command: list[str] = []  # that started the emulator
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> BoardSession:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Hello:
        """Power on and connect; the flash is as the last session left it."""
        transport = self.connect()
        self.client = BoardClient(Link(transport))
        try:
            hello = self.client.hello()
        except NoReply as error:
            raise DhnError(f"{self.board.name}: {self._silence(error)}") from None
        except DhnError as error:
            raise DhnError(f"{self.board.name}: {error}{self._last_words()}") from None
        if self.board.emulator is None and hello.board not in (self.board.name, ANY_BOARD):
            raise DhnError(
                f"the board at {self.port} says that it is '{hello.board}', not '{self.board.name}'; "
                f"give --board {hello.board}, or another --port"
            )
        return hello

    def _silence(self, error: NoReply) -> str:
        """What to do about a board that does not speak the protocol, with the last line of what it says instead."""
        if self.port is None:
            return f"{error}{self._last_words()}"
        said = self.client.link.decoder.text()
        words = f" but something else that says '{said[-1][:60]}'" if said else ""
        return (
            f"no hello from {self.port} at {self.board.link.baud} baud{words}; flash firmware made by dhn-kit "
            "('dhn-kit flash'), or name another port with --port"
        )

    def reset(self) -> Hello:
        """Ask the board to start afresh, and say hello again."""
        self.client.reset()
        return self.client.hello()

    def cut_power(self) -> None:
        """End an emulated board at once (SIGKILL), from any thread; requests under way fail."""
        if self._process is not None:
            self._process.kill()

    def kill(self) -> None:
        """Cut the power and disconnect. `start` brings the board back with its flash as it was at that moment."""
        self.cut_power()
        self.close()

    def close(self) -> None:
        """Disconnect, and end the emulator if this session started one."""
        if hasattr(self, "client"):
            self.client.link.close()
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def connect(self) -> Transport:
        """Power on and nothing more: the bare line, for programs that do not speak the link's protocol."""
        if self.port is not None:
            return open_port(self.port, self.board.link.baud)
        if self.board.emulator is None:
            raise DhnError(f"{self.board.name} is a real board; name its port with --port")
        if self.elf is None or not self.elf.is_file():
            raise DhnError(f"no firmware for {self.board.name} at {self.elf}; make it with 'dhn-kit build'")
        self.workdir.mkdir(parents=True, exist_ok=True)
        flash = self.workdir / FLASH_FILE
        prepare_flash(flash, self.board)
        ours, theirs = socket.socketpair()
        try:
            self._launch(self._command(flash, theirs.fileno()), theirs.fileno())
        finally:
            theirs.close()
        return SocketTransport(ours)

    def _command(self, flash: Path, fd: int) -> list[str]:
        if self.board.port == "posix":
            return [str(self.elf), "--flash", str(flash), "--fd", str(fd)]
        assert self.board.emulator is not None
        values = {"elf": self.elf, "flash": flash, "pidfile": self.workdir / "emulator.pid", "port": 0, "fd": fd}
        command = [argument.format(**values) for argument in self.board.emulator.command]
        return _over_socket(command, fd)

    def _launch(self, command: list[str], fd: int) -> None:
        self.command = command
        if shutil.which(command[0]) is None:
            assert self.board.emulator is not None
            raise DhnError(f"{command[0]} is missing; install it with 'apt-get install {self.board.emulator.package}'")
        self._stderr = (self.workdir / "emulator.log").open("wb")
        with _one_cpu():
            self._process = subprocess.Popen(
                _dies_with_us(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=[fd],
            )

    def _last_words(self) -> str:
        log = self.workdir / "emulator.log"
        words = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
        return f"; its last words: {words[-1]}" if words else ""


def prepare_flash(path: Path, board: Board) -> None:
    """A new chip comes erased. Only the slots are written, so that the file stays sparse."""
    if path.exists():
        return
    slots = board.hook_flash.slot_bytes * len(board.hook_flash.slots)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(b"\xff" * slots)
        file.truncate(max(board.hook_flash.bytes, slots))
    temporary.replace(path)


def _dies_with_us(command: list[str]) -> list[str]:
    """So that a killed host program leaves no emulator behind (it ends with the thread that started it)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


@contextlib.contextmanager
def _one_cpu() -> Iterator[None]:
    """Processes started within run on one CPU. An emulated UART hands every byte from one thread to another, and
    waking an idle CPU for each costs more than the rest: 42 instead of 20 kB/s from host to board."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {random.choice(sorted(before))})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _over_socket(command: list[str], fd: int) -> list[str]:
    """QEMU's serial port on an inherited socket: no port number to collide on, and twice the speed of TCP."""
    at = command.index("-serial") if "-serial" in command else -1
    if at < 0 or not command[at + 1].startswith("tcp:"):
        return command
    return [*command[:at], "-chardev", f"socket,id=link,fd={fd}", "-serial", "chardev:link", *command[at + 2 :]]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
