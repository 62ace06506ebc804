"""The bytes of a hook slot, as firmware/app/slots.c has them, for a host that reaches the flash directly."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dhn_kit import records
from dhn_kit.board_client import SlotState
from dhn_kit.errors import DhnError

#: A slot's header; the bundle follows.
HEADER_BYTES = 256
MAGIC = 0x534E4844
#: magic, CRC-32 of the info
IDENTITY = struct.Struct("<II")
#: version, bytes, CRC-32 of the bundle, ones, model hash
INFO = struct.Struct("<IIII16s")
MARKS, MARK_STRIDE = 64, 32
PENDING, TRIED, CONFIRMED, REVERTED = range(4)
#: Bytes of a program unit of the flash, as far as the firmware is not compiled for larger ones.
UNIT = 8
ERASED = 0xFF


@dataclass(frozen=True)
class SlotHeader:
    """What a slot says of itself; ``size`` bytes of bundle follow. ``model_hash`` is hex, "" for an EMPTY slot."""

    state: SlotState
    version: int = 0
    size: int = 0
    crc32: int = 0
    model_hash: str = ""

    def holds(self, bundle: bytes) -> bool:
        return len(bundle) == self.size and zlib.crc32(bundle) == self.crc32


def read_header(header: bytes, unit: int = UNIT) -> SlotHeader:
    """``header`` are the slot's first HEADER_BYTES."""
    magic, check = IDENTITY.unpack_from(header)
    info = header[unit : unit + INFO.size]
    if magic != MAGIC or check != zlib.crc32(info):
        return SlotHeader(SlotState.EMPTY)
    version, size, crc, _, model = INFO.unpack(info)
    return SlotHeader(_state(header, unit), version, size, crc, model.hex())


def _state(header: bytes, unit: int) -> SlotState:
    marks = [header[at : at + unit] for at in range(MARKS, MARKS + 4 * MARK_STRIDE, MARK_STRIDE)]
    touched = [any(byte != ERASED for byte in mark) for mark in marks]
    complete = [not any(mark) for mark in marks]
    if touched[REVERTED]:
        return SlotState.REVERTED
    if complete[CONFIRMED]:
        return SlotState.CONFIRMED
    if touched[TRIED]:
        return SlotState.TRIED
    return SlotState.PENDING if complete[PENDING] else SlotState.WRITTEN


def confirmed_slot(bundle: bytes, page_bytes: int, unit: int = UNIT) -> bytes:
    """The whole pages that a slot consists of once this bundle was pushed, tried and confirmed."""
    known = records.HEADER.unpack(bundle)
    data = bundle[: known["bytes"]]
    info = INFO.pack(known["bundle_version"], len(data), zlib.crc32(data), 0xFFFFFFFF, bytes(known["bound_to"]))
    pages = -(-(HEADER_BYTES + len(data)) // page_bytes)
    slot = bytearray([ERASED]) * (pages * page_bytes)
    slot[: IDENTITY.size] = IDENTITY.pack(MAGIC, zlib.crc32(info))
    slot[unit : unit + INFO.size] = info
    for mark in (PENDING, TRIED, CONFIRMED):
        at = MARKS + mark * MARK_STRIDE
        slot[at : at + unit] = bytes(unit)
    slot[HEADER_BYTES : HEADER_BYTES + len(data)] = data
    return bytes(slot)


def active_slot(headers: Sequence[SlotHeader], model_hash: str, intact: Callable[[int], bool]) -> int:
    """The slot whose bundle runs when the board starts and none is on trial: the newest confirmed one that is for its
    model and ``intact``; -1 for none."""
    usable = [
        number
        for number, header in enumerate(headers)
        if header.state == SlotState.CONFIRMED and header.model_hash == model_hash and intact(number)
    ]
    return max(usable, key=lambda number: (headers[number].version, -number), default=-1)


def target_slot(headers: Sequence[SlotHeader], active: int, bundle: bytes, slot_bytes: int) -> int:
    """The slot that this bundle may be written to while ``active`` stays as it is.

    DhnError where the board would refuse it: too large, or not newer than what is active.
    """
    known = records.HEADER.unpack(bundle)
    room = slot_bytes - HEADER_BYTES
    if known["bytes"] > room:
        raise DhnError(
            f"the bundle's {known['bytes']:,} bytes exceed a slot by {known['bytes'] - room:,}; "
            "use fewer or smaller hooks"
        )
    if active >= 0 and known["bundle_version"] <= headers[active].version:
        raise DhnError(
            f"the bundle has version {known['bundle_version']}, the board has {headers[active].version} in use; "
            f"train it with --version {headers[active].version + 1}"
        )
    if active >= 0:
        return 1 - active
    # Should a start find a pending bundle, that one would run.
    return next((n for n, header in enumerate(headers) if header.state == SlotState.PENDING), 0)
