"""The doctor tells present tools from missing ones and names the command that installs them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from dhn_kit import doctor


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no programs at all."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return tmp_path


def plant(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def version(name: str) -> str | None:
    return {f.name: f.version for f in doctor.diagnose()}[name]


def test_missing_programs_come_with_the_command_that_installs_them(empty_path: Path) -> None:
    found = {f.name: f for f in doctor.diagnose()}
    for program, package in (
        ("gcc", "gcc libc6-dev"),
        ("arm-none-eabi-gcc", "gcc-arm-none-eabi"),
        ("newlib for arm-none-eabi", "libnewlib-arm-none-eabi"),
        ("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf"),
        ("xtensa-lx106-elf-gcc", "gcc-xtensa-lx106"),
        ("qemu-system-arm", "qemu-system-arm"),
        ("qemu-system-riscv32", "qemu-system-misc"),
    ):
        assert (found[program].version, found[program].install) == (None, f"sudo apt-get install {package}")


def test_version_is_taken_from_the_program_not_from_its_packager(empty_path: Path) -> None:
    plant(empty_path, "gcc", "echo 'gcc (Debian 12.2.0-14) 12.3.1'")
    assert version("gcc") == "12.3.1"


def test_program_beside_python_counts_without_being_on_the_path(
    empty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_path / "venv").mkdir()
    plant(empty_path / "venv", "ninja", "echo 1.13.0")
    monkeypatch.setattr(sys, "executable", str(empty_path / "venv" / "python"))
    assert version("ninja") == "1.13.0"


def test_compiler_without_its_library_is_told_apart(empty_path: Path) -> None:
    plant(empty_path, "arm-none-eabi-gcc", "case $1 in --version) echo 12.2.1;; *) echo nano.specs;; esac")
    assert (version("arm-none-eabi-gcc"), version("newlib for arm-none-eabi")) == ("12.2.1", None)


def test_program_that_fails_to_start_counts_as_missing(empty_path: Path) -> None:
    (empty_path / "ninja").write_bytes(b"\x7fELF")
    (empty_path / "ninja").chmod(0o755)
    assert version("ninja") is None


def test_python_package_shows_its_installed_version() -> None:
    assert version("onnx") == importlib.metadata.version("onnx")
