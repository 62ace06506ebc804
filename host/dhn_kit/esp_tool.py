"""Reads and writes the flash of an Espressif chip by esptool, which runs as a process of its own."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dhn_kit.errors import DhnError
from dhn_kit.link import SerialTransport
from dhn_kit.ports import socket_address

#: What USB bridges and chips manage on ordinary cables.
BAUD = 460800
#: How often esptool resets the chip before it gives up.
ATTEMPTS = 5
#: Seconds that connecting may take, and bytes per second that even a slow line passes.
PATIENCE, SLOWEST = 60.0, 4000


class Unreachable(DhnError):
    """No boot loader answers."""


@dataclass(frozen=True)
class EspTool:
    """A chip (esptool's name) at a serial port or socket://HOST:NUMBER. Every call resets it into its boot loader.

    Without ``stub`` the ROM's boot loader does the work: slower, for chips on which esptool's own does not start.
    DhnError, one line: wrong chip, no answer, port not usable, does not fit the flash, interrupted.
    """

    chip: str
    port: str
    stub: bool = True

    def read(self, offset: int, size: int, *, restart: bool = False) -> bytes:
        """``size`` bytes of flash. With ``restart`` the chip runs its program afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "flash.bin"
            self._run(["read-flash", hex(offset), str(size), str(target)], size, restart)
            data = target.read_bytes()
        if len(data) != size:
            raise DhnError(f"read {len(data)} of {size} bytes at {hex(offset)} from {self.port}; try again")
        return data

    def write(self, parts: Sequence[tuple[int, bytes]], *, restart: bool = False) -> None:
        """Each part at its offset, a multiple of 4096, in this order. esptool compares the MD5 of what it wrote.

        What a part leaves of its last sector is erased, and nothing else is touched.
        """
        with tempfile.TemporaryDirectory() as folder:
            arguments = []
            for number, (offset, data) in enumerate(parts):
                path = Path(folder) / f"part{number}.bin"
                path.write_bytes(data)
                arguments += [hex(offset), str(path)]
            size = sum(len(data) for _, data in parts)
            # The header of a boot loader says how its flash is wired; as built is right.
            keep = ["--flash-mode", "keep", "--flash-freq", "keep", "--flash-size", "keep"]
            self._run(["write-flash", "--no-progress", *keep, *arguments], size, restart)

    def restart(self) -> None:
        """Has the chip run its program, whatever chip it is."""
        replace(self, chip="auto")._run(["read-mac"], 0, restart=True)

    @contextlib.contextmanager
    def restarted_on_error(self) -> Iterator[None]:
        """A chip that is left in its boot loader looks dead; so after an error or Ctrl-C it runs its program again."""
        try:
            yield
        except Unreachable:
            raise
        except (DhnError, KeyboardInterrupt):
            with contextlib.suppress(DhnError):
                self.restart()
            raise

    def _run(self, command: Sequence[str], size: int, restart: bool) -> None:
        if importlib.util.find_spec("esptool") is None:
            raise DhnError("esptool is missing; install it with 'pip install esptool'")
        self._check_port()
        after = ["--after", "hard-reset" if restart else "no-reset"]
        options = ["--chip", self.chip, "--port", self.port, "--baud", str(BAUD), *after]
        options += ["--connect-attempts", str(ATTEMPTS)]
        options += [] if self.stub else ["--no-stub"]
        limit = PATIENCE + size / SLOWEST
        try:
            done = subprocess.run(
                [sys.executable, "-m", "esptool", *options, *command],
                capture_output=True,
                text=True,
                errors="replace",
                # Its messages would be wrapped to the width of a terminal.
                env=os.environ | {"COLUMNS": "1000", "NO_COLOR": "1"},
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DhnError(
                f"esptool did not end within {limit:.0f} s at {self.port}; check cable and power, and try again"
            ) from None
        if done.returncode != 0:
            raise self._complaint(done.stdout + done.stderr)

    def _check_port(self) -> None:
        """A port that cannot be opened is reported as everywhere else, not in esptool's words."""
        if socket_address(self.port) is None:
            SerialTransport(self.port).close()

    def _complaint(self, text: str) -> DhnError:
        wrong = re.search(r"This chip is (\S+?), not (\S+?)\.", text)
        if wrong:
            return DhnError(
                f"the chip at {self.port} is an {wrong[1]}, not an {wrong[2]}; "
                "name its board with --board ('dhn-kit boards' lists them)"
            )
        beyond = re.search(r"\(length (\d+)\) at offset (\d+|0x[0-9a-f]+) will not fit in (\d+) bytes", text)
        if beyond:
            size, offset, room = int(beyond[1]), int(beyond[2], 0), int(beyond[3])
            return DhnError(
                f"{size:,} bytes at {hex(offset)} reach {offset + size - room:,} bytes beyond the chip's flash of "
                f"{room:,}; use a smaller network or a board with more flash"
            )
        if re.search(r"Failed to connect|No serial data received|Invalid head of packet|Wrong boot mode", text):
            return Unreachable(
                f"no boot loader answers at {self.port}; hold the board's BOOT button while it resets and try again, "
                "or check cable and --port"
            )
        if re.search(r"Could not open|port is busy|lock port", text):
            return DhnError(
                f"{self.port} cannot be opened ({_last_error(text)}); close what has it open, or check --port"
            )
        return DhnError(
            f"esptool stopped at {self.port}: {_last_error(text)}; check cable and power, and call the command again"
        )


def _last_error(text: str) -> str:
    """The first sentence of esptool's last complaint, else its last line."""
    found = re.findall(r"(?:fatal error occurred|[A-Za-z]*(?:Error|Exception)): *(.+)", text)
    lines = [words for line in text.splitlines() if (words := line.strip(" │╭╮╰╯─"))]
    said = found[-1] if found else (lines[-1] if lines else "it said nothing")
    return str(said).split(". ")[0].rstrip(". ")
