"""Firmware for a pack: only the kernels it needs, the same bytes each time, and clear words when it does not fit."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from board_rig import firmware, small_pack
from dhn_kit.boards import Board, load_board
from dhn_kit.errors import DhnError
from dhn_kit.firmware_build import build_firmware


def resized(**memory: int) -> Board:
    board = load_board("qemu-cortex-m4")
    return dataclasses.replace(board, memory=dataclasses.replace(board.memory, **memory))


def test_only_the_packs_kernels_and_the_hooks_are_linked() -> None:
    names = subprocess.run(
        ["arm-none-eabi-nm", str(firmware("qemu-cortex-m4").elf)], capture_output=True, text=True, check=True
    ).stdout
    assert "dhn_conv_s8__ref" in names and "dhn_lut_s8__ref" in names
    assert "dhn_max_pool_s8__ref" not in names and "dhn_mul_s8__ref" not in names


def test_the_firmware_has_no_heap_and_no_initialised_data() -> None:
    image = firmware("qemu-cortex-m4")
    names = subprocess.run(["arm-none-eabi-nm", str(image.elf)], capture_output=True, text=True, check=True).stdout
    assert "malloc" not in names and "sbrk" not in names
    assert image.sizes.get(".data", 0) == 0
    assert image.flash_weight_bytes == len(small_pack().data) and image.flash_code_bytes < 26_000
    assert image.sample_bytes == 8192 and 4000 < image.state_bytes < 8000
    print(f"code {image.flash_code_bytes}, weights {image.flash_weight_bytes}, RAM {image.ram_bytes}")


def test_the_same_pack_gives_the_same_bytes_in_another_folder(tmp_path: Path) -> None:
    board = load_board("qemu-cortex-m4")
    images = [build_firmware(small_pack().data, board, tmp_path / name) for name in ("one", "two")]
    assert images[0].elf.read_bytes() == images[1].elf.read_bytes()


def test_what_is_built_already_is_not_built_again(tmp_path: Path) -> None:
    board = load_board("posix")
    first = build_firmware(small_pack().data, board, tmp_path)
    before = first.elf.stat().st_mtime_ns
    assert build_firmware(small_pack().data, board, tmp_path).elf.stat().st_mtime_ns == before
    build_firmware(small_pack().data, board, tmp_path, sample_bytes=4096)
    assert first.elf.stat().st_mtime_ns > before


def test_too_little_flash_is_told_in_bytes(tmp_path: Path) -> None:
    with pytest.raises(DhnError, match=r"does not fit qemu-cortex-m4: \d+ bytes too many for its 16384 bytes of flash"):
        build_firmware(small_pack().data, resized(flash_bytes=16384), tmp_path)


def test_too_little_ram_is_told_in_bytes(tmp_path: Path) -> None:
    with pytest.raises(DhnError, match=r"does not fit qemu-cortex-m4: .* bytes too many for its 8192 bytes of RAM"):
        build_firmware(small_pack().data, resized(ram_bytes=8192), tmp_path)


def test_a_missing_compiler_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DhnError, match="apt-get install gcc-arm-none-eabi"):
        build_firmware(small_pack().data, load_board("qemu-cortex-m4"), tmp_path)
