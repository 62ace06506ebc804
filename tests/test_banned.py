"""The script that guards runtime and kernels finds each kind of fault that is planted."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "banned.sh"


def banned(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    (folder / "planted.c").write_text(source)
    return subprocess.run([SCRIPT, folder], capture_output=True, text=True, check=False)


def test_words_in_comments_and_constant_tables_are_allowed(tmp_path: Path) -> None:
    source = (
        "/* no malloc, no float\n * no printf */\n"
        "static const int table[2] = {1, 2}; // free\n"
        "int f(int i);\nint f(int i) { return table[i]; }\n"
    )
    result = banned(tmp_path, source)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("void *malloc(unsigned n);\nvoid *f(void);\nvoid *f(void) { return malloc(4); }\n", "malloc"),
        ("int f(int x);\nint f(int x) { return (int)(x * 0.5f); }\n", "calls __aeabi_"),
        ("float f(float x);\nfloat f(float x) { return x; }\n", "float"),
        ("#include <stdio.h>\n", "stdio"),
        ("int f(void);\nint f(void) { static int calls; return ++calls; }\n", "4 bytes of writable static data"),
        ("int dhn_state = 3;\n", "4 bytes of writable static data"),
        ("int other(int);\nint f(void);\nint f(void) { return other(1); }\n", "calls other"),
    ],
)
def test_planted_fault_is_found(tmp_path: Path, source: str, fault: str) -> None:
    result = banned(tmp_path, source)
    assert result.returncode == 1
    assert fault in result.stderr


def test_runtime_and_portable_kernels_are_clean() -> None:
    result = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
