"""Reads what is known about a board from its file."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from dhn_kit import resources
from dhn_kit.errors import DhnError

T = TypeVar("T")

#: What was done with a board: its firmware ran (in emulation or as a process), its project was built and uploaded with
#: stand-ins for PlatformIO's platform, or its project was written and resolved. None of it is silicon.
Tested = Literal["executed", "built", "generated"]


@dataclass(frozen=True)
class Core:
    """``flags`` select the instruction set; ``toolchain`` is a file under cmake/toolchains, empty: the host's own, or
    the one that PlatformIO brings."""

    name: str
    compiler: str
    flags: tuple[str, ...]
    toolchain: str


@dataclass(frozen=True)
class Memory:
    """``arena_bytes`` is what the application reserves for a model unless it is built for a larger one."""

    flash_bytes: int
    ram_bytes: int
    arena_bytes: int


@dataclass(frozen=True)
class HookFlash:
    """Erasable memory for hook bundles; ``slots`` are addresses, one for each of the two slots; without any, the port
    finds a place or there is none. ``unit_bytes`` is what one program writes, where that is more than the 8 bytes of
    firmware/port/hal.h."""

    base: int
    bytes: int
    page_bytes: int
    slot_bytes: int
    slots: tuple[int, ...]
    unit_bytes: int | None


@dataclass(frozen=True)
class Link:
    """How the host reaches the board: "serial", or "socket" (an emulated board's serial port)."""

    kind: str
    baud: int


@dataclass(frozen=True)
class Timer:
    """``instructions_per_tick`` is 0 where a tick says nothing about executed instructions; it need not be whole."""

    tick_hz: int
    instructions_per_tick: float


@dataclass(frozen=True)
class Emulator:
    """``command`` has {elf}, {flash}, {fd} and {pidfile} to fill in; ``package`` is the Debian package, if any."""

    command: tuple[str, ...]
    package: str


@dataclass(frozen=True)
class PlatformIO:
    """What a project for the board says in platformio.ini. ``upload_protocol`` empty: the platform's default.
    ``defines`` are macros (NAME=VALUE) that the port needs here beyond the usual, ``options`` further lines."""

    platform: str
    board: str
    framework: str
    upload_protocol: str
    defines: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True)
class Esp:
    """An Espressif chip by esptool's name, and the size of its flash chip, which a partition table divides."""

    chip: str
    flash_bytes: int


@dataclass(frozen=True)
class Board:
    """``port`` is a folder under firmware/port, ``flavour`` a folder under mcu_kernels. ``latency`` names the board
    whose latency model serves this one too; None: its own. ``usb`` are the ids ("vid:pid", hexadecimal in lower case)
    under which its serial port may appear on the host."""

    name: str
    title: str
    emulated: bool
    tested: str
    port: str
    flavour: str
    latency: str | None
    core: Core
    memory: Memory
    hook_flash: HookFlash
    link: Link
    timer: Timer
    emulator: Emulator | None
    platformio: PlatformIO | None
    esp: Esp | None
    usb: tuple[str, ...] | None = None

    @property
    def latency_board(self) -> str:
        """The board whose instructions were counted for the latency model."""
        return self.latency or self.name


def list_boards(folder: Path | None = None) -> list[str]:
    """Names of the boards that have a file, sorted."""
    return sorted(p.stem for p in (folder or resources.path("boards")).glob("*.toml"))


def unknown_board(name: str, known: Sequence[str]) -> DhnError:
    """With the names that come closest."""
    near = difflib.get_close_matches(name, known, 4, 0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "names look like esp32 or qemu-cortex-m4;"
    return DhnError(f"no board '{name}'; {hint} 'dhn-kit boards' lists all")


def load_board(name: str, folder: Path | None = None) -> Board:
    """The board of that name; DhnError if there is none, or if its file lacks something."""
    path = (folder or resources.path("boards")) / f"{name}.toml"
    if name not in list_boards(folder):
        raise unknown_board(name, list_boards(folder))
    try:
        table = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise DhnError(f"{path}: {error}; correct the file") from error
    board = _read(Board, table, f"{path}: ")
    if board.name != name:
        raise DhnError(f"{path}: name is '{board.name}'; it must be the name of the file")
    if board.tested not in typing.get_args(Tested):
        raise DhnError(f"{path}: tested is '{board.tested}'; choose from {', '.join(typing.get_args(Tested))}")
    return board


def _read(cls: type[T], table: dict[str, Any], where: str) -> T:
    """A dataclass from a table of the same shape; every key must be known, every field given."""
    hints = typing.get_type_hints(cls)
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table.keys() - fields:
        raise DhnError(f"{where}'{key}' is not known; known are {', '.join(sorted(fields))}")
    values = {}
    for name in sorted(fields):
        optional = isinstance(hints[name], types.UnionType)
        if name not in table and not optional:
            raise DhnError(f"{where}'{name}' is missing")
        values[name] = _value(hints[name], table.get(name), f"{where}{name}: ")
    return cls(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        return None if value is None else _value(hint.__args__[0], value, where)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _read(typing.cast(type[Any], hint), value, where)
    origin = typing.get_origin(hint) or hint
    expected = {tuple: list}.get(origin, origin)
    if expected is float and type(value) is int:
        value = float(value)
    if not isinstance(value, expected) or isinstance(value, bool) != (expected is bool):
        raise DhnError(f"{where}{value!r} where {expected.__name__} is expected")
    if origin is tuple:
        return tuple(_value(typing.get_args(hint)[0], v, where) for v in value)
    return value
