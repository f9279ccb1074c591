"""Regret: the share of the oracle's value that a policy leaves on the table, in the same world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bootstrap import Interval, mean_interval
from .draws import F64


def regret(value: F64, oracle: F64) -> float:
    """Return 1 − Σ value / Σ oracle; nan where the oracle earned nothing."""
    total = float(oracle.sum())
    return 1 - float(value.sum()) / total if total else float("nan")


def regret_interval(values: Sequence[F64], oracles: Sequence[F64], level: float = 0.95) -> Interval:
    """Return the mean regret over seeds with its interval; `values[i]` and `oracles[i]` are of seed i."""
    per_seed = [regret(v, o) for v, o in zip(values, oracles, strict=True)]
    return mean_interval(np.array(per_seed), level)


def regret_curve(values: Sequence[F64], oracles: Sequence[F64], bin_s: int) -> F64:
    """Return the regret of consecutive bins of `bin_s` seconds `[bins]`, over all seeds together."""
    value, oracle = (np.sum(np.stack(x), axis=0) for x in (values, oracles))
    bins = len(value) // bin_s
    sums = [x[: bins * bin_s].reshape(bins, bin_s).sum(axis=1) for x in (value, oracle)]
    curve: F64 = 1 - sums[0] / np.where(sums[1] > 0, sums[1], np.nan)
    return curve


def regret_band(values: Sequence[F64], oracles: Sequence[F64], bin_s: int, level: float = 0.95) -> F64:
    """Return the interval over seeds of each bin of `regret_curve` `[bins, 2]`; nan for a single seed."""
    curves = np.stack([regret_curve([v], [o], bin_s) for v, o in zip(values, oracles, strict=True)])
    if len(curves) < 2:
        return np.full((curves.shape[1], 2), np.nan)
    found = [mean_interval(column, level) for column in curves.T]
    return np.array([[each.low, each.high] for each in found]).reshape(-1, 2)
