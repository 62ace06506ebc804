"""Hook slots survive a power cut at every program and erase unit, torn ones included."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dhn_kit import resources

HERE = Path(__file__).parent / "fw"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wundef"]


def run_slots(source: str, folder: Path, *flags: str) -> str:
    """What the program of tests/fw prints, with the slots' sources linked in."""
    firmware, program = resources.path("firmware"), folder / "slots"
    includes = [f"-I{firmware / f}" for f in ("app", "port", "runtime")] + [f"-I{resources.path('mcu_kernels')}"]
    sources = [HERE / source, firmware / "app/slots.c", firmware / "runtime/crc.c"]
    command = ["cc", "-std=c99", "-O2", *WARNINGS, *flags, *includes, *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("8u",), id="8"),
        pytest.param(("32u",), id="32", marks=pytest.mark.slow),
        pytest.param(("32u", "-DWRITE_ONCE"), id="32-once"),
    ],
)
def test_after_a_power_cut_at_any_unit_the_old_or_the_new_hooks_run(flags: tuple[str, ...], tmp_path: Path) -> None:
    unit, *more = flags
    printed = run_slots("slots_power_cut.c", tmp_path, f"-DHAL_FLASH_UNIT={unit}", *more)
    points = re.search(r"total: (\d+) cut points", printed)
    assert points and int(points[1]) > 3_000


def test_a_platform_that_keeps_no_hooks_refuses_them(tmp_path: Path) -> None:
    too_big, nothing = -42, -48
    assert run_slots("slots_none.c", tmp_path).split() == [
        str(n) for n in (0, -1, too_big, nothing, nothing, nothing, 0)
    ]
