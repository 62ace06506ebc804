"""Builds a PlatformIO project and writes it to its board; what goes wrong is one line with the next step."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dhn_kit.boards import Board
from dhn_kit.errors import DhnError
from dhn_kit.firmware_build import elf_objects, first_error
from dhn_kit.platformio_project import Project, settings_of
from dhn_kit.platformio_run import BUILD_TIMEOUT, fetching_error, run_pio

UPLOAD_TIMEOUT = 300.0
#: The list of the network's kernels, by its name in C: a program without it does not run the application.
_APPLICATION_OBJECT = "model_registry"
_USED = re.compile(r"^(RAM|Flash): .*\(used (\d+) bytes from (\d+) bytes\)", re.MULTILINE)
_TOO_LARGE = re.compile(r"The (program|data) size \((\d+) bytes\) is greater than maximum allowed \((\d+) bytes\)")
_OVERFLOW = re.compile(r"region `(\w+)' overflowed by (\d+) bytes")
_MISSING_PORT = re.compile(r"Please specify `upload_port`|could not open port|UploadPortError", re.IGNORECASE)


@dataclass(frozen=True)
class BuiltProject:
    """Bytes of flash and static RAM as PlatformIO counts them, framework and network included; None where it does not
    say."""

    elf: Path
    flash_bytes: int | None
    ram_bytes: int | None


def build_project(project: Project, timeout: float = BUILD_TIMEOUT) -> BuiltProject:
    """``pio run``. DhnError: PlatformIO or the platform is missing, a compile error, or too large (by how much)."""
    text = _pio(["run"], project, timeout)
    # PlatformIO itself only warns of too much RAM.
    if error := _does_not_fit(text, project.board):
        raise error
    used = {what: int(count) for what, count, _ in _USED.findall(text)}
    if not project.elf.is_file():
        raise DhnError(f"PlatformIO left no {project.elf}; [env:{project.board.name}] in platformio.ini must stay")
    check_application(project)
    return BuiltProject(project.elf, used.get("Flash"), used.get("RAM"))


def upload_project(project: Project, port: str | None, timeout: float = UPLOAD_TIMEOUT) -> None:
    """``pio run -t upload``, which builds first what has changed. DhnError as above, or the upload failed."""
    where = ["--upload-port", port] if port else []
    _pio(["run", "-t", "upload", *where], project, BUILD_TIMEOUT + timeout)


def check_application(project: Project) -> None:
    """DhnError: an edited project whose program no longer reaches the application, and so would never say hello."""
    if _APPLICATION_OBJECT not in elf_objects(project.elf.read_bytes()):
        raise DhnError(
            f"{project.elf} does not run the dhn application; call app_start and app_step again in src/ "
            f"(a file that you delete comes back with 'dhn-kit build -o {project.folder}')"
        )


def _pio(arguments: list[str], project: Project, timeout: float) -> str:
    code, text = run_pio(arguments, project.folder, timeout)
    if code == 0:
        return text
    platform = settings_of(project.board).platform
    raise (
        fetching_error(text, platform)
        or _does_not_fit(text, project.board)
        or _no_port(text, project.board)
        or DhnError(f"'pio {' '.join(arguments)}' fails in {project.folder}: {_complaint(text)}")
    )


def _complaint(text: str) -> str:
    """The first error of a compiler, else what was said last before SCons gave up."""
    said = text.partition("\n*** [")[0].splitlines()
    lines = [words for line in said if (words := line.strip(" │╭╮╰╯─"))]
    return first_error("\n".join(lines))


def _does_not_fit(text: str, board: Board) -> DhnError | None:
    """What PlatformIO's check of the size says, or GNU ld, in our words."""
    over = {what: (int(used) - int(most), int(most)) for what, used, most in _TOO_LARGE.findall(text)}
    for region, count in _OVERFLOW.findall(text):
        is_ram = "ram" in region.lower() and not region.lower().startswith(("irom", "iram"))
        over.setdefault("data" if is_ram else "program", (int(count), 0))
    if "program" in over:
        by, most = over["program"]
        where = "app partition" if board.esp else "flash"
        return DhnError(
            f"the firmware does not fit {board.name}: {by:,} bytes too many for its "
            f"{most or board.memory.flash_bytes:,} bytes of {where}; use a smaller network, or a board with more flash"
        )
    if "data" in over:
        by, most = over["data"]
        return DhnError(
            f"the firmware does not fit {board.name}: {by:,} bytes too many for its {most or board.memory.ram_bytes:,} "
            "bytes of RAM; use a network with smaller feature maps or a smaller --sample-bytes, or a larger board"
        )
    return None


def _no_port(text: str, board: Board) -> DhnError | None:
    if not _MISSING_PORT.search(text):
        return None
    return DhnError(f"PlatformIO finds no port to write {board.name} through; connect it, or name its port with --port")
