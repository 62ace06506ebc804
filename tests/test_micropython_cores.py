"""The 32-bit native modules, loaded as MicroPython loads them, compute on emulated cores what the twin computes.

Espressif's compiler is stood in for by Debian's (xtensa_windowed.py): relocations and calls are those of the ESP32.
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xtensa_windowed
from dhn_kit.errors import DhnError
from dhn_kit.mpy_native import TARGETS, build_module, module_kernels
from dhn_kit.pack import pack
from dhn_kit.twin import Twin
from nets import residual_net

FW = Path(__file__).parent / "fw"
#: Emulator and machine, and where the machine's memory starts. QEMU has no M0+: an M3 runs its code.
MACHINES = {
    "armv6m": (("qemu-system-arm", "-M", "mps2-an385"), 0),
    "armv7m": (("qemu-system-arm", "-M", "mps2-an385"), 0),
    "armv7emsp": (("qemu-system-arm", "-M", "mps2-an386"), 0),
    "rv32imc": (("qemu-system-riscv32", "-M", "virt", "-bios", "none"), 0x80000000),
    "xtensa": (("qemu-system-xtensa", "-M", "sim", "-cpu", "lx106"), 0x60000000),
    "xtensawin": (("qemu-system-xtensa", "-M", "sim", "-cpu", "de212"), 0x60000000),
}
INPUTS = 4


@pytest.fixture
def espressif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Path of the stand-in for Espressif's compiler, where PlatformIO would have put the real one."""
    compiler = tmp_path / "home" / ".platformio/packages/toolchain-xtensa-esp32/bin/xtensa-esp32-elf-gcc"
    compiler.parent.mkdir(parents=True)
    compiler.write_text(f'#!/bin/sh\nexec {sys.executable} {xtensa_windowed.__file__} "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return str(compiler)


def c_array(name: str, data: bytes) -> str:
    values = ",".join(map(str, data))
    return f"static const unsigned char {name}[] __attribute__((aligned(16))) = {{{values}}};\n"


@pytest.mark.parametrize("arch", MACHINES)
def test_a_module_computes_on_its_core_what_the_twin_computes(arch: str, tmp_path: Path, espressif: str) -> None:
    target = TARGETS[arch]
    compiler = espressif if arch == "xtensawin" else target.compiler
    graph, net = residual_net()
    main, x = pack(graph, target.kernels), net.inputs(INPUTS)
    module = build_module(arch, module_kernels(arch, main.data), tmp_path / "module")
    arrays = {"module": module, "pack": main.data, "x": x.tobytes()}
    text = "".join(c_array(name, data) for name, data in arrays.items()) + f"enum {{ inputs = {INPUTS} }};\n"
    (tmp_path / "mpy_input.h").write_text(text)
    emulator, origin = MACHINES[arch]
    elf = tmp_path / "loader.elf"
    flags = [f for f in target.flags if not f.startswith("-Wl,")]
    subprocess.run(
        [
            *(compiler, "-std=c99", "-O1", "-fno-tree-loop-distribute-patterns", *flags, "-nostdlib"),
            *("-static", f"-I{tmp_path}", str(FW / "mpy_loader.c"), f"-Wl,--defsym=ORIGIN_OF_MEMORY={origin}"),
            *(["-mtext-section-literals"] if "xtensa" in arch else []),
            *("-T", str(FW / "mpy_loader.ld"), "-Wl,--no-warn-rwx-segments", "-lgcc", "-o", str(elf)),
        ],
        check=True,
    )
    command = [*emulator, "-nographic", "-monitor", "none", "-semihosting", "-kernel", str(elf)]
    done = subprocess.run(command, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    status, *answers = done.stdout.decode().split()
    assert status == "01"  # the small integer 0
    seen = np.array([np.frombuffer(bytes.fromhex(line), np.int8) for line in answers])
    assert (seen == Twin(main).run(x).output).all()


def test_without_espressifs_compiler_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DhnError, match=r"xtensa-esp32-elf-gcc is neither on PATH nor .*'pio pkg install .*-c'"):
        build_module("xtensawin", [], tmp_path / "out")


@pytest.mark.parametrize(
    "place",
    [
        ".platformio/packages/toolchain-xtensa-esp-elf/bin",
        ".espressif/tools/xtensa-esp32-elf/esp-2022r1/xtensa-esp32-elf/bin",
        ".espressif/tools/xtensa-esp-elf/esp-14.2.0/xtensa-esp-elf/bin",
    ],
)
def test_espressifs_compiler_is_found_where_its_tools_put_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / place / "xtensa-esp32-elf-gcc"
    compiler.parent.mkdir(parents=True)
    compiler.write_text(f"#!/bin/sh\necho 'error: called in {place}' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DhnError, match=f"does not build: .*called in {place}"):
        build_module("xtensawin", [], tmp_path / "out")
