"""Builds the device application for one pack and one board."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dhn_kit import resources
from dhn_kit.boards import Board
from dhn_kit.errors import DhnError
from dhn_kit.kernels import Kernel
from dhn_kit.link_map import flash_parts
from dhn_kit.source_set import KernelGroups, application_model, library_sources, pack_kernels, write_files
from dhn_kit.trailer import device_bytes

#: Debian packages of the compilers that boards name.
COMPILER_PACKAGES = {
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "cc": "gcc libc6-dev",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
    "xtensa-lx106-elf-gcc": "gcc-xtensa-lx106",
}
#: Samples that wait on the board for the line; what does not fit is dropped and counted.
SAMPLE_BYTES = 8192
#: The application's variables, and the memory of samples, by their names in C.
STATE, SAMPLES = ("app", "sample_frame"), "model_sample_memory"
#: What of a source tree decides the result.
SOURCES = ("*.c", "*.h", "*.S", "*.ld", "*.cmake", "*.toml", "CMakeLists.txt")


@dataclass(frozen=True)
class FirmwareImage:
    """``flash_code_bytes`` is program and constants, ``flash_weight_bytes`` the pack; ``ram_bytes`` is all static
    memory, of which ``sizes["arena"]`` is the arena; the stack is not in it. ``state_bytes`` of it are the
    application's (link, sampler, monitor, perception), ``sample_bytes`` hold samples that wait. ``sizes`` is per ELF
    section, ``parts`` flash by what it is for (`link_map`), empty where the linker wrote no map."""

    elf: Path
    flash_code_bytes: int
    flash_weight_bytes: int
    ram_bytes: int
    sizes: dict[str, int]
    parts: dict[str, int]
    state_bytes: int
    sample_bytes: int

    @property
    def inference_bytes(self) -> int | None:
        """Code of the inference path alone: runtime and the network's kernels."""
        return self.parts["runtime"] + self.parts["kernels"] if self.parts else None


def build_firmware(
    pack: bytes,
    board: Board,
    out_dir: Path,
    *,
    user_sources: Sequence[Path] = (),
    sample_bytes: int = SAMPLE_BYTES,
    full_ticks: int = 0,
) -> FirmwareImage:
    """The application with ``pack`` (a main pack, host trailer or not) linked in, under ``out_dir``.

    ``user_sources`` are C files of the application's author (``app_read_input``). ``full_ticks`` is what a run without
    hooks is predicted to take (`cost.full_ticks`); 0: the board measures it. A second call with the same content
    returns what the first one built. DhnError: compiler missing, kernel missing, or it does not fit (by how much).
    """
    image = device_bytes(pack)
    named, hooks = _kernels(image, board)
    generated = application_model(
        image,
        (named, hooks),
        board=board.name,
        ram_bytes=board.memory.ram_bytes,
        sample_bytes=sample_bytes,
        full_ticks=full_ticks,
    )
    elf = build_program("app", generated, named, board, out_dir, user_sources, hooks)
    return _measure(elf, len(image))


def build_program(
    program: str,
    generated: Mapping[str, str],
    kernels: Sequence[Kernel],
    board: Board,
    out_dir: Path,
    user_sources: Sequence[Path] = (),
    hook_kernels: Sequence[Kernel] = (),
) -> Path:
    """The ELF file of firmware/``program`` with generated sources (name to text) and kernels. DhnError as above.

    ``hook_kernels`` are those that only hooks may call: compiled for size.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    names = [[k.name for k in group] for group in (kernels, hook_kernels)]
    key = _content_key([program, dict(generated), names], board, user_sources)
    stamp = out_dir / "firmware.json"
    if not _is_current(stamp, key):
        stamp.unlink(missing_ok=True)
        elf = _compile(program, generated, (kernels, hook_kernels), board, out_dir, user_sources)
        stamp.write_text(json.dumps({"key": key, "elf": str(elf)}))
    return Path(json.loads(stamp.read_text())["elf"])


def _kernels(image: bytes, board: Board) -> tuple[list[Kernel], list[Kernel]]:
    # Every kernel has its meaning in C, so a process on this host runs packs for any core.
    arch = board.flavour if board.core.toolchain else None
    otherwise = f"{board.name} ('{board.flavour}') does not have; pack the network again with --board {board.name}"
    return pack_kernels(image, arch, otherwise)


def _content_key(made_of: list[Any], board: Board, user_sources: Sequence[Path]) -> str:
    """Over everything that the result depends on but the compiler itself."""
    digest = hashlib.sha256(json.dumps([made_of, asdict(board)], sort_keys=True).encode())
    folders = [resources.path("firmware"), resources.path("mcu_kernels"), resources.path("cmake")]
    files = sorted({f for folder in folders for pattern in SOURCES for f in folder.rglob(pattern)})
    for file in [*files, resources.path("CMakeLists.txt"), *user_sources]:
        digest.update(str(file).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _is_current(stamp: Path, key: str) -> bool:
    if not stamp.is_file():
        return False
    before = json.loads(stamp.read_text())
    return before["key"] == key and Path(before["elf"]).is_file()


def _compile(
    program: str,
    generated: Mapping[str, str],
    kernels: KernelGroups,
    board: Board,
    out_dir: Path,
    user_sources: Sequence[Path],
) -> Path:
    source, build = out_dir.resolve() / "generated", out_dir.resolve() / "build"
    source.mkdir(exist_ok=True)
    write_files(source, generated)
    if shutil.which(board.core.compiler) is None:
        package = COMPILER_PACKAGES.get(board.core.compiler, board.core.compiler)
        raise DhnError(f"compiler {board.core.compiler} is missing; install it with 'apt-get install {package}'")
    _run([_tool("cmake"), *_configuration(program, kernels, board, source, build, user_sources)], board)
    _run([_tool("cmake"), "--build", str(build)], board)
    return build / "firmware" / "firmware.elf"


def _configuration(
    program: str, kernels: KernelGroups, board: Board, source: Path, build: Path, user_sources: Sequence[Path]
) -> list[str]:
    sources = library_sources(kernels)
    values = {
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_MAKE_PROGRAM": _tool("ninja"),
        "DHN_PORT": board.port,
        "DHN_PROGRAM": program,
        "DHN_GENERATED": str(source),
        "DHN_KERNELS": ";".join(map(str, sources.kernels.values())),
        "DHN_HOOK_KERNELS": ";".join(map(str, sources.hook_kernels.values())),
        "DHN_USER_SOURCES": ";".join(str(Path(f).resolve()) for f in user_sources),
        "DHN_CORE_FLAGS": ";".join(board.core.flags),
        "DHN_CODE_BYTES": str(board.memory.flash_bytes),
        "DHN_RAM_BYTES": str(board.memory.ram_bytes),
        "DHN_FLASH_BASE": hex(board.hook_flash.base),
        "DHN_FLASH_BYTES": str(board.hook_flash.slot_bytes * len(board.hook_flash.slots)),
        "DHN_FLASH_PAGE": str(board.hook_flash.page_bytes),
    }
    if board.core.toolchain:
        values["CMAKE_TOOLCHAIN_FILE"] = str(resources.path("cmake") / "toolchains" / board.core.toolchain)
    root = resources.path("CMakeLists.txt").parent
    return ["-S", str(root), "-B", str(build), "-G", "Ninja", *(f"-D{k}={v}" for k, v in values.items())]


def _tool(name: str) -> str:
    """cmake and ninja come with this package's dependencies; the system's own will do as well."""
    try:
        module = __import__(name)
        found = Path(module.__file__ or "").parent / "data" / "bin" / name
        path = str(found) if found.is_file() else shutil.which(name)
    except ImportError:
        path = shutil.which(name)
    if path is None:
        raise DhnError(f"{name} is missing; install it with 'pip install {name}'")
    return path


def _run(command: list[str], board: Board) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return
    text = done.stdout + done.stderr
    raise _does_not_fit(text, board) or DhnError(f"the firmware for {board.name} does not build: {first_error(text)}")


def first_error(text: str) -> str:
    """What a compiler or linker complains of."""
    lines = [line.strip() for line in text.splitlines()]
    return next(
        (line for line in lines if re.search(r"error:|undefined reference", line, re.IGNORECASE)),
        lines[-1] if lines else "no message",
    )


def _does_not_fit(text: str, board: Board) -> DhnError | None:
    """What GNU ld says when a memory is full, in our words."""
    over = {name: int(count) for name, count in re.findall(r"region `(\w+)' overflowed by (\d+) bytes", text)}
    if "code" in over:
        return DhnError(
            f"the model does not fit {board.name}: {over['code']} bytes too many for its {board.memory.flash_bytes} "
            "bytes of flash; use a smaller network, or a board with more flash"
        )
    if "ram" in over or "left for the stack" in text:
        by = f"{over['ram']} bytes" if "ram" in over else "less than 2048 bytes"
        return DhnError(
            f"the model does not fit {board.name}: {by} too many for its {board.memory.ram_bytes} bytes of RAM; use a "
            "network with smaller feature maps, or a board with more RAM"
        )
    return None


def _measure(elf: Path, weight_bytes: int) -> FirmwareImage:
    data_bytes = elf.read_bytes()
    sections = elf_sections(data_bytes)
    flash = sum(size for name, size, kind in sections if kind == "flash")
    ram = sum(size for name, size, kind in sections if kind in ("data", "bss"))
    data = sum(size for name, size, kind in sections if kind == "data")
    sizes = {name: size for name, size, _ in sections}
    file = elf.parents[1] / "firmware.map"
    parts = flash_parts(file.read_text()) if file.is_file() else {}
    objects = elf_objects(data_bytes)
    state = sum(objects.get(name, 0) for name in STATE)
    return FirmwareImage(
        elf, flash + data - weight_bytes, weight_bytes, ram, sizes, parts, state, objects.get(SAMPLES, 0)
    )


def elf_sections(data: bytes) -> list[tuple[str, int, str]]:
    """(name, bytes, "flash" | "data" | "bss") of every loaded section of a little-endian ELF32 or ELF64 file."""
    result = []
    for name, kind, flags, _, size, _ in _section_headers(data):
        if not flags & 2 or size == 0:  # SHF_ALLOC
            continue
        result.append((name, size, "bss" if kind == 8 else "data" if flags & 1 else "flash"))  # SHT_NOBITS, SHF_WRITE
    return result


def elf_objects(data: bytes) -> dict[str, int]:
    """Bytes of each variable by its name."""
    layout = struct.Struct("<IBBHQQ" if data[4] == 2 else "<IIIBBH")
    headers = _section_headers(data)
    objects: dict[str, int] = {}
    for _, kind, _, at, size, link in headers:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = headers[link][3]
        for symbol in layout.iter_unpack(data[at : at + size]):
            info, count = (symbol[1], symbol[5]) if data[4] == 2 else (symbol[3], symbol[2])
            if info & 15 == 1:  # STT_OBJECT
                start = names + symbol[0]
                objects[data[start : data.index(b"\0", start)].decode()] = count
    return objects


def _section_headers(data: bytes) -> list[tuple[str, int, int, int, int, int]]:
    """(name, type, flags, file offset, bytes, link) of every section."""
    wide = data[4] == 2
    offset = struct.unpack_from("<Q", data, 40)[0] if wide else struct.unpack_from("<I", data, 32)[0]
    entry, count, names = struct.unpack_from("<HHH", data, 58 if wide else 46)
    layout = "<IIQQQQI" if wide else "<IIIIIII"
    headers = [struct.unpack_from(layout, data, offset + i * entry) for i in range(count)]
    result = []
    for name_at, kind, flags, _, at, size, link in headers:
        start = headers[names][4] + name_at
        result.append((data[start : data.index(b"\0", start)].decode(), kind, flags, at, size, link))
    return result
