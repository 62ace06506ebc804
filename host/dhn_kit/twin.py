"""The board's C runtime, called on the host: bit-exact with the board, in batches, on several threads."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ctypes
import functools
import importlib.util
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from dhn_kit import records
from dhn_kit.errors import DhnError
from dhn_kit.interface import interface
from dhn_kit.pack import Pack
from dhn_kit.perception import DEFAULTS

Int8 = npt.NDArray[np.int8]
Mode = Literal["gated", "shadow", "detached"]
MODES = {"gated": 0, "shadow": 1, "detached": 2}
MAX_HOOKS = records.MAX_HOOKS
#: What surrounds the arena during tests, and is checked after each batch.
GUARD_BYTES = 64


class _Tap(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint32),
        ("ref", ctypes.c_uint32),
        ("bytes", ctypes.c_uint32),
        ("first", ctypes.c_uint32),
        ("to", ctypes.c_void_p),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("input", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("exit_hook", ctypes.c_void_p),
        ("decision", ctypes.c_void_p),
        ("score", ctypes.c_void_p),
        ("feature", ctypes.c_void_p),
        ("reached", ctypes.c_void_p),
        ("ran", ctypes.c_void_p),
        ("environment", ctypes.c_void_p),
        ("taps", ctypes.c_void_p),
        ("tap_count", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("op_count", ctypes.c_uint32),
        ("operating_point", ctypes.c_uint16),
        ("mode", ctypes.c_uint16),
    )


def _is_current(lib: ctypes.CDLL) -> bool:
    """Another layout of a structure would corrupt memory, so it must not even be tried."""
    if not hasattr(lib, "twin_made_for"):
        return False
    lib.twin_made_for.restype = ctypes.c_char_p
    return bytes(lib.twin_made_for()).decode() == interface()


@functools.cache
def library() -> ctypes.CDLL:
    """The shared library that was compiled when the package was installed. DhnError: none, or of other sources."""
    spec = importlib.util.find_spec("dhn_kit._twin")
    if spec is None or spec.origin is None:
        raise DhnError("the host twin is not built; install the package with 'pip install .' (needs a C compiler)")
    lib = ctypes.CDLL(spec.origin)
    if not _is_current(lib):
        raise DhnError(
            f"{spec.origin} was compiled from other sources; compile it again with 'make setup' (or 'pip install .')"
        )
    lib.twin_error.restype = ctypes.c_char_p
    lib.twin_crc32.restype = ctypes.c_uint32
    lib.twin_sizeof.restype = ctypes.c_uint32
    return lib


@dataclass
class TwinResult:
    """``outputs[k]`` is (N, bytes) int8 of output k, ``output`` the first. ``decisions`` and ``scores`` are
    (N, hooks). ``ran`` (N, ops) says which operators of the main program ran. ``features[p]`` is (N, F) int8 and
    ``reached[p]`` (N,) bool per hook point, when asked for. ``layers[t]`` is (N, H, W, C) int8 of each tapped tensor
    (zeros where a gate left it out)."""

    outputs: list[Int8]
    exit_hook: npt.NDArray[np.int16]
    decisions: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.int16]
    ran: npt.NDArray[np.bool_]
    features: list[Int8] = field(default_factory=list)
    reached: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    layers: dict[str, Int8] = field(default_factory=dict)

    @property
    def output(self) -> Int8:
        return self.outputs[0]


class Twin:
    """A main pack, with or without a hook bundle, ready to run batches. Raises DhnError when the runtime refuses it."""

    def __init__(self, pack: Pack, bundle: bytes | None = None, threads: int | None = None) -> None:
        self.pack = pack
        self.bundle = bundle
        self.threads = threads or os.cpu_count() or 1
        self.hooks = records.HEADER.unpack(bundle)["hook_count"] if bundle else 0
        self.remembers = bundle is not None and _reuses(bundle)
        self._call(None)

    def _call(self, batch: _Batch | None) -> None:
        arena_bytes = max(4, self.pack.arena_bytes)
        arena = np.full(arena_bytes + 2 * GUARD_BYTES + 8, 0x5A, np.uint8)
        start = GUARD_BYTES + (-(arena.ctypes.data + GUARD_BYTES)) % 4
        data = _aligned(self.pack.data)
        bundle = _aligned(self.bundle) if self.bundle else None
        status = library().twin_run(
            ctypes.c_void_p(data.ctypes.data),
            ctypes.c_uint32(data.size),
            ctypes.c_void_p(bundle.ctypes.data if bundle is not None else None),
            ctypes.c_uint32(bundle.size if bundle is not None else 0),
            ctypes.c_void_p(arena.ctypes.data + start),
            ctypes.c_uint32(arena_bytes),
            ctypes.byref(batch) if batch is not None else None,
        )
        if status:
            raise DhnError(f"the runtime refuses '{self.pack.name}': {library().twin_error(status).decode()}")
        guards = np.concatenate([arena[:start], arena[start + arena_bytes :]])
        assert (guards == 0x5A).all(), "a kernel wrote outside the arena"

    def run(
        self,
        q: Int8 | Sequence[Int8],
        point: int = 0,
        mode: Mode = "gated",
        features: bool = False,
        taps: Sequence[str] = (),
        sequence: bool = False,
        environment: npt.ArrayLike = DEFAULTS,
    ) -> TwinResult:
        """Run canonical int8 inputs (N, H, W, C), one array per network input, at an operating point.

        ``sequence``: one after the other in this order, as a board sees them. For a bundle that reuses answers that is
        always so; else inputs are shared out among threads, each of which starts afresh. ``environment`` (16,) or
        (N, 16) int8 are the channels that hooks read.
        """
        arrays = [q] if isinstance(q, np.ndarray) else list(q)
        count = len(arrays[0])
        flat = np.ascontiguousarray(np.concatenate([a.reshape(count, -1) for a in arrays], axis=1), np.int8)
        expected = sum(self.pack.tensors[p.tensor].size for p in self.pack.inputs)
        if flat.shape[1] != expected:
            raise DhnError(f"input has {flat.shape[1]} bytes each, '{self.pack.name}' takes {expected}")
        result = self._empty(count, features, taps)
        given = np.asarray(environment, np.int8)
        result["environment"] = np.ascontiguousarray(np.broadcast_to(given, (count, records.ENVIRONMENT)))
        threads = 1 if sequence or self.remembers else min(self.threads, max(1, count))
        chunks = [c for c in np.array_split(np.arange(count), threads) if len(c)]
        with ThreadPoolExecutor(len(chunks) or 1) as executor:
            list(executor.map(lambda c: self._chunk(flat, c[0], c[-1] + 1, result, point, mode, taps), chunks))
        return self._shaped(result, count, features, taps)

    def _empty(self, count: int, features: bool, taps: Sequence[str]) -> dict[str, npt.NDArray[np.generic]]:
        out_bytes = sum(self.pack.tensors[p.tensor].size for p in self.pack.outputs)
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "output": np.zeros((count, out_bytes), np.int8),
            "exit_hook": np.zeros(count, np.int16),
            "decision": np.zeros((count, MAX_HOOKS), np.uint8),
            "score": np.zeros((count, MAX_HOOKS), np.int16),
            "ran": np.zeros((count, len(self.pack.ops)), np.uint8),
        }
        if features:
            sizes = [int(np.prod(p.feature_shape)) for p in self.pack.points]
            arrays["feature"] = np.zeros((count, sum(sizes)), np.int8)
            arrays["reached"] = np.zeros((count, len(sizes)), np.uint8)
        for name in taps:
            arrays["tap:" + name] = np.zeros((count, self.pack.tensors[name].size), np.int8)
        return arrays

    def _chunk(
        self,
        flat: Int8,
        start: int,
        stop: int,
        arrays: dict[str, npt.NDArray[np.generic]],
        point: int,
        mode: Mode,
        taps: Sequence[str],
    ) -> None:
        def at(name: str) -> int | None:
            return arrays[name][start:].ctypes.data if name in arrays else None

        table = (_Tap * max(1, len(taps)))()
        for i, name in enumerate(taps):
            size = self.pack.tensors[name].size
            first, last = self._written_by(name)
            table[i] = _Tap(last, self.pack.offsets[name], size, first, at("tap:" + name))
        batch = _Batch(
            flat[start:].ctypes.data,
            at("output"),
            at("exit_hook"),
            at("decision"),
            at("score"),
            at("feature"),
            at("reached"),
            at("ran"),
            at("environment"),
            ctypes.addressof(table),
            len(taps),
            stop - start,
            len(self.pack.ops),
            point,
            MODES[mode],
        )
        self._call(batch)

    def _written_by(self, tensor: str) -> tuple[int, int]:
        """Number of the op after which a tensor is complete; 2^32-1 before the first (inputs). In front of it the first
        op that may have completed it, where there are variants."""
        last = int(self.pack.extra.get("writers", {}).get(tensor, 0xFFFFFFFF))
        return int(self.pack.extra.get("variant_writers", {}).get(tensor, last)), last

    def _shaped(
        self, arrays: dict[str, npt.NDArray[np.generic]], count: int, features: bool, taps: Sequence[str]
    ) -> TwinResult:
        out_sizes = [self.pack.tensors[p.tensor].size for p in self.pack.outputs]
        result = TwinResult(
            outputs=_split(arrays["output"], out_sizes),
            exit_hook=arrays["exit_hook"].astype(np.int16, copy=False),
            decisions=arrays["decision"][:, : self.hooks].astype(np.uint8, copy=False),
            scores=arrays["score"][:, : self.hooks].astype(np.int16, copy=False),
            ran=arrays["ran"].astype(bool),
        )
        if features:
            result.features = _split(arrays["feature"], [int(np.prod(p.feature_shape)) for p in self.pack.points])
            result.reached = [c.astype(bool) for c in arrays["reached"].T]
        for name in taps:
            shape = self.pack.tensors[name].shape
            result.layers[name] = arrays["tap:" + name].astype(np.int8, copy=False).reshape(count, *shape)
        return result


def _reuses(bundle: bytes) -> bool:
    """Whether a hook of the bundle answers from an earlier run."""
    header = records.HEADER.unpack(bundle)
    at = range(header["hooks"], header["hooks"] + header["hook_count"] * records.HOOK.size, records.HOOK.size)
    return any(records.HOOK.unpack(bundle, offset)["action"] == records.ACTIONS["reuse"] for offset in at)


def _split(array: npt.NDArray[np.generic], sizes: Sequence[int]) -> list[Int8]:
    edges = np.cumsum([0, *sizes])
    return [array[:, a:b].astype(np.int8) for a, b in itertools.pairwise(edges)]


def _aligned(data: bytes) -> npt.NDArray[np.uint8]:
    """A copy that starts at a multiple of 4, as flash does."""
    room = np.empty(len(data) + 4, np.uint8)
    start = -room.ctypes.data % 4
    room[start : start + len(data)] = np.frombuffer(data, np.uint8)
    return room[start : start + len(data)]
