"""Lays out a PlatformIO core folder without the network: its build tool from PyPI, and stand-ins for platforms."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent / "platformio"


@dataclass(frozen=True)
class StandIn:
    """How the stand-in of a board compiles: ``prefix`` of the compilers' names; ``finish``, if any, is a command line
    that makes firmware.bin of $SOURCE, ``upload`` one that writes it to $UPLOAD_PORT. PlatformIO fills these in."""

    prefix: str
    flags: list[str] = field(default_factory=list)
    defines: list[str] = field(default_factory=list)
    link: list[str] = field(default_factory=list)
    finish: str = ""
    upload: str = "false"


@dataclass(frozen=True)
class StandInBoard:
    """What a board file of PlatformIO says, of it what anybody asks for."""

    mcu: str
    f_cpu: int
    ram: int
    flash: int
    frameworks: tuple[str, ...] = ("arduino",)
    tools: StandIn | None = None

    def manifest(self, name: str) -> dict[str, Any]:
        build: dict[str, Any] = {"mcu": self.mcu, "f_cpu": f"{self.f_cpu}L"}
        if self.tools:
            build["stand_in"] = asdict(self.tools)
        return {
            "name": f"Stand-in for {name}",
            "vendor": "tests",
            "url": "https://example.org",
            "frameworks": list(self.frameworks),
            "build": build,
            "upload": {"maximum_ram_size": self.ram, "maximum_size": self.flash, "speed": 115200},
        }


def make_core(folder: Path) -> Path:
    """A core folder with PlatformIO's build tool and no platform. It is found by ``$PLATFORMIO_CORE_DIR``."""
    from platformio.dependencies import get_core_dependencies

    version = get_core_dependencies()["tool-scons"].lstrip("~")
    tool = folder / "packages" / "tool-scons"
    tool.mkdir(parents=True)
    (folder / "platforms").mkdir()
    (tool / "scons.py").write_text("import SCons.Script\nSCons.Script.main()\n")
    _package(tool, "tool", "tool-scons", version, "platformio")
    return folder


def add_platform(core: Path, name: str, boards: dict[str, StandInBoard], uri: str = "") -> None:
    """A platform of this name, as if PlatformIO had installed it (from its registry, or from ``uri``)."""
    folder = core / "platforms" / (name if not uri else f"{name}@src-standin")
    (folder / "boards").mkdir(parents=True)
    for board, known in boards.items():
        (folder / "boards" / f"{board}.json").write_text(json.dumps(known.manifest(board), indent=1))
    frameworks = {f: {"script": "builder/framework.py"} for known in boards.values() for f in known.frameworks}
    manifest = {
        "name": name,
        "title": f"Stand-in for {name}",
        "version": "0.0.1",
        "frameworks": frameworks,
        "packages": {},
    }
    (folder / "platform.json").write_text(json.dumps(manifest, indent=1))
    (folder / "platform.py").write_text(
        "from platformio.public import PlatformBase\n\n\n"
        f"class {name.replace('-', '').replace('_', '').capitalize()}Platform(PlatformBase):\n    pass\n"
    )
    (folder / "builder").mkdir()
    shutil.copy(HERE / "builder.py", folder / "builder" / "main.py")
    (folder / "builder" / "framework.py").write_text("")
    _package(folder, "platform", name, "0.0.1", "" if uri else "platformio", uri)


def _package(folder: Path, kind: str, name: str, version: str, owner: str, uri: str = "") -> None:
    spec = {"owner": owner or None, "id": None, "name": name, "requirements": None, "uri": uri or None}
    (folder / "package.json").write_text(json.dumps({"name": name, "version": version})) if kind == "tool" else None
    (folder / ".piopm").write_text(json.dumps({"type": kind, "name": name, "version": version, "spec": spec}))
