"""A board's serial port is found by its USB id; what is wrong with a port is said in one line with the next step."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serial.tools import list_ports, list_ports_common

from board_rig import firmware
from dhn_kit import ports
from dhn_kit.board_session import open_board
from dhn_kit.boards import Board, list_boards, load_board
from dhn_kit.commands import console
from dhn_kit.errors import DhnError
from dhn_kit.link import Link, SerialTransport, SocketTransport, open_port
from dhn_kit.ports import SerialPort, find_port

CP2102, CH340, OTHER = "10c4:ea60", "1a86:7523", "2341:0043"


def real_board(name: str = "thing", usb: tuple[str, ...] | None = (CP2102, CH340)) -> Board:
    """A board on a serial port; its firmware calls itself posix."""
    return dataclasses.replace(load_board("posix"), name=name, usb=usb, emulator=None, emulated=False)


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list_ports_common.ListPortInfo]]:
    """What the operating system lists: a built-in port that nothing is attached to, and what a test plugs in."""
    found = [list_ports_common.ListPortInfo("/dev/ttyS0")]
    monkeypatch.setattr(list_ports, "comports", lambda: found)
    yield found


def usb_port(device: str, usb: str, product: str = "UART Bridge") -> list_ports_common.ListPortInfo:
    port = list_ports_common.ListPortInfo(device)
    port.vid, port.pid = (int(part, 16) for part in usb.split(":"))
    port.product = product
    return port


def test_the_one_port_with_an_id_of_the_board_is_taken(plug: list[list_ports_common.ListPortInfo]) -> None:
    plug += [usb_port("/dev/ttyACM0", OTHER, "Uno"), usb_port("/dev/ttyUSB0", CH340)]
    assert find_port(real_board()) == "/dev/ttyUSB0"


def test_without_a_fitting_port_the_error_lists_ids_and_what_is_there(
    plug: list[list_ports_common.ListPortInfo],
) -> None:
    plug += [usb_port("/dev/ttyACM0", OTHER, "Uno")]
    with pytest.raises(DhnError, match=r"no thing is attached.*10c4:ea60, 1a86:7523 \(there are /dev/ttyACM0") as say:
        find_port(real_board())
    assert "--port" in str(say.value) and "\n" not in str(say.value)


def test_with_nothing_on_usb_the_error_says_to_plug_it_in(plug: list[list_ports_common.ListPortInfo]) -> None:
    with pytest.raises(DhnError, match="no thing is attached: no serial port on USB; plug it in"):
        find_port(real_board(usb=None))


def test_of_several_fitting_ports_the_user_chooses_or_is_told_to(plug: list[list_ports_common.ListPortInfo]) -> None:
    plug += [usb_port("/dev/ttyUSB1", CH340), usb_port("/dev/ttyUSB0", CP2102)]
    with pytest.raises(DhnError, match=r"2 ports fit thing: /dev/ttyUSB0 .*, /dev/ttyUSB1 .*; name one with --port"):
        find_port(real_board())
    assert find_port(real_board(), lambda shown: shown[1]) == "/dev/ttyUSB1"


def test_the_question_is_repeated_until_a_number_of_the_list_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["\n", "3\n", "b\n", "2\n"])
    monkeypatch.setattr(sys.stdin, "readline", lambda: next(answers))
    shown = [SerialPort("/dev/a", CP2102, "A"), SerialPort("/dev/b", CH340, "B")]
    assert console.choose(shown) == shown[1]
    captured = capsys.readouterr()
    assert captured.out == "" and "2  /dev/b (1a86:7523, B)" in captured.err and captured.err.count("Which one") == 4


#: For root no mode forbids anything; whoever root becomes may not be allowed to read Python's modules.
OPEN = """
import grp, os, sys, serial
from dhn_kit.link import SerialTransport
if os.geteuid() == 0:
    os.setuid(65534)
SerialTransport(sys.argv[1])
"""


def test_a_port_without_permission_names_its_group_and_the_command() -> None:
    ours, theirs = os.openpty()
    port = os.ttyname(theirs)
    os.chmod(port, 0)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, port],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(ports.__file__).parents[1])},
        timeout=60,
        check=False,
    )
    group = Path(port).group()
    os.close(ours)
    os.close(theirs)
    assert f"no permission for serial port {port}, which is for group {group}; join it" in done.stderr
    assert f"sudo usermod -aG {group} $USER" in done.stderr


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "usermod -aG"), (errno.EBUSY, "is busy; close the program"), (errno.EIO, "is not usable")],
)
def test_every_reason_not_to_open_a_port_has_a_next_step(tmp_path: Path, number: int, words: str) -> None:
    device = tmp_path / "tty"
    device.touch()
    assert words in ports.port_error(str(device), OSError(number, os.strerror(number)))


def test_a_board_that_is_another_one_is_named(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(firmware("posix").elf), "--flash", str(tmp_path / "flash.img")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        with (
            pytest.raises(DhnError, match="says that it is 'posix', not 'thing'; give --board posix"),
            open_board(real_board(), None, tmp_path, port),
        ):
            pass
        with open_board(real_board("posix"), None, tmp_path, port) as session:
            assert session.client.hello().board == "posix"
    finally:
        process.kill()
        process.wait()


def test_a_port_whose_board_never_says_hello_is_reported_with_what_it_says_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhn_kit.board_session.Link", functools.partial(Link, timeout=0.05, retries=2))
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def talk() -> None:
        while not stop.wait(0.02):
            ours.sendall(b"\xf0\x81\nrst:0x1 (POWERON_RESET)\r\n\x1b[0;32mI (29) boot: ESP-IDF\x1b[0m\r\n")

    monkeypatch.setattr("dhn_kit.board_session.open_port", lambda port, baud: SocketTransport(theirs))
    talker = threading.Thread(target=talk)
    talker.start()
    try:
        with (
            pytest.raises(
                DhnError, match=r"no hello from /dev/x at 115200 baud but something else that says 'I \(29\)"
            ),
            open_board(real_board(), None, tmp_path, "/dev/x"),
        ):
            pass
    finally:
        stop.set()
        talker.join()


def test_a_port_behind_a_network_server_is_opened_by_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = open_port(f"socket://127.0.0.1:{server.getsockname()[1]}", 115200)
        connected, _ = server.accept()
        connected.sendall(b"x")
        assert transport.read(5) == b"x"
        transport.close()
        connected.close()
    with pytest.raises(DhnError, match="write socket://HOST:NUMBER"):
        open_port("socket://here", 115200)
    with pytest.raises(DhnError, match=r"nothing answers at socket://127.0.0.1:1 .*; start the server"):
        open_port("socket://127.0.0.1:1", 115200)


def test_a_busy_port_is_said_to_be_busy() -> None:
    ours, theirs = os.openpty()
    first = SerialTransport(os.ttyname(theirs))
    with pytest.raises(DhnError, match="is busy; close the program that has it open"):
        SerialTransport(os.ttyname(theirs))
    first.close()
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("name", [name for name in list_boards() if load_board(name).emulator is None])
def test_every_real_board_names_the_usb_ids_of_its_port(name: str) -> None:
    usb = load_board(name).usb or ()
    assert usb and all(re.fullmatch("[0-9a-f]{4}:[0-9a-f]{4}", port) for port in usb)
