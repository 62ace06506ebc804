"""Writes firmware or hooks into the flash of an ESP32 without help of the program that runs there."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dhn_kit import records
from dhn_kit.errors import DhnError
from dhn_kit.esp_partitions import APP, DATA, OTA_DATA, TABLE_BYTES, TABLE_OFFSET, Partition, read_table
from dhn_kit.esp_tool import EspTool
from dhn_kit.hook_slots import HEADER_BYTES, UNIT, SlotHeader, active_slot, confirmed_slot, read_header, target_slot
from dhn_kit.trailer import device_bytes

#: Names of the partitions that the firmware looks for.
MODEL, SLOTS = "dhn_model", ("dhn_hooks0", "dhn_hooks1")
SECTOR = 4096
#: Where the ROM looks for the second-stage boot loader; 0 on chips that are not named.
#: Source: ESP-IDF Programming Guide of each chip, Bootloader.
BOOT_LOADER = {"esp32": 0x1000, "esp32s2": 0x1000, "esp32c5": 0x2000, "esp32h4": 0x2000, "esp32p4": 0x2000}
#: An app image: magic, and behind its 24 bytes the first segment's address and length, which holds the constants.
#: Source: esptool documentation, Firmware Image Format.
IMAGE_MAGIC, IMAGE_HEADER, SEGMENT = 0xE9, 24, struct.Struct("<II")
#: Bytes of an app that are read at once.
PIECE = 1 << 16

Report = Callable[[str], None]


@dataclass(frozen=True)
class Flashed:
    """``written`` bytes of flash, all of them compared with what was meant, in ``seconds``."""

    written: int
    seconds: float


@dataclass(frozen=True)
class FlashedHooks(Flashed):
    """The bundle of this ``version`` is in ``slot`` at ``offset``, confirmed, beside what ran before."""

    slot: int
    offset: int
    version: int
    model_hash: str


# -- Hooks


def flash_hooks(
    tool: EspTool, bundle: bytes, report: Report = lambda text: None, unit_bytes: int | None = None
) -> FlashedHooks:
    """Writes a bundle into the slot that is not in use, as if it had been pushed and confirmed, and restarts the chip.

    Nothing outside of that slot's partition is written, and the slot in use stays as it is, so that the board has a
    valid hook set whenever the power fails: the old slot's identity goes first, the new one comes last.
    DhnError before anything is written: no such partitions, bundle for another model, too large, not newer.
    """
    start = time.monotonic()
    with tool.restarted_on_error():
        number, offset, version, written, model = _flash_hooks(tool, bundle, report, unit_bytes or UNIT)
    return FlashedHooks(written, time.monotonic() - start, number, offset, version, model)


def _flash_hooks(tool: EspTool, bundle: bytes, report: Report, unit: int) -> tuple[int, int, int, int, str]:
    """Slot, its offset, version, bytes written, and the model's hash."""
    report("reading the board's partitions")
    table = read_table(tool.read(TABLE_OFFSET, TABLE_BYTES))
    slots = _slots(table)
    report("looking for its model")
    model = model_on(tool, table)
    header = records.HEADER.unpack(bundle)
    if bytes(header["bound_to"]).hex() != model:
        raise DhnError(
            f"the bundle belongs to another model ({bytes(header['bound_to']).hex()[:12]}, the board runs "
            f"{model[:12]}); train hooks for the model on this board"
        )
    report("reading its hook slots")
    heads = [read_header(tool.read(part.offset, HEADER_BYTES), unit) for part in slots]
    active = active_slot(heads, model, lambda number: _intact(tool, slots[number], heads[number]))
    number = target_slot(heads, active, bundle, slots[0].size)
    image = confirmed_slot(bundle, SECTOR, unit)
    report(f"writing version {header['bundle_version']} into slot {number}")
    written = _write_slot(tool, slots[number].offset, image)
    return number, slots[number].offset, header["bundle_version"], written, model


def _slots(table: Mapping[str, Partition]) -> list[Partition]:
    if any(name not in table for name in SLOTS):
        raise DhnError(
            f"the board has no partitions {' and '.join(SLOTS)} (it has {', '.join(table)}); "
            "flash firmware made by 'dhn-kit build' first"
        )
    first, second = (table[name] for name in SLOTS)
    if first.size != second.size or first.offset + first.size != second.offset:
        raise DhnError(
            f"partitions {' and '.join(SLOTS)} must be equally large and follow one another; correct partitions.csv"
        )
    return [first, second]


def _intact(tool: EspTool, part: Partition, header: SlotHeader) -> bool:
    return header.size <= part.size - HEADER_BYTES and header.holds(tool.read(part.offset + HEADER_BYTES, header.size))


def _write_slot(tool: EspTool, offset: int, image: bytes) -> int:
    """The old identity goes first, the new one comes last, so that no start takes a slot in the making for whole; in
    the sector with the identity the bundle's CRC-32 does that."""
    tool.write([(offset, b"\xff" * SECTOR + image[SECTOR:])])
    tool.write([(offset, image[:SECTOR])])
    if tool.read(offset, len(image), restart=True) != image:
        raise DhnError(f"the flash at {hex(offset)} did not keep what was written; the chip may be worn out")
    return len(image) + SECTOR


def model_on(tool: EspTool, table: Mapping[str, Partition]) -> str:
    """Hash of the main pack that the board runs: one in the app's constants, else one in a partition of its own.

    DhnError when there is neither.
    """
    for part in table.values():
        if part.kind == APP:
            found = _pack_in_app(tool, part)
            if found:
                return found
    if MODEL in table:
        found = _main_hash(tool.read(table[MODEL].offset, records.HEADER.size), table[MODEL].size)
        if found:
            return found
    raise DhnError("no dhn model was found in the board's flash; flash the firmware first ('dhn-kit flash')")


def _pack_in_app(tool: EspTool, part: Partition) -> str:
    """Reads the constants piece by piece, until the pack's header comes by: a slow line has better things to do."""
    data = tool.read(part.offset, min(PIECE, part.size))
    _, size = SEGMENT.unpack_from(data, IMAGE_HEADER)
    end = IMAGE_HEADER + SEGMENT.size + size
    if data[0] != IMAGE_MAGIC or end > part.size:
        return ""
    found = find_pack(data[:end], end)
    while not found and len(data) < end:
        data += tool.read(part.offset + len(data), min(PIECE, end - len(data)))
        found = find_pack(data, end)
    return found


def find_pack(data: bytes, room: int) -> str:
    """Hash of the main pack whose header is in ``data`` and which ends within ``room`` bytes; empty without one."""
    at = -1
    while (at := data.find(records.MAGIC.to_bytes(4, "little"), at + 1)) >= 0:
        found = _main_hash(data[at:], room - at)
        if found:
            return found
    return ""


def _main_hash(data: bytes, room: int) -> str:
    if len(data) < records.HEADER.size or data[:4] != records.MAGIC.to_bytes(4, "little"):
        return ""
    header = records.HEADER.unpack(data)
    fits = records.HEADER.size <= header["bytes"] <= room
    is_main = (header["kind"], header["version"]) == (records.KIND_MAIN, records.FORMAT_VERSION)
    return bytes(header["hash"]).hex() if fits and is_main else ""


# -- Firmware


def flash_parts(tool: EspTool, parts: Sequence[tuple[int, bytes]]) -> Flashed:
    """Writes all parts and starts the chip; esptool compares checksums of what stands in flash."""
    start = time.monotonic()
    with tool.restarted_on_error():
        tool.write(parts, restart=True)
    return Flashed(sum(len(data) for _, data in parts), time.monotonic() - start)


def build_folder(project: Path) -> Path:
    """Where PlatformIO left the firmware of a project; the newest of several environments. DhnError: not built."""
    built = sorted(project.glob(".pio/build/*/firmware.bin"), key=lambda path: path.stat().st_mtime)
    if not built:
        raise DhnError(f"{project} holds no built PlatformIO project; build it with 'dhn-kit build MODEL -o {project}'")
    return built[-1].parent


def project_parts(chip: str, build: Path, pack: bytes | None = None) -> list[tuple[int, bytes]]:
    """What a PlatformIO project that was built puts where: boot loader, table, app, and ``pack`` into the model's
    partition where the app does not hold it. ``build`` is the folder with firmware.bin.

    DhnError: not built, or a part is too large, by how much.
    """
    parts = {name: _part(build / f"{name}.bin") for name in ("bootloader", "partitions", "firmware")}
    table = read_table(parts["partitions"])
    apps = [part for part in table.values() if part.kind == APP]
    if not apps:
        raise DhnError(f"{build / 'partitions.bin'} has no app partition; correct partitions.csv and build again")
    found = [(BOOT_LOADER.get(chip, 0), parts["bootloader"]), (TABLE_OFFSET, parts["partitions"])]
    # Erased, it selects the first app.
    found += [
        (part.offset, b"\xff" * part.size) for part in table.values() if (part.kind, part.subtype) == (DATA, OTA_DATA)
    ]
    found.append((apps[0].offset, _fits(parts["firmware"], apps[0])))
    if pack is not None and MODEL in table and not find_pack(parts["firmware"], len(parts["firmware"])):
        found.append((table[MODEL].offset, _fits(device_bytes(pack), table[MODEL])))
    return sorted(found)


def _part(path: Path) -> bytes:
    if not path.is_file():
        raise DhnError(f"{path} is missing; build the firmware first ('dhn-kit build')")
    return path.read_bytes()


def _fits(data: bytes, part: Partition) -> bytes:
    if len(data) > part.size:
        raise DhnError(
            f"partition '{part.name}' is {len(data) - part.size:,} bytes too small for {len(data):,}; "
            "enlarge it in partitions.csv, or use a smaller network"
        )
    return data
