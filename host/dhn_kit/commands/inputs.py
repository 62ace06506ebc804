"""Reads what commands are given: networks, packs and arrays, whatever the user may have named by mistake."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dhn_kit.boards import Board
from dhn_kit.commands import console
from dhn_kit.errors import DhnError
from dhn_kit.generic_boards import find_board
from dhn_kit.graph import Array, Graph
from dhn_kit.hooks import KEEP_BYTES, KINDS
from dhn_kit.project import SETTINGS, load_project

if TYPE_CHECKING:
    from dhn_kit.bundle import BundleFile
    from dhn_kit.pack import Pack
    from dhn_kit.precision import Bits, Precision
    from dhn_kit.quantize import Method
    from dhn_kit.strategy import Goal, Policy

DEFAULT_BOARD = "qemu-cortex-m4"

RANDOM_SAMPLES = 64


@dataclass
class Quantized:
    """A network ready to be packed. ``float_graph`` and ``x`` are None where the file was int8 already."""

    graph: Graph
    float_graph: Graph | None = None
    x: Array | None = None
    y: Array | None = None


def load_target(board: str | None) -> Board:
    """The board that was asked for, else that of the project in the current folder, else the emulated Cortex-M4."""
    if board is None and Path(SETTINGS).is_file():
        board = load_project(Path()).board
    return find_board(board or DEFAULT_BOARD)


def port_of(board: Board, port: str | None) -> str | None:
    """The port that was asked for, else the one where a real board is found; None for an emulated one."""
    from dhn_kit.ports import find_port

    if port is not None or board.emulator is not None:
        return port
    return find_port(board, console.choose if console.asks() else None)


def model_and_calib(model: Path | None, calib: str | None) -> tuple[Path, str | None]:
    """The network that was asked for, else network and calibration data of the project in the current folder."""
    if model is not None:
        return model, calib
    if not Path(SETTINGS).is_file():
        raise DhnError(f"no MODEL given, and no {SETTINGS} here that names one; name a network or call 'dhn-kit init'")
    project = load_project(Path())
    return project.model, calib or (str(project.calib) if project.calib.is_file() else None)


def existing_file(path: Path) -> Path:
    if path.is_dir():
        raise DhnError(f"{path} is a folder; name a file")
    if not path.is_file():
        raise DhnError(f"{path} does not exist; check the path")
    return path


def writable_file(path: Path) -> Path:
    """Asked before the work starts, so that nobody waits for a result that cannot be written."""
    if path.is_dir():
        raise DhnError(f"{path} is a folder; name a file to write")
    if not path.resolve().parent.is_dir():
        raise DhnError(f"{path}: the folder {path.resolve().parent} does not exist; create it first")
    return path


def starts_with(path: Path, magic: bytes, at: int = 0) -> bool:
    with existing_file(path).open("rb") as file:
        return file.read(at + len(magic))[at:] == magic


def is_pack(path: Path) -> bool:
    return starts_with(path, b"DHN1")


def load_model(path: Path) -> Graph:
    """A network by its content: a .tflite carries its own mark, everything else must be ONNX."""
    if is_pack(path):
        raise DhnError(f"{path} is a pack; this command takes a network as .onnx or .tflite")
    if starts_with(path, b"TFL3", at=4):
        from dhn_kit.tflite_import import import_tflite

        return import_tflite(path)
    from dhn_kit.onnx_import import import_onnx

    return import_onnx(path)


def load_hooks(packed: Pack, path: Path | None) -> BundleFile | None:
    """The bundle, checked against the pack that it must belong to."""
    from dhn_kit.bundle import check_binding, load_bundle

    if path is None:
        return None
    if not starts_with(path, b"DHN1"):
        raise DhnError(f"{path} is no hook bundle; make one with 'dhn-kit train'")
    bundle = load_bundle(path)
    check_binding(packed, bundle, path)
    _check_attaches(packed, bundle, path)
    return bundle


def _check_attaches(packed: Pack, bundle: BundleFile, path: Path) -> None:
    """The board's own checks, on the host: a bundle that reaches beyond what the pack reserved is not even sent."""
    from dhn_kit.twin import Twin

    try:
        Twin(packed, bundle.data)
    except DhnError as error:
        raise DhnError(f"{path} does not fit '{packed.name}' ({error}); train hooks for this pack again") from error


def load_arrays(path: Path) -> dict[str, Array]:
    """All arrays of an .npz file."""
    existing_file(path)
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise DhnError(f"{path} holds one array without a name; write it with numpy.savez(path, x=array)")
        with file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DhnError(f"{path} is not a readable .npz file; write it with numpy.savez(path, x=array)") from error


def load_xy(path: Path) -> tuple[Array, Array | None]:
    """The array ``x``, and the labels ``y`` where there are any."""
    arrays = load_arrays(path)
    if "x" not in arrays:
        there = ", ".join(sorted(arrays)) or "nothing"
        raise DhnError(f"{path} has no array 'x' (it has {there}); write it with numpy.savez(path, x=array)")
    return arrays["x"], arrays.get("y")


def load_quantized(path: Path, calib: str | None, method: Method | None) -> Quantized:
    """Imports a network, and calibrates it where it is not int8 yet."""
    from dhn_kit.quantize import check_calibration, quantize

    with console.busy(f"importing {path}"):
        graph = load_model(path)
    if graph.quantized and calib is None:
        return Quantized(graph)
    if len(graph.inputs) != 1:
        raise DhnError(
            f"{path} has {len(graph.inputs)} inputs; calibration takes one, merge them into one in the network"
        )
    if calib is None:
        raise DhnError(f"{path} is a float network; give calibration data with --calib data.npz (array 'x')")
    x, y = _random_data(graph) if calib == "random" else load_xy(Path(calib))
    check_calibration(graph, x, y)
    if graph.quantized:
        return Quantized(graph, None, x, y)
    with console.busy("quantising"):
        quantized = quantize(graph, x, method) if method else quantize(graph, x)
    return Quantized(quantized, graph, x, y)


def policy_of(
    board: Board,
    flash_budget: int | None = None,
    goal: Goal = "cycles",
    kernels: list[str] | None = None,
    ram_first: bool = False,
) -> Policy:
    """How kernels are chosen: the board's own policy, with what the user asked for."""
    from dhn_kit.strategy import board_policy

    named = {}
    for text in kernels or []:
        op, equals, kernel = text.rpartition("=")
        if not equals:
            raise DhnError(f"--kernel {text}: expected OP=KERNEL; 'dhn-kit inspect' lists both")
        named[op] = kernel
    policy = dataclasses.replace(board_policy(board, goal), kernels=named, ram_first=ram_first)
    return policy if flash_budget is None else dataclasses.replace(policy, flash_budget=flash_budget)


def with_bits(quantized: Quantized, board: Board, policy: Policy, bits: Bits) -> tuple[Policy, dict[str, Any] | None]:
    """Narrows the network's weights: the policy that names the kernels which read them, and facts for the trailer."""
    if bits == "8":
        return policy, None
    found = _chosen_bits(quantized, board, policy, bits, f"--bits {bits}")
    quantized.graph = found.graph
    return dataclasses.replace(policy, kernels={**found.kernels, **policy.kernels}), found.facts()


def with_narrow(quantized: Quantized, board: Board, policy: Policy) -> tuple[Policy, Graph]:
    """The same network with four-bit weights wherever the board has kernels for them, and the policy to use those."""
    from dhn_kit.selections import narrow_name

    found = _chosen_bits(quantized, board, policy, "4", "--hooks bits")
    kernels = {narrow_name(name): kernel for name, kernel in found.kernels.items()}
    return dataclasses.replace(policy, kernels={**kernels, **policy.kernels}), found.graph


def _chosen_bits(quantized: Quantized, board: Board, policy: Policy, bits: Bits, option: str) -> Precision:
    from dhn_kit.latency import load_latency
    from dhn_kit.precision import choose_bits

    if quantized.x is None:
        raise DhnError(f"{option} measures on calibration data what narrow weights do; give --calib data.npz")
    with console.busy("measuring layers with fewer bits"):
        q = quantized.graph.quantize_input(quantized.x)
        return choose_bits(quantized.graph, q, bits, board.flavour, load_latency(board.latency_board), policy)


def load_small(path: Path, big: Quantized, method: Method | None) -> Graph:
    """A second network for the same pack, its input and output quantised like those of the first."""
    from dhn_kit.quantize import check_calibration, quantize
    from dhn_kit.selections import check_alike

    graph = load_model(path)
    if not graph.quantized:
        if big.x is None:
            raise DhnError(f"{path} is a float network; give calibration data with --calib data.npz (array 'x')")
        check_calibration(graph, big.x, what=f"calibration data for {path}")
        pairs = zip((*graph.inputs, *graph.outputs), (*big.graph.inputs, *big.graph.outputs), strict=True)
        quants = {mine.tensor: big.graph.tensors[its.tensor].quant for mine, its in pairs}
        fixed = {tensor: quant for tensor, quant in quants.items() if quant is not None}
        with console.busy(f"quantising {path}"):
            graph = quantize(graph, big.x, method or "minmax", fixed=fixed)
    check_alike(big.graph, graph)
    return graph


def packed_for(
    graph: Graph,
    board: Board,
    policy: Policy | None = None,
    bands: int | None = None,
    kinds: Sequence[str] = (),
    keep: int = KEEP_BYTES,
    narrow: Graph | None = None,
    small: Graph | None = None,
) -> Pack:
    """The quantised graph packed for the board, kernels chosen by its latency model.

    ``bands`` None: the first operators run in bands of rows only where the arena would not fit the board otherwise;
    0: never. ``kinds`` of hooks that the pack is made for, ``keep``: arena bytes that hooks own from run to run;
    ``narrow`` and ``small``: see `pack.pack`.
    """
    from dhn_kit.latency import load_latency
    from dhn_kit.pack import pack, pack_within

    made: dict[str, Any] = {
        "hooks": kinds or True,
        "latency": load_latency(board.latency_board),
        "policy": policy or policy_of(board),
        "keep": keep,
        "narrow": narrow,
        "small": small,
    }
    if bands is not None:
        return pack(graph, board.flavour, bands=bands, **made)
    return pack_within(graph, board.flavour, board.memory.ram_bytes, **made)


def hook_kinds(text: str) -> tuple[str, ...]:
    """Names of hook kinds, separated by commas. DhnError for an unknown one."""
    kinds = tuple(k.strip() for k in text.split(",") if k.strip())
    unknown = [k for k in kinds if k not in KINDS]
    if unknown:
        raise DhnError(f"hook kind '{unknown[0]}' is unknown; choose from {', '.join(KINDS)}")
    return kinds


def _random_data(graph: Graph) -> tuple[Array, None]:
    console.warn("calibrated on random numbers: good for benchmarks, the answers mean nothing")
    shape = (RANDOM_SAMPLES, *graph.inputs[0].user_shape)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32), None
