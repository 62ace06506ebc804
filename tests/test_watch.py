"""dhn-kit monitor shows what a board says as it comes, and leaves the board as it was."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from board_rig import firmware, session, small_bundle, small_inputs, small_pack
from dhn_kit import cli, resources
from dhn_kit.board_client import BoardClient, SamplerPolicy
from dhn_kit.board_session import BoardSession
from dhn_kit.errors import DhnError
from dhn_kit.link import Link, SerialTransport
from dhn_kit.playback import install
from dhn_kit.watch import Event, Watch, playing, sampling, sensing


@pytest.fixture
def board(tmp_path: Path) -> Iterator[BoardSession]:
    with session("posix", tmp_path) as running:
        yield running


@pytest.fixture
def port(tmp_path: Path) -> Iterator[str]:
    """A pty with the firmware at its other end, which goes on running without a host."""
    process = subprocess.Popen(
        [str(firmware("posix").elf), "--flash", str(tmp_path / "flash.img")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.wait()


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_played_inputs_give_one_sample_each_between_hello_and_the_last_counters(board: BoardSession) -> None:
    install(board.client, small_bundle())
    with sampling(board.client, SamplerPolicy(every_nth=1)):
        events = list(Watch(board.client, every=60).events(playing(board.client, small_inputs(5))))
    assert kinds(events)[:3] == ["hello", "counters", "drift"]
    samples = [event.data for event in events if event.kind == "sample"]
    assert [s.tag for s in samples] == [0, 1, 2, 3, 4] and all(len(s.decisions) == 1 for s in samples)
    assert kinds(events)[-1] == "counters" and events[-1].data.runs == 5


def test_without_anything_new_the_board_is_asked_but_nothing_is_shown(board: BoardSession) -> None:
    watch = Watch(board.client, every=0.0)
    looks = iter([True] * 20 + [False])
    assert kinds(list(watch.events(lambda: next(looks)))) == ["hello", "counters", "drift"]


def test_a_board_that_restarts_says_hello_again(board: BoardSession) -> None:
    steps = iter([board.client.counters, board.client.counters, board.client.reset, board.client.counters])

    def feed() -> bool:
        step = next(steps, None)
        if step is not None:
            step()
        return step is not None

    events = list(Watch(board.client, every=0.0).events(feed))
    assert kinds(events).count("hello") == 2


def test_the_sampler_has_its_own_policy_back_also_after_an_interruption(board: BoardSession) -> None:
    mine = SamplerPolicy(every_nth=7, with_input=True)
    before = board.client.sampler(mine)
    with pytest.raises(KeyboardInterrupt), sampling(board.client, SamplerPolicy(every_nth=1)):
        for _ in Watch(board.client).events(sensing(board.client)):
            raise KeyboardInterrupt
    assert board.client.sampler() == before == mine


class Script:
    """A line on which something else than a board speaks."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def read(self, timeout: float) -> bytes:
        if not self.pieces:
            raise ConnectionResetError("unplugged")
        return self.pieces.pop(0)

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


def test_text_between_frames_is_a_log_line_each_and_an_unplugged_board_ends_it(
    board: BoardSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(board.client, every=60)
    boot, panic = b"\x1b[0;32mI (29) boot: hello\x1b[0m\r\n", b"Guru Meditation Error\r\n"
    pieces = Script(boot[:20], boot[20:] + panic[:9], panic[9:], b"", b"\0\x05\xff\0", b"")
    events: list[Event] = []

    def listen() -> None:
        stream = watch.events()
        events.append(next(stream))  # hello, counters and drift of the real one
        monkeypatch.setattr(board.client.link, "transport", pieces)
        events.extend(stream)

    with pytest.raises(DhnError, match=r"connection to the board is gone \(unplugged\); plug it in"):
        listen()
    assert [e.data for e in events if e.kind == "log"] == ["I (29) boot: hello", "Guru Meditation Error"]


def test_a_board_that_falls_silent_is_reported_once_and_welcomed_back(board: BoardSession) -> None:
    link, whole = board.client.link, board.client.link.transport
    link.timeout = 0.02
    asked = iter(range(12))

    def feed() -> bool:
        number = next(asked, None)
        if number == 3:
            link.transport = Mute(whole)
        return number is not None

    watch = Watch(board.client, every=0.0)
    events = []
    for turn, event in enumerate(watch.events(feed)):
        events.append(event)
        if event.kind == "silent":
            link.transport = whole
        assert turn < 50
    assert kinds(events)[:5] == ["hello", "counters", "drift", "silent", "hello"]
    assert kinds(events).count("silent") == 1


class Mute:
    """Takes everything in and answers nothing."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def read(self, timeout: float) -> bytes:
        return b""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


def test_the_command_prints_a_line_or_an_object_per_event(
    port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_pack().save(tmp_path / "model.dhn")
    np.savez(tmp_path / "x.npz", x=small_inputs(3))
    common = ["monitor", "--board", "posix", "--port", port]
    with pytest.raises(SystemExit) as stop:
        cli.main([*common, str(tmp_path / "model.dhn"), "--input", str(tmp_path / "x.npz"), "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert stop.value.code in (0, None)
    assert {line["kind"] for line in lines} == {"hello", "counters", "drift", "sample"}
    assert [(s["tag"], s["reason"], len(s["output"])) for s in lines if s["kind"] == "sample"] == [
        (tag, ["every_nth"], 4) for tag in range(3)
    ]
    with pytest.raises(SystemExit):
        cli.main([*common, "--sensor", "--count", "2"])
    text = capsys.readouterr().out.splitlines()
    assert "  hello     posix: model " in text[0] and " RAM: arena " in text[0]
    assert sum("  sample    " in line for line in text) == 2 and "class " in text[-1]


def test_ctrl_c_ends_it_and_leaves_the_board_answering_with_its_policy(port: str) -> None:
    with client_at(port) as client:
        client.sampler(SamplerPolicy(every_nth=9))
    command = [sys.executable, "-m", "dhn_kit.cli", "monitor", "--board", "posix", "--port", port, "--sensor"]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(resources.PACKAGE.parent)},
        # What a shell starts in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    guard = threading.Timer(60, running.kill)
    guard.start()
    assert running.stdout is not None
    while "  sample  " not in (line := running.stdout.readline()):
        assert line, running.communicate()[1]
    running.send_signal(signal.SIGINT)
    _, complaint = running.communicate(timeout=30)
    guard.cancel()
    assert (running.returncode, complaint) == (0, "")
    with client_at(port) as client:
        assert client.sampler().every_nth == 9


@contextlib.contextmanager
def client_at(port: str) -> Iterator[BoardClient]:
    client = BoardClient(Link(SerialTransport(port)))
    client.hello()
    yield client
    client.link.close()


def test_a_reader_that_has_seen_enough_ends_it_without_a_complaint(port: str) -> None:
    command = f"{sys.executable} -m dhn_kit.cli monitor --board posix --port {port} --sensor | head -n 2"
    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(resources.PACKAGE.parent)},
        check=False,
    )
    assert (done.stdout.count("\n"), done.stderr) == (2, "")
    with client_at(port) as client:
        assert client.sampler().every_nth == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "is emulated and started for this; name the PACK"),
        (("--input", "x.npz"), "name the PACK that the board runs"),
    ],
)
def test_what_is_missing_is_named(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["monitor", "--board", "posix", *arguments])
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
