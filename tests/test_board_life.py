"""One life of the whole application, on one board of each architecture and through the ports to frameworks: samples,
hooks, restarts and real power cuts."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from board_rig import install, over_noise, program, session, small_bundle, small_inputs, small_pack, target_of
from dhn_kit.board_client import BoardClient, BoardError, SamplerPolicy, SlotState
from dhn_kit.board_session import BoardSession, open_board
from dhn_kit.errors import DhnError
from dhn_kit.samples import Sample
from dhn_kit.twin import Twin
from framework_hosts import HOSTS

BOARDS = ["qemu-cortex-m4", "qemu-rv32", "qemu-xtensa", *HOSTS]


@pytest.fixture(params=BOARDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def board(name: str, tmp_path: Path) -> Iterator[BoardSession]:
    with session(name, tmp_path) as opened:
        yield opened


def collect(client: BoardClient, runs: int) -> list[Sample]:
    got: list[Sample] = []
    client.on_sample = got.append
    x = small_inputs(runs)
    for i in range(runs):
        client.run(x[i], tag=i, mode="shadow", want_sample=True)
    assert client.drain() == 0
    return got


def check_gated_runs(client: BoardClient, version: int, seed: int) -> None:
    """Answers, decisions and scores are the twin's, at every operating point."""
    x = small_inputs(8, seed=version)
    for point in (0, 1, 2):
        expected = Twin(small_pack(), small_bundle(version, seed)).run(x, point=point)
        for i in range(len(x)):
            reply = client.run(x[i], point=point)
            assert (reply.output == expected.output[i]).all() and reply.exit_hook == expected.exit_hook[i]
            assert reply.decisions == tuple(expected.decisions[i]) and reply.scores == tuple(expected.scores[i])


def test_samples_go_out_hooks_come_in_are_tried_kept_taken_back_and_outlive_restarts(
    name: str, board: BoardSession
) -> None:
    client = board.client
    hello = client.hello()
    assert hello.board == name and hello.load_status == 0 and hello.bundle_version == 0
    assert bytes.fromhex(hello.hash) == bytes(small_pack().header["hash"]) and hello.slot_bytes > len(small_bundle())

    got = collect(client, 12)
    expected = Twin(small_pack()).run(small_inputs(12), mode="shadow", features=True)
    assert [s.tag for s in got] == list(range(12))
    for i, sample in enumerate(got):
        assert (sample.output == expected.output[i]).all() and sample.full_run
        assert all((f == e[i]).all() for f, e in zip(sample.features, expected.features, strict=True))

    install(client, 1)
    check_gated_runs(client, 1, 7)
    assert board.reset().boot_id != hello.boot_id and client.hello().bundle_version == 1

    client.push(small_bundle(2, 8))  # tried, and not confirmed
    assert client.trial().bundle_version == 2
    check_gated_runs(client, 2, 8)
    assert board.reset().bundle_version == 1 and client.counters().trials_reverted == 1

    client.push(small_bundle(3, 9))  # tried, and taken back
    assert client.trial().bundle_version == 3
    client.revert()
    assert client.hello().bundle_version == 1
    check_gated_runs(client, 1, 7)

    install(client, 4, 10)
    with pytest.raises(BoardError, match="not newer"):
        client.push(small_bundle(4, 10))
    board.kill()
    assert board.start().bundle_version == 4
    assert [s.state for s in board.client.slots().slots].count(SlotState.CONFIRMED) >= 1
    check_gated_runs(board.client, 4, 10)


def test_samples_are_counted_from_zero_after_a_restart(board: BoardSession) -> None:
    for _ in range(3):
        got = collect(board.client, 1)
        assert [s.number for s in got] == [0]
        assert board.client.info is not None
        before = board.client.info.boot_id
        assert board.reset().boot_id != before


def test_the_sensor_is_sampled_through_noise_and_every_gap_is_counted(board: BoardSession) -> None:
    client, line = over_noise(board, 1e-3, timeout=0.5)
    got: list[Sample] = []
    client.on_sample = got.append
    client.sampler(SamplerPolicy(every_nth=1, with_input=True))
    while client.counters().runs < 300:
        client.stream_sensor(50)
    lost = client.drain()
    assert len(got) + lost == client.counters().samples_sent == client.counters().runs and line.changed > 20


def test_a_power_cut_at_any_moment_of_a_push_leaves_the_old_hooks(board: BoardSession) -> None:
    begin = time.monotonic()
    board.client.push(small_bundle(1))
    seconds = time.monotonic() - begin
    board.client.trial()
    board.client.confirm()
    lots = random.Random(2)
    cuts = 0
    for version in range(2, 14):
        timer = threading.Timer(lots.uniform(0.0, seconds), board.cut_power)
        timer.start()
        try:
            board.client.push(small_bundle(version, 8))
        except DhnError:
            cuts += 1
        timer.join()
        board.kill()
        assert board.start().bundle_version == 1
    assert cuts > 0
    install(board.client, 99)
    assert board.reset().bundle_version == 99


def test_an_esp32_without_the_hooks_partitions_runs_and_refuses_hooks(tmp_path: Path) -> None:
    (tmp_path / "flash.img").write_bytes(b"\xff" * 65536)  # room for one of them
    with session("espidf-host", tmp_path) as opened:
        x = small_inputs(2)
        assert (opened.client.run(x[0]).output == Twin(small_pack()).run(x[:1]).output[0]).all()
        with pytest.raises(DhnError, match="does not fit"):
            opened.client.push(small_bundle())


def test_an_esp32_without_a_network_in_its_partition_says_so(tmp_path: Path) -> None:
    elf = tmp_path / "firmware.elf"
    shutil.copy(program("espidf-host"), elf)
    elf.with_name("firmware.elf.dhn").write_bytes(b"\xff" * 4096)  # as the partition comes
    with open_board(target_of("espidf-host"), elf, tmp_path) as opened:
        assert opened.client.hello().load_status != 0
