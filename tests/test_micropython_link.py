"""A MicroPython that serves the link protocol gives the host the samples that a board would."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import shutil
import subprocess
import tty
from pathlib import Path

from dhn_kit import resources
from dhn_kit.board_client import BoardClient
from dhn_kit.boards import load_board
from dhn_kit.link import Link, SerialTransport
from dhn_kit.store import SampleStore
from dhn_kit.twin import Twin
from dhn_kit.workflow import collect
from test_micropython import Device, device, micropython  # noqa: F401

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "micropython" / "collect.py"


def test_the_host_collects_every_sample_over_a_terminal_line(device: Device, tmp_path: Path) -> None:  # noqa: F811
    shutil.copy(resources.path("firmware") / "micropython" / "dhn_link.py", device.folder)
    shutil.copy(device.folder / "pack.dhn", device.folder / "model.dhn")
    shutil.copy(EXAMPLE, device.folder)
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    port = os.ttyname(theirs)
    board = subprocess.Popen([micropython(), "collect.py"], cwd=device.folder, stdin=ours, stdout=ours)
    try:
        client = BoardClient(Link(SerialTransport(port)))
        with SampleStore(tmp_path / "s.db") as store:
            done = collect(client, load_board("posix"), store, device.x)
            samples = store.load(bytes(device.main.data[16:32]).hex())
        assert (done.played, len(samples), done.lost) == (12, 12, 0)
        assert [s.output.tolist() for s in samples] == Twin(device.main).run(device.x).output.tolist()
        assert all(all(feature is not None for feature in s.features) for s in samples)
    finally:
        board.kill()
        board.wait()
        os.close(ours)
        os.close(theirs)
