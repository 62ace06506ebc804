"""The host's part of a .dhn file: JSON behind the device's bytes, and how both are written whole or not at all."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from dhn_kit import records
from dhn_kit.errors import DhnError

MAGIC = b"DHNMETA1"
#: Magic, u32 length, u32 CRC-32.
HEAD_BYTES = 16


def save(path: Path, data: bytes, meta: dict[str, Any]) -> None:
    """Device bytes, then the trailer. An interrupted call leaves the file as it was."""
    text = json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()
    head = MAGIC + len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little")
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(data + head + text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DhnError(f"cannot write {path}: {error.strerror}; choose another place") from None


def load(path: Path, remedy: str) -> tuple[bytes, dict[str, Any] | None]:
    """Checked device bytes of a file, and its meta data; None where the trailer is missing or damaged.

    DhnError when the file cannot be read or its device bytes are not intact; `remedy` says how to make such a file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DhnError(f"cannot read {path}: {error.strerror}; {remedy}") from None
    image = device_bytes(data, str(path))
    rest = data[len(image) :]
    text = rest[HEAD_BYTES : HEAD_BYTES + int.from_bytes(rest[8:12], "little")]
    if rest[:8] != MAGIC or zlib.crc32(text) != int.from_bytes(rest[12:16], "little"):
        return image, None
    meta: dict[str, Any] = json.loads(text)
    return image, meta


def device_bytes(data: bytes, what: str = "pack") -> bytes:
    """The part of a .dhn file that goes to the device, after a check of magic, length and CRC-32."""
    if len(data) < records.HEADER.size or data[:4] != records.MAGIC.to_bytes(4, "little"):
        raise DhnError(f"{what} is not a dhn pack (no DHN1 at its start); make one with 'dhn-kit pack'")
    header = records.HEADER.unpack(data)
    if header["version"] != records.FORMAT_VERSION:
        raise DhnError(
            f"{what} has format version {header['version']}, this dhn-kit reads {records.FORMAT_VERSION}; pack it again"
        )
    if not records.HEADER.size <= header["bytes"] <= len(data):
        raise DhnError(f"{what} is cut off: {len(data)} of {header['bytes']} bytes; copy or pack it again")
    image = data[: header["bytes"]]
    if zlib.crc32(image[records.CRC_FROM :]) != header["crc32"]:
        raise DhnError(f"{what} is corrupted (CRC-32 differs); copy or pack it again")
    return image
