"""How long a policy needs after interests shift until its regret is back where it was.

The rule, in words: cut the seconds around every shift out of every seed and add them up, lag by lag, so
that the noise of single seconds goes and the shifts stay. The regret of a lag is that of the `SMOOTH_S`
seconds up to it (a trailing mean, which counts against the policy). The level is the regret of the
`BEFORE_S` seconds before the shift; the jump is the largest excess over it within `JUMP_WITHIN_S`
seconds. The policy has recovered at the first lag from there on whose excess is at most `TOLERANCE` of the
jump. A jump below `LEAST_JUMP` is none: a policy that the shift does not hurt has nothing to recover from.

The interval is a percentile bootstrap over the cuts; that of a single cut is not known.
Legend: N cuts, L = before + horizon seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .bootstrap import Interval
from .draws import F64

BEFORE_S = 30
SMOOTH_S = 10
JUMP_WITHIN_S = 30
TOLERANCE = 0.1
LEAST_JUMP = 0.02
LEAST_AFTER_S = 60
"""A shift with less time until the next one, or the end, is left out where another has more."""

_NOTHING = Interval(float("nan"), float("nan"), float("nan"))

RULE = (
    f"seconds until the regret of the last {SMOOTH_S} s, over all shifts and seeds, is within "
    f"{TOLERANCE:.0%} of the jump of its level in the {BEFORE_S} s before the shift"
)


@dataclass(frozen=True, eq=False)
class Cuts:
    """Value and the oracle's value around shifts, `[N, L]`; column `before` is the second of the shift."""

    value: F64
    oracle: F64
    before: int

    @property
    def horizon_s(self) -> int:
        """Seconds from the shift on."""
        return self.value.shape[1] - self.before

    def excess(self, rows: Sequence[int] | slice = slice(None)) -> tuple[F64, float]:
        """Return the smoothed regret above the level, and the level.

        The first of `[horizon - SMOOTH_S + 1]` values is that of the first `SMOOTH_S` seconds.
        """
        value, oracle = self.value[rows].sum(axis=0), self.oracle[rows].sum(axis=0)
        level = _regret(value[: self.before].sum(), oracle[: self.before].sum())
        sums = [np.concatenate([[0.0], np.cumsum(x[self.before :])]) for x in (value, oracle)]
        rolled = [s[SMOOTH_S:] - s[:-SMOOTH_S] for s in sums]
        return _regret(*rolled) - level, float(level)


def _regret(value: F64, oracle: F64) -> F64:
    """Return the share lost, 0 where the oracle earned nothing either."""
    lost: F64 = np.where(oracle > 0, 1 - value / np.where(oracle > 0, oracle, 1.0), 0.0)
    return lost


@dataclass(frozen=True, eq=False)
class Recovery:
    """How a policy took the shifts.

    `seconds` is infinite where it is not back within the horizon, and nan where there was nothing to come
    back from (`says`).
    """

    cuts: int
    seconds: Interval
    half: float
    """Seconds until half of the jump is made good."""
    level: float
    jump: float
    excess: F64
    """Smoothed regret above the level, second by second from `SMOOTH_S` seconds after the shift on."""

    @property
    def says(self) -> str:
        """Why there is no figure, "" where there is one."""
        if not self.cuts:
            return "no shift with time enough around it"
        if self.jump < LEAST_JUMP:
            return f"no jump: the regret rose by {self.jump:.3f}, less than {LEAST_JUMP}"
        return (
            "" if np.isfinite(self.seconds.value) else f"not back within {len(self.excess) + SMOOTH_S - 1} s"
        )


def cut(values: Sequence[F64], oracles: Sequence[F64], shifts: Sequence[int]) -> Cuts:
    """Return what is around the shifts; `values[i]` and `oracles[i]` `[seconds]` are of seed i."""
    total = len(values[0]) if values else 0
    ends = [*shifts[1:], total]
    room = [(s, end - s, s - last) for last, s, end in zip([0, *shifts], shifts, ends, strict=False)]
    kept = [r for r in room if r[1] >= LEAST_AFTER_S] or room
    horizon = min((after for _, after, _ in kept), default=0)
    before = min((min(BEFORE_S, max(gap // 2, 1)) for _, _, gap in kept), default=0)
    spans = [slice(s - before, s + horizon) for s, _, _ in kept]

    def parts(series: Sequence[F64]) -> F64:
        rows = [x[span] for x in series for span in spans]
        return np.array(rows, dtype=np.float64).reshape(len(rows), before + horizon)

    return Cuts(parts(values), parts(oracles), before)


def recovery(
    cuts: Cuts, *, level: float = 0.95, tolerance: float = TOLERANCE, replicates: int = 500, seed: int = 0
) -> Recovery:
    """Return how a policy recovered; see the module for the rule."""
    n = len(cuts.value)
    if not n or not cuts.before or cuts.horizon_s < SMOOTH_S:
        return Recovery(0, _NOTHING, float("nan"), float("nan"), 0.0, np.zeros(0))
    excess, before = cuts.excess()
    back = back_after(excess, tolerance)
    jump, half = float(excess[:JUMP_WITHIN_S].max()), back_after(excess, 0.5)
    if jump < LEAST_JUMP:
        return Recovery(n, _NOTHING, float("nan"), before, jump, excess)
    if n == 1:
        return Recovery(1, Interval(back, float("nan"), float("nan")), half, before, jump, excess)
    drawn = np.random.default_rng(seed).integers(0, n, (replicates, n))
    again = [back_after(cuts.excess(rows.tolist())[0], tolerance) for rows in drawn]
    edges = [(1 - level) / 2, (1 + level) / 2]
    low, high = (float(q) for q in np.quantile(again, edges, method="inverted_cdf"))
    return Recovery(n, Interval(back, min(low, back), max(high, back)), half, before, jump, excess)


def back_after(excess: F64, tolerance: float) -> float:
    """Return the seconds until the excess of `Cuts.excess` is within `tolerance` of its peak, or infinity."""
    peak = int(np.argmax(excess[:JUMP_WITHIN_S]))
    bar = tolerance * max(float(excess[peak]), 0.0)
    back = np.flatnonzero(excess[peak:] <= bar)
    return float(peak + back[0] + SMOOTH_S) if len(back) else float("inf")
