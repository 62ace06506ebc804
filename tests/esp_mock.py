"""What the tests of flashing share: a chip that esptool takes for real, and a project's files for it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from esp32_mock_bootloader import MockHandle, mock_bootloader
from esp_idf_defs import PartitionTable

from dhn_kit.esp_flash import MODEL, SLOTS
from dhn_kit.esp_tool import EspTool

FLASH_BYTES = 4 << 20
APP_AT, HOOKS_AT, SLOT_BYTES = 0x10000, 0x3B0000, 0x10000
TABLE = f"""
nvs,      data, nvs,     0x9000,   0x5000
otadata,  data, ota,     0xe000,   0x2000
app0,     app,  ota_0,   {APP_AT:#x},  0x200000
{MODEL},  data, 0x40,    0x210000, 0x10000
{SLOTS[0]}, data, 0x41,  {HOOKS_AT:#x}, {SLOT_BYTES:#x}
{SLOTS[1]}, data, 0x41,  {HOOKS_AT + SLOT_BYTES:#x}, {SLOT_BYTES:#x}
"""
#: Addresses of constants and code: where the ESP32's caches map flash, and in its RAM.
IN_FLASH, IN_RAM = (0x3F400020, 0x400D0020), (0x3FFF0000, 0x40080000)


def esptool(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "esptool", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def running_chip(chip: str = "esp32") -> MockHandle:
    """A context manager: the ROM boot loader of a chip with 4 MB of erased flash, as a process that ends by itself."""
    return mock_bootloader(chip, timeout=300)


def tool(chip: MockHandle, name: str = "esp32") -> EspTool:
    """The mock knows the ROM's commands alone."""
    return EspTool(name, chip.url(), stub=False)


def partition_table(text: str = TABLE) -> bytes:
    """As ESP-IDF's own tool makes it."""
    binary: bytes = PartitionTable.from_csv(text).to_binary()
    return binary


def app_image(folder: Path, constants: bytes, lead: int = 1000, places: tuple[int, int] = IN_FLASH) -> bytes:
    """A program with these constants, ``lead`` bytes behind others, made by esptool from an ELF file."""
    (folder / "constants.bin").write_bytes(b"\xa5" * lead + constants)
    sections = (
        f"{name} {place:#x} : {{ *({name}*) }}" for name, place in zip((".rodata", ".text"), places, strict=True)
    )
    (folder / "app.ld").write_text(f"SECTIONS {{ {' '.join(sections)} /DISCARD/ : {{ *(*) }} }}")
    (folder / "app.S").write_text(
        '.section .rodata,"a"\n.incbin "constants.bin"\n.align 4\n'
        '.section .text,"ax"\n.global _start\n_start: nop\nret\n.align 4\n'
    )
    compiler = "xtensa-lx106-elf-gcc"
    subprocess.run(
        [compiler, "-nostdlib", "-T", "app.ld", "-e", "_start", "app.S", "-o", "app.elf"], cwd=folder, check=True
    )
    esptool("--chip", "esp32", "elf2image", folder / "app.elf", "-o", folder / "app.bin")
    return (folder / "app.bin").read_bytes()


def built_project(folder: Path, constants: bytes, table: str = TABLE) -> Path:
    """The files that a build leaves, as far as flashing reads them; ``table`` is partitions.csv."""
    folder.mkdir(parents=True)
    (folder / "firmware.bin").write_bytes(app_image(folder, constants))
    (folder / "bootloader.bin").write_bytes(app_image(folder, b"stands for a boot loader", places=IN_RAM))
    (folder / "partitions.bin").write_bytes(partition_table(table))
    return folder


def merged(folder: Path, parts: Sequence[tuple[int, bytes]]) -> bytes:
    """The whole flash as esptool would have it with these parts."""
    arguments: list[object] = []
    for number, (offset, data) in enumerate(parts):
        path = folder / f"merge{number}.bin"
        path.write_bytes(data)
        arguments += [hex(offset), path]
    out = folder / "merged.bin"
    esptool("--chip", "esp32", "merge-bin", "--pad-to-size", "4MB", "-o", out, *arguments)
    return out.read_bytes()


def assert_flash_is(chip: MockHandle, image: bytes, folder: Path) -> None:
    """Every byte of the chip's flash, by the MD5 that the boot loader computes of it."""
    assert len(image) == FLASH_BYTES
    path = folder / "expected.bin"
    path.write_bytes(image)
    options = ("--chip", "esp32", "--port", chip.url(), "--no-stub", "--after", "no-reset")
    done = esptool(*options, "verify-flash", "--flash-mode", "keep", "--flash-freq", "keep", "0x0", path, check=False)
    if done.returncode != 0:
        pytest.fail(f"the flash is not as expected: {done.stdout[-300:]}{done.stderr[-300:]}")
