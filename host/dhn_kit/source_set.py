"""Which C files a pack needs: runtime, kernels, application and port, each with its place below one include folder."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dhn_kit import records, resources
from dhn_kit.c_text import render
from dhn_kit.errors import DhnError
from dhn_kit.kernels import Kernel, all_kernels, architecture_of, hook_kernels, load_kernels, reference_kernels

#: Kernels that the program names, and those that only hooks may call.
KernelGroups = tuple[Sequence[Kernel], Sequence[Kernel]]
#: What `SourceSet.kernels` are compiled with, what everything else is, and what all of it needs. Scheduling before
#: register allocation makes GCC spill in loops that use every register (up to 30 % more instructions).
FAST, SMALL, ALWAYS = ("-O2", "-fno-schedule-insns"), ("-Os",), ("-fwrapv",)
#: Of the runtime's and kernels' headers those that a program includes, at the root of the include folder.
PUBLIC = ("dhn.h", "dhn_format.h", "dhn_kernels.h")
_INCLUDE = re.compile(r'^ *# *include "([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class SourceSet:
    """Files by their place below a folder that is the only include path they need; the paths are this installation's.

    ``runtime`` and ``hook_kernels`` (those that only hooks call) are best compiled with `SMALL`, ``kernels`` with
    `FAST`, all of them with `ALWAYS`. ``headers`` are what these include, and `PUBLIC`, which programs include.
    """

    headers: dict[str, Path]
    runtime: dict[str, Path]
    kernels: dict[str, Path]
    hook_kernels: dict[str, Path]

    @property
    def files(self) -> dict[str, Path]:
        """All of them."""
        return {**self.headers, **self.runtime, **self.kernels, **self.hook_kernels}


def pack_kernels(image: bytes, arch: str | None, otherwise: str) -> tuple[list[Kernel], list[Kernel]]:
    """What a main pack (its device bytes) names, and what else hooks may use, by id, for a core that runs the kernels
    of ``arch``; None: of any, as every kernel has its meaning in C.

    Of the second a pack without hook points needs only what pools features, which the runtime itself refers to.
    DhnError, ending in ``otherwise``, where the core lacks one.
    """
    by_id = all_kernels() if arch is None else {k.id: k for k in load_kernels(arch)}
    header = records.HEADER.unpack(image)
    named = struct.unpack_from(f"<{header['kernel_count']}H", image, header["kernels"])
    for number in named:
        if number not in by_id:
            raise DhnError(f"the pack needs kernel 0x{number:04X}, which {otherwise}")
    wanted = (
        hook_kernels(architecture_of(header["flavour"])) if header["point_count"] else [reference_kernels()["avg_pool"]]
    )
    hooks = {k.id for k in wanted}
    return [by_id[n] for n in sorted(set(named))], [by_id[n] for n in sorted(hooks.difference(named))]


def library_sources(groups: KernelGroups) -> SourceSet:
    """Runtime and kernels: what any program that runs packs is made of, beside `registry_source`.

    Layout: public headers at the root, ``runtime/``, and a folder per kernel architecture.
    """
    runtime, folder = resources.path("firmware") / "runtime", resources.path("mcu_kernels")
    placed = {f"runtime/{p.name}": p for p in sorted(runtime.glob("*.c"))}
    kernels, hooks = ({f"{k.arch}/{k.source}": folder / k.arch / k.source for k in group} for group in groups)
    hooks = {place: path for place, path in hooks.items() if place not in kernels}
    included = _included([*placed.values(), *kernels.values(), *hooks.values()], [runtime, folder])
    headers = {_header_place(p, runtime, folder): p for p in included | {runtime / "dhn.h"}}
    return SourceSet(dict(sorted(headers.items())), placed, dict(sorted(kernels.items())), dict(sorted(hooks.items())))


def registry_source(groups: KernelGroups, prefix: str, header: str) -> str:
    """C text of ``PREFIX_registry`` and ``PREFIX_registry_count`` for `dhn_load`; ``header`` declares them."""
    return render("kernel_registry.c.j2", kernels=_by_id(groups), prefix=prefix, header=header)


def application_sources() -> dict[str, Path]:
    """firmware/app by file name, with hal.h: flat, to be compiled for size beside `library_sources`, one port
    (`port_sources`) and the text of `application_model`."""
    firmware = resources.path("firmware")
    files = [*sorted((firmware / "app").glob("*.[ch]")), firmware / "port" / "hal.h"]
    return {path.name: path for path in files}


def port_sources(port: str) -> dict[str, Path]:
    """Sources and headers of firmware/port/``port`` by file name, flat, with those of port/common whose headers they
    include. DhnError: no such port."""
    folder = resources.path("firmware") / "port" / port
    if not folder.is_dir():
        raise DhnError(f"there is no port '{port}'; {folder.parent} holds the ports")
    files = [p for p in sorted(folder.iterdir()) if p.suffix in (".c", ".cpp", ".h")]
    shared = {p.name: p for p in (folder.parent / "common").glob("*.[ch]")}
    for file in files:  # which grows
        names = _INCLUDE.findall(file.read_text())
        wanted = [shared.pop(n) for name in names for n in (name, f"{name[:-1]}c") if n in shared]
        files += wanted
    return {path.name: path for path in sorted(files, key=lambda p: p.name)}


def application_model(
    image: bytes, groups: KernelGroups, *, board: str, ram_bytes: int, sample_bytes: int, full_ticks: int = 0
) -> dict[str, str]:
    """The application's generated files: ``model.c`` (pack, arena, memory of samples) and ``registry.c``.

    ``image`` is a main pack's device bytes. ``full_ticks`` is what a run without hooks is predicted to take
    (`cost.full_ticks`); 0: the board measures it.
    """
    header = records.HEADER.unpack(image)
    model = render(
        "model.c.j2",
        pack=image,
        pack_hash=bytes(header["hash"]).hex(),
        arena_bytes=arena_bytes(image),
        segments=header["point_count"] + 1,
        ops=_op_count(image),
        sample_bytes=sample_bytes,
        full_ticks=full_ticks,
        ram_bytes=ram_bytes,
    )
    registry = render("registry.c.j2", kernels=_by_id(groups), prefix="model", header="model.h", board=board[:31])
    return {"model.c": model, "registry.c": registry}


def arena_bytes(image: bytes) -> int:
    """What a program reserves for the pack: its arena, rounded up to a multiple of 16."""
    return int((records.HEADER.unpack(image)["arena_bytes"] + 15) // 16 * 16)


def write_files(folder: Path, files: Mapping[str, Path | str | bytes]) -> dict[str, int]:
    """Copies files and writes texts to their places below ``folder``, only where they differ. Their sizes."""
    sizes = {}
    for place, source in files.items():
        content = source.read_bytes() if isinstance(source, Path) else source
        content = content.encode() if isinstance(content, str) else content
        target = folder / place
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        sizes[place] = len(content)
    return sizes


def _by_id(groups: KernelGroups) -> list[Kernel]:
    return sorted(itertools.chain(*groups), key=lambda k: k.id)


def _op_count(image: bytes) -> int:
    """Operators of the main program; instructions start with their length and kind."""
    header = records.HEADER.unpack(image)
    at, end, count = header["program"], header["program"] + header["program_bytes"], 0
    while at < end:
        length, kind = struct.unpack_from("<HB", image, at)
        count += kind == records.INSTR_RUN
        at += length
    return count


def _included(sources: Iterable[Path], folders: Sequence[Path]) -> set[Path]:
    """Every header that these files include by a name in quotes, directly or not: beside the file or in ``folders``."""
    found: set[Path] = set()
    todo = list(sources)
    while todo:
        file = todo.pop()
        for name in _INCLUDE.findall(file.read_text()):
            header = next((f / name for f in (file.parent, *folders) if (f / name).is_file()), None)
            if header is None:
                raise AssertionError(f"{file} includes {name}, which is nowhere")
            if header not in found:
                found.add(header)
                todo.append(header)
    return found


def _header_place(path: Path, runtime: Path, folder: Path) -> str:
    if path.parent == runtime:
        return path.name if path.name in PUBLIC else f"runtime/{path.name}"
    return path.relative_to(folder).as_posix()
