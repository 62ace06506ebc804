"""Every board file is complete, and a faulty one is refused by name."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest

from dhn_kit import resources
from dhn_kit.boards import list_boards, load_board
from dhn_kit.errors import DhnError

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


def test_mps2_counts_forty_instructions_per_tick() -> None:
    timer = load_board("qemu-cortex-m4").timer
    # One instruction is one virtual nanosecond.
    assert timer.tick_hz * timer.instructions_per_tick == 10**9


def test_unknown_board_lists_the_known_ones() -> None:
    with pytest.raises(DhnError, match="no board 'nucleo'; known boards: posix, qemu-"):
        load_board("nucleo")


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
        ("name = ", "correct the file"),
    ],
)
def test_faulty_board_file_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "qemu-cortex-m4.toml").write_text(text)
    with pytest.raises(DhnError, match=fault):
        load_board("qemu-cortex-m4", tmp_path)
