"""Reads the partition table of an ESP32 as it stands in flash."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from dhn_kit.errors import DhnError

#: Where every table is, unless a project moves it, and its largest size.
#: Source: ESP-IDF Programming Guide, Partition Tables.
TABLE_OFFSET, TABLE_BYTES = 0x8000, 0xC00
#: magic, type, subtype, offset, size, name, flags
ENTRY = struct.Struct("<HBBII16sI")
MAGIC, MD5_MAGIC = 0x50AA, b"\xeb\xeb" + b"\xff" * 14
APP, DATA = 0, 1
OTA_DATA = 0


@dataclass(frozen=True)
class Partition:
    name: str
    kind: int
    subtype: int
    offset: int
    size: int


def read_table(data: bytes) -> dict[str, Partition]:
    """Partitions by name, in the table's order. DhnError when there is no table, or it is damaged."""
    found: dict[str, Partition] = {}
    for at in range(0, len(data) - ENTRY.size + 1, ENTRY.size):
        entry = data[at : at + ENTRY.size]
        if entry[:16] == MD5_MAGIC:
            if hashlib.md5(data[:at]).digest() != entry[16:]:
                raise DhnError("the board's partition table is damaged (MD5 differs); flash the firmware again")
            return found
        magic, kind, subtype, offset, size, name, _ = ENTRY.unpack(entry)
        if magic != MAGIC:
            break
        text = name.rstrip(b"\0").decode("ascii", "replace")
        found[text] = Partition(text, kind, subtype, offset, size)
    if not found:
        raise DhnError(
            f"the board has no partition table at {hex(TABLE_OFFSET)}; flash the firmware first ('dhn-kit flash')"
        )
    return found
