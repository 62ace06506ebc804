"""What commands do to write hooks onto a board, over the link or straight into its flash, and firmware by esptool."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dhn_kit.commands import console
from dhn_kit.commands.inputs import load_hooks, port_of
from dhn_kit.errors import DhnError

if TYPE_CHECKING:
    from dhn_kit.boards import Board
    from dhn_kit.bundle import BundleFile
    from dhn_kit.esp_tool import EspTool
    from dhn_kit.pack import Pack


def push_hooks(packed: Pack, target: Board, bundle: BundleFile, port: str | None, json: bool) -> None:
    """Upload, trial, confirm over the link."""
    from dhn_kit.playback import board_folder, install, powered

    with powered(packed, target, board_folder(packed, target), port_of(target, port)) as (session, _):
        with console.busy("pushing"):
            install(session.client, bundle.data)
        slots = session.client.slots()
    if json:
        console.emit_json({"version": bundle.version, "bytes": len(bundle.data), "slots": slots})
        return
    console.line(
        f"{target.name}: bundle {bundle.version} ({len(bundle.data):,} bytes) confirmed in slot {slots.active}"
    )


def flash_hooks(
    target: Board, port: str | None, path: Path, pack: Path, uncertified: bool, stub: bool, json: bool
) -> None:
    """Hooks alone: into the flash of an ESP32, else as push does. Without the file ``pack`` an ESP32's own flash says
    what the bundle must be made for."""
    from dhn_kit import workflow
    from dhn_kit.bundle import load_bundle
    from dhn_kit.pack import load_pack

    packed = load_pack(pack) if pack.is_file() else None
    if packed is None and target.esp is None:
        raise DhnError(f"{pack} is missing, by which hooks are checked; name the folder that 'dhn-kit build' wrote")
    bundle = load_bundle(path)
    # A folder of another network says nothing about an ESP32, whose own flash is asked.
    if packed is not None and (target.esp is None or packed.hash == bundle.model_hash):
        load_hooks(packed, path)
    if not uncertified:
        workflow.check_certified(bundle)
    if target.esp is None:
        assert packed is not None
        push_hooks(packed, target, bundle, port, json)
    else:
        _write_hooks(_tool(target, port, stub), target, bundle, json)


def _write_hooks(tool: EspTool, target: Board, bundle: BundleFile, json: bool) -> None:
    from dhn_kit.esp_flash import flash_hooks

    done = flash_hooks(tool, bundle.data, console.step, target.hook_flash.unit_bytes)
    if json:
        console.emit_json({"board": target.name, **vars(done)})
        return
    console.line(
        f"{target.name}: bundle {done.version} ({len(bundle.data):,} bytes) confirmed in slot {done.slot} at "
        f"{done.offset:#x}; {done.written:,} bytes written and read back in {done.seconds:.1f} s"
    )


def flash_firmware(target: Board, port: str | None, project: Path, pack: Path, stub: bool, json: bool) -> None:
    """What PlatformIO built in ``project``, by esptool alone."""
    from dhn_kit.esp_flash import build_folder, flash_parts, project_parts

    if target.esp is None:
        raise DhnError(f"{target.name} is no ESP32; leave --esptool away")
    data = pack.read_bytes() if pack.is_file() else None
    parts = project_parts(target.esp.chip, build_folder(project), data)
    tool = _tool(target, port, stub)
    with console.busy(f"writing at {tool.port}"):
        done = flash_parts(tool, parts)
    if json:
        console.emit_json({"board": target.name, "parts": {hex(at): len(data) for at, data in parts}, **vars(done)})
        return
    console.line(
        f"{target.name}: {done.written:,} bytes in {len(parts)} parts written and verified in {done.seconds:.1f} s"
    )


def _tool(target: Board, port: str | None, stub: bool) -> EspTool:
    from dhn_kit.esp_tool import EspTool

    place = port_of(target, port)
    assert target.esp is not None and place is not None
    return EspTool(target.esp.chip, place, stub)
