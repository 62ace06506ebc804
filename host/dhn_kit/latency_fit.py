"""Fits a board's latency model: counts calls over random shapes, chooses terms by cross-validation, judges held out."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from dhn_kit import cycles, expressions
from dhn_kit.boards import Board
from dhn_kit.errors import DhnError
from dhn_kit.kernel_rig import FAULTS, Case, run_cases
from dhn_kit.kernels import Kernel
from dhn_kit.latency import KernelLatency, derived
from dhn_kit.latency_grid import case_of, counted_values, grid
from dhn_kit.latency_terms import families, own_terms
from dhn_kit.lower import Op

Floats = npt.NDArray[np.float64]
#: Layers per kernel.
TRAIN, HELD_OUT = 80, 50
#: Fewest that a kernel is fitted to.
FEWEST = 12
FOLDS = 5
#: Instructions of the calls that are traced for an estimate of cycles, about.
TRACED = 20_000
#: Sets of terms that are cross-validated: those with the smallest training errors.
SHORTLIST = 12
#: Where the author's terms are off by less on average, no others are tried.
GOOD_ERROR = 0.02
#: A term stays if leaving it out raises the cross-validated squared error by this share.
LEAST_GAIN = 0.02
#: Least share of any layer's instructions that a term must make up.
NEGLIGIBLE = 1e-4
#: What the rig has no memory for is left out.
TOO_BIG = FAULTS[32]


@dataclass(frozen=True)
class Sample:
    """One counted call, of these record fields and open channels."""

    values: Mapping[str, Any]
    instructions: float
    case: Case | None = None


def measure(board: Board, ops: Sequence[Op], folder: Path) -> list[Sample]:
    """Each op counted on the emulated core; DhnError if a kernel misbehaves."""
    cases = [case_of(op, seed) for seed, op in enumerate(ops)]
    samples = []
    for op, case, outcome in zip(ops, cases, run_cases(board, cases, folder), strict=True):
        if TOO_BIG in outcome.faults:
            continue
        if outcome.faults:
            raise DhnError(f"{board.name}: {op.kernel.name} {', '.join(outcome.faults)}; this is a fault of the kernel")
        samples.append(Sample(counted_values(op), max(1, outcome.instructions), case))
    return samples


def fit_board(
    board: Board, kernels: Sequence[Kernel], folder: Path, progress: Callable[[str], None] = lambda text: None
) -> dict[str, KernelLatency]:
    """Latencies of these kernels by name, each fitted to `TRAIN` layers and judged on `HELD_OUT` others.

    Kernels for which there are fewer than `FEWEST` layers are left out. ``progress`` is told what is being done.
    """
    found, typical = {}, []
    for kernel in kernels:
        progress(f"counting {kernel.name}")
        samples = measure(board, grid(kernel, TRAIN + HELD_OUT), folder)
        if len(samples) < FEWEST:
            continue
        apart = len(samples) * HELD_OUT // (TRAIN + HELD_OUT)
        found[kernel.name] = fit_kernel(kernel, samples[apart:], samples[:apart])
        typical += sorted(samples, key=lambda s: abs(s.instructions - TRACED))[:2]
    progress("tracing two calls of each kernel")
    cpi = cycles.estimate(board, [s.case for s in typical if s.case], folder)
    return {name: dataclasses.replace(fitted, cpi=cpi.get(name, 0.0)) for name, fitted in found.items()}


def fit_kernel(kernel: Kernel, train: Sequence[Sample], held_out: Sequence[Sample]) -> KernelLatency:
    """Non-negative least squares of the relative error, over the terms of the kernel's author or those that
    cross-validate best.

    Non-negative, so that no prediction outside the grid turns negative. Terms that do not help to predict layers
    outside the fit are dropped.
    """
    columns = _Columns(train)
    kept = _chosen(kernel, columns)
    shares = columns.of(kept)
    weights, _ = nnls(shares, columns.ones)
    matter = (shares * weights).max(axis=0) > NEGLIGIBLE
    terms = tuple((t, _rounded(k)) for t, k, m in zip(kept, weights, matter, strict=True) if m)
    errors = np.abs(predictions(terms, held_out) / np.array([s.instructions for s in held_out]) - 1.0)
    within = float((errors <= 0.1).mean()) if len(errors) else 0.0
    return KernelLatency(
        terms, 0.0, len(train), len(held_out), round(within, 4), round(float(errors.max(initial=0.0)), 4)
    )


def predictions(terms: Sequence[tuple[str, float]], samples: Sequence[Sample]) -> Floats:
    scopes = [derived(s.values) for s in samples]
    return np.array([sum(k * expressions.evaluate(t, scope) for t, k in terms) for scope in scopes], np.float64)


def _chosen(kernel: Kernel, columns: _Columns) -> list[str]:
    """The author's terms if they explain the counts; else the best set, which may be theirs too."""
    scope = columns.names
    own = own_terms(kernel, scope)
    sets = [own] if own else []
    if not own or _validated(columns.of(own)) > GOOD_ERROR**2 * len(columns.ones):
        ranked = sorted(families(kernel, scope), key=lambda terms: nnls(columns.of(terms), columns.ones)[1])
        sets += ranked[:SHORTLIST]
    best = min(sets, key=lambda terms: _validated(columns.of(terms)))
    return _pruned(columns, [t for t in best if columns.of([t]).any()])


class _Columns:
    """Terms over the samples, in shares of what was counted; evaluated once."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._scopes = [derived(s.values) for s in samples]
        self._counted = np.array([s.instructions for s in samples], np.float64)
        self._known: dict[str, Floats] = {}
        self.names = set(self._scopes[0])
        self.ones = np.ones(len(samples))

    def of(self, terms: Sequence[str]) -> Floats:
        for term in terms:
            if term not in self._known:
                counts = np.array([expressions.evaluate(term, scope) for scope in self._scopes], np.float64)
                self._known[term] = counts / self._counted
        return np.stack([self._known[t] for t in terms], axis=1)


def _validated(shares: Floats) -> float:
    """Squared relative error of layers that were left out of the fit, every `FOLDS`-th at a time."""
    fold = np.arange(len(shares)) % FOLDS
    error = 0.0
    for k in range(FOLDS):
        weights, _ = nnls(shares[fold != k], np.ones(int((fold != k).sum())))
        error += float(((shares[fold == k] @ weights - 1.0) ** 2).sum())
    return error


def _pruned(columns: _Columns, terms: list[str]) -> list[str]:
    """Without the terms that validation does not miss, the least missed first."""
    error = _validated(columns.of(terms))
    while len(terms) > 1:
        without = [[t for t in terms if t != out] for out in terms]
        errors = [_validated(columns.of(w)) for w in without]
        i = int(np.argmin(errors))
        if errors[i] > error * (1 + LEAST_GAIN):
            break
        terms, error = without[i], min(error, errors[i])
    return terms


def _rounded(value: float) -> float:
    """Five digits: more would be noise in the file."""
    return float(f"{value:.5g}")
