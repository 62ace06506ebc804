"""A MicroPython that serves the link protocol gives the host what a board would: samples, slots, its own sensor."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from dhn_kit import resources
from dhn_kit.board_client import BoardClient, BoardError, MonitorState, SamplerPolicy, SlotState
from dhn_kit.boards import load_board
from dhn_kit.bundle import bundle_file, pack_bundle, save_bundle
from dhn_kit.hooks import Bundle, HookSpec, PolicyRow
from dhn_kit.link import Link, SerialTransport
from dhn_kit.micropython import install
from dhn_kit.perception import CHANNELS
from dhn_kit.samples import Sample
from dhn_kit.store import SampleStore
from dhn_kit.twin import Twin
from dhn_kit.workflow import collect
from test_micropython import Device, device, micropython  # noqa: F401
from test_runtime import exit_net

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "micropython" / "collect.py"
SENSOR = """
def read_input():
    global position
    position += size
    return data[position - size : position] or None
with open("x.bin", "rb") as file:
    data = file.read()
position, size = 0, dhn.Model(pack).inputs[0]
"""


@pytest.fixture
def line(device: Device) -> Iterator[str]:  # noqa: F811
    """The terminal line on which the example runs, with a sensor that reads x.bin."""
    for name in ("dhn_link.py", "dhn_slots.py"):
        shutil.copy(resources.path("firmware") / "micropython" / name, device.folder)
    for old in device.folder.glob("hooks?.*"):
        old.unlink()
    shutil.copy(device.folder / "pack.dhn", device.folder / "model.dhn")
    example = EXAMPLE.read_text().replace("def interrupts", SENSOR + "\n\ndef interrupts", 1)
    (device.folder / "collect.py").write_text(example)
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    port = os.ttyname(theirs)
    board = subprocess.Popen([micropython(), "-i", "collect.py"], cwd=device.folder, stdin=ours, stdout=ours)
    try:
        yield port
    finally:
        board.kill()
        board.wait()
        os.close(ours)
        os.close(theirs)


@pytest.fixture
def served(line: str) -> BoardClient:
    client = BoardClient(Link(SerialTransport(line)))
    client.hello()
    return client


def test_the_host_collects_every_sample_over_a_terminal_line(
    device: Device,  # noqa: F811
    served: BoardClient,
    tmp_path: Path,
) -> None:
    with SampleStore(tmp_path / "s.db") as store:
        done = collect(served, load_board("posix"), store, device.x)
        samples = store.load(bytes(device.main.data[16:32]).hex())
    assert (done.played, len(samples), done.lost) == (12, 12, 0)
    assert [s.output.tolist() for s in samples] == Twin(device.main).run(device.x).output.tolist()
    assert all(all(feature is not None for feature in s.features) for s in samples)


def test_a_pushed_bundle_runs_on_trial_until_it_is_confirmed(device: Device, served: BoardClient) -> None:  # noqa: F811
    gated = Twin(device.main, device.bundle).run(device.x)
    served.push(device.bundle)
    assert [s.state for s in served.slots().slots] == [SlotState.WRITTEN, SlotState.EMPTY]
    assert served.trial().bundle_version == 1 and served.slots().trial
    for k, x in enumerate(device.x):
        reply = served.run(x)
        assert reply.output is not None and reply.output.tolist() == gated.output[k].tolist()
        assert (reply.exit_hook, reply.scores) == (gated.exit_hook[k], tuple(gated.scores[k]))
    served.confirm()
    served.reset()
    assert served.hello().bundle_version == 1
    with pytest.raises(BoardError, match="not newer"):
        served.push(device.bundle)
    spec = Bundle([HookSpec(2, "exit", exit_net(device.main, 2), [40, 30])], ["a", "b"], version=2)
    served.push(pack_bundle(device.main, spec))
    hello = served.trial()
    assert (hello.bundle_version, hello.operating_points) == (2, 2)
    served.reset()  # without having confirmed
    assert served.hello().bundle_version == 1
    assert [s.state for s in served.slots().slots] == [SlotState.CONFIRMED, SlotState.REVERTED]
    assert served.counters().trials_reverted == 1
    served.revert()
    assert served.hello().bundle_version == 0


def test_the_boards_own_sensor_is_run_and_sampled_by_the_rules(
    device: Device,  # noqa: F811
    served: BoardClient,
) -> None:
    samples: list[Sample] = []
    served.on_sample = samples.append
    served.sampler(SamplerPolicy(every_nth=3, with_input=True, points=(1,)))
    assert served.stream_sensor(9) == 9 and served.drain() == 0
    assert [s.input.tolist() for s in samples if s.input is not None] == device.x.reshape(12, -1)[2:9:3].tolist()
    assert [s.propensity for s in samples] == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert [[k for k, f in enumerate(s.features) if f is not None] for s in samples] == [[1]] * 3
    with pytest.raises(BoardError, match="nothing to read"):
        served.stream_sensor(4)
    with pytest.raises(BoardError, match="cannot do that"):
        served.sampler(SamplerPolicy(reservoir=2, window=10))
    assert served.counters().sampler_seen == 12
    assert served.monitor().state == MonitorState.OFF


def test_the_environment_chooses_the_operating_point(device: Device, served: BoardClient) -> None:  # noqa: F811
    policy = [PolicyRow(channel=0, low=-128, high=20, point=1)]
    spec = Bundle([HookSpec(2, "exit", exit_net(device.main, 2), [40, 30])], ["a", "b"], policies=policy)
    served.push(pack_bundle(device.main, spec))
    served.trial()
    name = CHANNELS[0].name
    for value, point in ((100, 0), (10, 1)):
        assert served.surroundings({name: value}).point == point
        assert served.run(device.x[0]).point == point
    served.set_point(0)
    assert served.run(device.x[0]).point == 0 and not served.hello().automatic
    with pytest.raises(BoardError, match="out of range"):
        served.set_point(7)


def test_the_commands_push_and_status_take_a_micropython_for_the_board(device: Device, line: str) -> None:  # noqa: F811
    def call(*arguments: str) -> str:
        command = [sys.executable, "-m", "dhn_kit.cli", *arguments, "--board", "rpipico", "--port", line]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=device.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    device.main.save(device.folder / "host.dhn")
    spec = Bundle([HookSpec(2, "exit", exit_net(device.main, 2), [40])], ["half"])
    save_bundle(bundle_file(device.main, spec), device.folder / "bundle.dhn")
    call("push", "bundle.dhn", "--pack", "host.dhn", "--uncertified")
    assert "hook bundle 1, operating point" in call("status", "host.dhn")


def test_mpremote_gets_the_prompt_of_a_board_that_serves_the_protocol(
    device: Device,  # noqa: F811
    served: BoardClient,
    line: str,
    tmp_path: Path,
) -> None:
    served.run(device.x[0])
    served.link.transport.close()
    for name in ("_dhn.mpy", "model.dhn"):
        shutil.copy(device.folder / name, tmp_path)
    assert install(tmp_path, line) == ["_dhn.mpy", "model.dhn"]


POWER_CUT = """
import vfs, dhn_slots, binascii
class Ram:
    def __init__(self, data, size=512):
        self.data, self.size, self.left = data, size, -1
    def readblocks(self, n, buf, off=0):
        at = n * self.size + off
        buf[:] = self.data[at : at + len(buf)]
    def writeblocks(self, n, buf, off=0):
        if self.left == 0:
            return
        self.left -= 1
        at, size = n * self.size + off, len(buf) if self.left else len(buf) // 2
        self.data[at : at + size] = buf[:size]
    def ioctl(self, op, arg):
        if op == 4:
            return len(self.data) // self.size
        if op == 5:
            return self.size
        if op == 6 and self.left != 0:
            self.left -= 1
            at = arg * self.size
            self.data[at : at + self.size] = b"\\xff" * self.size
        return 0
def start():
    model = dhn.Model(pack)
    return dhn_slots.Slots(model, pack[16:32], "/disk"), model
def push(bundle, version):
    slots, _ = start()
    try:
        slots.begin(version, len(bundle), binascii.crc32(bundle), pack[16:32])
        for at in range(0, len(bundle), 256):
            slots.write(at, bundle[at : at + 256])
        slots.finish()
    finally:
        slots._close()  # before the collector does
    slots.try_next()
    slots, _ = start()
    slots.confirm()
pack, one, two = read("pack.dhn"), read("hooks.dhn"), read("hooks2.dhn")
def cuts(kind):
    disk = Ram(bytearray(512 * 128))
    kind.mkfs(disk)
    vfs.mount(kind(disk), "/disk")
    push(one, 1)
    vfs.umount("/disk")
    before, seen, cut = bytes(disk.data), [], 0
    while True:
        cut += 1
        disk = Ram(bytearray(before))
        vfs.mount(kind(disk), "/disk")
        disk.left = cut
        try:
            push(two, 2)
        except (OSError, dhn_slots.SlotError):
            pass
        done = disk.left != 0
        vfs.umount("/disk")
        gc.collect()
        if done:
            return seen
        disk = Ram(disk.data)
        vfs.mount(kind(disk), "/disk")
        slots, model = start()
        first = model.version
        slots, model = start()
        seen.append((first, model.version))
        vfs.umount("/disk")
for kind in (vfs.VfsLfs2, vfs.VfsFat):
    show(cuts(kind))
"""


def test_a_power_cut_at_any_moment_leaves_the_old_bundle_or_the_new(device: Device) -> None:  # noqa: F811
    shutil.copy(resources.path("firmware") / "micropython" / "dhn_slots.py", device.folder)
    spec = Bundle([HookSpec(2, "exit", exit_net(device.main, 2), [30])], ["b"], version=2)
    (device.folder / "hooks2.dhn").write_bytes(pack_bundle(device.main, spec))
    for filesystem, seen in zip(("littlefs", "FAT"), device.run(POWER_CUT), strict=True):
        print(f"{filesystem}: {len(seen)} cut points, {[(k, p) for k, p in enumerate(seen) if 0 in p]}")
        assert {tuple(pair) for pair in seen} <= {(1, 1), (2, 1), (2, 2)}, filesystem
        assert len(seen) > 30 and [2, 1] in seen
