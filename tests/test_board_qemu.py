"""The device application on an emulated Cortex-M4F: emulators that outlive their host or fail, and noise."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from board_rig import firmware, over_noise, session
from dhn_kit import board_session
from dhn_kit.board_client import SamplerPolicy
from dhn_kit.board_session import BoardSession
from dhn_kit.errors import DhnError
from dhn_kit.samples import Sample


@pytest.fixture
def board(tmp_path: Path) -> Iterator[BoardSession]:
    with session("qemu-cortex-m4", tmp_path) as opened:
        yield opened


def test_a_killed_host_program_leaves_no_emulator_behind(tmp_path: Path) -> None:
    elf = firmware("qemu-cortex-m4").elf
    program = (
        "import sys, time; from pathlib import Path; from dhn_kit.boards import load_board\n"
        "from dhn_kit.board_session import open_board\n"
        f"with open_board(load_board('qemu-cortex-m4'), Path({str(elf)!r}), Path({str(tmp_path)!r})):\n"
        "    print('up', flush=True); time.sleep(60)\n"
    )
    host = Path(board_session.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(host)}
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    emulator = int((tmp_path / "emulator.pid").read_text())
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{emulator}").exists() and "Z" not in Path(f"/proc/{emulator}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, f"emulator {emulator} still runs"
        time.sleep(0.05)


def test_an_emulator_that_cannot_run_the_file_says_why(tmp_path: Path) -> None:
    bad = session("qemu-cortex-m4", tmp_path)
    bad.elf = tmp_path / "no.elf"
    with pytest.raises(DhnError, match="make it with 'dhn-kit build'"), bad:
        pass
    bad.elf.write_bytes(b"not an ELF file")
    with pytest.raises(DhnError, match="qemu-cortex-m4: "), bad:
        pass


@pytest.mark.slow
def test_of_ten_thousand_samples_through_noise_every_gap_is_counted(board: BoardSession) -> None:
    client, line = over_noise(board, 1e-3, timeout=0.5)
    got: list[Sample] = []
    client.on_sample = got.append
    client.sampler(SamplerPolicy(every_nth=1, with_input=True))
    while client.counters().runs < 10_000:
        client.stream_sensor(100)
    lost = client.drain()
    assert len(got) + lost == client.counters().samples_sent == 10_000 and lost > 500
    print(f"10,000 sample frames, {line.changed} bytes changed: {len(got)} accepted, {lost} lost and counted")
