"""The device application as a process: it answers as the twin computes, and lives through what a line can do to it."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from board_rig import firmware, install, over_noise, session, small_bundle, small_inputs, small_pack
from dhn_kit.board_client import COUNTERS, HELLO, RUN, BoardClient, BoardError, SamplerPolicy, SlotState
from dhn_kit.board_session import BoardSession, open_board
from dhn_kit.boards import load_board
from dhn_kit.errors import DhnError
from dhn_kit.firmware_build import build_firmware
from dhn_kit.framing import REPLY, Decoder, Frame, encode
from dhn_kit.link import Link, SerialTransport
from dhn_kit.pack import pack
from dhn_kit.samples import Reason, Sample
from dhn_kit.twin import Twin
from nets import Net


@pytest.fixture
def board(tmp_path: Path) -> Iterator[BoardSession]:
    with session("posix", tmp_path) as opened:
        yield opened


def sensor_input(reading: int) -> np.ndarray:
    """What tests/fw/sensor.c computes."""
    return ((reading * 37 + np.arange(64) * 11) % 251 - 125).astype(np.int8)


# -- Inference


def test_the_board_computes_what_the_twin_computes(board: BoardSession) -> None:
    client, x = board.client, small_inputs(30)
    install(client)
    for point, mode in ((0, "gated"), (1, "gated"), (2, "gated"), (1, "shadow"), (1, "detached")):
        expected = Twin(small_pack(), small_bundle()).run(x, point=point, mode=mode)  # type: ignore[arg-type]
        for i in range(len(x)):
            reply = client.run(x[i], mode=mode, point=point)  # type: ignore[arg-type]
            assert (reply.output == expected.output[i]).all() and reply.exit_hook == expected.exit_hook[i]
            if mode != "detached":
                assert reply.decisions == tuple(expected.decisions[i]) and reply.scores == tuple(expected.scores[i])


def test_a_sample_holds_output_features_and_input_of_its_run(board: BoardSession) -> None:
    client, x = board.client, small_inputs(20)
    got: list[Sample] = []
    client.on_sample = got.append
    client.sampler(SamplerPolicy(with_input=True))
    for i in range(len(x)):
        client.run(x[i], tag=100 + i, mode="shadow", want_sample=True)
    assert client.drain() == 0
    expected = Twin(small_pack()).run(x, mode="shadow", features=True)
    assert [s.tag for s in got] == list(range(100, 120)) and [s.number for s in got] == list(range(20))
    for i, sample in enumerate(got):
        assert (sample.output == expected.output[i]).all() and (sample.input == x[i].ravel()).all()
        assert sample.full_run and sample.propensity == 1.0 and sample.reason == Reason.REQUESTED
        for feature, values in zip(sample.features, expected.features, strict=True):
            assert feature is not None and (feature == values[i]).all()


def test_ticks_add_up_over_segments_and_every_operator_takes_some(board: BoardSession) -> None:
    reply = board.client.run(small_inputs(1)[0], per_op=True)
    assert sum(reply.segment_ticks) == reply.ticks and len(reply.segment_ticks) == len(small_pack().points) + 1
    profile = board.client.profile()
    assert len(profile) == len(small_pack().ops) and profile.sum() <= reply.ticks


def test_an_input_of_many_frames_and_a_packed_one_arrive_as_they_are(tmp_path: Path) -> None:
    net = Net((40, 40, 3))
    net.fc(net.mean(net.conv("x", 8, stride=2)), 10)
    main = pack(net.done())
    x = np.concatenate(
        [net.inputs(3), np.repeat(net.inputs(2)[:, :1], 40, axis=1), np.full((1, 40, 40, 3), -128, np.int8)]
    )
    image = build_firmware(main.data, load_board("posix"), tmp_path)
    expected = Twin(main).run(x).output
    with open_board(load_board("posix"), image.elf, tmp_path) as board:
        assert all((board.client.run(x[i]).output == expected[i]).all() for i in range(len(x)))


def test_an_input_is_used_up_by_its_run(board: BoardSession) -> None:
    board.client.run(small_inputs(1)[0])
    with pytest.raises(BoardError, match="input is not complete"):
        board.client._request(RUN, bytes([0, 0, 0, 0, 0, 1, 0, 0]))


def test_an_input_of_the_wrong_size_is_refused_before_it_is_sent(board: BoardSession) -> None:
    with pytest.raises(DhnError, match="63 bytes, the model on the board takes 64"):
        board.client.run(np.zeros(63, np.int8))


def test_an_operating_point_that_is_not_there_is_refused(board: BoardSession) -> None:
    with pytest.raises(BoardError, match="out of range"):
        board.client.set_point(1)


# -- The line


def test_a_repeated_request_is_executed_once(board: BoardSession) -> None:
    transport = board.client.link.transport
    head = bytes([7, 0, 0, 0, 0, 1 | 16, 0, 0])
    request = encode(Frame(RUN, 0, 4242, head + small_inputs(1)[0].tobytes()))
    before = board.client.counters()
    decoder = Decoder()
    replies: list[Frame] = []
    for _ in range(5):
        transport.write(request)
    while len(replies) < 5:
        replies += list(decoder.feed(transport.read(2.0)))
    after = board.client.counters()
    assert after.runs == before.runs + 1 and after.requests_repeated == before.requests_repeated + 4
    assert all(r == replies[0] for r in replies) and replies[0].type == RUN | REPLY


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=3000) | st.just(b"\0"), max_size=6), st.integers(0, 65535))
def test_after_any_bytes_the_board_answers_the_next_good_frame(
    board: BoardSession, noise: list[bytes], sequence: int
) -> None:
    transport = board.client.link.transport
    for chunk in noise:
        transport.write(chunk)
    transport.write(encode(Frame(HELLO, 0, sequence, b"")))
    assert answers(board, HELLO, sequence)


def test_after_broken_requests_of_every_kind_the_board_answers_the_next_good_frame(board: BoardSession) -> None:
    lots = random.Random(5)
    transport = board.client.link.transport
    for sequence in range(1500):
        kind = lots.choice([*range(1, 2), *range(3, 11), *range(0x10, 0x17), 0x40, 0x7F, 0xFF])
        payload = lots.randbytes(lots.choice([0, 1, 4, 8, 9, 40, 300, 1024, 1025]))
        if kind == 8:
            payload = payload[:3]  # STREAM takes a count; a random one would run for hours
        coded = bytearray(encode(Frame(kind, lots.randrange(256), sequence, payload)))
        if sequence % 3 == 0:
            coded[lots.randrange(len(coded))] = lots.randrange(256)
        transport.write(bytes(coded))
        transport.write(encode(Frame(COUNTERS, 0, sequence ^ 0x8000, b"")))
        assert answers(board, COUNTERS, sequence ^ 0x8000), f"silent after request 0x{kind:02X} of {len(payload)} bytes"


def answers(board: BoardSession, kind: int, sequence: int) -> bool:
    decoder = Decoder()
    while data := board.client.link.transport.read(3.0):
        if any(f.type == kind | REPLY and f.sequence == sequence for f in decoder.feed(data)):
            return True
    return False


def test_of_ten_thousand_samples_through_noise_every_gap_is_counted_and_none_is_wrong(board: BoardSession) -> None:
    client, line = over_noise(board, 1e-3, timeout=0.3)
    got: list[Sample] = []
    client.on_sample = got.append
    client.sampler(SamplerPolicy(every_nth=1, with_input=True))
    while client.counters().runs < 10_000:
        client.stream_sensor(100)
    lost = client.drain()
    counters = client.counters()
    assert counters.samples_dropped == 0 and counters.runs == counters.samples_sent == 10_000
    assert len(got) + lost == 10_000 and lost > 500 and line.changed > 500
    expected = Twin(small_pack()).run(
        np.stack([sensor_input(i).reshape(8, 8, 1) for i in range(10_000)]), features=True
    )
    for sample in got:
        i = sample.number
        assert np.array_equal(sample.output, expected.output[i]) and sample.input is not None
        assert (sample.input == sensor_input(i)).all()
        assert all((f == e[i]).all() for f, e in zip(sample.features, expected.features, strict=True))
    print(f"10,000 sample frames, {line.changed} bytes changed: {len(got)} accepted, {lost} lost and counted")


# -- The sampler


def keep(board: BoardSession, policy: SamplerPolicy, runs: int) -> list[Sample]:
    got: list[Sample] = []
    board.client.on_sample = got.append
    board.client.sampler(policy)
    assert board.client.stream_sensor(runs) == runs
    assert board.client.drain() == 0
    return got


def test_every_nth_keeps_every_nth(board: BoardSession) -> None:
    got = keep(board, SamplerPolicy(every_nth=10), 200)
    assert len(got) == 20 and all(s.reason == Reason.EVERY_NTH for s in got)
    assert all(abs(s.propensity - 0.1) < 1e-4 for s in got)


def test_a_share_is_run_in_full_with_its_probability(board: BoardSession) -> None:
    install(board.client)
    board.client.set_point(2)
    got = keep(board, SamplerPolicy(full_share=0.25), 2000)
    assert 400 < len(got) < 600  # 500 +- 5 standard deviations
    assert all(s.full_run and s.exit_hook == -1 and s.reason == Reason.FULL_RUN for s in got)
    assert all(s.propensity == 0.25 and s.decisions == (2,) and s.bundle_version == 1 for s in got)


def test_uncertain_inferences_are_those_whose_score_is_near_the_threshold(board: BoardSession) -> None:
    install(board.client)
    board.client.set_point(1)
    got = keep(board, SamplerPolicy(band=5), 500)
    x = np.stack([sensor_input(i).reshape(8, 8, 1) for i in range(500)])
    scores = Twin(small_pack(), small_bundle()).run(x, point=1).scores[:, 0].astype(int)
    assert len(got) == (abs(scores - 10) <= 5).sum() > 0
    assert all(s.reason == Reason.UNCERTAIN and abs(s.scores[0] - 10) <= 5 for s in got)


def test_a_reservoir_keeps_its_size_of_each_window(board: BoardSession) -> None:
    got = keep(board, SamplerPolicy(reservoir=5, window=100), 1000)
    assert len(got) == 50 and all(s.reason == Reason.RESERVOIR and abs(s.propensity - 0.05) < 1e-4 for s in got)


def test_samples_hold_the_features_of_the_wanted_points_alone(board: BoardSession) -> None:
    policy = SamplerPolicy(every_nth=1, points=(0, 2))
    got = keep(board, policy, 5)
    assert board.client.sampler() == policy
    assert all([f is not None for f in s.features] == [p in (0, 2) for p in range(len(s.features))] for s in got)


def test_requested_samples_are_not_dropped_however_small_the_memory(board: BoardSession) -> None:
    got: list[Sample] = []
    board.client.on_sample = got.append
    for i, x in enumerate(small_inputs(200)):
        board.client.run(x, tag=i, want_sample=True)
    assert board.client.drain() == 0 and [s.tag for s in got] == list(range(200))
    assert board.client.counters().samples_dropped == 0


def play(board: BoardSession, policy: SamplerPolicy, x: np.ndarray, labels: list[int] | None = None) -> list[Sample]:
    """Tags are positions in x; labels travel along."""
    got: list[Sample] = []
    board.client.on_sample = got.append
    board.client.sampler(policy)
    for i in range(len(x)):
        label = None if labels is None else labels[i]
        board.client.run(x[i], i, want_output=False, policies=True, label=label)
    assert board.client.drain() == 0
    return got


def test_balanced_sampling_keeps_as_many_of_a_rare_class_as_of_a_frequent_one(board: BoardSession) -> None:
    labels = [3 if i % 20 == 0 else 9 if i % 5 == 0 else 6 for i in range(3000)]
    got = play(board, SamplerPolicy(balance=0.1, with_input=True), small_inputs(3000), labels)
    kept = np.bincount([labels[s.tag] for s in got], minlength=10)
    assert kept.sum() == len(got) and all(70 < kept[c] < 135 for c in (3, 6, 9)), kept
    assert all(s.reason == Reason.BALANCED for s in got)
    # Weights by propensity give the shares of the classes back.
    weight = np.array([1 / s.propensity for s in got[40:]])
    of = np.array([labels[s.tag] for s in got[40:]])
    shares = {c: weight[of == c].sum() / weight.sum() for c in (3, 6, 9)}
    assert abs(shares[3] - 0.05) < 0.015 and abs(shares[9] - 0.15) < 0.04, shares


def test_balanced_sampling_without_labels_takes_the_answers(board: BoardSession) -> None:
    x = small_inputs(2000)
    answer = Twin(small_pack()).run(x).output.argmax(axis=1)
    got = play(board, SamplerPolicy(balance=0.1, with_input=True), x)
    kept = np.bincount([answer[s.tag] for s in got], minlength=4)[np.unique(answer)]
    assert kept.max() < 2 * np.bincount(answer)[np.unique(answer)].min() and kept.min() > 0.4 * kept.max(), kept


def test_a_budget_bounds_the_bytes_on_the_line_and_propensities_undo_what_it_leaves_out(board: BoardSession) -> None:
    rules = SamplerPolicy(every_nth=1, with_input=True, budget=20_000)
    got: list[Sample] = []
    board.client.on_sample = got.append
    board.client.sampler(rules)
    begin = time.monotonic()
    x, runs = small_inputs(200), 0
    while time.monotonic() - begin < 1.2:
        board.client.run(x[runs % 200], runs, want_output=False, policies=True)
        runs += 1
    assert board.client.drain() == 0
    seconds = time.monotonic() - begin
    record = board.client.sampler_state().record_bytes
    assert 0.5 * rules.budget * seconds < len(got) * record <= rules.budget * (seconds + 1) + 4 * record
    counters = board.client.counters()
    assert counters.over_budget + len(got) == runs and counters.samples_dropped == 0
    weights = sum(1 / s.propensity for s in got)
    assert abs(weights / runs - 1) < 0.35 and min(s.propensity for s in got) < 0.9


def test_a_reservoir_within_a_budget_keeps_to_both(board: BoardSession) -> None:
    got = keep(board, SamplerPolicy(reservoir=5, window=100, budget=1000), 2000)
    record = board.client.sampler_state().record_bytes
    assert 4 <= len(got) <= 4 + 2 + 1000 // record
    assert all(s.reason == Reason.RESERVOIR and 0 < s.propensity <= 1 for s in got)


def test_requested_samples_are_beyond_the_budget(board: BoardSession) -> None:
    got: list[Sample] = []
    board.client.on_sample = got.append
    board.client.sampler(SamplerPolicy(every_nth=1, budget=1))
    for i, x in enumerate(small_inputs(50)):
        board.client.run(x, tag=i, want_sample=True)
    assert board.client.drain() == 0 and len(got) == 50 and board.client.counters().over_budget == 0


def test_a_reservoir_beside_a_rule_with_a_claim_on_the_same_inferences_is_refused(board: BoardSession) -> None:
    for rules in (
        SamplerPolicy(reservoir=2, window=10, every_nth=3),
        SamplerPolicy(reservoir=2, window=10, balance=0.1),
    ):
        with pytest.raises(BoardError, match="out of range; a reservoir would draw from the same inferences"):
            board.client.sampler(rules)


def test_every_rule_comes_back_as_it_was_set(board: BoardSession) -> None:
    rules = SamplerPolicy(7, 3, 0, 0, 0.125, True, (0, 2), True, 0.25, 4000)
    assert board.client.sampler(rules) == board.client.sampler() == rules


def test_propensities_of_combined_rules_weigh_every_input_alike(board: BoardSession) -> None:
    install(board.client)
    board.client.set_point(1)
    x = small_inputs(300, 5)
    got = play(
        board,
        SamplerPolicy(band=8, every_nth=7, balance=0.05, full_share=0.2, with_input=True),
        np.tile(x, (10, 1, 1, 1)),
    )
    for full in (False, True):
        weight = sum(1 / s.propensity for s in got if s.full_run == full)
        assert abs(weight / 3000 - 1) < 0.15, (full, weight)
    kept = {s.reason & ~Reason.EVERY_NTH for s in got}
    assert {Reason.UNCERTAIN, Reason.FULL_RUN} <= kept


def test_a_reservoir_larger_than_the_memory_is_refused(board: BoardSession) -> None:
    with pytest.raises(BoardError, match="out of range; its memory must hold"):
        board.client.sampler(SamplerPolicy(reservoir=1000, window=5000))


# -- Hook bundles


def test_a_confirmed_bundle_runs_after_every_restart(board: BoardSession) -> None:
    install(board.client)
    assert board.reset().bundle_version == 1
    board.kill()
    assert board.start().bundle_version == 1
    assert board.client.slots().slots[0].state == SlotState.CONFIRMED


def test_a_trial_that_nobody_confirms_reverts_at_the_next_start(board: BoardSession) -> None:
    install(board.client)
    board.client.push(small_bundle(2, 8))
    assert board.client.trial().bundle_version == 2
    assert board.reset().bundle_version == 1
    assert board.client.counters().trials_reverted == 1


def test_revert_goes_back_at_once(board: BoardSession) -> None:
    install(board.client)
    board.client.push(small_bundle(2, 8))
    board.client.trial()
    board.client.revert()
    assert board.client.hello().bundle_version == 1


def test_an_interrupted_push_goes_on_where_it_was(board: BoardSession) -> None:
    class Unplugged(Exception):
        pass

    def unplug_after(count: int) -> None:
        transport = board.client.link.transport
        client, line = BoardClient(Link(transport)), {"left": count}
        client.hello()
        write = transport.write

        def limited(data: bytes) -> None:
            line["left"] -= 1
            if line["left"] < 0:
                raise Unplugged
            write(data)

        client.link.transport = type("T", (), {"read": transport.read, "write": staticmethod(limited)})()
        client._info = lambda: board.client.info.__class__(**{**vars(board.client.info), "mtu": 68})  # type: ignore
        client.push(small_bundle(), lambda done, total: progress.append(done))

    progress: list[int] = []
    lots = random.Random(3)
    for _ in range(40):
        try:
            unplug_after(lots.randrange(1, 5))
        except Unplugged:
            board.client.hello()
            continue
        break
    starts = [p for p in progress if p == 0]
    assert len(starts) <= 3 and progress[-1] == len(small_bundle()) and len(progress) > 4
    assert board.client.trial().bundle_version == 1


def test_a_push_through_noise_arrives_whole(board: BoardSession) -> None:
    client, line = over_noise(board, 3e-3, timeout=0.2)
    client.push(small_bundle())
    client.trial()
    client.confirm()
    assert line.changed > 0 and board.client.hello().bundle_version == 1


def test_old_foreign_and_broken_bundles_are_refused(board: BoardSession) -> None:
    install(board.client, 5)
    with pytest.raises(BoardError, match="not newer"):
        board.client.push(small_bundle(5))
    foreign = bytearray(small_bundle(6))
    foreign[32] ^= 1  # bound_to
    with pytest.raises(BoardError, match="another main pack"):
        board.client.push(bytes(foreign))
    broken = bytearray(small_bundle(7))
    broken[-20] ^= 1
    with pytest.raises(BoardError, match="does not accept"):
        board.client.push(bytes(broken))
    with pytest.raises(BoardError, match="nothing to try"):
        board.client.trial()
    assert board.reset().bundle_version == 5


def test_a_corrupted_slot_falls_back_to_the_other_and_is_counted(board: BoardSession) -> None:
    install(board.client, 1)
    install(board.client, 2, 8)
    active = board.client.slots().active
    board.kill()
    flash = board.workdir / "flash.img"
    data = bytearray(flash.read_bytes())
    data[active * 65536 + 400] ^= 4
    flash.write_bytes(data)
    assert board.start().bundle_version == 1 and board.client.counters().slots_corrupt == 1
    install(board.client, 3)
    assert board.reset().bundle_version == 3


# -- Ports


def test_the_process_offers_a_pty_that_a_serial_program_can_open(tmp_path: Path) -> None:
    command = [str(firmware("posix").elf), "--flash", str(tmp_path / "flash.img")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        transport = SerialTransport(path)
        client = BoardClient(Link(transport))
        assert client.hello().board == "posix"
        assert client.set_baud(921600) and client.run(small_inputs(1)[0]).output is not None
        with pytest.raises(DhnError, match="busy"):
            SerialTransport(path)
        transport.close()
    finally:
        process.kill()
        process.wait()


def test_a_line_with_nobody_at_the_other_end_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    master, slave = os.openpty()
    drain = threading.Thread(target=lambda: os.read(master, 100))
    drain.start()
    client = BoardClient(Link(SerialTransport(os.ttyname(slave)), timeout=0.05, retries=2))
    with pytest.raises(DhnError, match="does not answer"):
        client.hello()
    drain.join()
    client.link.close()
    os.close(master)
    os.close(slave)
