"""The whole loop from the command line, on the emulated board and on the host port, and what it says to mistakes."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhn_kit import cli, resources, workflow
from dhn_kit.bundle import load_bundle
from dhn_kit.datasets import load
from dhn_kit.errors import DhnError
from dhn_kit.pack import load_pack, pack
from dhn_kit.quantize import top1
from dhn_kit.samples import Reason
from dhn_kit.store import SampleStore
from dhn_kit.train.trainer import Options
from dhn_kit.twin import Twin
from nets import Net, residual_net
from sample_stores import varied_inputs

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command with --json in an empty folder and returns its result; a failure is a DhnError."""
    monkeypatch.chdir(tmp_path)

    def _call(*argv: object) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stop:
            cli.main([*(str(a) for a in argv), "--json"])
        captured = capsys.readouterr()
        if stop.value.code:
            assert captured.err.count("\n") == 1 and not captured.out, captured.err
            raise DhnError(captured.err)
        result: dict[str, Any] = json.loads(captured.out)
        return result

    return _call


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Data files for commands, in the current folder of `call`: calib.npz, collect.npz, test.npz."""
    data = load("mnist")
    np.savez(tmp_path / "calib.npz", x=data.x_train[:200])
    np.savez(tmp_path / "collect.npz", x=np.r_[data.x_hook, data.x_cal[:600]], y=np.r_[data.y_hook, data.y_cal[:600]])
    np.savez(tmp_path / "test.npz", x=data.x_test[:60], y=data.y_test[:60])
    return tmp_path


def packed(call: Call) -> dict[str, Any]:
    return call("pack", resources.path("zoo") / "mnist_resnet8.onnx", "--calib", "calib.npz", "-o", "m.dhn")


@pytest.mark.slow
@pytest.mark.parametrize("board", ["posix", "qemu-cortex-m4"])
def test_one_turn_of_the_loop_saves_work_and_keeps_its_promise(call: Call, mnist: Path, board: str) -> None:
    packed(call)
    assert call("collect", "m.dhn", "s.db", "--board", board, "-i", "collect.npz")["lost"] == 0
    trained = call("train", "m.dhn", "s.db", "-o", "h.dhn", "--board", board, "--risk", "0.02", "--hooks", "exit")
    assert trained["hooks"] and trained["operating_points"]
    pushed = call("push", "h.dhn", "--pack", "m.dhn", "--board", board)
    assert pushed["version"] == 1
    for point in range(len(load_bundle(Path("h.dhn")).operating_points)):
        args = ("run", "m.dhn", "--board", board, "--hooks", "h.dhn", "--point", point, "-i", "test.npz")
        summary = call(*args, "-o", "y.npz")
        y = np.load("y.npz")
        main, bundle = load_pack(Path("m.dhn")), load_bundle(Path("h.dhn"))
        q = main.graph().quantize_input(np.load("test.npz")["x"])
        twin = Twin(main, bundle.data).run(q, point=point)
        assert (y["output"].reshape(60, -1) == twin.output).all()
        assert y["decision"].shape == (60, len(main.points))
        assert ((y["decision"] == 2).any(axis=1) == (twin.exit_hook >= 0)).all()
    assert summary["exit_rate"] > 0.3
    if board == "qemu-cortex-m4":
        assert y["instructions"].min() < 0.5 * y["instructions"].max()
    report = call("report", "m.dhn", "--hooks", "h.dhn", "-i", "test.npz", "-o", "r.html")
    assert "<svg" in Path("r.html").read_text() and report["points"]


@pytest.mark.slow
def test_loop_pushes_what_is_certified_and_nothing_else(call: Call, mnist: Path) -> None:
    packed(call)
    with pytest.raises(DhnError, match=r"cannot certify a risk of .* at least \d+ are needed"):
        call("loop", "m.dhn", "s.db", "-i", "collect.npz", "--board", "posix", "--risk", "0.0001")
    relaxed = call("loop", "m.dhn", "s.db", "-i", "collect.npz", "--board", "posix", "--risk", "0.03")
    turns = relaxed["turns"]
    assert isinstance(turns, list)
    assert [(t["pushed"], t["version"]) for t in turns] == [(True, 1)]  # 1: nothing was pushed before


def test_run_writes_output_floats_decisions_and_instructions(call: Call, mnist: Path) -> None:
    packed(call)
    call("run", "m.dhn", "-i", "test.npz", "-o", "y.npz")
    y, main = np.load("y.npz"), load_pack(Path("m.dhn"))
    q = main.graph().quantize_input(np.load("test.npz")["x"])
    assert y["output"].dtype == np.int8 and (y["output"].reshape(60, -1) == Twin(main).run(q).output).all()
    assert y["output_float"].dtype == np.float32 and (top1(y["output_float"]) == top1(y["output"])).all()
    assert not y["decision"].any()
    assert y["instructions"].shape == (60,) and y["instructions"].min() > sum(o.macs for o in main.ops) / 5


def test_bench_counts_every_operator_and_compares_with_the_twin(call: Call, mnist: Path) -> None:
    packed(call)
    result = call("bench", "m.dhn", "-n", "2", "-i", "test.npz")
    assert result["output_equal"] and result["arena_bytes"] == load_pack(Path("m.dhn")).arena_bytes
    ops = result["ops"]
    assert len(ops) == len(load_pack(Path("m.dhn")).ops)
    assert abs(sum(o["instructions"] for o in ops) / result["instructions"] - 1) < 0.02


def test_build_and_flash_say_who_the_board_is(call: Call, mnist: Path) -> None:
    packed(call)
    built = call("build", "m.dhn", "--board", "posix", "-o", "fw")
    assert Path(str(built["elf"])).is_file()
    assert call("flash", "fw")["hash"] == built["hash"]


def small_pack(path: Path, seed: int = 0) -> None:
    pack(residual_net(seed)[0]).save(path)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("run", "m.dhn", "-i", "wrong.npz"), r"shape \[3, 7\]"),
        (("run", "m.dhn", "-i", "nan.npz"), "NaN"),
        (("run", "m.dhn", "-i", "x.npz", "--hooks", "m.dhn"), "main pack, not a hook bundle"),
        (("run", "m.dhn", "-i", "x.npz", "--board", "nonsense"), "nonsense"),
        (("push", "h.dhn", "--pack", "m.dhn"), "h.dhn"),
        (("flash", "empty"), "no firmware folder"),
        (("train", "m.dhn", "none.db"), "none.db"),
        (("train", "m.dhn", "m.dhn"), "m.dhn"),
        (("collect", "m.dhn", "s.db", "-i", "x.npz", "--policy", "all"), "policy 'all'"),
        (("report", "m.dhn", "-i", "x.npz"), "--hooks"),
        (("run", "m.dhn", "-i", "x.npz", "--env", "humidity=3"), "'humidity' is unknown; choose one of battery"),
        (("collect", "m.dhn", "s.db", "--env", "clock=3"), "'clock' is the board's own"),
        (("train", "m.dhn", "s.db", "--point-policy", "humidity<20: 1"), "'humidity' is unknown"),
    ],
)
def test_a_mistake_gets_one_line(call: Call, tmp_path: Path, argv: tuple[str, ...], says: str) -> None:
    small_pack(tmp_path / "m.dhn")
    np.savez(tmp_path / "wrong.npz", x=np.zeros((3, 7), np.float32))
    np.savez(tmp_path / "nan.npz", x=np.full((2, 8, 8, 3), np.nan, np.float32))
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 8, 8, 3), np.float32))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DhnError, match=says):
        call(*argv)


def test_training_without_enough_samples_says_so(call: Call, tmp_path: Path) -> None:
    small_pack(tmp_path / "m.dhn")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).integers(-128, 128, (20, 8, 8, 3)).astype(np.int8))
    call("collect", "m.dhn", "s.db", "--board", "posix", "-i", "x.npz")
    with pytest.raises(DhnError, match="samples"):
        call("train", "m.dhn", "s.db")


def test_an_input_is_one_sample_however_often_it_is_played(call: Call, tmp_path: Path) -> None:
    small_pack(tmp_path / "m.dhn")
    x = np.random.default_rng(0).integers(-128, 128, (30, 8, 8, 3)).astype(np.int8)
    np.savez(tmp_path / "x.npz", x=np.concatenate([x, x]))
    call("collect", "m.dhn", "s.db", "--board", "posix", "-i", "x.npz")
    main = load_pack(tmp_path / "m.dhn")
    with SampleStore(tmp_path / "s.db") as store:
        samples = store.load(main.hash)
    training, calibration = workflow.splits(main, samples)
    assert len(samples) == 60 and len(training) + len(calibration) == 30
    assert not set(training.tags) & set(calibration.tags)


def test_options_take_the_kinds_that_exist() -> None:
    assert workflow.options_for(0.01, 0.05, "skip, exit", 0, 1).kinds == ("exit", "skip")
    assert isinstance(workflow.options_for(0.01, 0.05, "exit,skip", 0, 1), Options)
    with pytest.raises(DhnError, match="'mask'"):
        workflow.options_for(0.01, 0.05, "exit,mask", 0, 1)


def test_the_board_is_told_its_surroundings_and_tells_its_state(call: Call, tmp_path: Path) -> None:
    small_pack(tmp_path / "m.dhn")
    x = np.random.default_rng(0).integers(-128, 128, (40, 8, 8, 3)).astype(np.int8)
    np.savez(tmp_path / "x.npz", x=x)
    rules = ("--policy", "balanced", "--no-input", "--full-share", "0.3", "--env", "battery=40,app5=-7")
    done = call("collect", "m.dhn", "s.db", "--board", "posix", "-i", "x.npz", *rules)
    with SampleStore(tmp_path / "s.db") as store:
        samples = store.load(load_pack(tmp_path / "m.dhn").hash)
    assert 0 < len(samples) == done["stored"] < 40 and done["falls"] == done["lost"] == 0
    assert all(s.input is None and s.env[0] == 40 and s.env[5] == -7 and 0 < s.propensity < 1 for s in samples)
    status = call("status", "m.dhn", "--board", "posix")
    assert status["board"]["automatic"] and status["board"]["state_bytes"] > 4000
    assert status["surroundings"]["env"][0] == 100 and status["monitor"]["rows"] == 0


def test_a_reservoir_fits_the_boards_memory(call: Call, tmp_path: Path) -> None:
    graph = Net((16, 16, 5), seed=0)
    graph.fc(graph.mean(graph.conv("x", 8)), 5)
    pack(graph.done()).save(tmp_path / "m.dhn")
    np.savez(tmp_path / "x.npz", x=np.zeros((60, 16, 16, 5), np.int8))
    done = call("collect", "m.dhn", "s.db", "--board", "posix", "-i", "x.npz", "--policy", "reservoir")
    with SampleStore(tmp_path / "s.db") as store:
        samples = store.load(load_pack(tmp_path / "m.dhn").hash)
    assert {s.reason for s in samples} == {Reason.RESERVOIR} and done["stored"] == 60 // 24 * 3


@pytest.mark.slow
def test_the_loop_takes_what_training_takes(call: Call, tmp_path: Path) -> None:
    small_pack(tmp_path / "m.dhn", 4)
    main = load_pack(tmp_path / "m.dhn")
    q = varied_inputs(main, 320)
    np.savez(tmp_path / "x.npz", x=q, y=Twin(main).run(q).output.argmax(axis=1))
    rest = ("--board", "posix", "--risk", "0.2", "--hooks", "exit", "--count", "290", "--allow-unseen")
    loop = ("loop", "m.dhn", "s.db", "-i", "x.npz", *rest)
    turn = call(*loop, "--method", "ff", "--against", "label")["turns"][0]
    assert turn["collected"]["stored"] == 290 and {t["method"] for t in turn["methods"]} == {"ff"}
    assert turn["pushed"] and all(p["epsilon"] <= 0.2 for p in turn["operating_points"][:-1])
    for options, says in ((("--method", "sgd"), "'sgd'"), (("--side", "none.onnx"), "does not exist")):
        with pytest.raises(DhnError, match=says):
            call(*loop, *options)


def test_labels_may_be_unknown_and_may_come_later(call: Call, tmp_path: Path) -> None:
    small_pack(tmp_path / "m.dhn")
    x = np.random.default_rng(0).integers(-128, 128, (6, 8, 8, 3)).astype(np.int8)
    np.savez(tmp_path / "x.npz", x=x, y=np.array([0, 1, -1, 2, -1, 3]))
    np.savez(tmp_path / "later.npz", x=x[2:], y=np.array([4, -1, 0, -1]))
    np.savez(tmp_path / "bare.npz", x=x)
    call("collect", "m.dhn", "s.db", "--board", "posix", "-i", "x.npz")
    with pytest.raises(DhnError, match=r"bare\.npz has no array 'y'"):
        call("train", "m.dhn", "s.db", "--labels", "bare.npz")
    with pytest.raises(DhnError, match="samples"):
        call("train", "m.dhn", "s.db", "--labels", "later.npz")
    with SampleStore(tmp_path / "s.db") as store:
        assert [s.label for s in store.load(load_pack(tmp_path / "m.dhn").hash)] == [0, 1, 4, 2, 0, 3]
