"""Minimises a loss over a handful of small arrays: Adam with decoupled weight decay and a cosine schedule."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
#: Gradients of the mean loss over some rows, in the order of the parameters.
Gradients = Callable[[list[Floats], Rows], list[Floats]]

#: Samples per step.
BATCH = 64
PEAK_RATE = 2e-3


@dataclass(frozen=True)
class Schedule:
    """``steps`` of BATCH rows each, drawn without replacement epoch by epoch; ``decay`` spares vectors (biases)."""

    steps: int
    decay: float
    seed: int = 0
    rate: float = PEAK_RATE


def minimise(start: list[Floats], gradients: Gradients, rows: int, schedule: Schedule) -> list[Floats]:
    """Parameters after the schedule's steps; ``start`` is left as it was. Same arguments, same result.

    Loshchilov, Hutter 2019, "Decoupled weight decay regularization". All parameters live in one vector: the update is
    a handful of passes over it, in place.
    """
    flat = np.concatenate([a.ravel() for a in start]).astype(np.float32)
    decay = np.concatenate([np.full(a.size, schedule.decay if a.ndim > 1 else 0, np.float32) for a in start])
    views = _views(flat, start)
    first, second, g, work = (np.zeros_like(flat) for _ in range(4))
    order = _order(rows, schedule)
    for step in range(1, schedule.steps + 1):
        rate = schedule.rate * 0.5 * (1 + np.cos(np.pi * step / schedule.steps))
        batch = order[(step - 1) * BATCH : step * BATCH]
        np.concatenate([a.ravel() for a in gradients(views, batch)], out=g)
        first += np.float32(0.1) * (g - first)
        np.multiply(g, g, out=g)
        second += np.float32(0.001) * (g - second)
        np.sqrt(second, out=work)
        work /= np.float32(np.sqrt(1 - 0.999**step))
        work += np.float32(1e-8)
        np.divide(first, work, out=work)
        work /= np.float32(1 - 0.9**step)
        work += decay * flat
        work *= np.float32(rate)
        flat -= work
    return views


def softmax(z: npt.NDArray[Any]) -> Floats:
    """Over the last axis, stable."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True), np.float32)


def _order(rows: int, schedule: Schedule) -> Rows:
    rng = np.random.default_rng(schedule.seed)
    return np.concatenate([rng.permutation(rows) for _ in range(1 + schedule.steps * BATCH // rows)])


def _views(flat: Floats, like: list[Floats]) -> list[Floats]:
    ends = np.cumsum([a.size for a in like])
    return [flat[end - a.size : end].reshape(a.shape) for a, end in zip(like, ends, strict=True)]
