"""The ports to Arduino and ESP-IDF compile against stubs for every family, and supply each HAL function once."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from dhn_kit import resources
from dhn_kit.source_set import application_sources, library_sources, port_sources, write_files

STUBS = Path(__file__).parent / "fw" / "stubs"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wundef"]
ARM = ("arm-none-eabi-", "-mthumb", "-mfloat-abi=soft")
#: Debian's compiler for Xtensa comes without a C library; the headers that stand in are C99.
XTENSA_LIBC = resources.path("firmware") / "port" / "xtensa_sim" / "libc"
XTENSA = ("xtensa-lx106-elf-", "-mlongcalls", f"-isystem{XTENSA_LIBC}", "-Drestrict=__restrict")
RISCV = ("riscv64-unknown-elf-", "-march=rv32imc", "-mabi=ilp32", "--specs=picolibc.specs")


@dataclass(frozen=True)
class Case:
    """A compiler's prefix with its flags, and the macros that the framework and its build define."""

    tools: tuple[str, ...]
    macros: tuple[str, ...]
    keeps_hooks: bool = True
    port: str = "arduino"


def arm(cpu: str, *macros: str, keeps_hooks: bool = True) -> Case:
    return Case((*ARM, f"-mcpu={cpu}"), macros, keeps_hooks)


def stm32(cpu: str, family: str, *macros: str) -> Case:
    return arm(cpu, "ARDUINO_ARCH_STM32", family, "SERIAL_RX_BUFFER_SIZE=2048", *macros)


CASES = {
    "esp32": Case(XTENSA, ("ARDUINO_ARCH_ESP32", "ESP_PLATFORM", "ESP_IDF_VERSION_MAJOR=4")),
    "esp32s3": Case(XTENSA, ("ARDUINO_ARCH_ESP32", "ESP_PLATFORM")),
    "esp32c3": Case(RISCV, ("ARDUINO_ARCH_ESP32", "ESP_PLATFORM")),
    "esp8266": Case(XTENSA, ("ARDUINO_ARCH_ESP8266", "DHN_FLASH_BYTES=8192", "DHN_FLASH_PAGE=4096")),
    "rpipico": arm("cortex-m0plus", "ARDUINO_ARCH_RP2040"),
    "rpipico of the Mbed core": arm("cortex-m0plus", "ARDUINO_ARCH_RP2040", "ARDUINO_ARCH_MBED"),
    "rpipico2": arm("cortex-m33", "ARDUINO_ARCH_RP2040"),
    "nucleo_f446re": stm32("cortex-m4", "STM32F4xx", "DHN_FLASH_BYTES=262144", "DHN_FLASH_PAGE=131072"),
    "nucleo_l4r5zi": stm32("cortex-m4", "STM32L4xx"),
    "nucleo_h743zi": stm32(
        "cortex-m7", "STM32H7xx", "DHN_FLASH_BYTES=262144", "DHN_FLASH_PAGE=131072", "HAL_FLASH_UNIT=32u"
    ),
    "another STM32": arm(
        "cortex-m3", "ARDUINO_ARCH_STM32", "STM32F1xx", "SERIAL_RX_BUFFER_SIZE=2048", keeps_hooks=False
    ),
    "nrf52840_dk": arm("cortex-m4", "NRF52840_XXAA"),
    "nano33ble": arm("cortex-m4", "ARDUINO_ARCH_MBED", "NRF52840_XXAA"),
    "teensy41": arm("cortex-m7", "__IMXRT1062__", "ARDUINO_TEENSY41"),
    "an unknown core": arm("cortex-m0", "ARDUINO_ARCH_ELSEWHERE", keeps_hooks=False),
}

IDF_CASES = {
    "over a UART": Case(XTENSA, ("ESP_PLATFORM",), port="espidf"),
    "over the chip's USB": Case(RISCV, ("ESP_PLATFORM", "DHN_USB_SERIAL"), port="espidf"),
    "with the network in a partition": Case(
        XTENSA, ("ESP_PLATFORM", "DHN_MODEL_PARTITION", "DHN_ARENA_PSRAM"), port="espidf"
    ),
}


def compile_all(folder: Path, case: Case) -> Path:
    """The port as one relocatable object; twice the same function is an error of the linker."""
    headers = library_sources(((), ())).headers | application_sources()
    write_files(folder, {n: p for n, p in headers.items() if n.endswith(".h")} | port_sources(case.port))
    prefix, *flags = case.tools
    assert shutil.which(prefix + "g++"), f"{prefix}g++ is missing; install it with make setup"
    common = [*flags, *WARNINGS, "-Os", "-ffunction-sections", "-I.", f"-isystem{STUBS / 'arduino'}"]
    common += [f"-isystem{STUBS / 'espidf'}", *(f"-D{macro}" for macro in case.macros)]
    c = sorted(p.relative_to(folder) for p in folder.rglob("*.c"))
    cpp = sorted(p.relative_to(folder) for p in folder.rglob("*.cpp"))
    for compiler, language, files in (("gcc", ["-std=c99"], c), ("g++", ["-std=gnu++11", "-fno-exceptions"], cpp)):
        if not files:
            continue
        command = [prefix + compiler, *language, *common, "-c", *map(str, files)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, " ".join(command) + "\n" + done.stderr
    objects = sorted(str(p) for p in folder.glob("*.o"))
    machine = ["-m", "elf32lriscv"] if case.tools == RISCV else []
    subprocess.run([prefix + "ld", *machine, "-r", "-o", "all.elf", *objects], cwd=folder, check=True)
    return folder / "all.elf"


def symbols(prefix: str, elf: Path) -> dict[str, str]:
    """Kind of each symbol, as nm names them; "U": not defined."""
    text = subprocess.run([prefix + "nm", str(elf)], check=True, capture_output=True, text=True).stdout
    return {name: kind for kind, name in re.findall(r"^[0-9a-f ]+ (\w) (\S+)$", text, re.MULTILINE)}


def without_all(found: dict[str, str]) -> set[str]:
    """The HAL's functions that are missing."""
    hal = set(re.findall(r"\b(hal_\w+)\(", (resources.path("firmware") / "port" / "hal.h").read_text()))
    assert len(hal) > 14
    return {name for name in hal if found.get(name) not in ("T", "W")}


@pytest.mark.parametrize("board", CASES)
def test_the_port_to_arduino_compiles_for_every_family_and_supplies_the_whole_hal(board: str, tmp_path: Path) -> None:
    case = CASES[board]
    found = symbols(case.tools[0], compile_all(tmp_path, case))
    assert without_all(found) == set()
    assert (found["hal_flash_program"] == "T") == case.keeps_hooks
    assert "main" not in found and "_Z5setupv" in found and "_Z4loopv" in found


@pytest.mark.parametrize("how", IDF_CASES)
def test_the_port_to_esp_idf_compiles_and_supplies_the_whole_hal(how: str, tmp_path: Path) -> None:
    case = IDF_CASES[how]
    found = symbols(case.tools[0], compile_all(tmp_path, case))
    assert without_all(found) == set() and "main" not in found and found["app_main"] == "T"
    assert ("model_pack" in found) == ("DHN_MODEL_PARTITION" in case.macros)
    assert ("uart_driver_install" in found) != ("DHN_USB_SERIAL" in case.macros)


def test_a_frame_that_the_cores_buffer_cannot_hold_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="build with -DSERIAL_RX_BUFFER_SIZE=2048"):
        compile_all(tmp_path, arm("cortex-m4", "ARDUINO_ARCH_STM32", "STM32F4xx", "SERIAL_RX_BUFFER_SIZE=64"))


def test_too_small_a_program_unit_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="build with -DHAL_FLASH_UNIT=32u"):
        compile_all(tmp_path, stm32("cortex-m7", "STM32H7xx"))
