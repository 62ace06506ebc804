"""Hook slots survive a power cut at every program and erase unit, torn ones included."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from dhn_kit import resources

HERE = Path(__file__).parent / "fw"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wundef"]


def test_after_a_power_cut_at_any_unit_the_old_or_the_new_hooks_run(tmp_path: Path) -> None:
    firmware, program = resources.path("firmware"), tmp_path / "slots"
    includes = [f"-I{firmware / f}" for f in ("app", "port", "runtime")] + [f"-I{resources.path('mcu_kernels')}"]
    sources = [HERE / "slots_power_cut.c", firmware / "app/slots.c", firmware / "runtime/crc.c"]
    command = ["cc", "-std=c99", "-O2", *WARNINGS, *includes, *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    points = re.search(r"total: (\d+) cut points", done.stdout)
    assert points and int(points[1]) > 10_000
