"""What a board knows of its surroundings: channels, the policy over them, and the drift monitor that falls back."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from board_rig import session, small_inputs, small_pack
from dhn_kit import workflow
from dhn_kit.board_client import AUTOMATIC, BoardClient, MonitorState, RunReply, SamplerPolicy
from dhn_kit.board_session import BoardSession
from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.graph import Node, Port, Quant, Tensor
from dhn_kit.hooks import ALWAYS, NEVER, Bundle, HookSpec, PolicyRow, StatisticRange
from dhn_kit.perception import CHANNELS, channel, choose_point, parse_policy
from dhn_kit.samples import Reason, Sample
from dhn_kit.train import monitor
from dhn_kit.train.certify import predicted_costs
from dhn_kit.train.data import split_from_inputs, split_from_samples
from dhn_kit.train.worst_case import worst_cases
from dhn_kit.twin import Twin
from test_runtime import exit_net

POINTS = ["off", "some", "all"]
VERSIONS = itertools.count(1)


@pytest.fixture(params=["posix", pytest.param("qemu-cortex-m4", marks=pytest.mark.slow)])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BoardSession]:
    with session(request.param, tmp_path) as opened:
        yield opened


def bundle(policies: list[PolicyRow] | None = None, ranges: list[StatisticRange] | None = None) -> Bundle:
    """One exit behind the first block; operating points: off, sometimes, always."""
    main = small_pack()
    point = next(p.index for p in reversed(main.points) if p.skip is not None)
    spec = HookSpec(point, "exit", exit_net(main, point, 7), [NEVER, 10, ALWAYS])
    return Bundle([spec], POINTS, version=next(VERSIONS), policies=policies or [], ranges=ranges or [])


def install(client: BoardClient, what: Bundle) -> bytes:
    data = pack_bundle(small_pack(), what)
    client.push(data)
    client.trial()
    client.confirm()
    return data


def play(client: BoardClient, x: np.ndarray, point: int | None = None) -> list[RunReply]:
    """As the board runs for itself: under the sampler's policies, watched by the monitor."""
    return [client.run(image, i, point=point, policies=True) for i, image in enumerate(x)]


# -- Channels


def test_channels_of_the_application_are_set_by_name_and_given_back(board: BoardSession) -> None:
    before = board.client.surroundings()
    assert before.env[:8] == (100, 25, 127, 0, 0, 0, 0, 0) and before.held == ()
    held = board.client.surroundings({"battery": 40, "app7": -128})
    assert held.env[:8] == (40, 25, 127, 0, 0, 0, 0, -128) and held.held == ("battery", "app7")
    back = board.client.surroundings({})
    assert back.held == () and back.env == before.env
    with pytest.raises(DhnError, match="'humidity' is unknown"):
        board.client.surroundings({"humidity": 40})
    with pytest.raises(DhnError, match="'clock' is the board's own"):
        board.client.surroundings({"clock": 40})


def test_samples_carry_the_channels_as_the_hooks_saw_them(board: BoardSession) -> None:
    got: list[Sample] = []
    board.client.on_sample = got.append
    for i, x in enumerate(small_inputs(5)):
        seen = board.client.surroundings({"temperature": 10 * i})
        board.client.run(x, i, want_sample=True)
        assert board.client.drain() == 0 and got[-1].env == seen.env and got[-1].env[1] == 10 * i


def test_the_runner_tells_what_runs_take_and_how_many_are_full(board: BoardSession) -> None:
    client, x = board.client, small_inputs(40)
    install(client, bundle())
    play(client, x, 0)
    full = dict(zip((c.name for c in CHANNELS), client.surroundings().env, strict=True))
    assert full["full_runs"] == 100 and full["clock"] == 100 and 0 <= full["arena"] <= 100
    assert full["last_run"] > 0 and 0 <= full["first_segments"] <= full["last_run"]
    play(client, x, 2)
    left = dict(zip((c.name for c in CHANNELS), client.surroundings().env, strict=True))
    assert left["full_runs"] < 5 and left["stack"] == 0
    client.run(x[0], per_op=True)
    if board.board.name != "posix":  # whose ticks are the computer's, and which does not know its stack
        assert 60 < full["mean_run"] < 127 and left["mean_run"] < full["mean_run"]
        assert client.surroundings().env[channel("stack").number] > 0


def battery_exit() -> HookSpec:
    """Leaves with the feature's answer where the battery is at 50 % or less."""
    main = small_pack()
    point = next(p.index for p in reversed(main.points) if p.skip is not None)
    net = exit_net(main, point, 7)
    net.tensors["env"] = Tensor("env", (1, 1, 16), Quant(1.0, 0))
    net.tensors["low"] = Tensor("low", (1, 1, 1), Quant(1.0, 0))
    weight = np.zeros((1, 16), np.int8)
    weight[0, channel("battery").number] = -127
    attrs = {"weight": weight, "weight_scale": np.array([1 / 127], np.float32), "bias": np.array([50 * 127], np.int32)}
    net.nodes.append(Node("low", "fully_connected", ["env"], "low", {**attrs, "act_q": (-128, 127)}))
    net.inputs.append(Port("env", "env", (1, 1, 16)))
    net.outputs.insert(0, Port("low", "low", (1,)))
    return HookSpec(point, "exit", net, [0], "value", name="battery")


def test_a_hook_that_reads_the_environment_decides_on_the_board_as_on_the_twin(board: BoardSession) -> None:
    client, x = board.client, small_inputs(6)
    data = install(client, Bundle([battery_exit()], ["all"], version=next(VERSIONS)))
    got: list[Sample] = []
    client.on_sample = got.append
    levels = [100, 51, 50, 0, 49, 127]
    replies = []
    for i, level in enumerate(levels):
        client.surroundings({"battery": level})
        replies.append(client.run(x[i], i, want_sample=True))
    assert client.drain() == 0
    expected = Twin(small_pack(), data).run(x, environment=[s.env for s in got])
    assert [r.exit_hook for r in replies] == expected.exit_hook.tolist() == [0 if b <= 50 else -1 for b in levels]
    assert [r.scores[0] for r in replies] == expected.scores[:, 0].tolist() == [50 - b for b in levels]
    assert (np.stack([r.output for r in replies if r.output is not None]) == expected.output).all()
    split = split_from_samples([replace(s, full_run=True) for s in got], small_pack().points)
    assert split.env is not None and split.env[:, 0].tolist() == [b for b in levels if b > 50], "the others left early"


# -- Policy


def test_the_policy_chooses_the_operating_point_of_runs_that_name_none(board: BoardSession) -> None:
    client, x = board.client, small_inputs(1)[0]
    rows = parse_policy("battery<20: all; temperature>60: some", POINTS)
    install(client, bundle(policies=rows))
    for battery, temperature in ((50, 20), (19, 20), (19, 61), (20, 61), (20, 60)):
        there = client.surroundings({"battery": battery, "temperature": temperature})
        expected = choose_point(rows, there.env, 0)
        reply = client.run(x)
        assert reply.point == there.point == expected and (expected == 2) == (reply.exit_hook == 0)
    client.surroundings({"battery": 5})
    assert client.run(x, point=1).point == 1
    client.set_point(1)
    assert client.run(x).point == 1
    client.set_point(AUTOMATIC)
    assert client.run(x).point == 2
    client.surroundings({"battery": 50})
    assert client.run(x).point == 1, "the point that was set last is for surroundings of which the policy says nothing"


def test_a_deadline_chooses_the_point_whose_exit_always_acts() -> None:
    main, hooks = small_pack(), bundle()
    worst = worst_cases(main, hooks, predicted_costs(main))
    assert worst[0] == 1 and worst[1] > 1 and worst[2] < 1
    split = split_from_inputs(main, small_inputs(200))
    workflow.equip(main, hooks, split, predicted_costs(main), "temperature>80: off; deadline")
    assert [r.channel for r in hooks.policies[:2]] == [1, 2] and hooks.ranges[0].kind == monitor.WINDOW_ROW
    times = [round(100 * w) for w in (worst[2] - 0.05, worst[2] + 0.02, 1.26)]
    assert [choose_point(hooks.policies, (100, 25, t, *range(13)), 0) for t in (*times, 127)] == [2, 2, 2, 0]
    assert choose_point(hooks.policies, (100, 90, times[0], *range(13)), 1) == 0


# -- Drift monitor

NORMAL = small_inputs(1500, 3)
DRIFTED = (NORMAL // 4 + 60).astype(np.int8)


@pytest.fixture(scope="module")
def ranges() -> list[StatisticRange]:
    return monitor.ranges(small_pack(), bundle(), split_from_inputs(small_pack(), NORMAL[:800]))


def test_inputs_as_in_calibration_leave_the_hooks_alone(board: BoardSession, ranges: list[StatisticRange]) -> None:
    data = install(board.client, bundle(ranges=ranges))
    replies = play(board.client, NORMAL[800:], 1)
    assert {r.mode for r in replies} == {"gated"}
    expected = Twin(small_pack(), data).run(NORMAL[800:], point=1)
    assert [r.exit_hook for r in replies] == expected.exit_hook.tolist()
    seen = board.client.monitor()
    assert seen.state == MonitorState.WATCHING and seen.falls == 0 and seen.left is None
    assert seen.windows >= 4 * (700 // 128) and seen.rows == len(ranges)


def test_drifted_inputs_make_the_board_fall_back_to_the_full_network(
    board: BoardSession, ranges: list[StatisticRange]
) -> None:
    client = board.client
    install(client, bundle(ranges=ranges))
    play(client, NORMAL[:200], 2)
    replies = play(client, DRIFTED[:400], 2)
    modes = [r.mode for r in replies]
    fell = modes.index("shadow")
    assert fell <= 128 and set(modes[fell:]) == {"shadow"}
    full = Twin(small_pack()).run(DRIFTED[:400]).output
    assert all(r.exit_hook == -1 for r in replies[fell:])
    assert (np.stack([r.output for r in replies[fell:] if r.output is not None]) == full[fell:]).all()
    seen = client.monitor()
    assert seen.state == MonitorState.FALLEN and seen.falls == 1 and seen.left in ranges
    assert not seen.left.low <= seen.value <= seen.left.high
    assert "calibration saw" in monitor.describe(seen.left, seen.value)
    assert client.counters().falls == 1 and client.counters().held_back == 400 - fell
    # Three good windows in a row, and the hooks act again.
    back = [r.mode for r in play(client, NORMAL[:600], 2)]
    assert back.index("gated") <= 4 * 128 and client.monitor().state == MonitorState.WATCHING


def test_a_fall_is_cleared_by_request_and_by_a_new_bundle(board: BoardSession, ranges: list[StatisticRange]) -> None:
    client = board.client
    for clear in ("request", "bundle"):
        install(client, bundle(ranges=ranges))
        play(client, DRIFTED[:150], 1)
        assert client.monitor().state == MonitorState.FALLEN
        assert client.run(DRIFTED[0], point=2).mode == "gated", "what the host asks for by itself is not held back"
        if clear == "request":
            assert client.monitor(clear=True).state == MonitorState.WATCHING
    install(client, bundle())
    assert client.monitor().state == MonitorState.OFF


def test_the_board_counts_statistics_as_the_host_does(board: BoardSession) -> None:
    main, x = small_pack(), NORMAL[:8]
    features = Twin(main).run(x, features=True).features
    for kind, point in itertools.product((monitor.MEAN, monitor.SPREAD), (0, 2)):
        table = [
            StatisticRange(monitor.WINDOW_ROW, 0, monitor.EVERY_POINT, 8, 1),
            StatisticRange(kind, point, monitor.EVERY_POINT, -2, -1),
        ]
        install(board.client, bundle(ranges=table))
        play(board.client, x, 0)
        values = monitor.feature_statistics(features[point])[kind - monitor.MEAN]
        seen = board.client.monitor()
        assert seen.left == table[1] and seen.value == values.sum() // 8


def test_the_drift_policy_keeps_what_calibration_never_saw(board: BoardSession, ranges: list[StatisticRange]) -> None:
    client = board.client
    install(client, bundle(ranges=ranges))
    got: list[Sample] = []
    client.on_sample = got.append
    client.sampler(SamplerPolicy(drift=True))
    mixed = np.where((np.arange(120) % 4 == 0)[:, None, None, None], DRIFTED[:120], NORMAL[800:920])
    play(client, mixed, 1)
    assert client.drain() == 0
    kept = {s.tag for s in got}
    assert all(s.reason == Reason.DRIFT and s.propensity == 1 for s in got)
    assert {t for t in range(120) if t % 4 == 0} <= kept and len(kept) <= 30 + 6


def test_ranges_hold_for_other_inputs_of_the_same_kind() -> None:
    rng = np.random.default_rng(1)
    falls = judged = 0
    for _ in range(20):
        values = rng.normal(0, 900, 3000).astype(np.int64)
        low, high = monitor._mean_range(values[:500], monitor.FALSE_ALARMS)
        means = values[500 : 500 + 19 * monitor.WINDOW].reshape(-1, monitor.WINDOW).mean(axis=1)
        falls += int(((means < low) | (means > high)).sum())
        judged += len(means)
        shifted = means + 900
        assert ((shifted > high).mean()) > 0.9
    assert falls == 0 and judged == 380
