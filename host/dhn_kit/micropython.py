"""Writes the folder that a MicroPython board or build needs, and copies it to a board."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dhn_kit import __version__, resources
from dhn_kit.errors import DhnError
from dhn_kit.mpy_native import TARGETS, build_module, module_kernels, module_registry
from dhn_kit.source_set import library_sources, write_files

#: Written beside the module: Python that runs on the board, and the pack.
PYTHON, PACK, MODULE, INDEX = ("dhn.py", "dhn_slots.py", "dhn_link.py"), "model.dhn", "_dhn.mpy", "package.json"

#: The format's numbers of ARM's architectures, from armv6m to armv7emdp.
THUMB = range(4, 9)


@dataclass(frozen=True)
class Exported:
    """``files`` are bytes by name; ``kernels`` how many the module links."""

    folder: Path
    files: dict[str, int]
    kernels: int


def export_native(arch: str, folder: Path, image: bytes | None = None) -> Exported:
    """The native module for MicroPython's ``arch`` with dhn.py and an index for mip.

    With ``image`` (a pack as the board holds it) also the pack, and no more kernels than it and its hooks need.

    DhnError: unknown architecture, a pack for other kernels, compiler missing.
    """
    import tempfile

    kernels = module_kernels(arch, image)
    with tempfile.TemporaryDirectory() as build:
        module = build_module(arch, kernels, Path(build))
    here = resources.path("firmware") / "micropython"
    files = {name: (here / name).read_bytes() for name in PYTHON} | {MODULE: module}
    if image is not None:
        files[PACK] = image
    index = {"version": __version__, "urls": [[name, name] for name in files]}
    files[INDEX] = json.dumps(index, indent=1).encode() + b"\n"
    return Exported(folder, write_files(folder, files), len(kernels))


def export_sources(arch: str, folder: Path, image: bytes | None = None) -> Exported:
    """The same module as a user C module, for a MicroPython that is built with it (chips without native modules)."""
    kernels = module_kernels(arch, image)
    here = resources.path("firmware") / "micropython"
    own = ("module.c", "module.h", "usermod.c", "micropython.cmake", "micropython.mk", *PYTHON)
    registry = {"module_registry.c": module_registry(kernels)}
    files = {name: here / name for name in own} | library_sources((kernels, ())).files | registry
    return Exported(folder, write_files(folder, files), len(kernels))


def install(folder: Path, port: str | None = None) -> list[str]:
    """Copies what `export_native` wrote to the board at ``port`` (None: the first that mpremote finds), after asking it
    whether it takes this module. Names of the files. DhnError: no board, or one that cannot load the module."""
    if not (folder / MODULE).is_file():
        raise DhnError(f"{folder} holds no {MODULE}; make it with 'dhn-kit export --as micropython -o {folder}'")
    wanted = module_architecture((folder / MODULE).read_bytes())
    asked = "import sys; print(getattr(sys.implementation, '_mpy', 0) >> 10 & 15)"
    found = (_mpremote(port, "exec", asked).split() or [""])[-1]
    if not found.isdecimal():
        raise DhnError(f"the board answers '{found}' where MicroPython gives a number; reset it and try again")
    numbers = {str(target.number): name for name, target in TARGETS.items()}
    if found == "0":
        raise DhnError(
            "this MicroPython takes no native modules; build it with the module ('dhn-kit export --as micropython-c')"
        )
    if int(found) not in _boards_for(TARGETS[wanted].number):
        is_one = numbers.get(found, f"number {found}")
        raise DhnError(f"the board is '{is_one}', the module '{wanted}'; export it again with --arch for the board")
    names = [p.name for p in sorted(folder.iterdir()) if p.is_file() and p.name != INDEX]
    copies = [word for name in names for word in ("+", "cp", str(folder / name), f":{name}")]
    _mpremote(port, *copies[1:])
    return names


def _boards_for(module: int) -> range:
    """Numbers of the boards' architectures on which a module runs: ARM's later cores take earlier ones' code."""
    return range(module, THUMB[-1] + 1) if module in THUMB else range(module, module + 1)


def module_architecture(module: bytes) -> str:
    """MicroPython's name of the architecture that a .mpy file is for. DhnError if it is none that we build."""
    by_number = {target.number: name for name, target in TARGETS.items()}
    if len(module) < 4 or module[0] != ord("M") or module[2] >> 2 not in by_number:
        raise DhnError(f"{MODULE} is no native module of MicroPython; export it again")
    return by_number[module[2] >> 2]


def _mpremote(port: str | None, *arguments: str) -> str:
    """What it prints. The board's program is interrupted but not started anew ("resume"): copying needs no more."""
    command = [sys.executable, "-m", "mpremote", *(["connect", port] if port else []), "resume", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise DhnError(
            "the board does not answer MicroPython's prompt; reset it, or name its port with --port"
        ) from None
    if done.returncode == 0:
        return done.stdout
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    last = said[-1].removeprefix("mpremote: ") if said else "no message"
    if "No module named" in last:
        raise DhnError("mpremote is missing; install it with 'pip install mpremote'")
    if re.search(r"no device found|failed to access", last):
        raise DhnError(f"no MicroPython board: {last}; connect one, or name its port with --port")
    raise DhnError(f"mpremote: {last}")
