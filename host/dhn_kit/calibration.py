"""Observes a float network on the user's data to find the range of every activation."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from dhn_kit.errors import DhnError
from dhn_kit.float_reference import run_float
from dhn_kit.graph import Array, Graph, Port

Range = tuple[float, float]
Counts = npt.NDArray[np.int64]

#: Samples that pass through the network at once; bounds memory to so many copies of all activations.
BATCH = 32
#: Histogram bins over [-limit, limit]. The limit is at most twice the largest value, so that the values of a tensor
#: without negative ones still spread over at least 1,024 bins, four for each int8 step.
BINS = 4096
#: Values that enter the histogram per sample and tensor; the extremes are exact regardless.
HISTOGRAM_VALUES = 4096


class Observer:
    """Exact extremes of a tensor, with a histogram whose width doubles whenever a value falls outside."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0  # a range always includes zero, as TFLite demands
        self.limit = 0.0
        self.counts: Counts = np.zeros(BINS, np.int64)

    def update(self, x: npt.NDArray[np.float32]) -> None:
        """Take in a batch (N, H, W, C)."""
        self.low = min(self.low, float(x.min()))
        self.high = max(self.high, float(x.max()))
        self._widen(max(-self.low, self.high))
        values = x.reshape(len(x), -1)
        stride = -(-values.shape[1] // HISTOGRAM_VALUES) | 1  # odd: does not keep meeting the same channel
        index = ((values[:, ::stride] + self.limit) * (BINS / (2 * self.limit))).astype(np.int32)
        self.counts += np.bincount(np.clip(index, 0, BINS - 1).ravel(), minlength=BINS)

    def _widen(self, peak: float) -> None:
        if self.limit == 0.0:
            self.limit = max(peak, float(np.finfo(np.float32).tiny))
        while self.limit < peak:
            self.limit *= 2
            halved = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(halved, BINS // 4)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        return np.asarray((np.arange(BINS) + 0.5) * (2 * self.limit / BINS) - self.limit, np.float64)


def minmax_range(seen: Observer) -> Range:
    return seen.low, seen.high


#: Share of the values that stays inside the range on either side.
PERCENTILE = 0.9999


def percentile_range(seen: Observer) -> Range:
    """Leaves out (1 - PERCENTILE) of the values on either side."""
    share = np.cumsum(seen.counts) / max(1, int(seen.counts.sum()))
    edges = seen.centres
    low = edges[int(np.searchsorted(share, 1 - PERCENTILE))]
    high = edges[min(BINS - 1, int(np.searchsorted(share, PERCENTILE)))]
    return max(seen.low, min(0.0, float(low))), min(seen.high, max(0.0, float(high)))


#: Candidates for the share of the extreme that the MSE search keeps.
SHRINK = np.linspace(1.0, 0.3, 57)


def mse_range(seen: Observer) -> Range:
    """The range with the least expected squared error: rounding noise step^2 / 12 inside, clipping outside.

    The two ends are searched in turn, which two rounds settle."""
    low, high = seen.low, seen.high
    for _ in range(2):
        high = min((seen.high * float(s) for s in SHRINK), key=lambda h: _squared_error(seen, low, h))
        low = min((seen.low * float(s) for s in SHRINK), key=lambda v: _squared_error(seen, v, high))
    return low, high


def _squared_error(seen: Observer, low: float, high: float) -> float:
    x = seen.centres
    clipped = np.clip(x, low, high)
    inside = x == clipped
    step = (high - low) / 255
    return float(seen.counts @ ((x - clipped) ** 2 + inside * step**2 / 12))


METHODS: dict[str, Callable[[Observer], Range]] = {
    "minmax": minmax_range,
    "percentile": percentile_range,
    "mse": mse_range,
}


def observe_ranges(graph: Graph, x: Array | Sequence[Array], method: str) -> dict[str, Range]:
    """(low, high) of every tensor over the user's samples x; low <= 0 <= high.

    Inputs always keep their full range: clipping them would distort what the user knows best. DhnError for an unknown
    method or data that does not fit the network.
    """
    if method not in METHODS:
        raise DhnError(f"calibration method '{method}' is unknown; choose one of {', '.join(METHODS)}")
    check_calibration(graph, x)
    arrays = [x] if isinstance(x, np.ndarray) else list(x)
    seen = {name: Observer() for name in graph.tensors}
    for start in range(0, len(arrays[0]), BATCH):
        for name, value in run_float(graph, [a[start : start + BATCH] for a in arrays]).items():
            seen[name].update(value)
    inputs = {port.tensor for port in graph.inputs}
    return {name: (minmax_range if name in inputs else METHODS[method])(s) for name, s in seen.items()}


def check_calibration(graph: Graph, x: Array | Sequence[Array], y: Array | None = None) -> None:
    """DhnError unless x is finite samples of the inputs' shape and dtype, and y labels them."""
    arrays = list(x) if isinstance(x, (list, tuple)) else [np.asarray(x)]
    if len(arrays) != len(graph.inputs):
        raise DhnError(
            f"calibration data: '{graph.name}' has {len(graph.inputs)} inputs, {len(arrays)} arrays were given"
        )
    for port, array in zip(graph.inputs, arrays, strict=True):
        _check_array(port, np.asarray(array))
        if len(array) != len(arrays[0]):
            raise DhnError(
                f"calibration data: inputs have {len(arrays[0])} and {len(array)} samples; give equally many"
            )
    if y is not None:
        _check_labels(np.asarray(y), len(arrays[0]))


def _check_array(port: Port, x: Array) -> None:
    expected = f"expected float32 of shape (N, {', '.join(map(str, port.user_shape))})"
    where = f"calibration data for input '{port.name}'"
    if not (np.issubdtype(x.dtype, np.floating) or (port.dtype == "int8" and x.dtype == np.int8)):
        raise DhnError(
            f"{where} has dtype {x.dtype}; {expected}: scale it as in training, then x.astype(numpy.float32)"
        )
    if x.ndim == 0 or x.shape[1:] != port.user_shape:
        raise DhnError(f"{where} has shape {x.shape}; {expected}")
    if len(x) == 0:
        raise DhnError(f"{where} is empty; {expected} with at least one sample (a few hundred are good)")
    bad = len(x) - int(np.isfinite(x).reshape(len(x), -1).all(axis=1).sum())
    if bad:
        raise DhnError(f"{where} has NaN or infinity in {bad} of {len(x)} samples; remove or repair them")


def _check_labels(y: Array, count: int) -> None:
    if y.shape != (count,):
        raise DhnError(f"labels 'y' have shape {y.shape}; expected ({count},), one class number per sample of 'x'")
    if not np.issubdtype(y.dtype, np.integer):
        raise DhnError(f"labels 'y' have dtype {y.dtype}; expected integers, the class numbers from 0")
