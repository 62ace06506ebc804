"""What takes the place of an upload: boots a program in QEMU with its serial port at socket://HOST:NUMBER, and leaves.

Arguments: board, program, port, folder for the emulator's flash and for emulator.pid.
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dhn_kit.board_session import prepare_flash
from dhn_kit.boards import load_board


def main() -> None:
    name, elf, port, folder = sys.argv[1:]
    board, host_and_number = load_board(name), port.removeprefix("socket://")
    assert board.emulator is not None
    flash = Path(folder) / "flash.img"
    prepare_flash(flash, board)
    values = {"elf": elf, "flash": flash, "pidfile": Path(folder) / "emulator.pid", "fd": 0}
    command = [argument.format(**values) for argument in board.emulator.command]
    line = command.index("-chardev") + 1
    host, number = host_and_number.split(":")
    command[line] = f"socket,id=link,host={host},port={number},server=on,wait=off"
    # PlatformIO waits until nobody holds its output.
    subprocess.run([*command, "-daemonize"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
