"""Writes down what calibration saw of hooks and features, so that a board notices when its inputs are others."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import betabinom
from scipy.stats import t as student

from dhn_kit.bundle import hook_order, pack_bundle
from dhn_kit.hooks import Bundle, HookPoint, StatisticRange
from dhn_kit.pack import Pack
from dhn_kit.train.data import Int8, Ints, Split
from dhn_kit.twin import Twin

#: Kinds of rows, as the board's monitor numbers them.
WINDOW_ROW, ACT_RATE, MEAN, SPREAD, SAMPLE_MEAN, SAMPLE_SPREAD = range(6)
#: As an operating point: the row holds at all of them.
EVERY_POINT = 0xFFFF
#: Inferences that make one judgement, and good judgements in a row after which hooks may act again.
WINDOW, REARM = 128, 3
#: Neighbouring inferences resemble each other, so that a window says less than as many independent ones.
INDEPENDENT = 0.25
#: Windows in which a board that sees what calibration saw falls back nevertheless.
FALSE_ALARMS = 1e-4
#: What the firmware watches (APP_MAX_RANGES), and the largest feature that it reads for it (APP_MTU).
MOST_ROWS, MOST_FEATURE_BYTES = 64, 1024
#: An act rate of one, and fractions of a step in which features are counted.
ONE, STEP = 65536, 256


def feature_statistics(feature: Int8) -> tuple[Ints, Ints]:
    """(mean, spread) of each row of a feature (N, F), in 1/256 of an int8 step above -128, as the board counts.

    The spread is the mean distance from the mean.
    """
    value = feature.reshape(len(feature), -1).astype(np.int64) + 128
    count = value.shape[1]
    mean = value.sum(axis=1) * STEP // count
    spread = np.abs(value * STEP - mean[:, None]).sum(axis=1) // count
    return mean, spread


def ranges(pack: Pack, bundle: Bundle, calibration: Split) -> list[StatisticRange]:
    """The table of ranges of a bundle whose thresholds are final, from the samples that certified it.

    Hooks' act rates are there only where the samples hold inputs. Ranges are such that a window of inferences like the
    calibration samples leaves one of them with probability `FALSE_ALARMS` at most, over all rows of an operating point.
    """
    if not bundle.hooks or len(calibration) < 2:
        return []
    points = _always_reached(pack, bundle)
    rates = _act_rates(pack, bundle, calibration)
    alarm = FALSE_ALARMS / (2 * len(points) + (len(bundle.hooks) if rates else 0))
    rows = [StatisticRange(WINDOW_ROW, 0, EVERY_POINT, WINDOW, REARM)]
    for point in points:
        rows += _feature_rows(point.index, calibration.features[point.index], alarm)
    # Where there is no room for all, the hooks that act most tell most.
    busiest = sorted(rates, key=lambda key: -rates[key])[: MOST_ROWS - len(rows)]
    return rows + [_rate_row(h, k, rates[h, k], len(calibration), alarm) for h, k in sorted(busiest)]


def _always_reached(pack: Pack, bundle: Bundle) -> list[HookPoint]:
    """The input and the first hook's point: further on, what comes by depends on what the hooks let through."""
    first = min(h.point for h in bundle.hooks)
    return [p for p in pack.points if p.index in (0, first) and math.prod(p.feature_shape) <= MOST_FEATURE_BYTES]


def _act_rates(pack: Pack, bundle: Bundle, split: Split) -> dict[tuple[int, int], int]:
    """(hook, operating point) -> samples at which it acted, by the runtime's numbers."""
    if split.input is None:
        return {}
    twin = Twin(pack, pack_bundle(pack, bundle))
    points = range(len(bundle.operating_points))
    acted = [twin.run(split.input, point=k, environment=split.environment).decisions == 2 for k in points]
    hooks = range(len(hook_order(bundle)))
    return {(h, k): int(acted[k][:, h].sum()) for k in range(len(acted)) for h in hooks}


def _rate_row(hook: int, point: int, acted: int, n: int, alarm: float) -> StatisticRange:
    """What a window's rate is likely to be after `acted` of n: beta-binomial, from Jeffreys' prior."""
    draws = max(1, round(WINDOW * INDEPENDENT))
    likely = betabinom(draws, acted + 0.5, n - acted + 0.5)
    low, high = likely.ppf(alarm / 2), likely.ppf(1 - alarm / 2)
    return StatisticRange(ACT_RATE, hook, point, math.floor(ONE * low / draws), math.ceil(ONE * high / draws))


def _feature_rows(point: int, feature: Int8, alarm: float) -> list[StatisticRange]:
    rows = []
    for values, window, sample in zip(
        feature_statistics(feature), (MEAN, SPREAD), (SAMPLE_MEAN, SAMPLE_SPREAD), strict=True
    ):
        rows.append(StatisticRange(window, point, EVERY_POINT, *_mean_range(values, alarm)))
        rows.append(StatisticRange(sample, point, EVERY_POINT, int(values.min()), int(values.max())))
    return rows


def _mean_range(values: npt.NDArray[np.int64], alarm: float) -> tuple[int, int]:
    """Where the mean of a window lies after n values: Student's prediction interval."""
    n = len(values)
    error = float(values.std(ddof=1)) * math.sqrt(1 / (WINDOW * INDEPENDENT) + 1 / n)
    reach = float(student.ppf(1 - alarm / 2, n - 1)) * error
    centre = float(values.mean())
    return math.floor(centre - reach) - 1, math.ceil(centre + reach)


def describe(left: StatisticRange, value: int) -> str:
    """Which range was left, in words."""
    feature = f"feature of hook point {left.index}"
    what, unit = {
        ACT_RATE: (f"act rate of hook {left.index} at operating point {left.operating_point}", ONE),
        MEAN: (f"mean of the {feature}", STEP),
        SPREAD: (f"spread of the {feature}", STEP),
    }.get(left.kind, (f"statistic {left.kind} of {left.index}", 1))
    return f"{what} is {value / unit:.3g}, calibration saw {left.low / unit:.3g} to {left.high / unit:.3g}"
