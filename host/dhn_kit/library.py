"""Writes runtime, kernels and one packed network as a library for another build system."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dhn_kit import __version__, resources
from dhn_kit.c_text import render
from dhn_kit.errors import DhnError
from dhn_kit.graph import Port
from dhn_kit.kernels import architecture_of
from dhn_kit.pack import Pack
from dhn_kit.source_set import (
    ALWAYS,
    FAST,
    SMALL,
    KernelGroups,
    arena_bytes,
    library_sources,
    pack_kernels,
    registry_source,
    write_files,
)

Kind = Literal["arduino", "platformio", "espidf", "cmake", "zephyr"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Names what an export wrote, so that a later one may replace it.
MARK = "dhn-export.json"

#: Files of each kind by place, and their templates below templates/library; all kinds have ``src/`` beside them.
_FILES: dict[Kind, dict[str, str]] = {
    "arduino": {
        "library.properties": "arduino/library.properties.j2",
        "examples/Classify/Classify.ino": "arduino/Classify.ino.j2",
    },
    "platformio": {
        "library.json": "platformio/library.json.j2",
        "examples/classify/platformio.ini": "platformio/platformio.ini.j2",
        "examples/classify/src/main.cpp": "arduino/Classify.ino.j2",
    },
    "espidf": {
        "idf_component.yml": "espidf/idf_component.yml.j2",
        "CMakeLists.txt": "espidf/CMakeLists.txt.j2",
        "sources.cmake": "sources.cmake.j2",
        "examples/classify/CMakeLists.txt": "espidf/project.cmake.j2",
        "examples/classify/main/CMakeLists.txt": "espidf/main.cmake.j2",
        "examples/classify/main/main.c": "main.c.j2",
    },
    "cmake": {
        "CMakeLists.txt": "cmake/CMakeLists.txt.j2",
        "sources.cmake": "sources.cmake.j2",
        "examples/classify/CMakeLists.txt": "cmake/example.cmake.j2",
        "examples/classify/main.c": "cmake/main.c.j2",
    },
    "zephyr": {
        "zephyr/module.yml": "zephyr/module.yml.j2",
        "zephyr/Kconfig": "zephyr/Kconfig.j2",
        "zephyr/CMakeLists.txt": "zephyr/CMakeLists.txt.j2",
        "sources.cmake": "sources.cmake.j2",
        "examples/classify/CMakeLists.txt": "zephyr/project.cmake.j2",
        "examples/classify/prj.conf": "zephyr/prj.conf.j2",
        "examples/classify/src/main.c": "main.c.j2",
    },
}
#: The sentence of README.md that says how each is used.
_USAGE: dict[Kind, str] = {
    "arduino": "Copy this folder into the `libraries` folder of your sketchbook, or zip it and add it by Sketch > "
    "Include Library > Add .ZIP Library.",
    "platformio": "Copy this folder into `lib` of a project, or name it in `platformio.ini`: `lib_deps = symlink://PATH`.",
    "espidf": "Copy this folder into `components` of a project, or list it in `EXTRA_COMPONENT_DIRS`.",
    "cmake": "`add_subdirectory(PATH)`, then `target_link_libraries(app PRIVATE dhn::dhn)`.",
    "zephyr": "`list(APPEND ZEPHYR_EXTRA_MODULES PATH)` in front of `find_package(Zephyr)`, and the option of "
    "`zephyr/Kconfig` in `prj.conf`.",
}


@dataclass(frozen=True)
class Library:
    """``files`` are bytes by place below ``folder``; ``pack_bytes`` are constants, ``arena_bytes`` RAM."""

    kind: Kind
    name: str
    folder: Path
    files: dict[str, int]
    kernels: int
    pack_bytes: int
    arena_bytes: int


def export_library(kind: Kind, pack: Pack, folder: Path, name: str = "model") -> Library:
    """Writes ``folder``, whole or not at all, replacing what an earlier call wrote there.

    ``name`` names header and functions (``NAME.h``, ``NAME_run``). DhnError: no C identifier, or a folder that holds
    something else.
    """
    check_name(name)
    _check_folder(folder)
    # A kernel runs on any core: each has its meaning in C.
    groups = pack_kernels(pack.data, None, "this version does not have; pack the network again")
    values = _values(kind, pack, name, groups)
    files = _library_files(kind, groups, values, _model_files(pack, groups, values))
    _replace(folder, files | {MARK: json.dumps({"kind": kind, "name": name, "hash": pack.hash}) + "\n"})
    sizes = {place: len(text.encode()) for place, text in files.items()}
    return Library(kind, name, folder, sizes, values["kernels"], len(pack.data), values["arena_bytes"])


def runtime_library(groups: KernelGroups) -> dict[str, str]:
    """PlatformIO's library ``dhn``: runtime and kernels without a network, by place below its folder."""
    values = {
        "library": "dhn",
        "version": __version__,
        "description": "Runtime and int8 kernels for packs of dhn-kit: no heap, less work on easy inputs.",
        "header": "dhn.h",
    }
    files = {"library.json": render("library/platformio/library.json.j2", **values)}
    return files | _sources("platformio", groups, {}) | {"LICENSE": resources.path("LICENSE").read_text()}


def check_name(name: str) -> None:
    """DhnError where ``name`` cannot name a header and C functions beside those of the runtime."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or len(name) > 40:
        raise DhnError(f"'{name}' is no name for C functions; take up to 40 letters, digits and _, a letter first")
    if name.lower().startswith("dhn"):
        raise DhnError(f"names that begin with dhn, as '{name}', are the runtime's; take another --name")


def _values(kind: Kind, pack: Pack, name: str, groups: KernelGroups) -> dict[str, Any]:
    """What the templates show."""
    network = _plain(pack.name)
    sources = library_sources(groups)
    own = [f"{name}{part}.c" for part in ("", "_pack", "_kernels")]
    inputs, outputs = _tensors(pack, "input", pack.inputs), _tensors(pack, "output", pack.outputs)
    return {
        "kind": kind,
        "name": name,
        "NAME": name.upper(),
        "library": f"dhn_{name}",
        "network": network,
        "version": __version__,
        "description": f"The neural network '{network}' with the dhn runtime: int8, no heap, less work on easy inputs.",
        "header": f"{name}.h",
        "pack": pack.data,
        "pack_hash": pack.hash,
        "arena_bytes": arena_bytes(pack.data),
        "points": pack.header["point_count"],
        "inputs": inputs,
        "tensors": inputs + outputs,
        "kernels": sum(map(len, groups)),
        "arch": architecture_of(pack.header["flavour"]),
        "fast": list(sources.kernels),
        "small": [*sources.runtime, *sources.hook_kernels, *own],
        "usage": _USAGE[kind],
        "example": next(place for place in _FILES[kind] if re.search(r"\.(ino|c|cpp)$", place)),
        "entry": "void app_main(void)" if kind == "espidf" else "int main(void)",
    }


def _tensors(pack: Pack, what: str, ports: Sequence[Port]) -> list[dict[str, Any]]:
    """Constants of each: INPUT, INPUT1, ..."""
    found = []
    for i, port in enumerate(ports):
        tensor = pack.tensors[port.tensor]
        scale = f"{tensor.quant.scale:.9g}" if tensor.quant else "1"
        found.append(
            {
                "name": what.upper() + (str(i) if i else ""),
                "what": f"{what.capitalize()} {i}, '{_plain(port.name)}': int8",
                "note": _note(port),
                "bytes": tensor.size,
                "shape": tensor.shape,
                "scale": (scale if re.search(r"[.e]", scale) else scale + ".0") + "f",
                "zero_point": tensor.quant.zero_point if tensor.quant else 0,
            }
        )
    return found


def _note(port: Port) -> str:
    """How the model file's own array differs from the tensor; empty where it does not."""
    notes = []
    if port.perm is not None:
        notes.append(f"the model file's array {port.user_shape} with its axes in the order {port.perm}")
    if (port.scale, port.offset) != (1.0, 0.0):
        notes.append(f"real value = {port.scale:.9g} * the model file's value {port.offset:+.9g}")
    return "; ".join(notes)


def _plain(text: str) -> str:
    """Text that ends no comment, string or line in any of the files."""
    return re.sub(r"[^A-Za-z0-9 .:_+-]", "_", text)


def _model_files(pack: Pack, groups: KernelGroups, values: dict[str, Any]) -> dict[str, str]:
    name = values["name"]
    texts = {f"{name}{part}": render(f"library/{template}.j2", **values) for part, template in _MODEL.items()}
    return texts | {f"{name}_kernels.c": registry_source(groups, name, f"{name}.h")}


_MODEL = {".h": "model.h", ".c": "model.c", "_pack.c": "pack.c"}


def _library_files(kind: Kind, groups: KernelGroups, values: dict[str, Any], model: dict[str, str]) -> dict[str, str]:
    files = {place: render(f"library/{template}", **values) for place, template in _FILES[kind].items()}
    files |= {"README.md": render("library/README.md.j2", **values), "LICENSE": resources.path("LICENSE").read_text()}
    return files | _sources(kind, groups, model)


def _sources(kind: Kind, groups: KernelGroups, model: dict[str, str]) -> dict[str, str]:
    """``src/``. Where a build system has no options per file, each file says itself how it is best compiled."""
    sources = library_sources(groups)
    texts = {place: path.read_text() for place, path in sources.files.items()} | model
    if kind in ("arduino", "platformio"):
        for place in texts:
            if place.endswith(".c"):
                texts[place] = _optimised(texts[place], FAST if place in sources.kernels else SMALL)
    return {f"src/{place}": text for place, text in texts.items()}


def _optimised(text: str, flags: Sequence[str]) -> str:
    """A C file with GCC's pragma for these flags behind its first two lines."""
    quoted = ", ".join(f'"{flag.removeprefix("-").removeprefix("f")}"' for flag in (*flags, *ALWAYS))
    pragma = f"#if defined(__GNUC__) && !defined(__clang__)\n#pragma GCC optimize({quoted})\n#endif\n"
    first, second, rest = text.split("\n", 2)
    return f"{first}\n{second}\n{pragma}{rest}"


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DhnError(f"{folder} is a file; name another folder with -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise DhnError(f"{folder} holds files that 'dhn-kit export' did not write; name another folder with -o")


def _replace(folder: Path, files: dict[str, str]) -> None:
    """Writes beside it first, so that an interrupted call leaves what was there."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
            write_files(Path(beside) / "new", files)
            if folder.exists():
                folder.rename(Path(beside) / "old")
            (Path(beside) / "new").rename(folder)
    except OSError as error:
        raise DhnError(f"cannot write {folder}: {error.strerror}; name another folder with -o") from None
