"""Flashing an ESP32 by the real esptool, against a stand-in for its boot loader: what is written, what never is."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from esp32_mock_bootloader import MockHandle
from esptool.targets import CHIP_DEFS

from board_rig import session, small_bundle, small_pack
from dhn_kit import cli, esp_flash, esp_tool, records
from dhn_kit.board_session import FLASH_FILE, prepare_flash
from dhn_kit.boards import list_boards, load_board
from dhn_kit.bundle import BundleFile, save_bundle
from dhn_kit.errors import DhnError
from dhn_kit.esp_flash import build_folder, flash_hooks, project_parts
from dhn_kit.esp_partitions import TABLE_BYTES, TABLE_OFFSET, read_table
from dhn_kit.esp_tool import EspTool
from dhn_kit.hook_slots import confirmed_slot
from dhn_kit.link import SerialTransport
from dhn_kit.pack import pack
from esp_mock import (
    APP_AT,
    FLASH_BYTES,
    HOOKS_AT,
    SLOT_BYTES,
    TABLE,
    app_image,
    assert_flash_is,
    built_project,
    merged,
    partition_table,
    running_chip,
    tool,
)
from nets import residual_net

SECTOR = 4096


@pytest.fixture(scope="module")
def chip() -> Iterator[MockHandle]:
    with running_chip() as running:
        yield running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("esp")
    built_project(folder / ".pio/build/esp32", small_pack().data)
    return folder


class FakeFlash(EspTool):
    """Flash without a chip: what esptool does to its sectors, one after the other. The power is cut in sector ``cut``
    of them, of which ``kept`` bytes are programmed by then, or with None half is erased."""

    def __init__(self, image: bytes | bytearray, cut: int = -1, kept: int | None = None) -> None:
        super().__init__("esp32", "none")
        # The class is frozen; this is what makes a stand-in of it.
        vars(self).update(image=bytearray(image), cut=cut, kept=kept, touched=[], restarts=0)

    image: bytearray
    cut: int
    kept: int | None
    touched: list[int]
    restarts: int

    def read(self, offset: int, size: int, *, restart: bool = False) -> bytes:
        return bytes(self.image[offset : offset + size])

    def restart(self) -> None:
        vars(self).update(restarts=self.restarts + 1)

    def write(self, parts: Sequence[tuple[int, bytes]], *, restart: bool = False) -> None:
        for offset, data in parts:
            assert offset % esp_flash.SECTOR == 0
            for at in range(0, len(data), esp_flash.SECTOR):
                self._sector(offset + at, data[at : at + esp_flash.SECTOR].ljust(esp_flash.SECTOR, b"\xff"))

    def _sector(self, offset: int, data: bytes) -> None:
        if len(self.touched) == self.cut:
            erased = esp_flash.SECTOR // 2 if self.kept is None else esp_flash.SECTOR
            self.image[offset : offset + erased] = data[: self.kept or 0].ljust(erased, b"\xff")
            raise ConnectionResetError("the power was cut")
        self.touched.append(offset)
        self.image[offset : offset + esp_flash.SECTOR] = data


def whole_flash(slots: Sequence[bytes] = ()) -> bytes:
    """The flash of a board with the small model, made without esptool."""
    image = bytearray(b"\xff" * FLASH_BYTES)
    table = partition_table()
    image[TABLE_OFFSET : TABLE_OFFSET + len(table)] = table
    at = read_table(table)[esp_flash.MODEL].offset
    image[at : at + len(small_pack().data)] = small_pack().data
    for number, slot in enumerate(slots):
        at = HOOKS_AT + number * SLOT_BYTES
        image[at : at + len(slot)] = slot
    return bytes(image)


# -- By the real esptool


def flash(capsys: pytest.CaptureFixture[str], chip: MockHandle, *arguments: object) -> dict[str, Any]:
    """What 'dhn-kit flash --json' prints."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["flash", *map(str, arguments), "--board", "esp32", "--port", chip.url(), "--no-stub", "--json"])
    captured = capsys.readouterr()
    assert stop.value.code in (0, None), captured.err
    result: dict[str, Any] = json.loads(captured.out)
    return result


def saved_bundle(folder: Path, version: int) -> Path:
    path = folder / "hooks.dhn"
    save_bundle(BundleFile(small_bundle(version), ["off", "some", "all"], [], [], {}), path)
    return path


def test_hooks_go_into_the_free_slot_of_a_flashed_project_and_nothing_else_changes(
    chip: MockHandle, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_pack().save(project / "model.dhn")
    parts = project_parts("esp32", build_folder(project), small_pack().data)
    done = flash(capsys, chip, project, "--esptool", "--no-wait")
    expected = merged(tmp_path, parts)
    assert_flash_is(chip, expected, tmp_path)
    assert tool(chip).read(0, 0x2000) == expected[:0x2000]
    assert done["written"] == sum(len(data) for _, data in parts) and done["seconds"] > 0
    hooks = flash(capsys, chip, project, "--hooks", saved_bundle(tmp_path, 3), "--uncertified")
    slot = confirmed_slot(small_bundle(3), SECTOR)
    assert (hooks["slot"], hooks["offset"], hooks["version"]) == (0, HOOKS_AT, 3)
    assert hooks["model_hash"] == small_pack().hash
    expected = expected[:HOOKS_AT] + slot + expected[HOOKS_AT + len(slot) :]
    assert_flash_is(chip, expected, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["esp32c3", "esp32s3"])
def test_hooks_are_written_through_the_boot_loaders_of_other_chips_too(name: str) -> None:
    with running_chip(name) as other:
        chip = tool(other, name)
        image, model = whole_flash(), read_table(partition_table())[esp_flash.MODEL].offset
        chip.write([(at, image[at : at + SECTOR]) for at in (TABLE_OFFSET, model)])
        assert [flash_hooks(chip, small_bundle(version)).slot for version in (1, 2)] == [0, 1]


def test_only_a_certified_bundle_is_written_and_only_to_a_board_that_can_take_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "of another model"
    project.mkdir()
    pack(residual_net()[0]).save(project / "model.dhn")
    for words, arguments in {
        "certificate": ("--hooks", saved_bundle(tmp_path, 3), "--board", "esp32"),
        "is no ESP32": ("--esptool", "--board", "rpipico"),
        "/dev/ttyNONE does not exist": ("--hooks", tmp_path / "hooks.dhn", "--board", "esp32", "--uncertified"),
    }.items():
        with pytest.raises(SystemExit):
            cli.main(["flash", str(project), "--port", "/dev/ttyNONE", *map(str, arguments)])
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dhn-kit: ")]
        assert len(said) == 1 and words in said[0]


def test_a_chip_of_another_kind_is_named(chip: MockHandle) -> None:
    with pytest.raises(DhnError, match="is an ESP32, not an ESP32-C3; name its board with --board"):
        tool(chip, "esp32c3").read(0, 64)


def test_an_image_beyond_the_end_of_the_flash_is_refused_by_how_much(chip: MockHandle) -> None:
    with pytest.raises(DhnError, match="reach 4,096 bytes beyond the chip's flash of 4,194,304"):
        tool(chip).write([(FLASH_BYTES - SECTOR, bytes(2 * SECTOR))])


@pytest.mark.slow
def test_an_upload_that_is_killed_in_the_middle_can_be_made_again(chip: MockHandle, tmp_path: Path) -> None:
    data = bytes(range(256)) * 1200
    (tmp_path / "x.bin").write_bytes(data)
    options = ["--chip", "esp32", "--port", chip.url(), "--no-stub", "--after", "no-reset"]
    upload = subprocess.Popen(
        [sys.executable, "-u", "-m", "esptool", *options, "write-flash", hex(APP_AT), str(tmp_path / "x.bin")],
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert upload.stdout is not None
    while b"Writing at" not in (line := upload.stdout.read(4096)):
        assert line, "the upload ended before it began"
    upload.kill()
    assert upload.wait(10) != 0
    tool(chip).write([(APP_AT, data)])
    assert tool(chip).read(APP_AT + len(data) - SECTOR, SECTOR) == data[-SECTOR:]


def cut_after(count: int, chip: MockHandle) -> str:
    """The port of a line to the chip that breaks once so many bytes have gone to it."""

    def carry(server: socket.socket) -> None:
        left, source = count, server.accept()[0]
        with socket.create_connection(("127.0.0.1", chip.port())) as target, source, server:
            while left > 0:
                for ready in select.select([source, target], [], [], 5)[0]:
                    data = ready.recv(4096)
                    (target if ready is source else source).sendall(data)
                    left -= len(data) if ready is source else 0

    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=carry, args=(server,), daemon=True).start()
    return f"socket://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_a_line_that_breaks_in_the_middle_is_one_line_that_says_to_call_again(chip: MockHandle) -> None:
    data = bytes(range(256)) * 400
    with pytest.raises(DhnError, match="check cable and power, and call the command again") as error:
        EspTool("esp32", cut_after(40000, chip), stub=False).write([(APP_AT, data)])
    assert "\n" not in str(error.value)
    tool(chip).write([(APP_AT, data)])


def test_a_line_without_a_boot_loader_says_which_button_to_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = f"socket://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setattr(esp_tool, "ATTEMPTS", 1)
        with pytest.raises(esp_tool.Unreachable, match=r"no boot loader answers at socket://.*; hold the board's BOOT"):
            EspTool("esp32", port).read(0, 64)


# -- Without esptool: power cuts, refusals, tables


def started(slots: bytes, folder: Path) -> int:
    """The version that the firmware runs from these slots."""
    board = load_board("posix")
    folder.mkdir()
    prepare_flash(folder / FLASH_FILE, board)
    with (folder / FLASH_FILE).open("r+b") as flash:
        flash.write(slots)
    with session("posix", folder) as running:
        return running.client.hello().bundle_version


@pytest.mark.parametrize("sector", [SECTOR, 512])
def test_after_a_power_cut_in_any_sector_the_firmware_runs_the_old_or_the_new_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sector: int
) -> None:
    monkeypatch.setattr(esp_flash, "SECTOR", sector)  # small ones, so that a small bundle has several
    before = whole_flash([confirmed_slot(small_bundle(1), sector), confirmed_slot(small_bundle(2), sector)])
    whole = FakeFlash(before)
    flash_hooks(whole, small_bundle(3))
    versions = []
    for cut in range(len(whole.touched)):
        for kept in (None, 64, sector - 1):
            flash = FakeFlash(before, cut, kept)
            with pytest.raises(ConnectionResetError):
                flash_hooks(flash, small_bundle(3))
            slots = bytes(flash.image[HOOKS_AT : HOOKS_AT + 2 * SLOT_BYTES])
            versions.append(started(slots, tmp_path / f"{cut}-{kept}"))
            flash_hooks(FakeFlash(flash.image), small_bundle(4))
    assert set(versions) <= {2, 3} and len(versions) == 3 * len(whole.touched)
    assert started(bytes(whole.image[HOOKS_AT : HOOKS_AT + 2 * SLOT_BYTES]), tmp_path / "whole") == 3


def test_only_the_slot_that_is_not_in_use_is_touched_in_turn() -> None:
    flash = FakeFlash(whole_flash())
    slots = [flash_hooks(FakeFlash(flash.image), small_bundle(1)).slot]
    for version in (1, 2, 3):
        again = FakeFlash(flash.image)
        done = flash_hooks(again, small_bundle(version))
        slots.append(done.slot)
        assert all(done.offset <= at < done.offset + SLOT_BYTES for at in again.touched)
        flash = again
    assert slots == [0, 0, 1, 0]


def refused(flash: bytes, bundle: bytes) -> str:
    """What is said instead of writing; nothing was."""
    chip = FakeFlash(flash)
    with pytest.raises(DhnError) as error:
        flash_hooks(chip, bundle)
    assert (chip.touched, chip.restarts) == ([], 1) and "\n" not in str(error.value)
    return str(error.value)


def test_a_bundle_that_the_board_would_not_take_is_refused_before_anything_is_written() -> None:
    image = whole_flash([confirmed_slot(small_bundle(5), SECTOR)])
    assert "belongs to another model" in refused(image, foreign_bundle())
    assert "the board has 5 in use; train it with --version 6" in refused(image, small_bundle(5))
    assert "no partition table at 0x8000; flash the firmware first" in refused(b"\xff" * FLASH_BYTES, small_bundle(6))
    other = with_table("app0, app, ota_0, 0x10000, 0x100000\n")
    assert "no partitions dhn_hooks0 and dhn_hooks1 (it has app0)" in refused(other, small_bundle(6))
    other = with_table(TABLE.replace(f"{HOOKS_AT + SLOT_BYTES:#x}", "0x3d0000"))
    assert "must be equally large and follow one another" in refused(other, small_bundle(6))
    image = whole_flash()
    at = read_table(partition_table())[esp_flash.MODEL].offset
    without = image[:at] + b"\xff" * 4096 + image[at + 4096 :]
    assert "no dhn model was found" in refused(without, small_bundle(6))


def with_table(text: str) -> bytes:
    """The flash of a board that is divided in another way."""
    image, table = whole_flash(), partition_table(text)
    return image[:TABLE_OFFSET] + table.ljust(TABLE_BYTES, b"\xff") + image[TABLE_OFFSET + TABLE_BYTES :]


def foreign_bundle() -> bytes:
    header = records.HEADER.unpack(small_bundle(6)) | {"bound_to": bytes(16)}
    return records.HEADER.pack(**header) + small_bundle(6)[records.HEADER.size :]


def test_a_slot_that_is_damaged_is_not_taken_for_the_one_in_use() -> None:
    broken = bytearray(confirmed_slot(small_bundle(2), SECTOR))
    broken[300] ^= 1
    image = whole_flash([confirmed_slot(small_bundle(1), SECTOR), bytes(broken)])
    assert flash_hooks(FakeFlash(image), small_bundle(3)).slot == 1


@pytest.mark.parametrize("lead", [0, 1000, esp_flash.PIECE - 200, esp_flash.PIECE + 5000])
def test_the_model_is_found_among_the_constants_of_the_app(tmp_path: Path, lead: int) -> None:
    app = app_image(tmp_path, small_pack().data, lead)
    image = bytearray(whole_flash())
    image[APP_AT : APP_AT + len(app)] = app
    at = read_table(partition_table())[esp_flash.MODEL].offset
    image[at : at + 4096] = b"\xff" * 4096
    assert flash_hooks(FakeFlash(image), small_bundle(1)).model_hash == small_pack().hash


def test_a_partition_table_is_read_as_esp_idf_wrote_it() -> None:
    table = read_table(partition_table())
    assert list(table) == ["nvs", "otadata", "app0", "dhn_model", "dhn_hooks0", "dhn_hooks1"]
    assert [(p.offset, p.size) for p in table.values()][-2:] == [
        (HOOKS_AT, SLOT_BYTES),
        (HOOKS_AT + SLOT_BYTES, SLOT_BYTES),
    ]
    damaged = bytearray(partition_table())
    damaged[4] ^= 1
    with pytest.raises(DhnError, match="damaged"):
        read_table(bytes(damaged))


def test_the_model_has_its_own_partition_written_only_where_the_app_does_not_hold_it(
    project: Path, tmp_path: Path
) -> None:
    built, at = build_folder(project), read_table(partition_table())[esp_flash.MODEL].offset
    assert at not in dict(project_parts("esp32", built, small_pack().data))
    for name in ("bootloader", "partitions"):
        (tmp_path / f"{name}.bin").write_bytes((built / f"{name}.bin").read_bytes())
    (tmp_path / "firmware.bin").write_bytes(app_image(tmp_path, b"no model"))
    parts = dict(project_parts("esp32", tmp_path, small_pack().data + b"host's part"))
    assert parts[at] == small_pack().data[: len(parts[at])] and sorted(parts) == [0x1000, 0x8000, 0xE000, APP_AT, at]


def test_parts_that_are_missing_or_too_large_are_named(project: Path, tmp_path: Path) -> None:
    with pytest.raises(DhnError, match=r"bootloader.bin is missing; build the firmware first"):
        project_parts("esp32", tmp_path)
    with pytest.raises(DhnError, match="partition 'app0' is 4,096 bytes too small for 2,101,248"):
        for name in ("bootloader", "partitions"):
            (tmp_path / f"{name}.bin").write_bytes((build_folder(project) / f"{name}.bin").read_bytes())
        (tmp_path / "firmware.bin").write_bytes(bytes(0x200000 + 4096))
        project_parts("esp32", tmp_path)


def test_a_port_that_is_absent_or_in_use_is_reported_before_esptool_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("esptool was started"))
    with pytest.raises(DhnError, match="/dev/ttyNONE does not exist; plug the board in"):
        EspTool("esp32", "/dev/ttyNONE").read(0, 64)
    ours, theirs = os.openpty()
    monitor = SerialTransport(os.ttyname(theirs))
    with pytest.raises(DhnError, match="is busy; close the program that has it open"):
        EspTool("esp32", os.ttyname(theirs)).read(0, 64)
    monitor.close()
    os.close(ours)
    os.close(theirs)


def test_the_boot_loader_goes_where_esptool_knows_it_to_be() -> None:
    known = {chip: rom.BOOTLOADER_FLASH_OFFSET for chip, rom in CHIP_DEFS.items()}
    chips = {board.esp.chip for board in map(load_board, list_boards()) if board.esp} | set(esp_flash.BOOT_LOADER)
    assert {chip: esp_flash.BOOT_LOADER.get(chip, 0) for chip in chips} == {chip: known[chip] for chip in chips}
