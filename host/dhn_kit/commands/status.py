"""The command that shows what a board says of itself: hooks, surroundings, drift monitor, counters, memory."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dhn_kit.commands import console, options
from dhn_kit.commands.inputs import load_target, port_of

if TYPE_CHECKING:
    from dhn_kit.board_client import Counters, Hello, Monitor, Surroundings


def status(
    pack: options.PackFile,
    clear: Annotated[bool, typer.Option("--clear", help="Let hooks act again although the monitor fell back.")] = False,
    board: options.Board = None,
    port: options.Port = None,
    json: options.Json = False,
) -> None:
    """Show what a running board says of itself.

    Hook bundle and operating point, environment, drift monitor, counters and memory. An emulated board is started for
    it, with the flash that the last command left: it tells of its hooks and memory, and its counters are zero.

    \b
    Examples:
      dhn-kit status model.dhn --board esp32 --port /dev/ttyUSB0
      dhn-kit status model.dhn --board esp32 --port /dev/ttyUSB0 --clear
      dhn-kit status model.dhn --json
    """
    from dhn_kit.pack import load_pack
    from dhn_kit.playback import board_folder, powered

    target, packed = load_target(board), load_pack(pack)
    with powered(packed, target, board_folder(packed, target), port_of(target, port)) as (session, _):
        client = session.client
        monitor, hello = client.monitor(clear), client.hello()
        surroundings, counters = client.surroundings(), client.counters()
    if json:
        parts = {"board": hello, "surroundings": surroundings, "monitor": monitor, "counters": counters}
        console.emit_json(parts)
        return
    for line in (*_hooks(hello, surroundings), monitor_line(monitor), _memory(hello), counters_line(counters)):
        console.line(line)
    _show_channels(surroundings)


def _hooks(hello: Hello, surroundings: Surroundings) -> tuple[str, ...]:
    point = f"{surroundings.point}, chosen by its policy" if hello.automatic else f"{hello.operating_point}"
    bundle = f"hook bundle {hello.bundle_version}, operating point {point}" if hello.bundle_version else "no hooks"
    return (f"{hello.board}: model {hello.hash[:12]}, {bundle}",)


def monitor_line(monitor: Monitor) -> str:
    """The drift monitor's state in one sentence."""
    from dhn_kit.board_client import MonitorState
    from dhn_kit.train.monitor import describe

    past = f"{monitor.falls} falls so far, {monitor.held_back:,} inferences held back"
    if monitor.state == MonitorState.OFF:
        return "drift monitor: off, no ranges are attached"
    if monitor.left is None:
        return f"drift monitor: watches {monitor.rows} ranges over {monitor.window} inferences; {past}"
    return f"drift monitor: hooks do not act, {describe(monitor.left, monitor.value)}; {past}"


def hello_line(hello: Hello) -> str:
    """Which board it is, with what on it."""
    bundle = f"hook bundle {hello.bundle_version}" if hello.bundle_version else "no hooks"
    problem = f", does not accept it (status {hello.load_status})" if hello.load_status else ""
    return f"{hello.board}: model {hello.hash[:12]}{problem}, {bundle}, {_memory(hello)}"


def _memory(hello: Hello) -> str:
    return (
        f"RAM: arena {hello.arena_used:,} of {hello.arena_bytes:,} bytes, samples {hello.sample_memory:,} bytes "
        f"({hello.sample_cells} records), application {hello.state_bytes:,} bytes"
    )


def counters_line(counters: Counters) -> str:
    """Those that are not zero."""
    values: dict[str, Any] = vars(counters)
    shown = {k.replace("_", " "): v for k, v in values.items() if v and k != "ticks"}
    return "counters: " + (", ".join(f"{k} {v:,}" for k, v in shown.items()) or "all zero")


def _show_channels(surroundings: Surroundings) -> None:
    from dhn_kit.perception import CHANNELS

    rows = (
        (c.number, c.name, value, c.unit, c.text + (" (set by the host)" if c.name in surroundings.held else ""))
        for c, value in zip(CHANNELS, surroundings.env, strict=True)
    )
    console.table("Environment", (">channel", "name", ">value", "unit", "meaning"), rows)
