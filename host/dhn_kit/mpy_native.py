"""Builds native MicroPython modules: compiles the runtime as position-independent code and writes the .mpy file."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dhn_kit import resources
from dhn_kit.errors import DhnError
from dhn_kit.firmware_build import COMPILER_PACKAGES, first_error
from dhn_kit.kernels import Kernel, load_kernels
from dhn_kit.source_set import library_sources, pack_kernels, registry_source

#: Version and native sub-version of the format (MicroPython 1.23 and later), and bits of its small integers.
VERSION, SUB_VERSION, SMALL_INT_BITS = 6, 3, 31
#: Code that is relocated, as a kind of function and as a flag of it; constants apart from the code as a flag.
KIND_NATIVE, FLAG_RELOCATED, FLAG_CONSTANTS = 2, 0x10, 0x20
#: What an address counts from: the code, the constants apart from it, the table of names, the table of functions.
BASE_TEXT, BASE_CONSTANTS, BASE_NAMES, BASE_TABLE, END_OF_RELOCATIONS = 0, 2, 6, 8, 0xFF
#: Holds the addresses of the tables, in this order.
WORDS, WORD_BASES = "natmod_words", (BASE_TABLE, BASE_NAMES)
#: Where the constants start that are apart from the code.
CONSTANTS = "natmod_keep"
#: Below the home folder: where PlatformIO and ESP-IDF put Espressif's compilers, which are on nobody's PATH.
ESPRESSIF = (".platformio/packages/toolchain-xtensa-esp*/bin", ".espressif/tools/xtensa-esp*-elf/*/*/bin")

_FLAGS = (
    "-std=c99", "-O2", "-fwrapv", "-fPIC", "-fno-common", "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-tree-loop-distribute-patterns",
    "-ffunction-sections", "-fdata-sections", "-DDHN_NATMOD", "-Wall", "-Wextra", "-Werror",
    "-nostdlib", "-static", "-Wl,--gc-sections", "-Wl,--emit-relocs", "-Wl,--build-id=none", "-Wl,-z,noexecstack",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """``number`` is the format's of the architecture, ``kernels`` the folder whose packs run there. ``absolute`` is the
    relocation of a pointer; ``relative`` those that the linker has finished; ``script`` the linker's."""

    number: int
    compiler: str
    flags: tuple[str, ...]
    kernels: str
    word: int
    absolute: int
    relative: frozenset[int] = field(repr=False)
    script: str = "natmod.ld"


_ARM = frozenset({0, 3, 10, 24, 25, 30, 40, 42, 49, 50, 51, 102, 103})
_RISCV = frozenset({0, 16, 17, 18, 19, 23, 24, 25, *range(33, 41), 43, 44, 45, 51, *range(52, 58)})


_XTENSA = frozenset({0, 11, 12, 20, *range(17, 20), *range(57, 63)})


_RISCV_FLAGS = ("--specs=picolibc.specs", "-march=rv32imc", "-mabi=ilp32", "-mcmodel=medany", "-Wl,--no-relax")


def _thumb(number: int, kernels: str, *flags: str) -> Target:
    return Target(number, "arm-none-eabi-gcc", ("-mthumb", *flags), kernels, 4, 2, _ARM)


def _xtensa(number: int, compiler: str, *flags: str) -> Target:
    """Its literals are pointers already, position-independent code would only add calls through more of them. A
    compiler without a C library finds string.h and the arithmetic of 64 bits in a port of ours."""
    port = resources.path("firmware") / "port" / "xtensa_sim"
    all_flags = ("-fno-pic", "-Wl,--no-relax", "-idirafter", str(port / "libc"), str(port / "arith.c"), *flags)
    return Target(number, compiler, all_flags, "xtensa", 4, 1, _XTENSA, "natmod_xtensa.ld")


#: By MicroPython's name of the architecture.
TARGETS = {
    "x64": Target(2, "cc", ("-O3", "-fcf-protection=none"), "portable", 8, 1, frozenset({0, 2, 4})),
    "armv6m": _thumb(4, "portable", "-mcpu=cortex-m0plus"),
    "armv7m": _thumb(5, "portable", "-mcpu=cortex-m3"),
    "armv7emsp": _thumb(7, "armv7em", "-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    "rv32imc": Target(
        11, "riscv64-unknown-elf-gcc", _RISCV_FLAGS,
        "rv32imc", 4, 1, _RISCV,
    ),
    "xtensa": _xtensa(9, "xtensa-lx106-elf-gcc"),
    # What a compiler warns of that we have not seen is no reason not to build.
    "xtensawin": _xtensa(10, "xtensa-esp32-elf-gcc", "-Wno-error"),
}  # fmt: skip


@dataclass(frozen=True)
class NativeModule:
    """``code`` starts with the entry; ``constants`` are those that the loader keeps apart from it. ``relocations`` are
    (whether in the constants, offset, base) of the words to which the loader adds one."""

    code: bytes
    constants: bytes
    relocations: list[tuple[bool, int, int]]

    def to_mpy(self, target: Target) -> bytes:
        """The file, as MicroPython documents it (reference/mpyfiles)."""
        head = bytes((ord("M"), VERSION, target.number << 2 | SUB_VERSION, SMALL_INT_BITS))
        names = ["_dhn", *function_names()]
        table = b"".join(_uint(len(name) << 1) + name.encode() + b"\0" for name in names)
        code = _uint(len(self.code) << 3 | KIND_NATIVE) + self.code
        apart = _uint(len(self.constants)) + self.constants if self.constants else b""
        flags = _uint(FLAG_RELOCATED | (FLAG_CONSTANTS if apart else 0))
        return head + _uint(len(names)) + _uint(0) + table + code + flags + apart + self._relocation_bytes(target.word)

    def _relocation_bytes(self, word: int) -> bytes:
        """One entry per word, its place in words; bit 0 of the first byte says that a place follows."""
        out = bytearray()
        for in_constants, offset, base in sorted(self.relocations):
            if offset % word:
                raise DhnError(f"a pointer at 0x{offset:x} of the module is not aligned: a bug, please report it")
            out += bytes((base << 1 | 1,)) + _uint(offset // word << 1 | in_constants)
        return bytes((*out, END_OF_RELOCATIONS))


def function_names() -> list[str]:
    """What the module publishes, in the order in which its C code does."""
    header = resources.path("firmware") / "micropython" / "module.h"
    return re.findall(r"^ +ENTRY\((\w+), \d\)", header.read_text(), re.MULTILINE)


def build_module(arch: str, kernels: Sequence[Kernel], out_dir: Path) -> bytes:
    """The .mpy file of module _dhn with these kernels for MicroPython's architecture ``arch``.

    DhnError: unknown architecture, compiler missing, or code that cannot be placed anywhere in memory.
    """
    target = _target(arch)
    elf = _link(target, kernels, out_dir)
    return _module(Elf(elf.read_bytes()), target).to_mpy(target)


def module_kernels(arch: str, image: bytes | None = None) -> list[Kernel]:
    """What a module links: for one pack (its bytes) what that needs and its hooks may need, else all of the
    architecture's. DhnError for a pack that is made for other kernels."""
    flavour = _target(arch).kernels
    if image is None:
        return list(load_kernels(flavour))
    # Every kernel has its meaning in C, so a process on this host runs packs for any core.
    otherwise = f"MicroPython's '{arch}' does not have; pack the network again for '{flavour}'"
    return [k for group in pack_kernels(image, None if arch == "x64" else flavour, otherwise) for k in group]


def module_registry(kernels: Sequence[Kernel]) -> str:
    """C text that lists them for the module."""
    return registry_source((kernels, ()), "module", "module.h")


def _target(arch: str) -> Target:
    if arch not in TARGETS:
        raise DhnError(f"no native module for architecture '{arch}'; there are {', '.join(TARGETS)}")
    return TARGETS[arch]


def _link(target: Target, kernels: Sequence[Kernel], out_dir: Path) -> Path:
    compiler = _compiler(target)
    out_dir.mkdir(parents=True, exist_ok=True)
    registry, elf = out_dir / "module_registry.c", out_dir / "_dhn.elf"
    registry.write_text(module_registry(kernels))
    firmware, folder = resources.path("firmware"), resources.path("mcu_kernels")
    here, wanted = firmware / "micropython", library_sources((kernels, ()))
    sources = [
        *(here / name for name in ("natmod.c", "words.c", "module.c")),
        *wanted.runtime.values(),
        *wanted.kernels.values(),
        registry,
    ]
    includes = [f"-I{p}" for p in (here, firmware / "runtime", folder)]
    command = [compiler, *_FLAGS, *target.flags, *includes, "-include", str(here / "hidden.h")]
    command += [*map(str, sources), "-T", str(here / target.script), "-lgcc", "-o", str(elf)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DhnError(f"the MicroPython module does not build: {first_error(done.stderr)}")
    return elf


def _compiler(target: Target) -> str:
    """DhnError where it is neither on PATH nor where Espressif's tools put it."""
    if found := shutil.which(target.compiler):
        return found
    if target.compiler in COMPILER_PACKAGES:
        package = COMPILER_PACKAGES[target.compiler]
        raise DhnError(f"compiler {target.compiler} is missing; install it with 'apt-get install {package}'")
    for folder in ESPRESSIF:
        if lying := sorted(Path.home().glob(f"{folder}/{target.compiler}")):
            return str(lying[-1])
    raise DhnError(
        f"compiler {target.compiler} is neither on PATH nor in ~/.platformio or ~/.espressif; install it with "
        "'pio pkg install -g -t platformio/toolchain-xtensa-esp32', or build MicroPython with the sources of "
        "'dhn-kit export --as micropython-c'"
    )


def _module(elf: Elf, target: Target) -> NativeModule:
    """DhnError where the code holds an address that the loader cannot correct."""
    if elf.section(".got").strip(b"\0"):
        raise DhnError("the MicroPython module needs a table of addresses; compile every source with hidden symbols")
    parts = (bytearray(elf.section(".text")), bytearray(elf.section(".rodata")))
    apart = elf.symbols[CONSTANTS] if parts[True] else 1 << 8 * target.word  # nothing is that far
    relocations = []
    for at, base in _pointers(elf, target).items():
        in_constants = at >= apart
        offset = at - apart if in_constants else at
        if base == BASE_TEXT:
            base = _count_from(apart, parts[in_constants], slice(offset, offset + target.word))
        relocations.append((in_constants, offset, base))
    return NativeModule(bytes(parts[False]), bytes(parts[True]), relocations)


def _pointers(elf: Elf, target: Target) -> dict[int, int]:
    """Addresses of all words to which the loader adds a base, and which."""
    words = elf.symbols[WORDS]
    found = {words + i * target.word: base for i, base in enumerate(WORD_BASES)}
    for at, kind in (*elf.relocations(".text"), *elf.relocations(".rodata")):
        if kind == target.absolute:
            found.setdefault(at, BASE_TEXT)
        elif kind not in target.relative:
            raise DhnError(f"the MicroPython module has relocation {kind} at 0x{at:x}, which cannot be moved")
    return found


def _count_from(apart: int, part: bytearray, word: slice) -> int:
    """What a pointer counts from; one into the constants, which the linker put at ``apart``, counts from there then."""
    value = int.from_bytes(part[word], "little")
    if value < apart:
        return BASE_TEXT
    part[word] = (value - apart).to_bytes(word.stop - word.start, "little")
    return BASE_CONSTANTS


class Elf:
    """Sections, symbols and relocations of a linked little-endian ELF32 or ELF64 file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.wide = data[4] == 2
        at = struct.unpack_from("<Q", data, 40)[0] if self.wide else struct.unpack_from("<I", data, 32)[0]
        entry, count, names = struct.unpack_from("<HHH", data, 58 if self.wide else 46)
        layout = struct.Struct("<IIQQQQIIQQ" if self.wide else "<IIIIIIIIII")
        self._headers = [layout.unpack_from(data, at + i * entry) for i in range(count)]
        self._names = [self._text(self._headers[names][4] + h[0]) for h in self._headers]

    @property
    def symbols(self) -> dict[str, int]:
        layout = struct.Struct("<IBBHQQ" if self.wide else "<IIIBBH")
        found = {}
        for header in self._headers:
            if header[1] != 2:  # SHT_SYMTAB
                continue
            strings = self._headers[header[6]][4]
            for symbol in layout.iter_unpack(self._bytes(header)):
                found[self._text(strings + symbol[0])] = symbol[4] if self.wide else symbol[1]
        return found

    def section(self, name: str) -> bytes:
        """Its bytes, none where there is no such section."""
        return b"".join(self._bytes(h) for h, n in zip(self._headers, self._names, strict=True) if n == name)

    def relocations(self, name: str) -> Iterator[tuple[int, int]]:
        """(address, type) of all that the linker applied to the section."""
        shift, pointer = (32, "Q") if self.wide else (8, "I")
        for header, own in zip(self._headers, self._names, strict=True):
            if own not in (f".rela{name}", f".rel{name}"):
                continue
            layout = struct.Struct("<" + pointer * (3 if header[1] == 4 else 2))  # SHT_RELA
            for entry in layout.iter_unpack(self._bytes(header)):
                yield entry[0], entry[1] & ((1 << shift) - 1)

    def _bytes(self, header: tuple[int, ...]) -> bytes:
        return b"" if header[1] == 8 else self.data[header[4] : header[4] + header[5]]  # SHT_NOBITS

    def _text(self, at: int) -> str:
        return self.data[at : self.data.index(b"\0", at)].decode()


def _uint(value: int) -> bytes:
    """Seven bits a byte, the highest first."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))
