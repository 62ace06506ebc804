"""Finds a board by name: its file under boards/, else what PlatformIO knows of a board of that name."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhn_kit.boards import (
    Board,
    Core,
    Esp,
    HookFlash,
    Link,
    Memory,
    PlatformIO,
    Timer,
    list_boards,
    load_board,
    unknown_board,
)
from dhn_kit.errors import DhnError
from dhn_kit.platformio_run import run_pio

#: What the firmware needs in RAM beside the arena, at least.
_KEPT_BYTES = 16384
#: The Arduino core's buffer must hold a frame of the link.
_DEFINES = {"stm32": ("SERIAL_RX_BUFFER_SIZE=2048",)}


@dataclass(frozen=True)
class _Family:
    """What a core name of PlatformIO's board definitions (``cpu``, or the ``mcu`` of an Espressif chip) stands for.

    ``like`` is the board file whose partitions a chip with the same flash layout copies.
    """

    flavour: str
    latency: str
    compiler: str
    flags: tuple[str, ...]
    like: str = ""


def _arm(cpu: str, flavour: str, latency: str) -> _Family:
    return _Family(flavour, latency, "arm-none-eabi-gcc", (f"-mcpu={cpu}", "-mthumb"))


_FAMILIES = {
    **{cpu: _arm(cpu, "portable", "qemu-cortex-m3") for cpu in ("cortex-m0", "cortex-m0plus", "cortex-m3")},
    "cortex-m4": _arm("cortex-m4", "armv7em", "qemu-cortex-m4"),
    "cortex-m7": _arm("cortex-m7", "armv7em", "qemu-cortex-m7"),
    "cortex-m33": _arm("cortex-m33", "armv7em", "qemu-cortex-m33"),
    **{
        chip: _Family("xtensa", "qemu-xtensa", f"xtensa-{chip}-elf-gcc", ("-mlongcalls",), "esp32")
        for chip in ("esp32", "esp32s2", "esp32s3")
    },
    **{
        chip: _Family("rv32imc", "qemu-rv32", "riscv32-esp-elf-gcc", ("-march=rv32imc", "-mabi=ilp32"), "esp32c3")
        for chip in ("esp32c2", "esp32c3", "esp32c6", "esp32h2")
    },
    "esp8266": _Family("xtensa", "qemu-xtensa", "xtensa-lx106-elf-gcc", ("-mlongcalls",)),
}
#: PlatformIO names the core of these by the chip alone.
_CHIPS = {"rp2040": "cortex-m0plus", "rp2350": "cortex-m33", "nrf52": "cortex-m4", "imxrt10": "cortex-m7"}


def find_board(name: str) -> Board:
    """The board of that name: from its file, else a generic one from what PlatformIO's installed platforms know.

    DhnError: nobody knows it (with near names), or its core is of no family that there are kernels for.
    """
    if name in list_boards():
        return load_board(name)
    return generic_board(platformio_board(name))


def platformio_board(name: str) -> dict[str, Any]:
    """What PlatformIO knows of a board, without asking the network. DhnError: nothing."""
    # A look at every installed platform takes a second: not for a name that no board can have.
    known = _installed() if name.replace("-", "").replace("_", "").isalnum() else {}
    if name not in known:
        error = unknown_board(name, [*list_boards(), *known])
        raise DhnError(f"{error}, 'pio pkg install -g -p PLATFORM' adds those of a platform of PlatformIO")
    return known[name]


@functools.cache
def _installed() -> dict[str, dict[str, Any]]:
    # PlatformIO would take files in the current folder's boards/ for its own.
    with tempfile.TemporaryDirectory() as nowhere:
        code, text = run_pio(["boards", "--installed", "--json-output"], Path(nowhere))
    start = text.find("[")
    if code or start < 0:
        raise DhnError("'pio boards --installed' fails; call it by hand to see why")
    return {entry["id"]: entry for entry in json.loads(text[start:])}


def generic_board(found: dict[str, Any]) -> Board:
    """A board from an entry of ``pio boards --json-output``: id, name, mcu, fcpu, ram, rom, platform and frameworks.

    Hooks are kept in partitions on Espressif's larger chips, elsewhere where the port finds a place.
    DhnError: no kernels for its core.
    """
    name, mcu = str(found["id"]), str(found["mcu"]).lower()
    family = _family(mcu)
    if family is None:
        raise DhnError(f"board '{name}' has a {mcu}: no kernels are made for it; 'dhn-kit boards' lists what works")
    if "arduino" not in found["frameworks"]:
        raise DhnError(f"board '{name}' has no Arduino core in PlatformIO; write a board file (docs/boards.md)")
    ram, rom = int(found["ram"]), int(found["rom"])
    board = Board(
        name=name,
        title=str(found["name"]),
        emulated=False,
        tested="generated",
        port="arduino",
        flavour=family.flavour,
        latency=family.latency,
        core=Core(mcu, family.compiler, family.flags, "platformio"),
        memory=Memory(rom, ram, max(0, ram - _KEPT_BYTES) // 16 * 16),
        hook_flash=HookFlash(0, 0, 0, 0, (), None),
        link=Link("serial", 115200),
        timer=Timer(int(found["fcpu"]), 0),
        emulator=None,
        platformio=PlatformIO(str(found["platform"]), name, "arduino", "", _DEFINES.get(mcu[:5], ()), ()),
        esp=None,
    )
    return _with_partitions(board, family.like, mcu, rom) if family.like else board


def _family(mcu: str) -> _Family | None:
    if mcu in _FAMILIES:
        return _FAMILIES[mcu]
    chip = next((core for start, core in _CHIPS.items() if mcu.startswith(start)), None) or _stm32_core(mcu)
    return _FAMILIES[chip] if chip else None


def _stm32_core(mcu: str) -> str | None:
    """By the letters after "stm32": ST's naming of its families (product selector)."""
    if not mcu.startswith("stm32"):
        return None
    cores = {"m0plus": ("g0", "l0", "u0", "c0"), "m0": ("f0",), "m3": ("f1", "f2", "l1"), "m7": ("f7", "h7")}
    cores |= {"m4": ("f3", "f4", "g4", "l4", "wb"), "m33": ("l5", "u5", "h5")}
    return next((f"cortex-{core}" for core, families in cores.items() if mcu[5:7] in families), None)


def _with_partitions(board: Board, like: str, chip: str, flash_bytes: int) -> Board:
    """The partitions of a 4 MB board; a smaller flash has no room for them."""
    model = load_board(like)
    assert model.esp is not None
    if flash_bytes < model.esp.flash_bytes:
        raise DhnError(
            f"board '{board.name}' has {flash_bytes:,} bytes of flash, the partitions need {model.esp.flash_bytes:,}; "
            "write a board file with a smaller layout (docs/boards.md)"
        )
    memory = dataclasses.replace(board.memory, flash_bytes=model.memory.flash_bytes)
    if chip == "esp32":
        memory = dataclasses.replace(memory, ram_bytes=min(memory.ram_bytes, model.memory.ram_bytes), arena_bytes=65536)
    return dataclasses.replace(
        board, memory=memory, hook_flash=model.hook_flash, esp=Esp(chip, min(flash_bytes, model.esp.flash_bytes))
    )
