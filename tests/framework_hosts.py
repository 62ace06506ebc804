"""The ports to Arduino and ESP-IDF as processes of this computer: their own code, on stubs that do something."""
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
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wundef")
#: They stop at the first undefined behaviour.
FLAGS = ("-O0", "-fwrapv", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SLOTS = load_board("posix").hook_flash.slot_bytes * 2
#: By the board's name: its port, and what the stub's build defines. Under ESP-IDF the network is in a partition.
HOSTS = {
    "arduino-host": ("arduino", ("FAMILY_HAS_MAPPED_FLASH", f"DHN_FLASH_BYTES={SLOTS}", "HAL_FLASH_UNIT=32u")),
    "espidf-host": ("espidf", ("ESP_PLATFORM", "DHN_MODEL_PARTITION")),
}


def host_board(name: str) -> Board:
    """As the posix board, whose program takes the same arguments."""
    return dataclasses.replace(load_board("posix"), name=name, port=HOSTS[name][0])


def build_host(name: str, image: bytes, folder: Path, user_sources: Sequence[Path] = ()) -> Path:
    """The program for a main pack's device bytes, under ``folder``."""
    port, macros = HOSTS[name]
    groups = pack_kernels(image, None, "is missing")
    texts = application_model(image, groups, board=name, ram_bytes=1 << 22, sample_bytes=8192)
    stub = {p.name: p for p in (STUBS / f"{port}_host").iterdir()}
    own = {p.name: p for p in user_sources}
    write_files(folder, library_sources(groups).files | application_sources() | port_sources(port) | stub | own)
    write_files(folder, texts)
    common = [*WARNINGS, *FLAGS, f"-I{folder}", f"-isystem{STUBS / port}", *(f"-D{macro}" for macro in macros)]
    for compiler, language, kind in (("cc", "-std=gnu99", "*.c"), ("c++", "-std=gnu++11", "*.cpp")):
        for place in sorted({p.parent for p in folder.rglob(kind)}):  # kernels of two folders may share a name
            files = sorted(p.name for p in place.glob(kind))
            subprocess.run([compiler, language, *common, "-c", *files], cwd=place, check=True)
    objects = sorted(str(p) for p in folder.rglob("*.o"))
    subprocess.run(["c++", *FLAGS, *objects, "-o", "firmware.elf"], cwd=folder, check=True)
    (folder / "firmware.elf.dhn").write_bytes(image)
    return folder / "firmware.elf"
