"""What build and flash do for boards that PlatformIO builds for."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from dhn_kit.commands import console
from dhn_kit.commands.inputs import port_of
from dhn_kit.errors import DhnError

if TYPE_CHECKING:
    from dhn_kit.board_client import Hello
    from dhn_kit.boards import Board
    from dhn_kit.pack import Pack
    from dhn_kit.platformio_project import Project

#: Seconds from the end of an upload until the hello: a board with USB of its own comes back as a new port.
HELLO_TIMEOUT = 15.0


def write(
    packed: Pack, board: Board, folder: Path, framework: str | None, sample_bytes: int, partition: bool = False
) -> Project:
    """The project for a pack, with what a user's edits keep from being written. ``partition``: the network goes into
    one of its own."""
    from dhn_kit.cost import full_ticks
    from dhn_kit.latency import load_latency
    from dhn_kit.platformio_project import with_framework, with_model_partition, write_project

    board = with_framework(board, framework) if framework else board
    board = with_model_partition(board) if partition else board
    ticks = full_ticks(packed, board, load_latency(board.latency_board))
    project = write_project(packed.data, packed.name, board, folder, sample_bytes=sample_bytes, full_ticks=ticks)
    for place in project.kept:
        console.step(f"{folder / place} was changed by you and is kept")
    return project


def show_built(packed: Pack, project: Project, compiled: bool, json: bool) -> None:
    """Compiles if asked to, and says what came out."""
    from dhn_kit.platformio_build import build_project

    built = None
    if compiled:
        with console.busy(f"building {project.folder} with PlatformIO"):
            built = build_project(project)
    if json:
        console.emit_json(
            {
                "project": str(project.folder),
                "elf": str(built.elf) if built else None,
                "board": project.board.name,
                "hash": packed.hash,
                "flash_bytes": built.flash_bytes if built else None,
                "flash_weight_bytes": len(packed.data),
                "ram_bytes": built.ram_bytes if built else None,
                "arena_bytes": packed.arena_bytes,
                "kept": project.kept,
            }
        )
        return
    if built is None:
        console.line(f"{project.folder}: a PlatformIO project; 'dhn-kit flash {project.folder}' builds and writes it")
        return
    sizes = [
        f"{what} {count:,} bytes" for what, count in (("flash", built.flash_bytes), ("RAM", built.ram_bytes)) if count
    ]
    console.line(
        f"{built.elf}: {', '.join(sizes) or 'built'}, framework included, of which the pack is {len(packed.data):,} "
        f"and the arena {packed.arena_bytes:,}"
    )


def upload(project: Project, packed: Pack, port: str | None) -> str | None:
    """Builds and uploads by PlatformIO; a network that the program does not hold follows by esptool. The port, where
    one was needed."""
    from dhn_kit.platformio_build import build_project, upload_project
    from dhn_kit.ports import check_exists

    # Only Espressif's chips are always written through their serial port; elsewhere PlatformIO knows the way. Looked
    # for first: a framework takes minutes to compile.
    through = port_of(project.board, port) if port or project.board.esp else None
    if through:
        check_exists(through)
    with console.busy(f"building {project.folder} with PlatformIO"):
        build_project(project)
    with console.busy(f"writing {project.board.name}"):
        upload_project(project, through)
        if project.board.esp and through:
            _write_model(project, project.board.esp.chip, packed, through)
    return through


def _write_model(project: Project, chip: str, packed: Pack, port: str) -> None:
    from dhn_kit.esp_flash import project_parts
    from dhn_kit.esp_tool import EspTool

    build = project.elf.parent
    uploaded = project_parts(chip, build)
    model = [part for part in project_parts(chip, build, packed.data) if part not in uploaded]
    if model:
        EspTool(chip, port).write(model, restart=True)


def wait_for_hello(project: Project, port: str | None, timeout: float = HELLO_TIMEOUT) -> Hello:
    """The first hello within ``timeout`` seconds; DhnError: what was wrong the last time.

    Without ``port`` it is looked for until it is there, and asked for once where several fit.
    """
    from dhn_kit.board_session import open_board

    end = time.monotonic() + timeout
    with console.busy(f"waiting for {project.board.name}"):
        while True:
            try:
                port = port_of(project.board, port)
                with open_board(project.board, None, project.folder, port) as session:
                    return session.client.hello()
            except DhnError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)
