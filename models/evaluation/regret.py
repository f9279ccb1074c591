"""Regret: the share of the oracle's value that a policy leaves on the table, in the same world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bootstrap import Interval, mean_interval
from .draws import F64
from .prequential import recovery_s, smooth

_SMOOTH_S = 10


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


def recovery_after(values: Sequence[F64], oracles: Sequence[F64], shift_s: int, next_s: int) -> float:
    """Return the seconds until the smoothed regret is back (to 10 % of the jump) where it was before a shift.

    Only seconds before `next_s` (the next shift, or the end) count; inf where that does not happen.
    """
    until = slice(0, next_s)
    value, oracle = (np.sum(np.stack(x), axis=0)[until] for x in (values, oracles))
    rolled = [smooth(x, _SMOOTH_S) for x in (value, oracle)]
    curve = 1 - rolled[0] / np.where(rolled[1] > 0, rolled[1], 1.0)
    return recovery_s(curve, shift_s, bin_s=1.0, before=30)
