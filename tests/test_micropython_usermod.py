"""The module as a user C module compiles without a warning, registers its functions and computes what the twin does.

MicroPython's sources are in no package here: its headers, its build and its interpreter are stood in for (fw/usermod).
"""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dhn_kit.micropython import export_sources
from dhn_kit.mpy_native import function_names
from dhn_kit.pack import Pack, pack
from dhn_kit.twin import Twin
from nets import residual_net

STANDIN = Path(__file__).parent / "fw" / "usermod"
INPUTS = 4


class Buffer(ctypes.Structure):
    """A buffer of the stand-in: what mp_get_buffer_raise gives."""

    _fields_ = (("buf", ctypes.c_void_p), ("len", ctypes.c_size_t), ("typecode", ctypes.c_int))


class Interpreter:
    """Calls the functions of the module in a library that the stand-in port has built."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.standin_call.restype = self._library.standin_none.restype = ctypes.c_void_p
        self.none = self._library.standin_none()

    def call(self, name: str, *arguments: int | Buffer | None) -> int | None:
        """The number that the function returns; None where there is no such function for so many arguments."""
        objects = (ctypes.c_void_p * max(len(arguments), 1))(*map(self._object, arguments))
        result = self._library.standin_call(name.encode(), len(arguments), objects)
        return None if result is None else ctypes.c_ssize_t(result).value >> 1

    def _object(self, value: int | Buffer | None) -> int | None:
        if isinstance(value, int):
            return ctypes.c_size_t(value << 1 | 1).value
        return self.none if value is None else ctypes.addressof(value)


def buffer(size: int, content: bytes = b"") -> Buffer:
    memory = np.zeros(size + 16, np.uint8)
    at = -memory.ctypes.data % 16
    memory[at : at + len(content)] = np.frombuffer(content, np.uint8)
    made = Buffer(memory.ctypes.data + at, size, 0)
    made.memory = memory  # kept alive
    return made


def content(of: Buffer) -> bytes:
    return ctypes.string_at(of.buf, of.len)


def tool(name: str) -> str:
    """cmake and ninja come with this package's dependencies."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else name


def by_make(modules: Path, build: Path, target: str = "firmware.so") -> Path:
    build.mkdir(exist_ok=True)
    variables = [f"STANDIN={STANDIN}", f"BUILD={build}", f"USER_C_MODULES={modules}"]
    command = ["make", "-s", "-f", str(STANDIN / "Makefile"), *variables, str(build / target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return build / target


def answers(interpreter: Interpreter, main: Pack, x: NDArray[np.int8]) -> NDArray[np.int8]:
    data = buffer(len(main.data), main.data)
    state = buffer(interpreter.call("state_bytes") or 0)
    arena = buffer(interpreter.call("need", data) or 0)
    assert interpreter.call("load", state, data, arena) == 0
    output = buffer(interpreter.call("tensor", state, 1, 0) or 0)
    rows = []
    for row in x:
        assert interpreter.call("put", state, arena, 0, buffer(row.size, row.tobytes())) == 0
        assert interpreter.call("run", state, data, arena, None, 0, None) == 0
        assert interpreter.call("get", state, arena, 0, output) == 0
        rows.append(np.frombuffer(content(output), np.int8))
    return np.array(rows)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pack, NDArray[np.int8]]:
    """Folder of user C modules, one of them ours."""
    graph, net = residual_net()
    main = pack(graph, "portable")
    folder = tmp_path_factory.mktemp("usermod")
    export_sources("x64", folder / "dhn", main.data)
    return folder, main, net.inputs(INPUTS)


def test_a_port_built_with_make_computes_what_the_twin_computes(
    exported: tuple[Path, Pack, NDArray[np.int8]], tmp_path: Path
) -> None:
    modules, main, x = exported
    interpreter = Interpreter(by_make(modules, tmp_path))
    assert (answers(interpreter, main, x) == Twin(main).run(x).output).all()
    assert interpreter.call("state_bytes", 1) is None and interpreter.call("absent") is None
    names = (tmp_path / "qstr_names.h").read_text()
    assert all(f"QSTR({name})" in names for name in ("_dhn", *function_names()))


def test_a_port_built_with_cmake_compiles_every_source(
    exported: tuple[Path, Pack, NDArray[np.int8]], tmp_path: Path
) -> None:
    modules, main, x = exported
    by_make(modules, tmp_path / "make", "qstr_names.h")
    variables = {"USER_C_MODULES": modules / "dhn" / "micropython.cmake", "NAMES": tmp_path / "make"}
    build = tmp_path / "cmake"
    values = [f"-D{key}={value}" for key, value in (variables | {"CMAKE_MAKE_PROGRAM": tool("ninja")}).items()]
    for command in (["-S", str(STANDIN), "-B", str(build), "-G", "Ninja", *values], ["--build", str(build)]):
        done = subprocess.run([tool("cmake"), *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout
    assert (answers(Interpreter(build / "firmware.so"), main, x) == Twin(main).run(x).output).all()
