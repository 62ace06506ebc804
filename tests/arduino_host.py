"""The Arduino port as a process of this computer: its own code, on a core that is a stub with something behind it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dhn_kit.boards import Board, load_board
from dhn_kit.source_set import (
    application_model,
    application_sources,
    library_sources,
    pack_kernels,
    port_sources,
    write_files,
)

STUBS = Path(__file__).parent / "fw" / "stubs"
NAME = "arduino-host"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wundef")
#: It stops at the first undefined behaviour.
FLAGS = ("-O1", "-fwrapv", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def arduino_host() -> Board:
    """As the posix board, whose program takes the same arguments."""
    return dataclasses.replace(load_board("posix"), name=NAME, port="arduino")


def build_arduino_host(image: bytes, folder: Path, user_sources: Sequence[Path] = ()) -> Path:
    """The program for a main pack's device bytes, under ``folder``."""
    board = arduino_host()
    groups = pack_kernels(image, None, "is missing")
    texts = application_model(image, groups, board=NAME, ram_bytes=board.memory.ram_bytes, sample_bytes=8192)
    stub = {"host.cpp": STUBS / "arduino_host" / "host.cpp"}
    own = {p.name: p for p in user_sources}
    write_files(folder, library_sources(groups).files | application_sources() | port_sources("arduino") | stub | own)
    write_files(folder, texts)
    bytes_of_slots = board.hook_flash.slot_bytes * len(board.hook_flash.slots)
    macros = ("FAMILY_HAS_MAPPED_FLASH", f"DHN_FLASH_BYTES={bytes_of_slots}")
    common = [*WARNINGS, *FLAGS, f"-I{folder}", f"-isystem{STUBS / 'arduino'}", *(f"-D{macro}" for macro in macros)]
    for compiler, language, kind in (("cc", "-std=c99", "*.c"), ("c++", "-std=gnu++11", "*.cpp")):
        for place in sorted({p.parent for p in folder.rglob(kind)}):  # kernels of two folders may share a name
            files = sorted(p.name for p in place.glob(kind))
            subprocess.run([compiler, language, *common, "-c", *files], cwd=place, check=True)
    objects = sorted(str(p) for p in folder.rglob("*.o"))
    subprocess.run(["c++", *FLAGS, *objects, "-o", "firmware.elf"], cwd=folder, check=True)
    return folder / "firmware.elf"
