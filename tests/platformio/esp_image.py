"""What the stand-in for PlatformIO's espressif32 makes of a linked program: the files that an upload writes.

Arguments: program, partitions.csv. They appear beside the program: firmware, partitions, bootloader and boot_app0.
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from esp_idf_defs import PartitionTable

#: Bytes that stand where the second-stage boot loader would; esptool looks at the first one.
BOOT_LOADER = b"\xe9" + b"stand-in".ljust(1023, b"\xff")


def main() -> None:
    elf, table = map(Path, sys.argv[1:])
    (elf.parent / "partitions.bin").write_bytes(PartitionTable.from_csv(table.read_text()).to_binary())
    (elf.parent / "bootloader.bin").write_bytes(BOOT_LOADER)
    (elf.parent / "boot_app0.bin").write_bytes(b"\xff" * 0x2000)
    command = [
        sys.executable,
        "-m",
        "esptool",
        "--chip",
        "esp32",
        "elf2image",
        "-o",
        str(elf.with_suffix(".bin")),
        str(elf),
    ]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
