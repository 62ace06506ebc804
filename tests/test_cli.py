"""The command line lists its commands, shows examples, and answers mistakes with one line."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from conftest import Call
from dhn_kit import __version__, resources
from dhn_kit.boards import list_boards, load_board
from dhn_kit.commands import model as model_commands
from dhn_kit.errors import DhnError

COMMANDS = (
    *("inspect", "pack", "build", "flash", "run", "bench", "collect", "train", "push", "loop", "status", "monitor"),
    *("report", "boards", "latency", "export", "doctor", "demo", "init"),
)
ZOO = resources.path("zoo") / "mnist_resnet8.onnx"


def assert_one_line(err: str, *words: str) -> None:
    assert err.startswith("dhn-kit: error: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err


def test_help_lists_every_command_in_one_line_each(call: Call) -> None:
    code, out, _ = call("--help")
    lines = out.partition("Commands:\n")[2].splitlines()
    assert (code, sorted(line.split()[0] for line in lines)) == (0, sorted(COMMANDS))
    assert not [line for line in lines if line.endswith("...")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_examples_of_itself(call: Call, command: str) -> None:
    code, out, _ = call(command, "--help")
    examples = [line.strip() for line in out.partition("Examples:\n")[2].split("\n\n")[0].splitlines()]
    assert code == 0
    assert examples
    assert all(e.startswith(f"dhn-kit {command}") for e in examples)


def test_version_is_printed(call: Call) -> None:
    assert call("--version") == (0, f"dhn-kit {__version__}\n", "")


def test_version_equals_that_of_the_package() -> None:
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    assert tomllib.loads(pyproject.read_text())["project"]["version"] == __version__


def test_wrong_usage_exits_with_2(call: Call) -> None:
    assert call("no-such-command")[0] == 2
    assert call("run")[0] == 2


def test_module_prints_a_plain_line_to_a_pipe() -> None:
    environment = os.environ | {"PYTHONPATH": str(resources.PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "dhn_kit.cli", "inspect", "/no/such/" + "long-" * 40 + ".onnx"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert_one_line(done.stderr, "does not exist")
    assert "\x1b" not in done.stderr


def test_bug_keeps_its_traceback(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(model_commands, "load_target", broken)
    with pytest.raises(KeyError, match="bug"):
        call("pack", ZOO)


def test_boards_lists_all_and_shows_one(call: Call) -> None:
    _, out, _ = call("boards")
    assert all(name in out for name in list_boards())
    assert [b["name"] for b in json.loads(call("boards", "--json")[1])] == list_boards()
    assert json.loads(call("boards", "posix")[1])["port"] == "posix"
    tested = [load_board(name).tested for name in list_boards()]
    counts = f"{tested.count('executed')} executed, {tested.count('built')} built with a stand-in, "
    assert out.splitlines()[-1] == f"{counts}{tested.count('generated')} generated; none on silicon"
    assert_one_line(call("boards", "nucleo-f446re")[2], "no board 'nucleo-f446re'", "did you mean nucleo_f446re")


def test_doctor_exits_with_0_and_names_what_installs_what_is_missing(call: Call) -> None:
    code, out, _ = call("doctor", "--json")
    findings = json.loads(out)
    assert code == 0
    assert {"gcc", "arm-none-eabi-gcc", "qemu-system-arm", "esptool"} <= {f["name"] for f in findings}
    assert all(f["version"] or f["install"] for f in findings)
    text = call("doctor")[1]
    assert all(f["name"] in text for f in findings)


def test_init_writes_a_project_that_commands_read(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = call("init", "mine", "--model", ZOO, "--board", "posix")
    assert code == 0
    written = {Path(line).name for line in out.splitlines()}
    assert written == {"dhn-kit.toml", "README.md", ".gitignore"}
    monkeypatch.chdir("mine")
    summary = json.loads(call("inspect", "--json")[1])["summary"]
    assert summary["name"] == "mnist_resnet8"


def test_init_overwrites_nothing(call: Call) -> None:
    Path("mine").mkdir()
    Path("mine/README.md").write_text("precious")
    code, _, err = call("init", "mine")
    assert code == 1
    assert_one_line(err, "mine/README.md is there already")
    assert [p.name for p in Path("mine").iterdir()] == ["README.md"]
    assert Path("mine/README.md").read_text() == "precious"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("model = 3\n", "'model' is missing or not a text"),
        ('model = "m"\ncalib = "c"\nboard = "nucleo"\n', "no board 'nucleo'"),
        ("model =", "correct the file"),
    ],
)
def test_faulty_settings_are_named(call: Call, settings: str, fault: str) -> None:
    Path("dhn-kit.toml").write_text(settings)
    assert_one_line(call("inspect")[2], fault)


def test_inspect_without_a_network_or_project_says_what_to_do(call: Call) -> None:
    assert_one_line(call("inspect")[2], "no MODEL given", "dhn-kit init")


def test_inspect_of_a_float_network_shows_operators_and_work(call: Call) -> None:
    code, out, _ = call("inspect", ZOO, "--json")
    summary = json.loads(out)["summary"]
    assert code == 0
    assert summary["macs"] == sum(n["macs"] for n in summary["nodes"]) > 10**6
    assert (summary["quantized"], summary["memory"]) == (False, None)


@pytest.mark.parametrize("command", ["inspect", "pack"])
def test_a_network_that_is_none_is_refused(call: Call, command: str) -> None:
    Path("cut.onnx").write_bytes(ZOO.read_bytes()[:1000])
    Path("text.onnx").write_text("hello")
    Path("empty.onnx").write_bytes(b"")
    for name in ("cut.onnx", "text.onnx", "empty.onnx", "absent.onnx", "."):
        code, _, err = call(command, name)
        assert code == 1
        assert_one_line(err, "absent.onnx" if name == "absent.onnx" else "")


def test_pack_without_calibration_data_says_how_to_give_it(call: Call) -> None:
    code, _, err = call("pack", ZOO, "-o", "m.dhn")
    assert code == 1
    assert_one_line(err, "float network", "--calib")


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 1, 28, 28), np.float32)


def save(name: str, **arrays: npt.ArrayLike) -> str:
    np.savez(name, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()})
    return name


def test_unreadable_calibration_file_is_named(call: Call) -> None:
    Path("text.npz").write_text("hello")
    good = Path(save("good.npz", x=np.zeros((8, 1, 28, 28), np.float32))).read_bytes()
    Path("cut.npz").write_bytes(good[: len(good) // 2])
    np.save("single.npy", np.zeros(3))
    np.savez("pickled.npz", x=np.array([{}], dtype=object))
    for name in ("text.npz", "cut.npz", "single.npy", "pickled.npz", "absent.npz"):
        code, _, err = call("pack", ZOO, "--calib", name, "-o", "m.dhn")
        assert code == 1
        assert_one_line(err, name)
        assert not Path("m.dhn").exists()
    assert_one_line(call("pack", ZOO, "--calib", save("y.npz", y=[1], z=[2]))[2], "no array 'x'", "it has y, z")


@pytest.mark.parametrize(
    ("x", "fault"),
    [
        (np.full((2, 1, 28, 28), np.nan, np.float32), "NaN"),
        (np.zeros((2, 28, 28, 1), np.float32), "shape"),
        (np.zeros((0, 1, 28, 28), np.float32), "empty"),
        (np.full((2, 1, 28, 28), "a"), "dtype"),
    ],
)
def test_calibration_data_that_does_not_fit_is_refused(call: Call, x: np.ndarray, fault: str) -> None:
    code, _, err = call("pack", ZOO, "--calib", save("c.npz", x=x), "-o", "m.dhn")
    assert code == 1
    assert_one_line(err, fault)
    assert not Path("m.dhn").exists()


def test_pack_writes_what_inspect_reads(call: Call) -> None:
    calib = save("c.npz", x=images(8), y=np.arange(8))
    code, out, err = call("pack", ZOO, "--calib", calib, "-o", "m.dhn", "--json")
    assert (code, err) == (0, "")
    packed = json.loads(out)
    of_pack = json.loads(call("inspect", "m.dhn", "--json")[1])["summary"]
    of_model = json.loads(call("inspect", ZOO, "--calib", calib, "--json")[1])
    assert packed["arena_bytes"] == of_pack["memory"]["arena_bytes"] >= packed["arena_lower_bound"]
    for key in ("hash", "macs", "points", "memory", "inputs", "outputs"):
        assert of_pack[key] == of_model["summary"][key], key
    assert all(n["sqnr_db"] > 10 for n in of_model["summary"]["nodes"])
    assert of_model["agreement"]["n"] == 8


def test_pack_is_the_same_every_time(call: Call) -> None:
    calib = save("c.npz", x=images(4))
    for name in ("a.dhn", "b.dhn"):
        call("pack", ZOO, "--calib", calib, "-o", name)
    assert Path("a.dhn").read_bytes() == Path("b.dhn").read_bytes()


def test_random_calibration_says_that_the_answers_mean_nothing(call: Call) -> None:
    code, _, err = call("pack", ZOO, "--calib", "random")
    assert (code, Path("model.dhn").exists()) == (0, True)
    assert "mean nothing" in err


def test_place_that_cannot_be_written_is_refused_before_the_work(call: Call) -> None:
    for place in ("absent/m.dhn", "."):
        code, _, err = call("pack", ZOO, "--calib", "random", "-o", place)
        assert code == 1
        assert_one_line(err, place)


def test_model_too_large_for_the_board_is_refused_in_bytes() -> None:
    from dataclasses import replace

    from dhn_kit.boards import load_board
    from dhn_kit.pack import Pack

    packed = Pack(bytes(5000), "net", [], [], {}, {}, {}, [], [], [], 0)
    board = load_board("posix")
    small = replace(board, memory=replace(board.memory, flash_bytes=4096))
    with pytest.raises(DhnError, match="net needs 5,000 bytes of flash, posix has 4,096: 904 too many"):
        model_commands.check_fit(packed, small)


@pytest.mark.reference
def test_bands_say_what_they_save_and_what_they_cost(call: Call, reference_dir: Path) -> None:
    model = reference_dir / "models" / "ic_resnet8_int8.tflite"
    plain = json.loads(call("pack", model, "--patch", "0", "--json")[1])
    banded = json.loads(call("pack", model, "--patch", "4", "--json")[1])
    assert plain["patch"] is None and banded["patch"]["arena_before"] == plain["arena_bytes"] > banded["arena_bytes"]
    assert banded["patch"]["macs_before"] == plain["macs"] and banded["patch"]["macs_after"] == banded["macs"]
    code, out, _ = call("pack", model, "--patch", "4")
    assert code == 0
    assert f"arena {banded['arena_bytes']:,} bytes instead of {plain['arena_bytes']:,}" in out.replace("\n", " ")
    code, _, err = call("pack", model, "--patch", "1")
    assert code == 1
    assert_one_line(err, "needs no less RAM in 1 bands")


@pytest.mark.reference
@pytest.mark.parametrize(("name", "arena"), [("ic_resnet8", 40_000), ("kws_dscnn", 11_000)])
def test_int8_networks_pack_without_calibration_into_far_less_than_tflite_micro_needs(
    call: Call, reference_dir: Path, name: str, arena: int
) -> None:
    model = reference_dir / "models" / f"{name}_int8.tflite"
    code, out, err = call("pack", model, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["arena_bytes"] <= arena
    code, out, _ = call("inspect", model)
    assert code == 0
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 120
