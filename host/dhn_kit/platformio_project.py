"""Writes a PlatformIO project for one pack and one board, and leaves alone what the user has changed in it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhn_kit import records, resources
from dhn_kit.boards import Board, PlatformIO
from dhn_kit.c_text import render
from dhn_kit.errors import DhnError
from dhn_kit.esp_flash import MODEL, SLOTS
from dhn_kit.esp_partitions import APP, DATA, OTA_DATA, Partition
from dhn_kit.library import runtime_library
from dhn_kit.source_set import (
    application_model,
    application_sources,
    pack_kernels,
    port_sources,
    write_files,
)
from dhn_kit.trailer import device_bytes

#: Says what was written, so that the next call can tell what the user has changed since.
STAMP = "dhn-project.json"
#: Written anew whatever was done to them: they are the network.
GENERATED = ("src/model.c", "src/registry.c")
#: Tells the application that the network is no part of the program (firmware/app/model.h).
_IN_PARTITION = "DHN_MODEL_PARTITION"
#: Loader and table lie below. Source: ESP-IDF Programming Guide, Partition Tables; also of the numbers of subtypes.
_APP_OFFSET = 0x10000
_SUBTYPES = {(APP, 0x10): "ota_0", (DATA, OTA_DATA): "ota", (DATA, 2): "nvs", (DATA, 3): "coredump"}


@dataclass(frozen=True)
class Project:
    """``kept`` are files that the user has changed and that were left alone, by their place."""

    folder: Path
    board: Board
    kept: tuple[str, ...]

    @property
    def elf(self) -> Path:
        """Where PlatformIO leaves the program."""
        return self.folder / ".pio" / "build" / self.board.name / "firmware.elf"


def settings_of(board: Board) -> PlatformIO:
    """DhnError: the board is not built by PlatformIO."""
    if board.platformio is None:
        raise DhnError(
            f"{board.name} has no [platformio] table in its file; 'dhn-kit boards' lists boards that have one"
        )
    return board.platformio


def with_framework(board: Board, framework: str) -> Board:
    """The same board under "arduino" or "espidf". DhnError: there is no such port for it."""
    settings = settings_of(board)
    if framework == settings.framework:
        return board
    if framework not in ("arduino", "espidf") or (framework == "espidf" and board.esp is None):
        raise DhnError(
            f"{board.name} has no port to '{framework}'; leave --framework, or take a board of the ESP32 family"
        )
    settings = dataclasses.replace(settings, framework=framework)
    return dataclasses.replace(board, port=framework, platformio=settings)


def with_model_partition(board: Board) -> Board:
    """The same ESP32 whose program takes the network from partition dhn_model. DhnError: no such chip."""
    if board.esp is None:
        raise DhnError(f"{board.name} has no partitions; leave out --model-partition, or take an ESP32")
    settings = settings_of(board)
    settings = dataclasses.replace(settings, defines=(*settings.defines, _IN_PARTITION))
    return dataclasses.replace(board, platformio=settings)


def partition_table(board: Board) -> list[Partition]:
    """Of a board with an Espressif chip; empty for any other. App, model and both hook slots, as its file says."""
    if board.esp is None:
        return []
    app_end = _APP_OFFSET + board.memory.flash_bytes
    first, second = board.hook_flash.slots
    end = second + board.hook_flash.slot_bytes
    table = [
        Partition("nvs", DATA, 2, 0x9000, 0x5000),
        Partition("otadata", DATA, OTA_DATA, 0xE000, 0x2000),
        Partition("app0", APP, 0x10, _APP_OFFSET, board.memory.flash_bytes),
        Partition(MODEL, DATA, 0x40, app_end, first - app_end),
        Partition(SLOTS[0], DATA, 0x41, first, board.hook_flash.slot_bytes),
        Partition(SLOTS[1], DATA, 0x41, second, board.hook_flash.slot_bytes),
        Partition("coredump", DATA, 3, end, board.esp.flash_bytes - end),
    ]
    assert all(a.offset + a.size == b.offset for a, b in itertools.pairwise(table)), board.name
    return [p for p in table if p.size]


def _partition_rows(table: Sequence[Partition]) -> list[str]:
    """As partitions.csv has them."""
    kinds = {APP: "app", DATA: "data"}
    return [
        f"{p.name}, {kinds[p.kind]}, {_SUBTYPES.get((p.kind, p.subtype), hex(p.subtype))}, {p.offset:#x}, {p.size:#x},"
        for p in table
    ]


def write_project(pack: bytes, name: str, board: Board, folder: Path, *, sample_bytes: int, full_ticks: int) -> Project:
    """The application with ``pack`` (a main pack named ``name``, host trailer or not) as a project in ``folder``.

    Files that the user changed since an earlier call are kept, but for `GENERATED`. ``full_ticks`` as for
    `source_set.application_model`. DhnError: the folder holds something else, or the board lacks a kernel.
    """
    before = _written_before(folder)
    files = project_files(pack, name, board, sample_bytes=sample_bytes, full_ticks=full_ticks)
    kept = tuple(place for place in files if place not in GENERATED and _changed(folder / place, before.get(place)))
    for place in before.keys() - files.keys():
        if not _changed(folder / place, before[place]):
            (folder / place).unlink(missing_ok=True)
    try:
        write_files(folder, {place: text for place, text in files.items() if place not in kept})
        # Of a kept file what would have been written: it stays the user's until it is that again.
        digests = {place: _digest(text.encode()) for place, text in files.items()}
        stamp = {"board": board.name, "framework": settings_of(board).framework, "files": digests}
        (folder / STAMP).write_text(json.dumps(stamp, indent=1) + "\n")
    except OSError as error:
        raise DhnError(f"cannot write {folder}: {error.strerror}; name another folder with -o") from error
    return Project(folder, board, kept)


def is_project(folder: Path) -> bool:
    """Whether `write_project` wrote it."""
    return (folder / STAMP).is_file()


def load_project(folder: Path, board: Board) -> Project:
    """A project that was written before, under the framework that it was written for. DhnError: for another board."""
    stamp = _read_stamp(folder)
    if stamp["board"] != board.name:
        raise DhnError(f"{folder} is a project for {stamp['board']}, not for {board.name}; leave out --board")
    return Project(folder, with_framework(board, stamp["framework"]), ())


def project_files(pack: bytes, name: str, board: Board, *, sample_bytes: int, full_ticks: int) -> dict[str, str]:
    """Texts by place below the project's folder."""
    image = device_bytes(pack)
    settings = settings_of(board)
    if _IN_PARTITION in settings.defines:
        _check_model_fits(image, board)
    otherwise = f"{board.name} ('{board.flavour}') does not have; pack the network again with --board {board.name}"
    groups = pack_kernels(image, board.flavour, otherwise)
    model = application_model(
        image,
        groups,
        board=board.name,
        ram_bytes=board.memory.ram_bytes,
        sample_bytes=sample_bytes,
        full_ticks=full_ticks,
    )
    sources = {**application_sources(), **port_sources(board.port)}
    if not settings.framework:  # which would call the application
        sources["main.c"] = resources.path("firmware") / "port" / "common" / "main.c"
    values = {
        "board": board,
        "settings": settings,
        "network": name,
        "pack_hash": bytes(records.HEADER.unpack(image)["hash"]).hex(),
        "defines": _defines(board, settings),
        "partitions": _partition_rows(partition_table(board)),
    }
    templates = ["platformio.ini", "README.md"]
    if board.esp:
        templates.append("partitions.csv")
    files = {place: render(f"platformio/{place}.j2", **values) for place in templates}
    if settings.framework == "espidf":
        files["CMakeLists.txt"] = render("platformio/CMakeLists.txt.j2")
        files["src/CMakeLists.txt"] = render("platformio/component.cmake.j2")
        files["sdkconfig.defaults"] = _sdkconfig(board)
    files |= {f"src/{place}": path.read_text() for place, path in sources.items()}
    files |= {f"src/{place}": text for place, text in model.items()}
    return files | {f"lib/dhn/{place}": text for place, text in runtime_library(groups).items()}


def _sdkconfig(board: Board) -> str:
    """What the application needs, and what ESP-IDF would guess of the chip: 2 MB of flash and 160 MHz.

    Source: ESP-IDF, components/esptool_py/Kconfig.projbuild and components/esp_system/port/soc/*/Kconfig.cpu.
    """
    assert board.esp is not None
    common = (resources.path("firmware") / "port/espidf/sdkconfig.defaults").read_text()
    return (
        f"{common}# The chip: the partitions need its whole flash.\n"
        f"CONFIG_ESPTOOLPY_FLASHSIZE_{board.esp.flash_bytes // 1048576}MB=y\n"
        f"CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ_{board.timer.tick_hz // 1_000_000}=y\n"
    )


def _check_model_fits(image: bytes, board: Board) -> None:
    room = next(p.size for p in partition_table(board) if p.name == MODEL)
    if len(image) > room:
        raise DhnError(
            f"the pack is {len(image) - room:,} bytes too large for partition {MODEL} of {board.name}, which has "
            f"{room:,}; leave out --model-partition, or use a smaller network"
        )


def _defines(board: Board, settings: PlatformIO) -> list[str]:
    """What a port is told of the board; CMake passes the same to ports of emulated ones."""
    flash = board.hook_flash
    found = list(settings.defines)
    # A partition table says it better, and a board without slots leaves it to the port.
    if flash.slots and board.esp is None:
        found += [
            f"DHN_FLASH_BASE={flash.base:#x}u",
            f"DHN_FLASH_BYTES={flash.slot_bytes * len(flash.slots)}",
            f"DHN_FLASH_PAGE={flash.page_bytes}",
        ]
    if flash.unit_bytes:
        found.append(f"HAL_FLASH_UNIT={flash.unit_bytes}u")
    if board.link.baud != 115200:
        found.append(f"APP_BAUD={board.link.baud}u")
    return found


def _written_before(folder: Path) -> dict[str, str]:
    """Digests of files by place. DhnError: the folder is somebody else's."""
    if folder.exists() and not folder.is_dir():
        raise DhnError(f"{folder} is a file; name another folder with -o")
    if is_project(folder):
        return dict(_read_stamp(folder)["files"])
    # What 'dhn-kit build' leaves for an emulated board does not get in the way.
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "firmware.json").is_file():
        raise DhnError(f"{folder} holds files that are not of a project of dhn-kit; name another folder with -o")
    return {}


def _read_stamp(folder: Path) -> dict[str, Any]:
    try:
        stamp = json.loads((folder / STAMP).read_text())
        if stamp.keys() >= {"board", "framework", "files"}:
            return dict(stamp)
    except (OSError, ValueError, AttributeError):
        pass
    raise DhnError(f"{folder / STAMP} is damaged; delete {folder}, or name another folder with -o")


def _changed(path: Path, digest: str | None) -> bool:
    """Whether there is a file that is not what was written there."""
    return path.is_file() and _digest(path.read_bytes()) != digest


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
