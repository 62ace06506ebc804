"""A slot's bytes made by the host are those that the firmware writes, and the firmware runs from them."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from pathlib import Path

import pytest

from board_rig import session, small_bundle, small_pack
from dhn_kit import hook_slots, resources
from dhn_kit.board_client import SlotState
from dhn_kit.board_session import FLASH_FILE, prepare_flash
from dhn_kit.boards import load_board
from dhn_kit.errors import DhnError
from dhn_kit.hook_slots import HEADER_BYTES, SlotHeader, active_slot, confirmed_slot, read_header, target_slot
from dhn_kit.playback import install

BOARD = load_board("posix")
PAGE, SLOT = BOARD.hook_flash.page_bytes, BOARD.hook_flash.slot_bytes


def slots_of(folder: Path) -> list[bytes]:
    flash = (folder / FLASH_FILE).read_bytes()
    return [flash[at : at + SLOT] for at in BOARD.hook_flash.slots]


def test_a_confirmed_slot_is_byte_for_byte_what_the_firmware_leaves_in_flash(tmp_path: Path) -> None:
    with session("posix", tmp_path) as board:
        install(board.client, small_bundle(3))
    made = confirmed_slot(small_bundle(3), PAGE)
    assert slots_of(tmp_path)[0][: len(made)] == made
    assert len(made) % PAGE == 0


def test_the_firmware_runs_a_bundle_that_was_written_into_its_flash(tmp_path: Path) -> None:
    prepare_flash(tmp_path / FLASH_FILE, BOARD)
    with (tmp_path / FLASH_FILE).open("r+b") as flash:
        flash.seek(BOARD.hook_flash.slots[1])
        flash.write(confirmed_slot(small_bundle(5), PAGE))
    with session("posix", tmp_path) as board:
        slots = board.client.slots()
        assert (board.client.hello().bundle_version, slots.active, slots.trial) == (5, 1, False)
        assert board.client.counters().slots_corrupt == 0


def test_host_and_firmware_agree_on_every_state_of_a_slot(tmp_path: Path) -> None:
    with session("posix", tmp_path) as board:
        client = board.client
        for number, step in enumerate(
            (lambda: client.push(small_bundle(1)), client.trial, client.confirm, client.revert)
        ):
            step()
            told, read = client.slots().slots[0], read_header(slots_of(tmp_path)[0][:HEADER_BYTES])
            assert read == SlotHeader(told.state, told.version, told.bytes, told.crc32, small_pack().hash), number
            assert read.holds(small_bundle(1))
        assert read_header(slots_of(tmp_path)[1][:HEADER_BYTES]) == SlotHeader(SlotState.EMPTY)


def test_a_torn_mark_counts_as_tried_but_not_as_confirmed() -> None:
    slot = bytearray(confirmed_slot(small_bundle(1), PAGE))
    slot[hook_slots.MARKS + 2 * hook_slots.MARK_STRIDE] = 0xFF
    assert read_header(bytes(slot)).state == SlotState.TRIED
    slot[hook_slots.MARKS + 3 * hook_slots.MARK_STRIDE] = 0xFE
    assert read_header(bytes(slot)).state == SlotState.REVERTED


def header(version: int, state: SlotState = SlotState.CONFIRMED, model: str = "") -> SlotHeader:
    return SlotHeader(state, version, 100, 0, model or small_pack().hash)


@pytest.mark.parametrize(
    ("headers", "broken", "active", "target"),
    [
        ([header(1), header(2)], set(), 1, 0),
        ([header(2), header(1)], set(), 0, 1),
        ([header(1), header(2)], {1}, 0, 1),
        ([header(2, SlotState.REVERTED), header(1)], set(), 1, 0),
        ([header(2, model="00" * 16), header(1)], set(), 1, 0),
        ([SlotHeader(SlotState.EMPTY), SlotHeader(SlotState.EMPTY)], set(), -1, 0),
        ([header(1, SlotState.TRIED), header(1, SlotState.WRITTEN)], set(), -1, 0),
        ([header(1, SlotState.TRIED), header(1, SlotState.PENDING)], set(), -1, 1),
        ([header(1), header(2, SlotState.PENDING)], set(), 0, 1),
    ],
)
def test_what_is_written_is_never_the_slot_that_runs(
    headers: list[SlotHeader], broken: set[int], active: int, target: int
) -> None:
    assert active_slot(headers, small_pack().hash, lambda number: number not in broken) == active
    assert target_slot(headers, active, small_bundle(9), SLOT) == target


def test_a_bundle_that_is_too_large_or_not_newer_is_refused() -> None:
    headers = [header(4), SlotHeader(SlotState.EMPTY)]
    with pytest.raises(DhnError, match="version 4, the board has 4 in use; train it with --version 5"):
        target_slot(headers, 0, small_bundle(4), SLOT)
    over = len(small_bundle(5)) - (512 - HEADER_BYTES)
    with pytest.raises(DhnError, match=f"exceed a slot by {over:,}; use fewer"):
        target_slot(headers, 0, small_bundle(5), 512)


def test_the_layout_is_that_of_the_firmware() -> None:
    source = (resources.path("firmware") / "app/slots.c").read_text()
    unit = (resources.path("firmware") / "port/hal.h").read_text()
    assert f"SLOT_MAGIC 0x{hook_slots.MAGIC:08X}u" in source
    assert f"AT_MARKS = {hook_slots.MARKS}," in source and f"MARK_STRIDE = {hook_slots.MARK_STRIDE}\n" in source
    assert re.search(rf"define HAL_FLASH_UNIT {hook_slots.UNIT}u", unit)
