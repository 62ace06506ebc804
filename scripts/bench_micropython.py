"""Prints what MicroPython costs for a NETWORK: module sizes, time against the host twin (x64, one thread), heap."""
# SPDX-License-Identifier: Apache-2.0

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from dhn_kit.commands.inputs import load_quantized
from dhn_kit.errors import DhnError
from dhn_kit.micropython import export_native
from dhn_kit.mpy_native import TARGETS, build_module, module_kernels
from dhn_kit.pack import Pack, pack
from dhn_kit.twin import Twin

RUNS, ROUNDS = 20, 10
#: What the project asks for: at most so much longer than the twin, at most so many bytes.
RATIO, HEAP = 1.1, 4096
SCRIPT = f"""
import gc, json, dhn
with open("model.dhn", "rb") as file:
    pack = file.read()
arena = bytearray(dhn.arena_bytes(pack))
gc.collect()
before = gc.mem_alloc()
m = dhn.Model(pack, arena)
x = bytes(m.inputs[0])
m.run(x)
gc.collect()
heap = gc.mem_alloc() - before - len(x)
times = []
for _ in range({RUNS}):
    m.run(x)
    times.append(m.ticks_us)
print(json.dumps([sum(times) / len(times), heap, list(m.run(x))]))
"""


def main() -> None:
    graph = load_quantized(Path(sys.argv[1]), None, None).graph
    print(f"{'_dhn.mpy for':12} {'all kernels':>12} {'this network':>13}  (bytes)")
    for arch in TARGETS:
        print(f"{arch:12} {_size(arch):>12} {_size(arch, pack(graph, TARGETS[arch].kernels).data):>13}")
    board_us, twin_us, heap = _measure(pack(graph, "portable"))
    ratio = board_us / twin_us
    print(f"run: MicroPython {board_us:.0f} us, twin {twin_us:.0f} us, ratio {ratio:.2f} (target: <= {RATIO})")
    print(f"heap beside arena and pack: {heap} bytes (target: <= {HEAP})")
    if ratio > RATIO or heap > HEAP:
        sys.exit("a target is missed")


def _size(arch: str, image: bytes | None = None) -> str:
    try:
        with tempfile.TemporaryDirectory() as folder:
            return f"{len(build_module(arch, module_kernels(arch, image), Path(folder))):,}"
    except DhnError as error:
        return "no compiler" if "compiler" in str(error) else "does not build"


def _measure(main_pack: Pack) -> tuple[float, float, int]:
    """Mean time of a run in the quietest round, in MicroPython and in the twin (us), and the model's heap (bytes)."""
    shape = main_pack.tensors[main_pack.inputs[0].tensor].shape
    x, twin = np.zeros((1, *shape), np.int8), Twin(main_pack, threads=1)
    batch = np.repeat(x, RUNS, axis=0)
    times = []
    with tempfile.TemporaryDirectory() as folder:
        export_native("x64", Path(folder), main_pack.data)
        (Path(folder) / "main.py").write_text(SCRIPT)
        # In turns, so that whoever else works on the machine is in the way of both.
        for _ in range(ROUNDS):
            board_us, heap, answer = _run_script(Path(folder))
            assert answer == twin.run(x).output[0].tolist(), "MicroPython and the twin differ"
            times.append((board_us, _seconds(twin, batch) / RUNS * 1e6))
    return min(board for board, _ in times), min(host for _, host in times), heap


def _run_script(folder: Path) -> tuple[float, int, list[int]]:
    tool = shutil.which("micropython", path=str(Path(sys.executable).parent)) or "micropython"
    done = subprocess.run([tool, "-X", "heapsize=8M", "main.py"], cwd=folder, capture_output=True, check=True)
    board_us, heap, answer = json.loads(done.stdout)
    return float(board_us), int(heap), list(answer)


def _seconds(twin: Twin, batch: np.ndarray) -> float:
    start = time.perf_counter()
    twin.run(batch)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
