"""The reference networks fit the memory they did elsewhere, and are made ready on the host in seconds."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from dhn_kit.boards import load_board
from dhn_kit.firmware_build import build_firmware
from dhn_kit.latency import load_latency
from dhn_kit.onnx_import import import_onnx
from dhn_kit.pack import pack
from dhn_kit.quantize import quantize
from dhn_kit.strategy import board_policy
from dhn_kit.tflite_import import import_tflite

#: Network -> the smallest arena with which TFLite Micro runs it, in bytes.
ARENA = {"ic_resnet8_int8.tflite": 55_008, "kws_dscnn_int8.tflite": 22_832}

#: Network -> most bytes of code that runtime and kernels may take together on a Cortex-M4.
CODE = {"ic_resnet8_int8.tflite": 16_000, "kws_dscnn_int8.tflite": 12_000}

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("name", ARENA)
@pytest.mark.parametrize("hooks", [True, False], ids=["hook-points", "plain"])
def test_the_arena_is_not_above_tflite_micros(name: str, hooks: bool, reference_dir: Path) -> None:
    made = pack(import_tflite(reference_dir / "models" / name), hooks=hooks)
    print(f"{name}, hooks={hooks}: arena {made.arena_bytes:,} bytes, TFLite Micro {ARENA[name]:,}")
    assert made.arena_bytes <= ARENA[name]


@pytest.mark.parametrize("name", CODE)
def test_runtime_and_kernels_are_small(name: str, reference_dir: Path, tmp_path: Path) -> None:
    board = load_board("qemu-cortex-m4")
    graph = import_tflite(reference_dir / "models" / name)
    made = pack(graph, board.flavour, latency=load_latency(board.name), policy=board_policy(board))
    code = build_firmware(made.data, board, tmp_path).inference_bytes
    print(f"{name}: {code:,} bytes of code, at most {CODE[name]:,}")
    assert code is not None and 0 < code <= CODE[name]


def test_the_arena_of_an_imported_network_is_not_above_that_of_the_int8_file(reference_dir: Path) -> None:
    """The float file of the same network must not need more memory than the one TFLite quantised."""
    with np.load(reference_dir / "data" / "cifar10_jpeg_train10k.npz") as file:
        x = file["x"][:8].astype(np.float32)
    made = pack(quantize(import_onnx(reference_dir / "models" / "ic_resnet8.onnx"), x))
    assert made.arena_bytes <= ARENA["ic_resnet8_int8.tflite"]


def test_image_classification_is_imported_quantised_and_packed(reference_dir: Path, tmp_path: Path) -> None:
    """Prints the seconds that it takes with 500 images; other load on the computer makes them no fact to assert."""
    start = time.perf_counter()
    with np.load(reference_dir / "data" / "cifar10_jpeg_train10k.npz") as file:
        x = file["x"][:500].astype(np.float32)
    made = [("load", time.perf_counter())]
    graph = import_onnx(reference_dir / "models" / "ic_resnet8.onnx")
    made.append(("import", time.perf_counter()))
    quantized = quantize(graph, x)
    made.append(("quantise", time.perf_counter()))
    pack(quantized).save(tmp_path / "ic.dhn")
    made.append(("pack", time.perf_counter()))
    starts = [start, *(t for _, t in made[:-1])]
    spent = [f"{name} {now - before:.2f} s" for (name, now), before in zip(made, starts, strict=True)]
    print(f"ic_resnet8 with 500 images: {', '.join(spent)}; together {made[-1][1] - start:.2f} s")
    assert (tmp_path / "ic.dhn").stat().st_size > 70_000
