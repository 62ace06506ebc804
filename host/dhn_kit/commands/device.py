"""Commands that build firmware and talk to a board: build, flash, run and bench."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from dhn_kit.commands import console, direct, options, projects
from dhn_kit.commands.inputs import (
    is_pack,
    load_hooks,
    load_quantized,
    load_target,
    load_xy,
    packed_for,
    policy_of,
    port_of,
    writable_file,
)
from dhn_kit.commands.model import check_fit
from dhn_kit.errors import DhnError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dhn_kit.bench import Bench
    from dhn_kit.boards import Board
    from dhn_kit.bundle import BundleFile
    from dhn_kit.graph import Array
    from dhn_kit.pack import Pack
    from dhn_kit.playback import BoardRun
    from dhn_kit.quantize import Method
    from dhn_kit.strategy import Policy

Firmware = Annotated[Path, typer.Argument(metavar="FIRMWARE", help="Folder written by 'dhn-kit build'.")]
Inputs = Annotated[
    Path,
    typer.Option("--input", "-i", metavar="X.NPZ", help="Inputs: array 'x', float in the model's layout, or int8."),
]

#: What 'build' leaves beside the firmware, for 'flash'.
PACK_FILE, BOARD_FILE = "model.dhn", "board.txt"


def load_packed(
    path: Path,
    board: Board,
    calib: str | None = None,
    method: Method | None = None,
    policy: Policy | None = None,
) -> Pack:
    """A pack as it is, or a network quantised and packed for the board. DhnError where the board cannot hold it."""
    from dhn_kit.pack import load_pack

    if is_pack(path):
        packed = load_pack(path)
        if policy is not None:
            raise DhnError(f"{path} is a pack, its kernels are chosen already; give the network, or leave the options")
    else:
        packed = packed_for(load_quantized(path, calib, method).graph, board, policy)
    check_fit(packed, board)
    return packed


def canonical(packed: Pack, x: Array, what: str) -> Array:
    """User inputs as canonical int8: float in the model's layout, or int8 as it is where the model's input is int8."""
    from dhn_kit.quantize import check_calibration

    if len(packed.inputs) != 1:
        raise DhnError(f"{packed.name} has {len(packed.inputs)} inputs; this command plays one")
    graph = packed.graph()
    check_calibration(graph, x, what=what)
    if x.dtype == np.int8 and packed.inputs[0].dtype != "int8":
        raise DhnError(f"{what}: x is int8, but the input of '{packed.name}' is float; give real values")
    return graph.quantize_input(x)


def canonical_xy(packed: Pack, path: Path) -> tuple[Array, Array | None]:
    """Canonical int8 inputs of a file with their labels, which must be classes of the network."""
    from dhn_kit.quantize import check_calibration

    x, y = load_xy(path)
    q = canonical(packed, x, str(path))
    check_calibration(packed.graph(), x, y, str(path))
    return q, y


def run_on(
    packed: Pack,
    target: Board,
    q: Array,
    bundle: BundleFile | None,
    point: int,
    port: str | None,
    environment: Mapping[str, int],
) -> BoardRun:
    """Plays inputs to a board with this bundle, or with none. An emulated board starts with empty flash."""
    import tempfile

    from dhn_kit.playback import install, play, powered

    with (
        tempfile.TemporaryDirectory() as folder,
        powered(packed, target, Path(folder), port_of(target, port)) as (session, _),
    ):
        if bundle is not None:
            with console.busy("writing hooks"):
                install(session.client, bundle.data)
        client = session.client
        client.surroundings(environment)
        if bundle is None:
            return play(client, target, q, "detached", progress=console.progress, text="running")
        return play(client, target, q, point=point, progress=console.progress, text="running")


def point_number(bundle: BundleFile, point: str, what: str) -> int:
    """The operating point that --point names. DhnError for one that is not there."""
    from dhn_kit.board_client import AUTOMATIC

    if point == "auto":
        return AUTOMATIC
    if not point.isdecimal() or int(point) >= len(bundle.operating_points):
        names = ", ".join(f"{k} '{n}'" for k, n in enumerate(bundle.operating_points))
        raise DhnError(f"{what} has no operating point {point}; it has {names}")
    return int(point)


def by_point(packed: Pack, bundle: BundleFile | None, result: BoardRun) -> Array:
    """(N, hook points): 0 no hook was asked, 1 one was and nothing happened, 2 one acted."""
    table = np.zeros((len(result.output), len(packed.points)), np.uint8)
    for k, hook in enumerate(bundle.hooks if bundle else ()):
        table[:, hook["point"]] = np.maximum(table[:, hook["point"]], result.decisions[:, k])
    return table


def _show_bench(result: Bench) -> None:
    unit = result.unit
    total = sum(o.instructions for o in result.ops) or 1
    rows = (
        (
            o.name.split(";")[0][-45:],
            o.op,
            o.kernel,
            o.instructions,
            o.instructions / o.macs if o.macs else None,
            f"{o.instructions / total:.1%}",
        )
        for o in result.ops
    )
    console.table(f"{unit} per operator", ("name", "op", "kernel", f">{unit}", ">per MAC", ">share"), rows)
    macs = sum(o.macs for o in result.ops) or 1
    per_mac = result.instructions / macs
    console.line(f"{unit} per inference: {result.instructions:,.0f} on {result.board}, {per_mac:.2f} per MAC")
    if result.estimated_cycles is not None:
        console.line(f"estimated cycles (published instruction timings, no wait states): {result.estimated_cycles:,}")
    if result.instructions_gated is not None:
        console.line(f"with hooks (first operating point): {result.instructions_gated:,.0f}")
    console.line(f"arena {result.arena_bytes:,} bytes (lower bound {result.arena_lower_bound:,})")
    if result.flash_code_bytes is not None:
        parts = ", ".join(f"{part} {size:,}" for part, size in result.flash.items())
        console.line(f"flash of the inference path {result.flash_code_bytes:,} bytes; of all: {parts}")
    console.line(f"pack {result.flash_weight_bytes:,} bytes")
    if result.stack_bytes is not None:
        console.line(f"stack {result.stack_bytes:,} bytes")
    console.line(f"output equal to the twin's: {'yes' if result.output_equal else 'NO'}")


def build(
    network: options.Network,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write.")] = Path(
        "build/firmware"
    ),
    board: options.Board = None,
    calib: options.Calib = None,
    method: options.Method = None,
    sample_bytes: Annotated[
        int, typer.Option("--sample-bytes", min=1024, max=2**20, help="RAM for samples that wait for the line.")
    ] = 8192,
    framework: Annotated[
        str | None,
        typer.Option("--framework", help="Real boards: arduino, or espidf on an ESP32. Default: that of the board."),
    ] = None,
    model_partition: Annotated[
        bool, typer.Option("--model-partition", help="ESP32: the network in a flash partition, not in the program.")
    ] = False,
    no_compile: Annotated[
        bool, typer.Option("--no-compile", help="Real boards: write the PlatformIO project and leave it at that.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Build the firmware for a board, with the network in it.

    For a real board FOLDER becomes a PlatformIO project, which may be edited: what you change in it is kept when it is
    written again.

    \b
    Examples:
      dhn-kit build model.dhn --board qemu-cortex-m4 -o build/m4
      dhn-kit build model.dhn --board esp32 -o build/esp32
      dhn-kit build model.dhn --board esp32s3 --framework espidf --no-compile -o my-project
      dhn-kit build model.onnx --calib calib.npz --board posix
    """
    from dhn_kit.playback import firmware_of

    target = load_target(board)
    if target.platformio is None and (framework or model_partition or no_compile):
        raise DhnError(
            f"{target.name} is built without PlatformIO; leave out --framework, --model-partition and --no-compile"
        )
    packed = load_packed(network, target, calib, method)
    if target.platformio is not None:
        project = projects.write(packed, target, output, framework, sample_bytes, model_partition)
        _note(packed, target, output)
        projects.show_built(packed, project, not no_compile, json)
        return
    with console.busy(f"building firmware for {target.name}"):
        image = firmware_of(packed, target, output, sample_bytes)
        _note(packed, target, output)
    result = {
        "elf": str(image.elf),
        "board": target.name,
        "hash": packed.hash,
        "flash_code_bytes": image.flash_code_bytes,
        "flash_weight_bytes": image.flash_weight_bytes,
        "ram_bytes": image.ram_bytes,
        "arena_bytes": packed.arena_bytes,
        "sample_bytes": image.sample_bytes,
        "state_bytes": image.state_bytes,
    }
    if json:
        console.emit_json(result)
        return
    console.line(
        f"{image.elf}: flash {image.flash_code_bytes:,} bytes of code and {image.flash_weight_bytes:,} of pack, "
        f"RAM {image.ram_bytes:,} bytes with an arena of {packed.arena_bytes:,}, {image.sample_bytes:,} for samples "
        f"and {image.state_bytes:,} for link, sampler, drift monitor and environment"
    )


def _note(packed: Pack, target: Board, folder: Path) -> None:
    """For 'flash'."""
    packed.save(folder / PACK_FILE)
    (folder / BOARD_FILE).write_text(target.name + "\n")


def flash(
    firmware: Firmware = Path("build/firmware"),
    board: options.Board = None,
    port: options.Port = None,
    micropython: Annotated[
        bool, typer.Option("--micropython", help="FIRMWARE is a folder of 'dhn-kit export': copy it by mpremote.")
    ] = False,
    hooks: Annotated[
        Path | None,
        typer.Option("--hooks", metavar="HOOKS.DHN", help="Write hooks alone: ESP32 by esptool, others as 'push'."),
    ] = None,
    uncertified: options.Uncertified = False,
    esptool: Annotated[
        bool, typer.Option("--esptool", help="ESP32: write what was built before by esptool alone, without PlatformIO.")
    ] = False,
    stub: Annotated[
        bool, typer.Option("--stub/--no-stub", help="ESP32: by esptool's own loader, or by that in the chip's ROM.")
    ] = True,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the firmware says hello.")] = True,
    json: options.Json = False,
) -> None:
    """Write the firmware to a board, or start it on an emulated one.

    A real board is written through PlatformIO, after compiling what has changed in the project; then its firmware must
    say hello. With --hooks the firmware stays, and needs not even run where the board is an ESP32: the bundle is
    written into the slot that is not in use, as if it had been pushed and confirmed.

    \b
    Examples:
      dhn-kit flash build/m4 --board qemu-cortex-m4
      dhn-kit flash build/esp32 --board esp32 --port /dev/ttyUSB0
      dhn-kit flash build/pico --micropython --port /dev/ttyACM0
      dhn-kit flash build/esp32 --hooks hooks.dhn --board esp32
    """
    if micropython:
        _install(firmware, port, json)
        return
    if hooks is not None or esptool:
        target = load_target(board or _noted_board(firmware))
        if hooks is not None:
            direct.flash_hooks(target, port, hooks, firmware / PACK_FILE, uncertified, stub, json)
            return
        direct.flash_firmware(target, port, firmware, firmware / PACK_FILE, stub, json and not wait)
        if not wait:
            return
    from dhn_kit.board_session import open_board
    from dhn_kit.pack import load_pack
    from dhn_kit.platformio_project import is_project, load_project
    from dhn_kit.playback import board_folder, check_hello, powered

    if not (firmware / PACK_FILE).is_file() or not (firmware / BOARD_FILE).is_file():
        raise DhnError(f"{firmware} is no firmware folder; make one with 'dhn-kit build MODEL -o {firmware}'")
    target = load_target(board or (firmware / BOARD_FILE).read_text().strip())
    packed = load_pack(firmware / PACK_FILE)
    if target.emulated:
        with console.busy(f"starting {target.name}"), powered(packed, target, board_folder(packed, target)) as (s, _):
            hello = s.client.hello()
    elif is_project(firmware):
        project = load_project(firmware, target)
        if not esptool:
            port = projects.upload(project, packed, port)
        if not wait:
            return
        hello = projects.wait_for_hello(project, port)
        check_hello(hello, packed, target)
    else:
        with open_board(target, None, firmware, port_of(target, port)) as session:
            hello = session.client.hello()
    if json:
        console.emit_json(hello)
        return
    console.line(
        f"{hello.board}: model {hello.hash[:12]}, arena {hello.arena_used:,} of {hello.arena_bytes:,} bytes, "
        f"hook slots of {hello.slot_bytes:,} bytes, hook bundle {hello.bundle_version or 'none'}"
    )


def _noted_board(firmware: Path) -> str | None:
    """The board that a firmware folder was built for, None where there is no such folder."""
    note = firmware / BOARD_FILE
    return note.read_text().strip() if note.is_file() else None


def _install(folder: Path, port: str | None, json: bool) -> None:
    from dhn_kit.micropython import install

    with console.busy("copying"):
        names = install(folder, port)
    if json:
        console.emit_json({"files": names})
    else:
        console.line(f"on the board: {', '.join(names)}")


def run(
    network: options.Network,
    inputs: Inputs,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="Y.NPZ", help="File for output, decisions and instructions.")
    ] = Path("y.npz"),
    board: options.Board = None,
    port: options.Port = None,
    hooks: options.Hooks = None,
    point: Annotated[
        str,
        typer.Option(
            "--point", help="Operating point of the hooks; 0 is the most cautious, 'auto' follows the policy."
        ),
    ] = "0",
    env: options.Environment = "",
    calib: options.Calib = None,
    method: options.Method = None,
    json: options.Json = False,
) -> None:
    """Run inputs on a board and write what came out.

    The output file holds 'output' (int8 as computed), 'output_float', 'decision' per hook point, and 'instructions' per
    inference where the board can count them.

    \b
    Examples:
      dhn-kit run model.dhn --board qemu-cortex-m4 --input x.npz --output y.npz
      dhn-kit run model.onnx --calib calib.npz --board posix --input x.npz --output y.npz
      dhn-kit run model.dhn --hooks hooks.dhn --point 2 --input x.npz --output y.npz --json
      dhn-kit run model.dhn --hooks hooks.dhn --point auto --env battery=15 --input x.npz --output y.npz
    """
    from dhn_kit.perception import parse_environment

    surroundings = parse_environment(env)
    target = load_target(board)
    writable_file(output)
    packed = load_packed(network, target, calib, method)
    q, y = canonical_xy(packed, inputs)
    bundle = load_hooks(packed, hooks)
    number = 0 if bundle is None else point_number(bundle, point, str(hooks))
    result = run_on(packed, target, q, bundle, number, port, surroundings)
    arrays: dict[str, Any] = {
        "output": packed.outputs[0].to_user(result.output),
        "output_float": packed.graph().dequantize_output(result.output),
        "decision": by_point(packed, bundle, result),
    }
    if result.instructions is not None:
        arrays["instructions"] = result.instructions
    with output.open("wb") as file:
        np.savez(file, **arrays)
    summary: dict[str, Any] = {"output": str(output), "board": target.name, "n": len(q)}
    if y is not None:
        summary["accuracy"] = float((result.output.argmax(axis=1) == np.asarray(y)).mean())
    if result.instructions is not None:
        summary["instructions"] = {
            "mean": float(result.instructions.mean()),
            "median": float(np.median(result.instructions)),
            "worst": int(result.instructions.max()),
        }
    if bundle is not None:
        summary["exit_rate"] = float((result.exit_hook >= 0).mean())
        summary["operating_points"] = sorted(set(result.points.tolist()))
    if json:
        console.emit_json(summary)
        return
    console.line(f"{output}: {len(q):,} inferences on {target.name}")
    for key in ("accuracy", "exit_rate"):
        if key in summary:
            console.line(f"{key.replace('_', ' ')}: {summary[key]:.2%}")
    if "instructions" in summary:
        console.line("instructions: " + ", ".join(f"{k} {v:,.0f}" for k, v in summary["instructions"].items()))


def bench(
    network: options.Network,
    board: options.Board = None,
    port: options.Port = None,
    hooks: options.Hooks = None,
    calib: options.Calib = None,
    method: options.Method = None,
    inputs: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="X.NPZ", help="Inputs 'x'; without it, random ones.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Inferences to run.")] = 3,
    flash_budget: options.FlashBudget = None,
    ram_first: options.RamFirst = False,
    goal: options.Goal = "cycles",
    kernel: options.Kernels = None,
    json: options.Json = False,
) -> None:
    """Count instructions per operator; measure flash, arena and stack.

    \b
    Examples:
      dhn-kit bench model.dhn --board qemu-cortex-m4
      dhn-kit bench model.onnx --calib random --json
    """
    from dataclasses import asdict

    from dhn_kit.bench import bench as count_all
    from dhn_kit.bench import random_inputs
    from dhn_kit.playback import board_folder

    target = load_target(board)
    chosen = policy_of(target, flash_budget, goal, kernel, ram_first)
    packed = load_packed(network, target, calib, method, None if chosen == policy_of(target) else chosen)
    bundle = load_hooks(packed, hooks)
    q = random_inputs(packed, count) if inputs is None else canonical(packed, load_xy(inputs)[0][:count], str(inputs))
    place = port_of(target, port)
    with console.busy("counting"):
        folder = board_folder(packed, target)
        result = count_all(packed, target, q, folder, bundle=bundle.data if bundle else None, port=place)
    if json:
        console.emit_json(asdict(result))
        return
    _show_bench(result)
