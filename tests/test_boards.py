"""Every board file is complete, and a faulty one is refused by name."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest

from dhn_kit import resources
from dhn_kit.boards import list_boards, load_board
from dhn_kit.errors import DhnError
from dhn_kit.latency import load_latency

GOOD = (resources.path("boards") / "qemu-cortex-m4.toml").read_text()


@pytest.mark.parametrize("name", list_boards())
def test_every_board_loads_with_sane_geometry(name: str) -> None:
    board = load_board(name)
    flash = board.hook_flash
    assert board.memory.arena_bytes < board.memory.ram_bytes
    assert len(flash.slots) == 2
    assert flash.slot_bytes % flash.page_bytes == 0
    assert flash.slots[1] >= flash.slots[0] + flash.slot_bytes
    assert flash.slots[1] + flash.slot_bytes <= flash.base + flash.bytes
    assert (resources.path("mcu_kernels") / board.flavour / "kernels.toml").is_file()


REAL = [name for name in list_boards() if not load_board(name).emulated]


@pytest.mark.parametrize("name", REAL)
def test_a_real_board_can_be_predicted_and_built_by_platformio(name: str) -> None:
    board = load_board(name)
    assert (board.emulator, board.link.kind, board.core.toolchain) == (None, "serial", "platformio")
    assert board.platformio is not None
    like = load_board(board.latency_board)
    assert like.emulated and like.flavour == board.flavour
    assert load_latency(board.latency_board).kernels


def test_executed_means_that_there_is_something_to_execute_it_on() -> None:
    assert [n for n in list_boards() if (load_board(n).tested == "executed") != load_board(n).emulated] == []


@pytest.mark.parametrize("name", [n for n in REAL if load_board(n).esp])
def test_partitions_of_an_esp32_follow_each_other_in_its_flash(name: str) -> None:
    board = load_board(name)
    assert board.esp is not None
    app_end = 0x10000 + board.memory.flash_bytes
    assert app_end % 0x10000 == 0 and board.hook_flash.slots[0] - app_end >= 1 << 20
    assert board.hook_flash.slots[1] == board.hook_flash.slots[0] + board.hook_flash.slot_bytes
    assert board.hook_flash.base + board.hook_flash.bytes <= board.esp.flash_bytes


def test_mps2_counts_forty_instructions_per_tick() -> None:
    timer = load_board("qemu-cortex-m4").timer
    # One instruction is one virtual nanosecond.
    assert timer.tick_hz * timer.instructions_per_tick == 10**9


def test_unknown_board_names_those_that_come_closest() -> None:
    with pytest.raises(DhnError, match="no board 'nucleo_f446'; did you mean nucleo_f446re"):
        load_board("nucleo_f446")
    with pytest.raises(DhnError, match="no board 'toaster'; names look like"):
        load_board("toaster")


def test_a_name_cannot_leave_the_folder() -> None:
    with pytest.raises(DhnError, match="no board"):
        load_board("../pyproject")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD.replace('port = "mps2"', ""), "'port' is missing"),
        (GOOD.replace("ram_bytes = 4194304", 'ram_bytes = "4 MB"'), "memory: ram_bytes: '4 MB' where int is expected"),
        (GOOD.replace("emulated = true", "emulated = 1"), "emulated: 1 where bool is expected"),
        (GOOD.replace("page_bytes", "page_byte"), "hook_flash: 'page_byte' is not known"),
        (GOOD.replace('name = "qemu-cortex-m4"', 'name = "other"'), "name is 'other'"),
        (GOOD.replace('tested = "executed"', 'tested = "surely"'), "tested is 'surely'; choose from executed, built"),
        ("name = ", "correct the file"),
    ],
)
def test_faulty_board_file_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "qemu-cortex-m4.toml").write_text(text)
    with pytest.raises(DhnError, match=fault):
        load_board("qemu-cortex-m4", tmp_path)
