"""Confidence intervals of ratios of sums, bootstrapped by user.

Every estimate here is θ = Σ numerator / Σ denominator over rows. Rows of one user stand or fall together, so
users are drawn with replacement (cluster bootstrap; Field & Welsh 2007) and only their sums are kept.

Clicks are rare and importance weights skewed, so a percentile interval of a few hundred users is too short
on its upper side (91 to 93 % of a nominal 95). The interval is therefore studentised: quantiles of
t* = (θ* - θ) / se*(θ*) over replicates, turned back with the jackknife's standard error by user
(bootstrap-t; Efron 1981, Hall 1988: second-order correct).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from .draws import F64

_CELLS = 2_000_000
LEAST_GROUPS = 10
"""Fewer tell too little of how groups spread; the ends of studentised intervals become absurd."""


@dataclass(frozen=True)
class Interval:
    """A value with its interval."""

    value: float
    low: float
    high: float

    def covers(self, truth: float) -> bool:
        """Return whether the interval holds `truth`."""
        return self.low <= truth <= self.high


def sums_by(group: NDArray[np.int64], *columns: F64) -> F64:
    """Return the sums `[G, len(columns)]` of each column by the groups that occur."""
    _, place = np.unique(group, return_inverse=True)
    count = int(place.max(initial=-1)) + 1
    return np.stack([np.bincount(place, weights=c, minlength=count) for c in columns], axis=1)


def resampled_sums(sums: F64, replicates: int, seed: int) -> F64:
    """Return `[replicates, C]`: the column sums of `sums` `[G, C]` when groups are drawn with replacement."""
    rng = np.random.default_rng(seed)
    groups = len(sums)
    step = max(1, _CELLS // max(groups, 1))
    parts = []
    for start in range(0, replicates, step):
        n = min(step, replicates - start)
        drawn = rng.integers(0, groups, (n, groups)) + np.arange(n)[:, None] * groups
        counts = np.bincount(drawn.ravel(), minlength=n * groups).reshape(n, groups)
        parts.append(counts @ sums)
    return np.concatenate(parts)


def ratio_interval(
    numerator: F64, denominator: F64, group: NDArray[np.int64],
    *, level: float = 0.95, replicates: int = 1000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Return Σ numerator / Σ denominator with its studentised bootstrap interval, rows resampled by `group`.

    The interval is nan for fewer than LEAST_GROUPS groups, and the value itself where no group deviates from
    it.
    """
    sums = sums_by(group, numerator, denominator)
    total = sums.sum(axis=0)
    if len(sums) == 0 or total[1] == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    ratio = float(total[0] / total[1])
    if len(sums) < LEAST_GROUPS:
        return Interval(ratio, float("nan"), float("nan"))
    error = jackknife_error(sums)
    if not error > 1e-12 * max(abs(ratio), 1e-300):
        return Interval(ratio, ratio, ratio)
    low, high = np.quantile(_studentised(sums, ratio, replicates, seed), [(1 - level) / 2, (1 + level) / 2])
    return Interval(ratio, ratio - float(high) * error, ratio - float(low) * error)


def jackknife_error(sums: F64) -> float:
    """Return the standard error of the ratio of the columns of `sums` `[G, 2]`, groups left out in turn."""
    total, groups = sums.sum(axis=0), len(sums)
    rest = total - sums
    held = rest[:, 1] > 0
    ratios = rest[held, 0] / rest[held, 1]
    return float(np.sqrt((groups - 1) / groups * ((ratios - total[0] / total[1]) ** 2).sum()))


def _studentised(sums: F64, ratio: float, replicates: int, seed: int) -> F64:
    """Return t* of the replicates that have a spread; a normal sample's quantiles where hardly any has."""
    n, d = sums.T
    drawn = resampled_sums(np.stack([n, d, n * n, n * d, d * d], axis=1), replicates, seed)
    drawn = drawn[drawn[:, 1] > 0]
    ratios = drawn[:, 0] / drawn[:, 1]
    squares = drawn[:, 2] - 2 * ratios * drawn[:, 3] + ratios**2 * drawn[:, 4]
    errors = np.sqrt(np.maximum(squares, 0.0) * len(sums) / (len(sums) - 1)) / drawn[:, 1]
    spread = errors > 1e-9 * np.abs(ratios - ratio)
    if spread.sum() < 0.5 * replicates:
        return ndtri((np.arange(replicates) + 0.5) / replicates)
    t: F64 = (ratios[spread] - ratio) / errors[spread]
    return t
