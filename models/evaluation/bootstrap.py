"""Confidence intervals of ratios of sums, bootstrapped by user.

Every estimate here is Σ numerator / Σ denominator over rows. Rows of one user stand or fall together, so
users are drawn with replacement (cluster bootstrap; Field & Welsh 2007) and only their sums are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from .draws import F64

_CELLS = 2_000_000


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
    """Return Σ numerator / Σ denominator with its percentile interval, rows resampled by `group`."""
    sums = sums_by(group, numerator, denominator)
    total = sums.sum(axis=0)
    if len(sums) == 0 or total[1] == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    drawn = resampled_sums(sums, replicates, seed)
    drawn = drawn[drawn[:, 1] > 0]
    ratios = drawn[:, 0] / drawn[:, 1]
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(total[0] / total[1]), float(low), float(high))


def mean_interval(values: F64, level: float = 0.95) -> Interval:
    """Return the mean over seeds with Student's interval; a single value is its own interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, mean, mean)
    quantile = float(stdtrit(len(values) - 1, (1 + level) / 2))
    half = quantile * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def normal_quantile(level: float) -> float:
    """Return z with P(|Z| <= z) = level."""
    return float(ndtri((1 + level) / 2))
