"""Fits a board's latency model: counts calls over random shapes, picks terms one by one, judges on held-out layers."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from dhn_kit import expressions
from dhn_kit.boards import Board
from dhn_kit.errors import DhnError
from dhn_kit.kernel_rig import run_cases
from dhn_kit.kernels import Kernel
from dhn_kit.latency import KernelLatency, derived
from dhn_kit.latency_grid import case_of, grid
from dhn_kit.lower import Op

Floats = npt.NDArray[np.float64]
#: Most terms of one kernel: more gain less than a percent and read worse.
MAX_TERMS = 12
#: Layers per kernel.
TRAIN, HELD_OUT = 120, 60
#: A further term must lower the mean squared relative error by this share.
LEAST_GAIN = 0.01


def _ceil(name: str, by: int) -> str:
    return name if by == 1 else f"(({name} + {by - 1}) // {by})"


def _pixels() -> list[str]:
    """Output pixels one by one, and in the tiles that kernels take them in."""
    pixels = [f"out_h * {_ceil('out_w', t)}" for t in (1, 2, 3, 4)] + [_ceil("(out_h * out_w)", t) for t in (2, 3, 4)]
    return pixels + [f"{_ceil('out_h', a)} * {_ceil('out_w', b)}" for a, b in ((2, 2), (4, 4), (2, 1), (4, 1))]


def _conv_terms() -> list[str]:
    """Loops that convolutions are made of: pixels in tiles, channels in tiles, taps, rows, window copies."""
    channels = [_ceil("out_c", t) for t in (1, 2, 4, 8)]
    inner = [
        "kh * kw * in_c",
        "kh * kw",
        "kh",
        "in_c",
        "kh * kw * " + _ceil("in_c", 2),
        "kh * kw * " + _ceil("in_c", 4),
    ]
    inner += [_ceil("(kh * kw * in_c)", t) for t in (2, 4, 8, 16)] + [_ceil("in_c", t) for t in (2, 4, 16)]
    inner += [
        "kh * " + _ceil("(kw * in_c)", 4),
        "kh * (kw * in_c // 4)",
        "kh * (kw * in_c % 4)",
        "kh * kw * (in_c % 4)",
    ]
    terms = ["1", "out_h", "out_c", "out_h * out_c", "kh * kw * in_c * out_c", "in_h * in_w * in_c", "in_c * out_c"]
    terms += ["taps_h * taps_w", "taps_h * taps_w * in_c", "taps_h * taps_w * out_c", "taps_h * taps_w * in_c * out_c"]
    terms += ["taps_h * out_w", "taps_h * out_w * out_c", "taps_h", "out_h * taps_w", "in_w * in_c", "in_h * in_w"]
    terms += ["out_h * kh * in_w * in_c", "out_h * kw * in_c", "out_h * kh", "out_h * in_w * in_c"]
    for p in _pixels():
        terms += [p, *(f"{p} * {c}" for c in channels), *(f"{p} * {i}" for i in inner)]
        terms += [f"{p} * {c} * {i}" for c in channels for i in inner]
    return terms


_FLAT = ("1", "count", "rows", "c", "rows * c", "pixels", "pixels * c")
TERMS: dict[str, list[str]] = {
    "conv2d": _conv_terms(),
    "depthwise_conv2d": _conv_terms(),
    "fully_connected": [
        *("1", "rows", "in_c", "out_c", "rows * in_c", "rows * out_c", "rows * in_c * out_c"),
        *(f"rows * {_ceil('out_c', a)} * {_ceil('in_c', b)}" for a in (1, 2, 4, 8) for b in (1, 2, 4, 8, 16)),
        *(f"rows * {_ceil('out_c', a)}" for a in (2, 4, 8)),
    ],
}
_POOL = ["1", "out_h", "out_h * out_w", "out_h * out_w * c", "c", "taps_h * taps_w", "taps_h * taps_w * c"]
_POOL += [
    "taps_h * out_w",
    "taps_h * out_w * c",
    f"out_h * out_w * {_ceil('c', 4)}",
    f"taps_h * taps_w * {_ceil('c', 4)}",
]
_POOL += [f"out_h * out_w * {_ceil('c', 2)}", f"taps_h * taps_w * {_ceil('c', 2)}"]
TERMS["avg_pool"] = TERMS["max_pool"] = _POOL
_STRIDED = ["1", "shape0", "shape0 * shape1", "shape0 * shape1 * shape2", f"shape0 * shape1 * {_ceil('shape2', 4)}"]
_STRIDED += [_ceil("(shape0 * shape1 * shape2)", 4), _ceil("(shape0 * shape1 * shape2)", 2)]
_OTHER = [
    *_FLAT,
    _ceil("count", 4),
    _ceil("count", 2),
    f"rows * {_ceil('c', 4)}",
    _ceil("c", 4),
    f"pixels * {_ceil('c', 4)}",
]


def terms_for(kernel: Kernel, values: Mapping[str, Any]) -> list[str]:
    """Candidate terms of a kernel over fields that its record has. How many constants it reads and how much scratch it
    fills are telling ones: they come in the units of its own loops."""
    scope = set(derived(values))
    candidates = list(TERMS.get(kernel.op) or [*_STRIDED, *_OTHER])
    for own in (kernel.scratch, kernel.consts.get("weight", "0")):
        if own != "0":
            one_line = " ".join(own.split())
            candidates += [f"({one_line})", *(f"{p} * ({one_line})" for p in _pixels())]
    return [t for t in dict.fromkeys(candidates) if expressions.names(t) <= scope]


@dataclass(frozen=True)
class Sample:
    """One counted call."""

    values: Mapping[str, Any]
    instructions: float


def measure(board: Board, ops: Sequence[Op], folder: Path) -> list[Sample]:
    """Each op counted on the emulated core; DhnError if a kernel misbehaves."""
    cases = [case_of(op, seed) for seed, op in enumerate(ops)]
    outcomes = run_cases(board, cases, folder)
    for op, outcome in zip(ops, outcomes, strict=True):
        if outcome.faults:
            raise DhnError(f"{board.name}: {op.kernel.name} {', '.join(outcome.faults)}; this is a fault of the kernel")
    return [Sample(op.prepared.values, max(1, o.instructions)) for op, o in zip(ops, outcomes, strict=True)]


def fit_board(
    board: Board,
    kernels: Sequence[Kernel],
    folder: Path,
    cpi: Mapping[str, float] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, KernelLatency]:
    """Latencies of these kernels by name, each fitted to `TRAIN` layers and judged on `HELD_OUT` others."""
    found = {}
    for kernel in kernels:
        progress(kernel.name)
        ops = grid(kernel, TRAIN + HELD_OUT)
        if len(ops) < 4:
            continue
        samples = measure(board, ops, folder)
        apart = max(1, len(samples) * HELD_OUT // (TRAIN + HELD_OUT))
        found[kernel.name] = fit_kernel(kernel, samples[apart:], samples[:apart], (cpi or {}).get(kernel.name, 0.0))
    return found


def fit_kernel(kernel: Kernel, train: Sequence[Sample], held_out: Sequence[Sample], cpi: float = 0.0) -> KernelLatency:
    """Non-negative least squares of the relative error, terms added greedily by what they gain.

    Forward selection with refitting (orthogonal matching pursuit); non-negative, so that no prediction outside the
    grid turns negative.
    """
    names = terms_for(kernel, train[0].values)
    matrix, target = _matrix(names, train)
    # Duplicate columns (a field that is constant in this kernel) only slow the search.
    unique = np.sort(np.unique(matrix / np.maximum(matrix.max(axis=0), 1e-12), axis=1, return_index=True)[1])
    names, matrix = [names[i] for i in unique], matrix[:, unique]
    relative = matrix / target[:, None]
    picked: list[int] = []
    best, coefficients = float(len(train)), np.zeros(0)
    while len(picked) < MAX_TERMS:
        error, index = _best_addition(relative, picked)
        if index < 0 or error > best * (1 - LEAST_GAIN):
            break
        picked.append(index)
        coefficients, _ = nnls(relative[:, picked], np.ones(len(train)))
        best = error
    terms = tuple((names[i], round(float(k), 4)) for i, k in zip(picked, coefficients, strict=True) if k > 5e-5)
    errors = _errors(terms, held_out)
    within = float((errors <= 0.1).mean()) if len(errors) else 0.0
    return KernelLatency(
        terms, cpi, len(train), len(held_out), round(within, 4), round(float(errors.max(initial=0.0)), 4)
    )


def _best_addition(relative: Floats, picked: list[int]) -> tuple[float, int]:
    """The column that lowers the squared error most when it joins those picked; a shortlist by correlation."""
    ones = np.ones(len(relative))
    rest = ones - relative[:, picked] @ nnls(relative[:, picked], ones)[0] if picked else ones
    norms = np.linalg.norm(relative, axis=0)
    scores = (relative.T @ rest) / np.maximum(norms, 1e-12)
    shortlist = [int(i) for i in np.argsort(-scores) if i not in picked and scores[i] > 0][:24]
    best, index = math.inf, -1
    for i in shortlist:
        error = float(nnls(relative[:, [*picked, i]], ones)[1]) ** 2
        if error < best:
            best, index = error, i
    return best, index


def _matrix(names: Sequence[str], samples: Sequence[Sample]) -> tuple[Floats, Floats]:
    rows = []
    for sample in samples:
        scope = derived(sample.values)
        rows.append([expressions.evaluate(n, scope) for n in names])
    return np.array(rows, np.float64), np.array([s.instructions for s in samples], np.float64)


def _errors(terms: Sequence[tuple[str, float]], samples: Sequence[Sample]) -> Floats:
    if not samples:
        return np.zeros(0)
    matrix, target = _matrix([t for t, _ in terms], samples)
    return np.asarray(np.abs(matrix @ np.array([k for _, k in terms]) / target - 1.0), np.float64)
