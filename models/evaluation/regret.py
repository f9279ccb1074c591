"""Regret: the share of the oracle's value that a policy leaves on the table, in the same world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bootstrap import Interval
from .draws import F64
from .intervals import LOSS, Estimate, interval_of, ratio_of_sums


def regret(value: F64, oracle: F64) -> float:
    """Return 1 − Σ value / Σ oracle; nan where the oracle earned nothing."""
    total = float(oracle.sum())
    return 1 - float(value.sum()) / total if total else float("nan")


def regret_interval(
    values: Sequence[F64], oracles: Sequence[F64], users: Sequence[tuple[F64, F64]] = ()
) -> Interval:
    """Return the mean regret over seeds with its interval; `values[i]` and `oracles[i]` are of seed i.

    `users[i]` are both values by user, the same users in both `[U]`: what the spread over users is taken
    from. Without it a single seed has no interval.
    """
    worlds = [Estimate(regret(v, o)) for v, o in zip(values, oracles, strict=True)]
    for i, pair in enumerate(users):
        worlds[i] = ratio_of_sums(*pair)._replace(value=worlds[i].value)
    return interval_of(worlds, LOSS)


def regret_curve(values: Sequence[F64], oracles: Sequence[F64], bin_s: int) -> F64:
    """Return the regret of consecutive bins of `bin_s` seconds `[bins]`, over all seeds together."""
    value, oracle = (np.sum(np.stack(x), axis=0) for x in (values, oracles))
    bins = len(value) // bin_s
    sums = [x[: bins * bin_s].reshape(bins, bin_s).sum(axis=1) for x in (value, oracle)]
    curve: F64 = 1 - sums[0] / np.where(sums[1] > 0, sums[1], np.nan)
    return curve


def regret_band(values: Sequence[F64], oracles: Sequence[F64], bin_s: int) -> F64:
    """Return the interval over seeds of each bin of `regret_curve` `[bins, 2]`; nan for a single seed."""
    curves = np.stack([regret_curve([v], [o], bin_s) for v, o in zip(values, oracles, strict=True)])
    found = [interval_of([Estimate(each) for each in column], LOSS) for column in curves.T.tolist()]
    return np.array([[each.low, each.high] for each in found]).reshape(-1, 2)
