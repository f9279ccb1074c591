"""What another policy would have earned, from a log with propensities (off-policy evaluation).

Legend: N logged rows (one action each). With weights w = π_e(a|x) / π_b(a|x), reward r, a reward model's
q(x, a) for the logged action and v(x) = Σ_a π_e(a|x) q(x, a). Where a row is a slot of a slate, w is the
product over the slots up to it, w₀ that over the slots before, and v and q are given these; else w₀ = 1::

    IPS   Σ w·r / N                    Horvitz & Thompson 1952
    SNIPS Σ w·r / Σ w                  Swaminathan & Joachims, NeurIPS'15
    DM    Σ v / N
    DR    Σ (w₀·v + w·(r − q)) / N     Dudík, Langford & Li, ICML'11; slates: Kiyohara et al., WSDM'22

DR of slates has a model of each slot's own reward (the paper's also foretells that of the slots to come).
There is no DM of slates: it would need the slates that the evaluation policy would have made.

Intervals are bootstrapped by user and studentised (`bootstrap`); those of IPS, SNIPS and DR cover the truth.
**DM is biased** by whatever its model gets wrong, and its interval knows nothing of that: it is the spread of
the predictions alone, and no verdict is given from it.

Gates: there is no verdict where

- there are fewer than 10 users (nor is there an interval): rows of one user stand or fall together;
- the effective sample size (Σw)² / Σw² is below 500 or below 1 % of the rows;
- the mean weight, whose expectation is 1 where the logged propensities are right and the log supports the
  evaluation policy, is off by more than 5 % and by more than 4 of its standard errors (by user);
- more than 1 % of the evaluation policy's choices, by number of rows, are of actions that the log hardly
  supports (propensity below 1e-4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import LogError

from .bootstrap import LEAST_GROUPS, Interval, jackknife_error, ratio_interval, sums_by
from .draws import F64

I64 = NDArray[np.int64]

MIN_EFFECTIVE = 500.0
MIN_EFFECTIVE_SHARE = 0.01
MAX_WEIGHT_BIAS = 0.05
MAX_WEIGHT_ERRORS = 4.0
"""The mean weight may be off 1 by so much, or by so many of its standard errors."""
MAX_THIN_SHARE = 0.01
THIN_PROPENSITY = 1e-4
"""Below this the logging policy hardly supports the action."""
LEAST_PROPENSITY = 1e-140
"""Below this the squares of weights might be no numbers."""


@dataclass(frozen=True, eq=False)
class BanditData:
    """A log as off-policy estimators see it, all `[N]`."""

    reward: F64
    propensity: F64
    """π_b of the logged action, in (0, 1] and no less than LEAST_PROPENSITY."""
    target: F64
    """π_e of the logged action, in [0, 1]."""
    user: I64
    """Any code that is equal for rows of one user."""
    q_logged: F64 | None = None
    """The reward model's value of the logged action; DM and DR need it and `v_target`."""
    v_target: F64 | None = None
    """The reward model's value of the evaluation policy in the row's context."""
    weight_before: F64 | None = None
    """Importance weight of the slots before the row's, for slates; None: 1 everywhere."""

    def __post_init__(self) -> None:
        """Refuse rows that no estimator can use."""
        usable = (self.propensity >= LEAST_PROPENSITY) & (self.propensity <= 1)
        _check(self.propensity, usable, "propensity", f"in (0, 1], {LEAST_PROPENSITY:g} at least")
        _check(self.target, (self.target >= 0) & (self.target <= 1), "target probability", "in [0, 1]")
        for name, values in self._numbers().items():
            _check(values, np.isfinite(values), name, "a finite number")
        if (before := self.weight_before) is not None:
            _check(before, np.isfinite(before) & (before >= 0), "weight before", "a finite number from 0 on")

    def _numbers(self) -> dict[str, F64]:
        named = {"reward": self.reward, "modelled reward": self.q_logged, "modelled value": self.v_target}
        return {name: values for name, values in named.items() if values is not None}

    @property
    def weight(self) -> F64:
        """Importance weights `[N]`."""
        return self.target / self.propensity


def _check(values: F64, good: NDArray[np.bool_], name: str, expected: str) -> None:
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise LogError.expected(
            f"{name} of row {row}",
            got=float(values[row]),
            expected=expected,
            fix="log the exact propensities of the policy that decided, or leave the row out",
        )


@dataclass(frozen=True)
class Support:
    """How far the log can speak for the evaluation policy."""

    rows: int
    effective: float
    max_weight: float
    mean_weight: float
    """Near 1 where the logged propensities are right and support the evaluation policy."""
    thin: int
    """Support violations: rows that the evaluation policy may choose, of propensity below THIN_PROPENSITY."""
    chosen: int
    """Rows that the evaluation policy may choose."""
    weight_error: float
    """Standard error of the mean weight, by user; nan for a single one."""
    users: int

    @property
    def mean_weight_errors(self) -> float:
        """How many standard errors the mean weight is off 1; infinite where it has none and is off."""
        off = abs(self.mean_weight - 1.0)
        return off / self.weight_error if self.weight_error > 0 else math.inf if off > 1e-9 else 0.0

    @property
    def refusal(self) -> str:
        """Return why there is no verdict, "" where there is one."""
        if self.users < LEAST_GROUPS:
            return f"{self.users} users are too few: fewer than {LEAST_GROUPS} do not tell how users differ"
        if self.effective < MIN_EFFECTIVE:
            return f"effective sample size {self.effective:.0f} is below {MIN_EFFECTIVE:.0f}"
        if self.effective < MIN_EFFECTIVE_SHARE * self.rows:
            return f"effective sample size is {100 * self.effective / self.rows:.2f} % of the rows, below 1 %"
        if abs(self.mean_weight - 1.0) > MAX_WEIGHT_BIAS and self.mean_weight_errors > MAX_WEIGHT_ERRORS:
            return (
                f"mean weight {self.mean_weight:.3f} is not near 1, off by {self.mean_weight_errors:.1f} "
                "standard errors: wrong propensities, or actions that the log never takes"
            )
        if self.thin > MAX_THIN_SHARE * self.chosen:
            return (
                f"support violations: {100 * self.thin / self.chosen:.1f} % of the rows that the policy may "
                f"choose have a propensity below {THIN_PROPENSITY:g}"
            )
        return ""


def support(data: BanditData) -> Support:
    """Return how well the log supports the evaluation policy."""
    w = data.weight
    squares = float((w**2).sum())
    return Support(
        rows=len(w),
        effective=float(w.sum()) ** 2 / squares if squares else 0.0,
        max_weight=float(w.max(initial=0.0)),
        mean_weight=float(w.mean()) if len(w) else 0.0,
        thin=int(((data.target > 0) & (data.propensity < THIN_PROPENSITY)).sum()),
        chosen=int((data.target > 0).sum()),
        weight_error=_mean_error(w, data.user),
        users=len(np.unique(data.user)),
    )


def _mean_error(values: F64, user: I64) -> float:
    """Return the standard error of a mean whose rows stand or fall by user."""
    sums = sums_by(user, values, np.ones(len(values)))
    return jackknife_error(sums) if len(sums) > 1 else math.nan


@dataclass(frozen=True)
class Estimate:
    """An estimated value per row, with its interval and whether it may be relied on."""

    method: str
    interval: Interval
    support: Support

    @property
    def verdict(self) -> bool:
        """Whether the gates let this estimate be a verdict."""
        return not self.support.refusal


def _ips(data: BanditData) -> tuple[F64, F64]:
    return data.weight * data.reward, np.ones(len(data.reward))


def _snips(data: BanditData) -> tuple[F64, F64]:
    return data.weight * data.reward, data.weight


def _dm(data: BanditData) -> tuple[F64, F64]:
    if data.weight_before is not None:
        raise LogError.expected(
            "method", got="dm of slates", expected="ips, snips or dr", fix="name one of them for slates"
        )
    return _modelled(data)[1], np.ones(len(data.reward))


def _dr(data: BanditData) -> tuple[F64, F64]:
    q, v = _modelled(data)
    before = 1.0 if data.weight_before is None else data.weight_before
    return before * v + data.weight * (data.reward - q), np.ones(len(data.reward))


def _modelled(data: BanditData) -> tuple[F64, F64]:
    if data.q_logged is None or data.v_target is None:
        raise LogError.expected(
            "reward model",
            got=None,
            expected="q_logged and v_target for DM and DR",
            fix="see reward_models",
        )
    return data.q_logged, data.v_target


METHODS: dict[str, Callable[[BanditData], tuple[F64, F64]]] = {
    "ips": _ips, "snips": _snips, "dm": _dm, "dr": _dr,
}  # fmt: skip
"""Numerator and denominator `[N]` of each estimator."""


def estimate(
    data: BanditData, method: str, *, level: float = 0.95, replicates: int = 1000, seed: int = 0
) -> Estimate:
    """Return the value of the evaluation policy by one of METHODS.

    Raises
    ------
    LogError
        The method is unknown, needs a reward model that the data lack, or there are no rows.

    """
    if method not in METHODS:
        raise LogError.expected("method", got=method, expected=" or ".join(METHODS), fix="name one of them")
    if not len(data.reward):
        raise LogError.expected(
            "log", got="no rows", expected="logged rewards", fix="give a log with feedback"
        )
    numerator, denominator = METHODS[method](data)
    interval = ratio_interval(
        numerator, denominator, data.user, level=level, replicates=replicates, seed=seed
    )
    return Estimate(method, interval, support(data))


def on_policy(data: BanditData, *, level: float = 0.95, replicates: int = 1000, seed: int = 0) -> Interval:
    """Return the mean reward of the policy that logged the data."""
    ones = np.ones(len(data.reward))
    return ratio_interval(data.reward, ones, data.user, level=level, replicates=replicates, seed=seed)
