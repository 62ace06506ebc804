"""A board without a file is made up from what PlatformIO knows of it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import Any

import pytest

from dhn_kit import generic_boards
from dhn_kit.boards import load_board
from dhn_kit.errors import DhnError
from dhn_kit.generic_boards import find_board, generic_board
from dhn_kit.latency import load_latency


def entry(mcu: str, **changed: Any) -> dict[str, Any]:
    """As ``pio boards --json-output`` prints it."""
    common = {
        "id": "some_board",
        "name": "Some Board",
        "platform": "some",
        "fcpu": 64000000,
        "ram": 65536,
        "rom": 524288,
        "frameworks": ["arduino", "mbed"],
    }
    return {**common, "mcu": mcu, **changed}


@pytest.mark.parametrize(
    ("mcu", "flavour"),
    [
        ("STM32F103C8T6", "portable"),
        ("STM32G071RB", "portable"),
        ("STM32F411RET6", "armv7em"),
        ("STM32H723ZG", "armv7em"),
        ("STM32U575ZIQ", "armv7em"),
        ("NRF52832", "armv7em"),
        ("RP2040", "portable"),
        ("RP2350", "armv7em"),
        ("IMXRT1062", "armv7em"),
        ("ESP8266", "xtensa"),
    ],
)
def test_the_chip_decides_the_kernels_and_who_predicts_them(mcu: str, flavour: str) -> None:
    board = generic_board(entry(mcu))
    assert (board.flavour, board.tested, board.emulator) == (flavour, "generated", None)
    assert load_board(board.latency_board).flavour == flavour
    assert load_latency(board.latency_board).kernels
    # Nobody wrote down where its flash is free.
    assert board.esp is None and board.hook_flash.slots == ()
    assert 0 < board.memory.arena_bytes < board.memory.ram_bytes


@pytest.mark.parametrize(("mcu", "like"), [("ESP32", "esp32"), ("ESP32S2", "esp32"), ("ESP32C6", "esp32c3")])
def test_an_espressif_chip_gets_the_partitions_of_its_kin(mcu: str, like: str) -> None:
    board, kin = generic_board(entry(mcu, ram=327680, rom=4 << 20)), load_board(like)
    assert board.hook_flash == kin.hook_flash and board.memory.flash_bytes == kin.memory.flash_bytes
    assert board.esp is not None and board.esp.chip == mcu.lower()


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (entry("ATMEGA328P"), "has a atmega328p: no kernels are made for it"),
        (entry("STM32F411RET6", frameworks=["zephyr"]), "no Arduino core in PlatformIO"),
        (entry("ESP32", rom=2 << 20), "2,097,152 bytes of flash, the partitions need 4,194,304"),
    ],
)
def test_a_board_that_cannot_work_is_refused_by_name(found: dict[str, Any], fault: str) -> None:
    with pytest.raises(DhnError, match=fault):
        generic_board(found)


def test_a_file_wins_over_what_platformio_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        generic_boards, "_installed", lambda: {"esp32": entry("ATMEGA328P"), "bluepill": entry("RP2040")}
    )
    assert find_board("esp32") == load_board("esp32")
    assert find_board("bluepill").core.name == "rp2040"


def test_an_unknown_name_gets_near_ones_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generic_boards, "_installed", lambda: {"nucleo_f401re": entry("STM32F401RET6")})
    with pytest.raises(DhnError, match="did you mean") as told:
        find_board("nucleo_f41re")
    assert all(name in str(told.value) for name in ("nucleo_f401re", "nucleo_f446re"))
    assert "pio pkg install" in str(told.value)
