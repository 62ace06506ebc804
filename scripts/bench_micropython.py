"""Times a network in MicroPython (x64) against the host twin on one thread, and prints the module's heap: NETWORK."""
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
from dhn_kit.micropython import export_native
from dhn_kit.pack import pack
from dhn_kit.twin import Twin

RUNS = 20
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
print(json.dumps([min(times), heap, list(m.run(x))]))
"""


def main() -> None:
    main_pack = pack(load_quantized(Path(sys.argv[1]), None, None).graph, "portable")
    shape = main_pack.tensors[main_pack.inputs[0].tensor].shape
    x, twin = np.zeros((1, *shape), np.int8), Twin(main_pack, threads=1)
    output = twin.run(x).output[0].tolist()
    with tempfile.TemporaryDirectory() as folder:
        export_native("x64", Path(folder), main_pack.data)
        (Path(folder) / "main.py").write_text(SCRIPT)
        tool = shutil.which("micropython", path=str(Path(sys.executable).parent)) or "micropython"
        done = subprocess.run([tool, "-X", "heapsize=8M", "main.py"], cwd=folder, capture_output=True, check=True)
    board_us, heap, answer = json.loads(done.stdout)
    assert answer == output, "MicroPython and the twin differ"
    batch = np.repeat(x, RUNS, axis=0)
    best = min(_seconds(twin, batch) for _ in range(5)) / RUNS * 1e6
    print(f"MicroPython {board_us:.0f} us, twin {best:.0f} us, ratio {board_us / best:.2f}; heap {heap} bytes")


def _seconds(twin: Twin, batch: np.ndarray) -> float:
    start = time.perf_counter()
    twin.run(batch)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
