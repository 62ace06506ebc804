"""The device application on every emulated core: the twin's answers, surviving hooks, exact counts."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from board_rig import install, session, small_bundle, small_inputs, small_pack
from dhn_kit.board_client import SamplerPolicy, SlotState
from dhn_kit.board_session import BoardSession, open_board
from dhn_kit.boards import list_boards, load_board
from dhn_kit.firmware_build import build_firmware
from dhn_kit.pack import pack
from dhn_kit.playback import play, powered, profile
from dhn_kit.samples import Sample
from dhn_kit.tflite_import import import_tflite
from dhn_kit.twin import Twin

BOARDS = [name for name in list_boards() if load_board(name).timer.instructions_per_tick]
NETWORKS = {"ic": "ic_resnet8_int8.tflite", "kws": "kws_dscnn_int8.tflite"}
LOOPS = Path(__file__).parent / "fw" / "known_loops.c"
CLOCK_READING = 130  # instructions between two readings of the clock with nothing in between, at most

pytestmark = pytest.mark.parametrize("name", BOARDS)


@pytest.fixture
def board(name: str, tmp_path: Path) -> Iterator[BoardSession]:
    with session(name, tmp_path) as opened:
        yield opened


def test_the_emulated_board_computes_what_the_twin_computes(board: BoardSession) -> None:
    client, x = board.client, small_inputs(6)
    install(client)
    for point in (0, 1, 2):
        expected = Twin(small_pack(), small_bundle()).run(x, point=point)
        for i in range(len(x)):
            reply = client.run(x[i], point=point)
            assert (reply.output == expected.output[i]).all() and reply.exit_hook == expected.exit_hook[i]


def test_the_same_input_executes_the_same_number_of_instructions(board: BoardSession) -> None:
    x = small_inputs(1)[0]
    ticks = [board.client.run(x, mode="detached").ticks for _ in range(10)]
    # Every stretch between hook points is read off a timer that counts many instructions at once.
    assert max(ticks) - min(ticks) <= len(small_pack().points) + 1 and min(ticks) > 100


def test_hooks_survive_a_reset_and_a_killed_emulator(board: BoardSession) -> None:
    install(board.client)
    assert board.client.info is not None
    before = board.client.info.boot_id
    after = board.reset()
    assert after.boot_id != before and after.bundle_version == 1
    board.kill()
    assert board.start().bundle_version == 1


def test_a_trial_that_nobody_confirms_reverts_at_the_next_start(board: BoardSession) -> None:
    install(board.client)
    board.client.push(small_bundle(2, 8))
    assert board.client.trial().bundle_version == 2
    board.kill()
    assert board.start().bundle_version == 1
    assert board.client.counters().trials_reverted == 1
    assert SlotState.REVERTED in [s.state for s in board.client.slots().slots]


def test_loops_of_known_length_are_counted_exactly(name: str, tmp_path: Path) -> None:
    target = load_board(name)
    image = build_firmware(small_pack().data, target, tmp_path / "firmware", user_sources=[LOOPS])
    got: list[Sample] = []
    with open_board(target, image.elf, tmp_path) as opened:
        opened.client.on_sample = got.append
        opened.client.sampler(SamplerPolicy(every_nth=1, with_input=True))
        opened.client.stream_sensor(1)
        assert opened.client.drain() == 0
    assert got[0].input is not None
    ticks = np.frombuffer(got[0].input.tobytes()[:16], np.uint32)
    tick = target.timer.instructions_per_tick
    counted = [int(t) * tick for t in ticks]
    for instructions, loop in zip(counted, (2_000, 20_000, 200_000, 2_000_000), strict=True):
        assert abs(instructions - loop - CLOCK_READING / 2) <= CLOCK_READING / 2 + tick, f"{instructions} for {loop}"


@pytest.mark.reference
@pytest.mark.parametrize("network", NETWORKS)
def test_golden_networks_equal_tflite_micro_and_the_twin(
    name: str, network: str, reference_dir: Path, tmp_path: Path
) -> None:
    target = load_board(name)
    graph = import_tflite(reference_dir / "models" / NETWORKS[network])
    packed = pack(graph, target.flavour)
    with np.load(reference_dir / "golden" / f"{network}_tflm.npz") as file:
        q = graph.quantize_input(np.concatenate([file["input_0"], file["input_1"]]))
        golden = np.stack([file["output_0"], file["output_1"]]).reshape(2, -1)
    with powered(packed, target, tmp_path) as (opened, _):
        run = play(opened.client, target, q, "detached")
        per_op = profile(opened.client, target, q[:1])
    assert (run.output.reshape(2, -1) == golden).all()
    assert (run.output == Twin(packed).run(q, mode="detached").output).all()
    assert run.instructions is not None
    assert abs(int(sum(per_op)) - int(run.instructions[0])) < 0.01 * int(run.instructions[0])
    print(f"{network} on {name}: {int(run.instructions[0]):,} instructions")
