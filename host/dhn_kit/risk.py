"""Finite-sample promises about a gate's risk, from counted errors on held-out samples."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom

from dhn_kit.errors import DhnError

METHOD = "learn-then-test, fixed sequence, Clopper-Pearson"


def upper_bound(errors: int, n: int, delta: float) -> float:
    """One-sided Clopper-Pearson bound: with probability >= 1 - delta the true rate is not above it.

    Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    _check(n, delta)
    if errors >= n:
        return 1.0
    return float(beta.ppf(1 - delta, errors + 1, n - errors))


def p_value(errors: int, n: int, epsilon: float) -> float:
    """P(at most `errors` of n) when the true rate is epsilon: small values speak against "rate > epsilon".

    At most delta exactly when ``upper_bound(errors, n, delta) <= epsilon``: the two are one test.
    """
    return float(binom.cdf(errors, n, epsilon))


def needed_samples(epsilon: float, delta: float, errors: int = 0) -> int:
    """The fewest samples from which `errors` errors still certify a rate of at most epsilon."""
    _check(1, delta)
    if not 0 < epsilon < 1:
        raise DhnError(f"risk target {epsilon} is not between 0 and 1: ask for 0.01, for example")
    low, high = errors, max(2, math.ceil((errors + 3) / epsilon))
    while p_value(errors, high, epsilon) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if p_value(errors, middle, epsilon) > delta else (low, middle)
    return high


def allowed_errors(n: int, epsilon: float, delta: float) -> int:
    """The most errors of n that still certify a rate of at most epsilon; -1 when not even zero do."""
    errors = -1
    while errors + 1 < n and p_value(errors + 1, n, epsilon) <= delta:
        errors += 1
    return errors


def require_samples(n: int, epsilon: float, delta: float) -> None:
    """Raises DhnError when n samples cannot certify epsilon even without a single error."""
    needed = needed_samples(epsilon, delta)
    if n < needed:
        raise DhnError(
            f"{n} calibration samples cannot certify a risk of {epsilon:.2%} at confidence {1 - delta:.0%}: "
            f"at least {needed} are needed; collect more or raise the risk"
        )


def fixed_sequence(errors: Sequence[int], n: int, epsilon: float, delta: float) -> int:
    """How many candidates, from the front, are certified at epsilon with family-wise error delta.

    The candidates' order (cautious first) must have been fixed without looking at these n samples. Each is tested at
    the full delta; the first failure ends the sequence, which is why no correction is due.
    Angelopoulos, Bates, Candès, Jordan, Lei 2021, "Learn then Test", section on fixed sequence testing.
    """
    certified = 0
    for count in errors:
        if p_value(count, n, epsilon) > delta:
            break
        certified += 1
    return certified


def split_hash(tags: Iterable[int], *arrays: npt.NDArray[Any]) -> str:
    """SHA-256 over the samples' tags and the bytes of their inputs or features: names a split."""
    digest = hashlib.sha256(np.asarray(list(tags), "<u4").tobytes())
    for a in arrays:
        digest.update(repr((a.shape, a.dtype.str)).encode())
        digest.update(np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()


def _check(n: int, delta: float) -> None:
    if n < 1:
        raise DhnError("no calibration samples: collect some with full runs, then train again")
    if not 0 < delta < 1:
        raise DhnError(f"delta {delta} is not between 0 and 1: 0.05 stands for 95 % confidence")
