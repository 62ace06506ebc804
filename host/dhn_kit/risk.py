"""Finite-sample promises about a gate's risk, from counted errors on held-out samples."""
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import beta, binom

from dhn_kit.errors import DhnError

EXACT = "Clopper-Pearson"
WEIGHTED = "empirical Bernstein (Maurer, Pontil 2009) on importance weights"
#: Candidates are tested one after the other, each at the full delta.
TESTED = "learn-then-test, fixed sequence, "
METHOD = TESTED + EXACT
#: What differs by less than this is the same design; propensities travel in units of 2^-24.
SAME_PROPENSITY = 2.0**-16

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def upper_bound(errors: int, n: int, delta: float) -> float:
    """One-sided Clopper-Pearson bound: with probability >= 1 - delta the true rate is not above it.

    Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    _check(n, delta)
    if errors >= n:
        return 1.0
    return float(beta.ppf(1 - delta, errors + 1, n - errors))


def weighted_bound(wrong: Bools, propensity: Floats, delta: float) -> float:
    """The same promise for samples (N,) that were kept with unequal, known probabilities that may depend on the input.

    A kept sample stands for w = 1 / propensity inferences, so the rate of errors is at most epsilon exactly when the
    mean of w (wrong - epsilon) is at most zero, which is tested: the bound is the smallest epsilon that passes.
    Weights are taken to be at most the largest one seen: the thinnest part of the design must have samples.
    Maurer and Pontil 2009, "Empirical Bernstein bounds and sample variance penalization", theorem 4.
    """
    n = len(wrong)
    _check(n, delta)
    if not (propensity > 0).all():
        raise DhnError("a sample of propensity 0 certifies nothing: collect with a share of full runs above 0")
    weight = 1 / propensity
    log, top = math.log(2 / delta), float(weight.max())

    def excess(epsilon: float) -> float:
        z = weight * (wrong - epsilon)
        spread = math.sqrt(2 * float(z.var(ddof=1)) * log / n)
        return float(z.mean()) + spread + 7 * top * log / (3 * (n - 1))

    # Convex in epsilon: where it is below zero at 1, it has one root.
    if n < 2 or excess(1.0) > 0:
        return 1.0
    return float(brentq(excess, 0.0, 1.0, xtol=1e-12))


def equal(propensity: Floats | None) -> bool:
    """Whether every sample had the same chance of being kept."""
    return propensity is None or len(propensity) == 0 or float(np.ptp(propensity)) <= SAME_PROPENSITY


def bound(wrong: Bools, delta: float, propensity: Floats | None = None) -> float:
    """Upper bound of the rate behind ``wrong`` (N,) at confidence 1 - delta, by what the samples' design allows."""
    if propensity is None or equal(propensity):
        return upper_bound(int(wrong.sum()), len(wrong), delta)
    return weighted_bound(wrong, propensity, delta)


def method(propensity: Floats | None, candidates: int = 1) -> str:
    """Names how `bound` came about. With several candidates it is one at delta / candidates, which holds for all."""
    name = EXACT if equal(propensity) else WEIGHTED
    return f"{name}, Bonferroni over {candidates} candidates" if candidates > 1 else f"{TESTED}{name}"


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


def require_samples(n: int, epsilon: float, delta: float, note: str = "") -> None:
    """Raises DhnError when n samples cannot certify epsilon without a single error; ``note`` says what they are."""
    needed = needed_samples(epsilon, delta)
    if n < needed:
        raise DhnError(
            f"{n} calibration samples{note} cannot certify a risk of {epsilon:.2%} at confidence {1 - delta:.0%}: "
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
