"""mpremote copies what 'dhn-kit export' wrote to a real MicroPython's prompt, mip fetches it, ROMFS holds weights."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from dhn_kit.errors import DhnError
from dhn_kit.micropython import MODULE, PYTHON, export_native, install
from dhn_kit.twin import Twin
from test_micropython import Device, device, micropython  # noqa: F401


@contextmanager
def prompt(folder: Path, first: str = "") -> Iterator[str]:
    """The terminal line on which MicroPython's prompt waits, with ``folder`` as the board's files, after it has run
    ``first``."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    (folder / "first.py").write_text(first)
    board = subprocess.Popen([micropython(), "-i", "first.py"], cwd=folder, stdin=ours, stdout=ours, stderr=ours)
    try:
        yield os.ttyname(theirs)
    finally:
        board.kill()
        board.wait()
        os.close(ours)
        os.close(theirs)


@pytest.fixture(scope="module")
def exported(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    folder = tmp_path_factory.mktemp("exported")
    export_native("x64", folder, device.main.data)
    return folder


def answer(folder: Path, device: Device) -> list[int]:  # noqa: F811
    """What the module in ``folder`` computes for the first input."""
    (folder / "x.bin").write_bytes(device.x[0].tobytes())
    script = 'm = dhn.Model(read("model.dhn"))\nshow(list(m.run(read("x.bin"))))'
    (seen,) = Device(folder, device.main, device.bundle, device.x).run(script)
    return list(seen)


def pretending(number: int) -> str:
    """The prompt is real; that its interpreter is another architecture's is what this makes it say."""
    named = f"class Named:\n    _mpy = {number << 10}\nclass sys:\n    implementation = Named"
    importing = "lambda name, *rest: sys if name == 'sys' else real(name, *rest)"
    return f"import builtins\nreal = builtins.__import__\n{named}\nbuiltins.__import__ = {importing}"


def test_mpremote_copies_module_and_pack_to_the_prompt(
    device: Device,  # noqa: F811
    exported: Path,
    tmp_path: Path,
) -> None:
    with prompt(tmp_path) as port:
        names = install(exported, port)
    assert set(names) == {MODULE, "model.dhn", *PYTHON}
    assert all((tmp_path / name).read_bytes() == (exported / name).read_bytes() for name in names)
    assert answer(tmp_path, device) == Twin(device.main).run(device.x[:1]).output[0].tolist()


def test_the_command_flash_tells_what_it_copied(device: Device, exported: Path, tmp_path: Path) -> None:  # noqa: F811
    command = [sys.executable, "-m", "dhn_kit.cli", "flash", str(exported), "--micropython", "--port"]
    with prompt(tmp_path) as port:
        done = subprocess.run([*command, port], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and "on the board: _dhn.mpy, dhn.py" in done.stdout


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0, "takes no native modules; build it with the module"),
        (10, "the board is 'xtensawin', the module 'x64'; export it again with --arch for the board"),
        (6, "the board is 'number 6', the module 'x64'"),
    ],
)
def test_a_board_that_cannot_load_the_module_is_told_before_anything_is_copied(
    exported: Path, tmp_path: Path, number: int, message: str
) -> None:
    with prompt(tmp_path, pretending(number)) as port, pytest.raises(DhnError, match=message):
        install(exported, port)
    assert not list(tmp_path.glob("*.mpy"))


def test_arms_later_cores_take_modules_of_earlier_ones(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "armv6m"))
    module = (folder / MODULE).read_bytes()
    (folder / MODULE).write_bytes(module[:2] + bytes([4 << 2 | 3]) + module[3:])
    for number, takes in ((4, True), (8, True), (9, False)):
        board = tmp_path / f"board{number}"
        board.mkdir()
        with prompt(board, pretending(number)) as port:
            if takes:
                install(folder, port)
            else:
                with pytest.raises(DhnError, match="the board is 'xtensa', the module 'armv6m'"):
                    install(folder, port)
        assert (board / MODULE).is_file() == takes


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """The address under which ``folder`` is served on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_mip_installs_the_folder_from_a_web_server(device: Device, exported: Path, tmp_path: Path) -> None:  # noqa: F811
    with web_server(exported) as address:
        script = f"import mip\nmip.install('{address}/package.json', target='.', mpy=False)"
        done = subprocess.run([micropython(), "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {MODULE, "model.dhn", *PYTHON}
    assert answer(tmp_path, device) == Twin(device.main).run(device.x[:1]).output[0].tolist()


ROMFS = """
import uctypes, vfs
image = read("image.romfs")
gc.collect()
start = uctypes.addressof(image)
vfs.mount(vfs.VfsRom(image), "/rom")
file = open("/rom/model.dhn", "rb")
blob = memoryview(file)
at = uctypes.addressof(blob)
if at % 4:
    show([at % 4, refused(lambda: dhn.Model(blob))])
else:
    arena = bytearray(dhn.arena_bytes(blob))
    gc.collect()
    before = gc.mem_alloc()
    m = dhn.Model(blob, arena)
    y = list(m.run(read("x.bin")))
    gc.collect()
    show([0, start <= at < start + len(image), len(blob), gc.mem_alloc() - before, y])
"""


def test_weights_in_romfs_are_used_where_they_are(device: Device, exported: Path, tmp_path: Path) -> None:  # noqa: F811
    seen = {}
    board = Path(shutil.copytree(exported, tmp_path / "board"))
    (board / "x.bin").write_bytes(device.x[0].tobytes())
    for padding in (1, 3):  # files lie at even addresses: one of the two lengths brings the next to a multiple of 4
        source = tmp_path / f"rom{padding}"
        source.mkdir()
        (source / "a.bin").write_bytes(bytes(padding))
        (source / "model.dhn").write_bytes(device.main.data)
        command = [sys.executable, "-m", "mpremote", "romfs", "-o", str(board / "image.romfs"), "build", str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        (answered,) = Device(board, device.main, device.bundle, device.x).run(ROMFS)
        seen[answered[0]] = answered[1:]
    inside, size, heap, y = seen[0]
    assert inside and size == len(device.main.data) and heap < min(size, 4096)
    assert y == Twin(device.main).run(device.x[:1]).output[0].tolist()
    assert set(seen) == {0, 2} and "copy it: Model(bytes(blob))" in seen[2][0]
