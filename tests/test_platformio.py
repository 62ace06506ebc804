"""Projects for PlatformIO: the real 'pio run' builds and uploads them, through stand-ins for platforms and boards.

No test reaches for the network: whatever PlatformIO needs is laid out beforehand (`pio_core`).
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import esp_mock
import test_framework_ports as frameworks
from board_rig import small_bundle, small_inputs, small_net, small_pack
from dhn_kit import cli, generic_boards, platformio_build, resources
from dhn_kit.board_session import open_board
from dhn_kit.boards import Board, PlatformIO, list_boards, load_board
from dhn_kit.commands import projects
from dhn_kit.errors import DhnError
from dhn_kit.esp_flash import MODEL, model_on, project_parts
from dhn_kit.esp_partitions import APP, TABLE_BYTES, TABLE_OFFSET, read_table
from dhn_kit.generic_boards import find_board
from dhn_kit.pack import Pack, pack
from dhn_kit.platformio_project import GENERATED, Project, load_project, partition_table, settings_of, with_framework
from dhn_kit.platformio_run import run_pio
from dhn_kit.playback import install
from dhn_kit.trailer import device_bytes
from dhn_kit.twin import Twin
from nets import Net
from pio_core import StandIn, StandInBoard, add_platform, make_core

PORTS = resources.path("firmware") / "port"
STAND_INS = Path(__file__).parent / "platformio"
REAL = [name for name in list_boards() if load_board(name).platformio]
EMULATED = "qemu-cortex-m4"


def emulated_board() -> Board:
    """The emulated Cortex-M4F as PlatformIO sees it: a board of a platform, without a framework."""
    board = load_board(EMULATED)
    settings = PlatformIO("emulated", "mps2_an386", "", "", (), ())
    return dataclasses.replace(board, flavour="ref", platformio=settings)


def emulated_platform(core: Path, workdir: Path) -> None:
    """The port's own start-up code and linker script, and an upload that boots QEMU."""
    board = load_board(EMULATED)
    slots = board.hook_flash.slot_bytes * 2
    tools = StandIn(
        "arm-none-eabi-",
        flags=list(board.core.flags),
        defines=[
            "MPS2_UART=0x40004000u",
            "MPS2_UART_IRQ=0",
            "MPS2_CLOCK_HZ=25000000u",
            f"MPS2_FLASH_BASE={board.hook_flash.base:#x}u",
            f"NOR_FLASH_BYTES={slots}u",
            f"NOR_FLASH_PAGE={board.hook_flash.page_bytes}u",
        ],
        link=[
            "-nostartfiles",
            "--specs=nano.specs",
            f"-T{PORTS / 'mps2' / 'mps2.ld'}",
            *(f"-Wl,--defsym={n}" for n in ("CODE_BASE=0", "CODE_BYTES=0x400000")),
            *(f"-Wl,--defsym={n}" for n in ("RAM_BASE=0x20000000", "RAM_BYTES=0x400000")),
        ],
        upload=f"{sys.executable} {STAND_INS / 'boot.py'} {EMULATED} $SOURCE $UPLOAD_PORT {workdir}",
    )
    add_platform(core, "emulated", {"mps2_an386": StandInBoard("an386", 25_000_000, 4 << 20, 4 << 20, (), tools)})


def git_url(platform: str) -> str:
    """As PlatformIO notes where a platform came from; empty: from its registry."""
    return f"git+{platform}" if "://" in platform else ""


def real_boards() -> dict[str, dict[str, StandInBoard]]:
    """By platform and PlatformIO's name: what its board files say of the boards that have a file here."""
    found: dict[str, dict[str, StandInBoard]] = {}
    for name, (mcu, ram, flash) in PLATFORMIO_BOARDS.items():
        board = load_board(name)
        settings = settings_of(board)
        known = StandInBoard(mcu, board.timer.tick_hz, ram, flash, ("arduino", "espidf"), compiled_by(name))
        found.setdefault(settings.platform, {})[settings.board] = known
    return found


#: mcu, maximum_ram_size and maximum_size. Source: boards/*.json of PlatformIO's platforms.
PLATFORMIO_BOARDS = {
    "esp32": ("esp32", 327680, 4194304),
    "esp32s3": ("esp32s3", 524288, 8388608),
    "esp32c3": ("esp32c3", 327680, 4194304),
    "esp8266": ("esp8266", 81920, 4194304),
    "rpipico": ("rp2040", 262144, 2097152),
    "rpipico2": ("rp2350", 524288, 4194304),
    "nucleo_f446re": ("stm32f446ret6", 131072, 524288),
    "nucleo_l4r5zi": ("stm32l4r5zit6", 655360, 2097152),
    "nucleo_h743zi": ("stm32h743zit6", 524288, 2097152),
    "nrf52840_dk": ("nrf52840", 248832, 815104),
    "nano33ble": ("nrf52840", 262144, 983040),
    "teensy41": ("imxrt1062", 524288, 8126464),
}


def compiled_by(name: str) -> StandIn:
    """This machine's compiler for the core, and stubs for the framework: what the framework defines stays open."""
    board = load_board(name)
    prefix, more = next(t for key, t in frameworks.TOOLS.items() if board.core.compiler.startswith(key))
    stubs = [f"-isystem{frameworks.STUBS / folder}" for folder in ("arduino", "espidf")]
    flags = [*more, *board.core.flags, *stubs]
    macros = ("ARDUINO=10819", *frameworks.CORES[name])
    script = [f"-T{STAND_INS / 'esp32.ld'}"] if name == "esp32" else []
    entry = ["-Wl,-e,_Z5setupv", "-Wl,-u,_Z5setupv", "-Wl,-u,_Z4loopv"]
    open_symbols = ["-nostdlib", "-Wl,--unresolved-symbols=ignore-all"]
    finish = f"{sys.executable} {STAND_INS / 'esp_image.py'} $SOURCE $PROJECT_DIR/partitions.csv"
    upload = f"{sys.executable} -m esptool --chip esp32 --port $UPLOAD_PORT --no-stub write-flash " + " ".join(
        f"{at:#x} $BUILD_DIR/{part}.bin" for at, part in UPLOADED.items()
    )
    return StandIn(
        prefix,
        flags,
        list(macros),
        [*open_symbols, *entry, *script],
        finish if name == "esp32" else "",
        upload if name == "esp32" else "false",
    )


#: Where espressif32 puts what it built.
UPLOADED = {0x1000: "bootloader", 0x8000: "partitions", 0xE000: "boot_app0", 0x10000: "firmware"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A PlatformIO with the emulated board's platform; the emulator of an upload ends with the tests."""
    workdir = tmp_path_factory.mktemp("pio")
    emulated_platform(make_core(workdir / "core"), workdir)
    for name, boards in real_boards().items():
        add_platform(workdir / "core", name.removesuffix(".git").rpartition("-")[2], boards, git_url(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLATFORMIO_CORE_DIR", str(workdir / "core"))
        patch.setenv("PYTHONPATH", str(resources.PACKAGE.parent))
        yield workdir
    pid = workdir / "emulator.pid"
    if pid.is_file():
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.fixture(scope="module")
def built(rig: Path) -> Project:
    """The small network's project, compiled once."""
    project = projects.write(small_pack(), emulated_board(), rig / "project", None, 8192)
    platformio_build.build_project(project)
    return project


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_pio_run_builds_and_its_upload_ends_in_a_hello_and_gated_inference(rig: Path, built: Project) -> None:
    port = f"socket://127.0.0.1:{free_port()}"
    projects.upload(built, small_pack(), port)
    hello = projects.wait_for_hello(built, port)
    assert (hello.board, hello.hash, hello.load_status) == (EMULATED, small_pack().hash, 0)
    assert 0 < built.board.hook_flash.slot_bytes - hello.slot_bytes <= 256
    x = small_inputs(3)
    expected = Twin(small_pack(), small_bundle()).run(x, point=1)
    with open_board(built.board, None, rig, port) as session:
        install(session.client, small_bundle())
        replies = [session.client.run(i, point=1) for i in x]
    assert [r.output.tolist() for r in replies if r.output is not None] == expected.output.tolist()
    assert [r.exit_hook for r in replies] == expected.exit_hook.tolist()


def test_a_build_says_what_it_takes_of_flash_and_ram(built: Project) -> None:
    sizes = platformio_build.build_project(built)
    assert sizes.flash_bytes is not None and sizes.ram_bytes is not None
    assert len(small_pack().data) < sizes.flash_bytes < 60_000
    assert small_pack().arena_bytes + 8192 < sizes.ram_bytes < 40_000


# -- What the user may do to a project


def small_project(folder: Path) -> Project:
    return projects.write(small_pack(), emulated_board(), folder, None, 8192)


def other_pack() -> Pack:
    net = Net((8, 8, 1))
    net.fc(net.mean(net.conv("x", 4, stride=2)), 3)
    return pack(net.done())


def test_an_edited_file_is_kept_and_the_network_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = small_project(tmp_path / "p")
    edited = ["platformio.ini", "src/app_config.h", *GENERATED]
    for place in edited:
        (project.folder / place).write_text("mine")
    again = projects.write(other_pack(), project.board, project.folder, None, 8192)
    assert again.kept == ("platformio.ini", "src/app_config.h")
    assert [(project.folder / p).read_text() == "mine" for p in edited] == [True, True, False, False]
    assert f"{project.folder / 'platformio.ini'} was changed by you and is kept" in capsys.readouterr().err
    # Its own file beside ours is nobody's business; a file that was deleted comes back.
    (project.folder / "src" / "sensor.c").write_text("mine")
    (project.folder / "platformio.ini").unlink()
    assert small_project(project.folder).kept == ("src/app_config.h",)
    assert (project.folder / "src" / "sensor.c").read_text() == "mine"


def test_what_a_smaller_network_no_longer_needs_goes_away(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    kernels = {p.name for p in (project.folder / "lib").rglob("*.c")}
    projects.write(other_pack(), project.board, project.folder, None, 8192)
    left = {p.name for p in (project.folder / "lib").rglob("*.c")}
    stamp = json.loads((project.folder / "dhn-project.json").read_text())["files"]
    assert left == {Path(p).name for p in stamp if p.startswith("lib") and p.endswith(".c")} != kernels


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DhnError, match="holds files that are not of a project of dhn-kit; name another folder"):
        small_project(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(DhnError, match="is a file; name another folder"):
        small_project(tmp_path / "thesis.tex")


def test_a_damaged_stamp_and_another_board_are_told(tmp_path: Path) -> None:
    project = small_project(tmp_path / "p")
    with pytest.raises(DhnError, match="is a project for qemu-cortex-m4, not for esp32"):
        load_project(project.folder, load_board("esp32"))
    (project.folder / "dhn-project.json").write_text("{")
    with pytest.raises(DhnError, match=r"dhn-project.json is damaged; delete"):
        small_project(project.folder)


def test_build_writes_the_project_alone_when_asked_and_says_what_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(small_net(), load_board("esp32").flavour).save(tmp_path / "model.dhn")
    (tmp_path / "p").mkdir()

    def build(*options: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["build", str(tmp_path / "model.dhn"), "-o", str(tmp_path / "p"), *options])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    code, out, _ = build("--board", "esp32", "--no-compile", "--json")
    assert code == 0 and json.loads(out)["elf"] is None
    assert (tmp_path / "p" / "board.txt").read_text() == "esp32\n"
    (tmp_path / "p" / "partitions.csv").write_text("mine")
    code, out, _ = build("--board", "esp32", "--no-compile", "--json", "--framework", "espidf")
    assert json.loads(out)["kept"] == ["partitions.csv"]
    assert (tmp_path / "p" / "src" / "espidf.c").is_file() and not list(tmp_path.rglob("arduino.cpp"))
    chip = (tmp_path / "p" / "sdkconfig.defaults").read_text().splitlines()[-2:]
    assert chip == ["CONFIG_ESPTOOLPY_FLASHSIZE_4MB=y", "CONFIG_ESP_DEFAULT_CPU_FREQ_MHZ_240=y"]
    code, _, err = build("--board", EMULATED, "--no-compile")
    assert code == 1 and "qemu-cortex-m4 is built without PlatformIO; leave out --framework" in err


# -- What goes wrong, each in one line


@contextlib.contextmanager
def changed(path: Path, text: str) -> Iterator[None]:
    """Another text for a while; what was compiled of other files stays."""
    before = path.read_text()
    path.write_text(text)
    yield
    path.write_text(before)


def test_the_first_error_of_the_compiler_is_shown(built: Project) -> None:
    with (
        changed(built.folder / "src" / "app.c", "#error mine\n"),
        pytest.raises(DhnError, match=r"'pio run' fails in .*: src/app\.c:1:2: error: #error mine"),
    ):
        platformio_build.build_project(built)


def test_a_program_that_lost_the_application_is_not_uploaded(built: Project) -> None:
    with (
        changed(built.folder / "src" / "main.c", "int main(void)\n{\n    for (;;) {\n    }\n}\n"),
        pytest.raises(DhnError, match="does not run the dhn application; call app_start and app_step again in src/"),
    ):
        platformio_build.build_project(built)


@pytest.mark.parametrize(("key", "memory"), [("maximum_size", "flash"), ("maximum_ram_size", "RAM")])
def test_too_large_says_by_how_much(rig: Path, built: Project, key: str, memory: str) -> None:
    sizes = platformio_build.build_project(built)
    used = sizes.flash_bytes if memory == "flash" else sizes.ram_bytes
    assert used is not None
    path = rig / "core" / "platforms" / "emulated" / "boards" / "mps2_an386.json"
    manifest = json.loads(path.read_text())
    manifest["upload"][key] = 10_000
    text = f"does not fit {EMULATED}: {used - 10_000:,} bytes too many for its 10,000 bytes of {memory}"
    with changed(path, json.dumps(manifest)), pytest.raises(DhnError, match=text):
        platformio_build.build_project(built)


def test_a_linker_that_overflows_a_region_says_by_how_much() -> None:
    esp32 = load_board("esp32")
    for region, memory in (("dram0_0_seg", "bytes of RAM"), ("irom0_0_seg", "bytes of app partition")):
        text = f"ld: region `{region}' overflowed by 1234 bytes"
        told = platformio_build._does_not_fit(text, esp32)
        assert told is not None and "1,234 bytes too many" in str(told) and memory in str(told)


def test_a_platform_that_cannot_be_fetched_is_named_with_the_command(rig: Path, tmp_path: Path) -> None:
    board = emulated_board()
    # A port that nobody listens at: what git meets without a network, whether this machine has one or not.
    absent = f"https://127.0.0.1:{free_port()}/nowhere.git"
    board = dataclasses.replace(board, platformio=PlatformIO(absent, "x", "", "", (), ()))
    project = projects.write(small_pack(), board, tmp_path / "p", None, 8192)
    with pytest.raises(DhnError, match=r"cannot fetch platform 'https://127\.0\.0\.1:.*once online, call 'pio pkg"):
        platformio_build.build_project(project)


def test_without_platformio_the_command_that_installs_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DhnError, match="PlatformIO is missing; install it with 'pip install platformio'"):
        run_pio(["boards"])


def test_a_pio_that_does_not_end_is_stopped_with_what_it_started(rig: Path, tmp_path: Path) -> None:
    marker = f"sleep {3600 + os.getpid() % 1000}.25"
    (tmp_path / "platformio.ini").write_text(
        "[env:a]\nplatform = emulated\nboard = mps2_an386\nextra_scripts = pre:hang.py\n"
    )
    (tmp_path / "hang.py").write_text(f"import os\nos.system({marker!r})\n")
    with pytest.raises(DhnError, match="did not end within 3 s and was stopped; call it by hand"):
        run_pio(["run"], tmp_path, timeout=3)
    end = time.monotonic() + 5
    while left := subprocess.run(["pgrep", "-f", marker], capture_output=True, text=True).stdout:
        assert time.monotonic() < end, left


def test_a_board_that_stays_silent_is_reported_after_a_while(built: Project) -> None:
    with pytest.raises(DhnError):
        projects.wait_for_hello(built, f"socket://127.0.0.1:{free_port()}", timeout=0.1)


def test_a_port_that_is_absent_is_noticed_before_anything_is_compiled(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhn_kit.platformio_build.build_project", lambda project: pytest.fail("compiled"))
    with pytest.raises(DhnError, match="serial port /dev/ttyUSB99 does not exist; plug the board in"):
        projects.upload(built, small_pack(), "/dev/ttyUSB99")


def test_a_failed_upload_is_reported_in_the_words_of_its_tool(built: Project) -> None:
    # boot.py refuses what is no address.
    with pytest.raises(
        DhnError, match=r"'pio run -t upload --upload-port nowhere' fails in .*: ValueError: not enough"
    ):
        projects.upload(built, small_pack(), "nowhere")


def test_a_port_is_asked_for_once_however_long_the_board_takes(built: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def port_of(board: Board, port: str | None) -> str:
        asked.append(port)
        return port or f"socket://127.0.0.1:{free_port()}"

    monkeypatch.setattr(projects, "port_of", port_of)
    with pytest.raises(DhnError):
        projects.wait_for_hello(built, None, timeout=1)
    assert len(asked) > 1 and asked.count(None) == 1


# -- Projects for every real board


@pytest.mark.parametrize("name", [n for n in REAL if load_board(n).esp])
def test_the_partition_table_fills_the_flash_and_holds_what_the_firmware_looks_for(name: str) -> None:
    board = load_board(name)
    table = partition_table(board)
    assert board.esp is not None
    ends = [p.offset + p.size for p in table]
    assert ends[:-1] == [p.offset for p in table[1:]] and ends[-1] == board.esp.flash_bytes
    found = {p.name: p for p in table}
    assert found["dhn_hooks1"].offset == found["dhn_hooks0"].offset + found["dhn_hooks0"].size
    assert found["app0"].kind == APP and found["app0"].offset % 0x10000 == 0 and "dhn_model" in found


def test_only_an_esp32_has_a_port_to_esp_idf() -> None:
    assert with_framework(load_board("esp32c3"), "espidf").port == "espidf"
    with pytest.raises(DhnError, match="teensy41 has no port to 'espidf'"):
        with_framework(load_board("teensy41"), "espidf")


def test_a_board_that_only_platformio_knows_gets_a_project_that_resolves(rig: Path, tmp_path: Path) -> None:
    unheard_of = StandInBoard("stm32f411ret6", 100_000_000, 131_072, 524_288)
    path = rig / "core" / "platforms" / "ststm32" / "boards" / "nucleo_f411re.json"
    path.write_text(json.dumps(unheard_of.manifest("nucleo_f411re")))
    generic_boards._installed.cache_clear()
    board = find_board("nucleo_f411re")
    assert (board.flavour, board.memory.ram_bytes, board.timer.tick_hz) == ("armv7em", 131_072, 100_000_000)
    project = projects.write(pack(small_net(), board.flavour), board, tmp_path / "p", None, 8192)
    assert resolved([project.folder]) == {"nucleo_f411re": ("stm32f411ret6", [])}
    with pytest.raises(DhnError, match="no board 'nucleo_f412re'; did you mean nucleo_f4"):
        find_board("nucleo_f412re")
    generic_boards._installed.cache_clear()


def resolved(folders: list[Path]) -> dict[str, tuple[str, list[str]]]:
    """By environment: the chip that PlatformIO found, and the settings that it does not know."""
    command = [sys.executable, str(STAND_INS / "resolve.py"), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {f["env"]: (f["mcu"], f["unknown"]) for f in json.loads(done.stdout)}


def test_every_real_board_is_known_to_the_stand_ins() -> None:
    assert set(REAL) == set(PLATFORMIO_BOARDS)


def test_the_project_of_every_board_resolves(rig: Path, tmp_path: Path) -> None:
    for name in REAL:
        projects.write(small_pack(), load_board(name), tmp_path / name, None, 8192)
    found = resolved([tmp_path / name for name in REAL])
    assert found == {name: (PLATFORMIO_BOARDS[name][0], []) for name in REAL}


BUILT = [n for n in REAL if load_board(n).tested == "built"]


def undefined(project: Project, prefix: str) -> set[str]:
    """What the project's objects refer to and none of them defines, of the functions that its own headers declare."""
    objects = map(str, sorted(project.elf.parent.rglob("*.o")))
    lines = subprocess.run([f"{prefix}nm", *objects], capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = [line.split() for line in lines if re.search(r" [A-Za-z] \S+$", line)]
    missing = {s[-1] for s in symbols if s[-2] == "U"} - {s[-1] for s in symbols if s[-2] != "U"}
    assert "Serial" in missing, "a framework's objects should be among them"
    headers = "".join(p.read_text() for folder in ("src", "lib") for p in (project.folder / folder).rglob("*.h"))
    string_h = {"memcmp", "memcpy", "memmove", "memset"}
    return {name for name in missing - string_h if re.search(rf"\b{name}(\(|\[)", headers)}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT)
def test_a_board_that_is_called_built_was_built_with_a_stand_in(name: str, rig: Path, tmp_path: Path) -> None:
    board = load_board(name)
    packed = pack(small_net(), board.flavour)
    project = projects.write(packed, board, tmp_path / "p", None, 8192)
    sizes = platformio_build.build_project(project)
    assert sizes.flash_bytes is not None and sizes.flash_bytes > len(packed.data)
    assert undefined(project, compiled_by(name).prefix) == set()
    if name == "esp32":
        assert_upload_works(project, packed, tmp_path)


def assert_upload_works(project: Project, packed: Pack, tmp_path: Path) -> None:
    """'dhn-kit flash' ends with the very bytes in flash that esptool's own merge makes of the build."""
    (project.folder / "board.txt").write_text("esp32\n")
    packed.save(project.folder / "model.dhn")
    with esp_mock.running_chip() as chip:
        with pytest.raises(SystemExit) as stop:
            cli.main(["flash", str(project.folder), "--port", chip.url(), "--no-wait"])
        assert stop.value.code in (0, None)
        parts = [(at, (project.elf.parent / f"{part}.bin").read_bytes()) for at, part in UPLOADED.items()]
        esp_mock.assert_flash_is(chip, esp_mock.merged(tmp_path, parts), tmp_path)
        tool = esp_mock.tool(chip)
        table = read_table(tool.read(TABLE_OFFSET, TABLE_BYTES))
        assert list(table.values()) == partition_table(project.board)
        assert model_on(tool, table) == packed.hash


@pytest.mark.slow
def test_a_network_in_a_partition_of_its_own_follows_the_program(rig: Path, tmp_path: Path) -> None:
    board = load_board("esp32")
    packed = pack(small_net(), board.flavour)
    project = projects.write(packed, board, tmp_path / "p", None, 8192, True)
    platformio_build.build_project(project)
    assert packed.data not in (project.elf.parent / "firmware.bin").read_bytes()
    with esp_mock.running_chip() as chip:
        port = chip.url()
        platformio_build.upload_project(project, port)
        at = next(p for p in partition_table(board) if p.name == MODEL)
        parts = dict(project_parts("esp32", project.elf.parent, packed.data))
        # As 'flash' does, but for the stub that a stand-in chip cannot run.
        tool = esp_mock.tool(chip)
        tool.write([(at.offset, parts[at.offset])])
        assert model_on(tool, read_table(tool.read(TABLE_OFFSET, TABLE_BYTES))) == packed.hash


def test_a_network_too_large_for_its_partition_is_refused_by_how_much(tmp_path: Path) -> None:
    board = load_board("esp32")
    room = next(p.size for p in partition_table(board) if p.name == MODEL)
    hook_flash = dataclasses.replace(board.hook_flash, slots=(0x250000 + 4096, 0x250000 + 8192), slot_bytes=4096)
    tight = dataclasses.replace(board, hook_flash=hook_flash)
    net = Net((8, 8, 1))
    net.fc(net.mean(net.conv(net.conv("x", 32), 32)), 4)
    packed = pack(net.done(), board.flavour)
    over = len(device_bytes(packed.data)) - 4096
    assert 0 < over < room
    with pytest.raises(DhnError, match=f"the pack is {over:,} bytes too large for partition dhn_model of esp32"):
        projects.write(packed, tight, tmp_path / "p", None, 8192, True)
    with pytest.raises(DhnError, match="teensy41 has no partitions; leave out --model-partition"):
        projects.write(packed, load_board("teensy41"), tmp_path / "p", None, 8192, True)
