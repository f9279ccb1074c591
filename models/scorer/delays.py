"""How late conversions come, campaign by campaign, read from a log that has ended.

A conversion comes within t of its click with probability F(t) = 1 - exp(-(t / scale)^shape). Who gives all
campaigns one F takes the slow ones for bad: of their conversions fewer have come yet. So each campaign has
a scale of its own, log-normal around a common one. Of a campaign with N conversions, seen d_1..d_N after
their clicks, and with clicks of ages a, of which ``rate`` convert on average,

    L(scale) = prod f(d_j) (E + k)^-(N + k),   E = rate sum F(a),

is the likelihood of the scale, with the campaign's own rate, Gamma(k, k) around ``rate``, integrated out.
The scale is one of a grid. Its law, ``rate`` and k are those of all campaigns together (empirical Bayes,
by expectation maximisation), and the shape is the likeliest of a few.

Chapelle (KDD '14) says why the delays of a log that has ended look too short. Legend: C campaigns, G grid,
A bins of ages, I clicks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from .rates import spread
from .sequences import I64

F64 = NDArray[np.float64]

LEAST_DELAYS = 50
"""Fewer conversions say too little about how late conversions come."""
SHAPES = (0.5, 0.7, 1.0, 1.4)
GRID, REACH = 61, 6.0
"""Scales, and how far apart the outermost are from the mean of the delays seen, as a logarithm."""
AGES = 128
STEPS = 40
LEAST_AGE_S = 1e-3
LEAST_ARRIVED = 1e-6
FIRST_SD, LEAST_SD, BELIEVED_CAMPAIGNS = 1.0, 0.05, 2.0
"""The scales' spread to begin with, the least, and how many campaigns' word the former has."""


class Clicks(NamedTuple):
    """Clicks of the log, `[I]`: number of the campaign, age at its end, delay of a conversion or infinity."""

    campaign: I64
    age_s: F64
    delay_s: F64


def arrived_shares(clicks: Clicks, campaign: I64, age_s: F64) -> F64:
    """Return the share of conversions that has come by an age `[I]` in a campaign, as ``clicks`` tell.

    1 where they hold too few conversions to tell. A campaign that has none is like any.
    """
    converted = np.isfinite(clicks.delay_s)
    if converted.sum() < LEAST_DELAYS:
        return np.ones(len(age_s))
    counts = _Counts.of(clicks, converted)
    laws = [_fit(counts, shape) for shape in SHAPES]
    best = max(laws, key=lambda law: law.likelihood)
    table = np.concatenate((best.arrived, best.usual[None]))  # [C + 1, A]
    row = np.where(campaign < len(best.arrived), campaign, len(best.arrived))
    return np.clip(table[row, counts.bins.of(age_s)], LEAST_ARRIVED, 1.0)


class _Bins(NamedTuple):
    """Ages that count as one, geometric."""

    low: float
    step: float

    @classmethod
    def over(cls, age_s: F64) -> _Bins:
        low, high = (np.log(max(float(end), LEAST_AGE_S)) for end in (age_s.min(), age_s.max()))
        return cls(float(low), max(float(high - low), 1e-9) / AGES)

    def of(self, age_s: F64) -> I64:
        at = (np.log(np.maximum(age_s, LEAST_AGE_S)) - self.low) / self.step
        return np.clip(at, 0, AGES - 1).astype(np.int64)

    def centres_s(self) -> F64:
        return np.exp(self.low + (np.arange(AGES) + 0.5) * self.step)


class _Counts(NamedTuple):
    """What the likelihood reads of the clicks."""

    bins: _Bins
    clicks: F64
    """`[C, A]`"""
    campaign: I64
    """`[N]` of each conversion, and so ``delay_s``."""
    delay_s: F64
    conversions: F64
    """`[C]`"""
    scales: F64
    """`[G]` logarithms."""

    @classmethod
    def of(cls, clicks: Clicks, converted: NDArray[np.bool_]) -> _Counts:
        bins, rows = _Bins.over(clicks.age_s), int(clicks.campaign.max()) + 1
        cell = clicks.campaign * AGES + bins.of(clicks.age_s)
        delay_s = np.maximum(clicks.delay_s[converted], LEAST_AGE_S)
        campaign = clicks.campaign[converted]
        return cls(
            bins,
            np.bincount(cell, minlength=rows * AGES).reshape(rows, AGES).astype(np.float64),
            campaign,
            delay_s,
            np.bincount(campaign, minlength=rows).astype(np.float64),
            np.log(delay_s.mean()) + np.linspace(-REACH, REACH, GRID),
        )


class _Law(NamedTuple):
    """A fitted law of one shape."""

    likelihood: float
    arrived: F64
    """Share of conversions that have come, by campaign and age `[C, A]`,"""
    usual: F64
    """and of a campaign of which nothing is known `[A]`."""


def _fit(counts: _Counts, shape: float) -> _Law:
    scales, seen = counts.scales, counts.conversions
    share = -np.expm1(-np.exp(shape * (np.log(counts.bins.centres_s())[:, None] - scales)))  # [A, G]
    mature = counts.clicks @ share  # [C, G]
    density = _log_density(counts, shape)
    middle, sd = float(scales[GRID // 2]), FIRST_SD
    total = counts.clicks.sum(1)  # [C]
    rate, k = float(seen.sum() / total.sum()), 1.0
    telling = rate * total >= min(1.0, rate * float(total.max()))
    for _ in range(STEPS):
        prior = _log_normal(scales, middle, sd)
        joint = prior + density + _log_counts(seen[:, None], mature, rate, k)
        of_campaign = logsumexp(joint, axis=1)
        weight = np.exp(joint - of_campaign[:, None])  # [C, G]
        likely = (weight * mature).sum(1)
        told = weight[telling].sum(0)  # [G]
        middle = float(told @ scales / told.sum())
        square = float(told @ (scales - middle) ** 2) + BELIEVED_CAMPAIGNS * FIRST_SD**2
        sd = max(float(np.sqrt(square / (told.sum() + BELIEVED_CAMPAIGNS))), LEAST_SD)
        rate = min(float(seen.sum() / likely.sum()), 1.0)
        k = 1.0 / spread(seen, rate * likely)
    usual = np.exp(prior) @ share.T
    return _Law(float(of_campaign.sum()), weight @ share.T, usual)


def _log_density(counts: _Counts, shape: float) -> F64:
    """Return the log likelihood `[C, G]` of the delays seen."""
    rows, logs = len(counts.conversions), np.log(counts.delay_s)
    sums = np.bincount(counts.campaign, logs, rows)[:, None]
    powers = np.bincount(counts.campaign, counts.delay_s**shape, rows)[:, None]
    seen, scales = counts.conversions[:, None], counts.scales
    return np.asarray(
        seen * (np.log(shape) - shape * scales) + (shape - 1) * sums - powers * np.exp(-shape * scales)
    )


def _log_counts(seen: F64, mature: F64, rate: float, k: float) -> F64:
    """Return the log likelihood `[C, G]` of how many were seen, a Gamma(k, k) rate integrated out."""
    return np.asarray(
        seen * np.log(rate) + k * np.log(k) + gammaln(seen + k) - gammaln(k)
        - (seen + k) * np.log(rate * mature + k)
    )  # fmt: skip


def _log_normal(scales: F64, middle: float, sd: float) -> F64:
    """Return the log prior `[G]` of the grid's scales."""
    log_density = -0.5 * ((scales - middle) / sd) ** 2
    return np.asarray(log_density - logsumexp(log_density))
