"""The ports to Arduino and ESP-IDF compile against stubs for every real board, and supply each HAL function once."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from board_rig import small_net
from dhn_kit import resources
from dhn_kit.boards import list_boards, load_board
from dhn_kit.pack import pack
from dhn_kit.platformio_project import project_files, with_framework
from dhn_kit.source_set import application_sources, library_sources, port_sources, write_files

STUBS = Path(__file__).parent / "fw" / "stubs"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wundef"]
#: Debian's compiler for Xtensa comes without a C library; the headers that stand in are C99.
XTENSA_LIBC = resources.path("firmware") / "port" / "xtensa_sim" / "libc"
#: The compilers at hand, and what each needs beside the board's flags.
TOOLS = {
    "arm": ("arm-none-eabi-", ()),
    "xtensa": ("xtensa-lx106-elf-", (f"-isystem{XTENSA_LIBC}", "-Drestrict=__restrict")),
    "riscv": ("riscv64-unknown-elf-", ("--specs=picolibc.specs",)),
}


@dataclass(frozen=True)
class Case:
    """A compiler with the core's flags, the macros that the framework defines and those that the project adds."""

    tools: str
    flags: tuple[str, ...]
    macros: tuple[str, ...]
    keeps_hooks: bool = True
    port: str = "arduino"


#: What the Arduino core of each board defines. Source: the cores' platform.txt and PlatformIO's boards/*.json.
CORES = {
    "esp32": ("ARDUINO_ARCH_ESP32", "ESP_PLATFORM", "ESP_IDF_VERSION_MAJOR=4"),
    "esp32s3": ("ARDUINO_ARCH_ESP32", "ESP_PLATFORM"),
    "esp32c3": ("ARDUINO_ARCH_ESP32", "ESP_PLATFORM"),
    "esp8266": ("ARDUINO_ARCH_ESP8266",),
    "rpipico": ("ARDUINO_ARCH_RP2040",),
    "rpipico2": ("ARDUINO_ARCH_RP2040",),
    "nucleo_f446re": ("ARDUINO_ARCH_STM32", "STM32F4xx"),
    "nucleo_l4r5zi": ("ARDUINO_ARCH_STM32", "STM32L4xx"),
    "nucleo_h743zi": ("ARDUINO_ARCH_STM32", "STM32H7xx"),
    "nrf52840_dk": ("ARDUINO_ARCH_NRF52", "NRF52840_XXAA"),
    "nano33ble": ("ARDUINO_ARCH_MBED", "NRF52840_XXAA"),
    "teensy41": ("__IMXRT1062__", "ARDUINO_TEENSY41"),
}
M0, M3, M7 = (("-mthumb", f"-mcpu=cortex-{core}") for core in ("m0plus", "m3", "m7"))
OTHERS = {
    "a Pico under the Mbed core": Case("arm", M0, ("ARDUINO_ARCH_RP2040", "ARDUINO_ARCH_MBED")),
    "another STM32": Case("arm", M3, ("ARDUINO_ARCH_STM32", "STM32F1xx", "SERIAL_RX_BUFFER_SIZE=2048"), False),
    "an STM32 L4 with one bank": Case(
        "arm", M3, ("ARDUINO_ARCH_STM32", "STM32L4xx", "STM32L432xx", "SERIAL_RX_BUFFER_SIZE=2048")
    ),
    **{
        f"an STM32 H7 with {difference}": Case(
            "arm",
            M7,
            ("ARDUINO_ARCH_STM32", "STM32H7xx", chip, "SERIAL_RX_BUFFER_SIZE=2048", f"HAL_FLASH_UNIT={unit}u"),
        )
        for difference, chip, unit in (("one bank", "STM32H723xx", 32), ("short flash words", "STM32H7A3xx", 16))
    },
    "an unknown core": Case("arm", M0, ("ARDUINO_ARCH_ELSEWHERE",), False),
}
ESP_IDF = {
    "esp32": (),
    "esp32s3": ("DHN_MODEL_PARTITION", "DHN_ARENA_PSRAM"),
    "esp32c3": ("DHN_USB_SERIAL",),
}


@functools.cache
def project(board: str, framework: str = "arduino") -> dict[str, str]:
    """Texts of the PlatformIO project for the small network, by place."""
    target = with_framework(load_board(board), framework)
    packed = pack(small_net(), target.flavour)
    return project_files(packed.data, "small", target, sample_bytes=1024, full_ticks=0)


def case_of(board: str, framework: str = "arduino", *more: str) -> Case:
    """As PlatformIO would compile the board's project."""
    target = load_board(board)
    tools = next(tools for tools in TOOLS if target.core.compiler.startswith(tools))
    defines = re.findall(r"^ *-D(\S+)$", project(board, framework)["platformio.ini"], re.MULTILINE)
    own = CORES[board] if framework == "arduino" else ("ESP_PLATFORM",)
    return Case(tools, target.core.flags, ("ARDUINO=10819", *own, *defines, *more), port=framework)


def compile_all(folder: Path, case: Case, optimise: str = "-Os") -> dict[str, str]:
    """Kind of each symbol of what is in the folder, as nm names them ("U": not defined). Twice the same function is an
    error of the linker."""
    prefix, flags = TOOLS[case.tools]
    assert shutil.which(prefix + "g++"), f"{prefix}g++ is missing; install it with make setup"
    inside = [folder, *(folder / place for place in ("src", "lib/dhn/src") if (folder / place).is_dir())]
    common = [*flags, *case.flags, *WARNINGS, optimise, "-fwrapv", *(f"-I{f}" for f in inside)]
    common += [*(f"-isystem{STUBS / f}" for f in ("arduino", "espidf")), *(f"-D{macro}" for macro in case.macros)]
    for compiler, language, kind in (
        ("gcc", ["-std=c99"], "*.c"),
        ("g++", ["-std=gnu++11", "-fno-exceptions"], "*.cpp"),
    ):
        for place in sorted({p.parent for p in folder.rglob(kind)}):
            files = sorted(p.name for p in place.glob(kind))
            run([prefix + compiler, *language, *common, "-c", *files], place)
    objects = sorted(str(p) for p in folder.rglob("*.o"))
    machine = ["-m", "elf32lriscv"] if case.tools == "riscv" else []
    run([prefix + "ld", *machine, "-r", "-o", "all.elf", *objects], folder)
    text = run([prefix + "nm", "all.elf"], folder)
    return {name: kind for kind, name in re.findall(r"^[0-9a-f ]+ (\w) (\S+)$", text, re.MULTILINE)}


def run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, " ".join(command) + "\n" + done.stderr
    return done.stdout


def compile_port(folder: Path, case: Case) -> dict[str, str]:
    headers = library_sources(((), ())).headers | application_sources()
    write_files(folder, {n: p for n, p in headers.items() if n.endswith(".h")} | port_sources(case.port))
    return compile_all(folder, case)


def missing(found: dict[str, str]) -> set[str]:
    """The HAL's functions that nobody supplies."""
    hal = set(re.findall(r"\b(hal_\w+)\(", (resources.path("firmware") / "port" / "hal.h").read_text()))
    assert len(hal) > 14
    return {name for name in hal if found.get(name) not in ("T", "W")}


def test_every_real_board_is_looked_at() -> None:
    real = {name for name in list_boards() if load_board(name).platformio}
    assert set(CORES) == real and set(ESP_IDF) == {name for name in real if load_board(name).esp}


@pytest.mark.parametrize("board", [*CORES, *OTHERS])
def test_the_port_to_arduino_compiles_for_every_family_and_supplies_the_whole_hal(board: str, tmp_path: Path) -> None:
    case = OTHERS[board] if board in OTHERS else case_of(board)
    found = compile_port(tmp_path, case)
    assert missing(found) == set()
    assert (found["hal_flash_program"] == "T") == case.keeps_hooks
    assert "main" not in found and "_Z5setupv" in found and "_Z4loopv" in found
    assert (found.get("HardFault_Handler") == "W") == (case.tools == "arm")  # a crash restarts, and hooks revert
    assert (found.get("mbed_die") == "T") == ("ARDUINO_ARCH_MBED" in case.macros)


@pytest.mark.parametrize("board", ESP_IDF)
def test_the_port_to_esp_idf_compiles_and_supplies_the_whole_hal(board: str, tmp_path: Path) -> None:
    more = ESP_IDF[board]
    found = compile_port(tmp_path, case_of(board, "espidf", *more))
    assert missing(found) == set() and "main" not in found and found["app_main"] == "T"
    assert ("model_pack" in found) == ("DHN_MODEL_PARTITION" in more)
    assert ("uart_driver_install" in found) != ("DHN_USB_SERIAL" in more)


@pytest.mark.parametrize(
    ("board", "framework"),
    [("esp32", "arduino"), ("esp32c3", "espidf"), ("nucleo_h743zi", "arduino"), ("rpipico", "arduino")],
)
def test_a_whole_project_compiles_and_lacks_only_what_the_framework_brings(
    board: str, framework: str, tmp_path: Path
) -> None:
    write_files(tmp_path, project(board, framework))
    found = compile_all(tmp_path, case_of(board, framework), "-O0")
    assert missing(found) == set() and found["model_pack"] == "R"
    lacking = {name for name, kind in found.items() if kind == "U"}
    assert not {name for name in lacking if re.match(r"_?(dhn_|hal_|model_|app_(?!main))", name)}


def test_a_frame_that_the_cores_buffer_cannot_hold_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    macros = ("ARDUINO_ARCH_STM32", "STM32F4xx", "SERIAL_RX_BUFFER_SIZE=64")
    with pytest.raises(AssertionError, match="build with -DSERIAL_RX_BUFFER_SIZE=2048"):
        compile_port(tmp_path, Case("arm", M3, macros))


def test_too_small_a_program_unit_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    macros = ("ARDUINO_ARCH_STM32", "STM32H7xx", "SERIAL_RX_BUFFER_SIZE=2048")
    with pytest.raises(AssertionError, match="build with -DHAL_FLASH_UNIT=32u"):
        compile_port(tmp_path, Case("arm", M7, macros))
