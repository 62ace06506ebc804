"""What a bench reports: every instruction has an operator, every byte of flash a part, the stack its depth."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import kernel_cases as kc
from board_rig import small_bundle, small_inputs, small_pack
from dhn_kit import kernel_rig
from dhn_kit.bench import Bench, bench, random_inputs
from dhn_kit.boards import list_boards, load_board
from dhn_kit.firmware_build import build_firmware
from dhn_kit.graph import Graph
from dhn_kit.kernels import reference_kernels
from dhn_kit.latency import load_latency
from dhn_kit.link_map import PARTS, flash_parts, part_of
from dhn_kit.pack import pack
from nets import Net

#: What an inference may take of its caller's stack.
STACK_LIMIT = 1000
#: Instructions per operator that are not the kernel's.
INTERPRETER_LIMIT = 60

MAP = """
Discarded input sections
 .text.gone     0x00000000       0x40 firmware/CMakeFiles/firmware.dir/app/app.c.obj
Linker script and memory map
LOAD firmware/CMakeFiles/firmware.dir/app/app.c.obj
.text           0x00000000      0x100
 .vectors       0x00000000       0xc0 firmware/CMakeFiles/firmware.dir/port/mps2/start.c.obj
 *(.text*)
 .text.a_very_long_name
                0x000000c0       0x10 firmware/CMakeFiles/firmware.dir/runtime/run.c.obj
                0x000000c0                a_very_long_name
 *fill*         0x000000d0        0x8
 .text          0x000000d8       0x20 /usr/lib/app/libc_nano.a(lib_a-memcpy.o)
 .rodata        0x000000f8        0x8 firmware/CMakeFiles/firmware.dir/__/mcu_kernels/ref/conv.c.obj
 .text.hook     0x000000f8        0x6 firmware/CMakeFiles/hook_kernels.dir/__/mcu_kernels/ref/fc.c.obj
 .text.fits     0x00000100        0x4 firmware/CMakeFiles/firmware.dir/__/x/generated/registry.c.obj
.weights        0x00000110       0x30
 .dhn_weights   0x00000110       0x30 firmware/CMakeFiles/firmware.dir/__/x/generated/model.c.obj
.bss            0x20000000       0x50
 .bss.arena     0x20000000       0x50 firmware/CMakeFiles/firmware.dir/__/x/generated/model.c.obj
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(small_pack(), load_board("qemu-cortex-m4"), small_inputs(2), tmp_path_factory.mktemp("bench"))


def test_a_map_gives_every_byte_of_flash_to_its_part() -> None:
    expected = {"runtime": 0x10, "kernels": 0xC, "hook kernels": 6, "application": 0, "port": 0xC0}
    expected |= {"libc": 0x20, "weights": 0x30}
    assert flash_parts(MAP) == expected
    assert part_of("firmware/CMakeFiles/firmware.dir/app/link.c.obj") == "application"


@pytest.mark.parametrize("board", [b for b in list_boards() if load_board(b).timer.instructions_per_tick])
def test_parts_add_up_to_the_flash_of_the_firmware(board: str, tmp_path: Path) -> None:
    image = build_firmware(small_pack().data, load_board(board), tmp_path)
    total = image.flash_code_bytes + image.flash_weight_bytes
    assert 0 <= total - sum(image.parts.values()) < 512  # padding
    assert image.parts["weights"] >= len(small_pack().data) and set(image.parts) == set(PARTS)
    assert image.inference_bytes == image.parts["runtime"] + image.parts["kernels"]
    assert all(image.parts[p] > 1000 for p in ("runtime", "kernels", "application"))


def test_operators_make_up_the_inference(result: Bench) -> None:
    assert result.output_equal and result.unit == "instructions"
    # Each operator's count has the clock's reading in it, and is rounded to ticks of 40.
    assert abs(sum(o.instructions for o in result.ops) - result.instructions) < 60 * len(result.ops) + 200


def test_the_stack_is_measured_and_small(result: Bench) -> None:
    assert result.stack_bytes is not None and 100 < result.stack_bytes <= STACK_LIMIT


def test_hooks_are_counted_apart(tmp_path: Path) -> None:
    found = bench(small_pack(), load_board("qemu-cortex-m4"), small_inputs(2), tmp_path, bundle=small_bundle())
    assert found.instructions_gated is not None and found.output_equal


def test_what_a_board_cannot_count_is_not_made_up(tmp_path: Path) -> None:
    found = asdict(bench(small_pack(), load_board("posix"), small_inputs(1), tmp_path))
    assert found["unit"] == "ticks" and found["output_equal"]
    assert found["stack_bytes"] is None and found["flash_code_bytes"] is None


def test_a_core_of_the_same_instruction_set_shares_the_model_but_not_its_cycles() -> None:
    shared, own = load_latency("qemu-cortex-m7"), load_latency("qemu-cortex-m4")
    assert shared.board == "qemu-cortex-m4" and shared.kernels == own.kernels and own.kernels


def chain(length: int) -> Graph:
    """`length` operators that copy one byte each."""
    net = Net((1, 1, 1))
    x = "x"
    for _ in range(length):
        x = net.node("transpose", [x], (1, 1, 1), net.graph.tensors["x"].quant, perm=(0, 1, 2))
    return net.done()


def test_the_interpreter_takes_few_instructions_per_operator(tmp_path: Path) -> None:
    board = load_board("qemu-cortex-m4")
    counts = []
    for length in (20, 120):
        packed = pack(chain(length), hooks=False)
        assert [o.kernel for o in packed.ops] == ["dhn_copy_s8__ref"] * length
        counts.append(bench(packed, board, random_inputs(packed, 8), tmp_path / str(length)).instructions)
    case = kc.case_of(reference_kernels()["copy"], kc.copy((1, 1, 1), (1, 1, 1), (1, 1, 1), "one byte"))
    kernel = kernel_rig.run_cases(board, [case], tmp_path / "rig")[0].instructions
    overhead = (counts[1] - counts[0]) / 100 - kernel
    assert 5 < overhead <= INTERPRETER_LIMIT
    print(f"interpreter: {overhead:.0f} instructions per operator")


def test_make_bench_writes_counts_beside_their_anchors(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "scripts" / "bench.py"
    chosen = [
        "--network",
        "autoencoder",
        "--board",
        "m4",
        "--config",
        "fast",
        "lean",
        "--output",
        str(tmp_path / "k.json"),
    ]
    done = subprocess.run([sys.executable, script, *chosen], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "k.json").read_text())["rows"]
    assert [r["config"] for r in rows] == ["fast", "lean"]
    assert all(r["output_equal"] and r["macs"] == 264_192 for r in rows), done.stdout
    assert [r["limits"]["instructions"] for r in rows] == [0.5, 0.65]
    assert rows[0]["share"] == pytest.approx(rows[0]["instructions"] / 582_915)
