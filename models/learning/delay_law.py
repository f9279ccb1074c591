r"""A law of delays fitted to conversions as they arrive, each weighed by how long ago it came.

With f the density of the delay, a click of age e and conversion probability p still has r p f(e) conversions
a second to come: conversions are a Poisson process, r the factor on the model's rate. Its likelihood, with
what came at t weighed by w = exp(-(now - t) / T), knows a click by its **faded arrivals**

    G(e) = \int_0^e f(u) exp(-(e - u) / T) du,    E = sum over clicks of p G(e),    N = sum of w,

(G = F, the share that has come by now, for T without end). With the best r for it, (N + a) / (E + a) where
``a`` pseudo-conversions speak for 1, a Weibull law F(e) = 1 - exp(-b e^k) is as likely as

    N log b - b sum w d^k - (N + a) log(E + a),

over b, beside what stays the same for one k: N log k + (k - 1) sum w log d.

Legend: G ages of a grid.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_PSEUDO_CONVERSIONS = 1.0
"""Few: were the factor held at 1, delays without end would explain every campaign that hardly converts."""
_LEAST_AGE_S = 1e-3
_STEPS_PER_FADING = 16
"""Ages of the grid within one time constant, at least: an arrival counts with the middle of its step."""
_STEP = 0.15
_LARGEST_MOVE = 0.5
_MOVES, _CONVERGED = 4, 1e-3


class Clicks(NamedTuple):
    """Clicks by age, youngest first, on a grid that is fine enough to integrate over."""

    log_age: F64
    """`[G]`"""
    exposure: F64
    """`[G]` summed conversion probability; 0 where only the grid needs the age."""
    fade: F64
    """`[G]` what is left, at this age, of what had arrived by the age before."""
    fade_half: F64
    """`[G]` what is left of what arrived between the two."""


class Arrived(NamedTuple):
    """What is known of one law's conversions, all faded."""

    conversions: float
    """N"""
    sum_power: float
    """sum w d^k"""
    mature: float
    """E of clicks that are too old to be on the grid."""


class Prior(NamedTuple):
    """log b is normal around ``mean``."""

    mean: float
    sd: float


class Fit(NamedTuple):
    """The law of one shape: log b, its log likelihood beside what the shape adds, and E under it."""

    log_rate: float
    log_likelihood: float
    exposure: float


def clicks_of(age_s: F64, exposure: F64, fading_s: float) -> Clicks:
    """Return clicks of these ages, ascending, on a grid; ``fading_s`` is T."""
    age = np.maximum(age_s, _LEAST_AGE_S)
    gaps = np.diff(age, prepend=0.0)
    parts = np.maximum(np.ceil(gaps * _STEPS_PER_FADING / fading_s), 1.0).astype(np.int64)
    step = np.repeat(gaps / parts, parts)
    on_grid = np.zeros(len(step))
    on_grid[np.cumsum(parts) - 1] = exposure
    return Clicks(
        np.log(np.cumsum(step)), on_grid, np.exp(-step / fading_s), np.exp(-step / (2.0 * fading_s))
    )


@njit(cache=True)
def faded_arrivals(log_rate: float, shape: float, clicks: Clicks) -> F64:
    """Return G `[G]` at every age of the grid."""
    out, g, before = np.empty(clicks.log_age.shape[0]), 0.0, 0.0
    for j in range(out.shape[0]):
        by_now = -math.expm1(-math.exp(log_rate + shape * clicks.log_age[j]))
        g = g * clicks.fade[j] + (by_now - before) * clicks.fade_half[j]
        out[j], before = g, by_now
    return out


@njit(cache=True)
def fit(start: float, shape: float, clicks: Clicks, arrived: Arrived, prior: Prior) -> Fit:
    """Return the most likely law of a shape, searched for from ``start`` on by parabolas.

    One call moves log b by 2 k at most: what is far off arrives in a few.
    """
    x, h = start, _STEP * shape
    for _ in range(_MOVES):
        left, here, right = (
            _posterior(x - h, shape, clicks, arrived, prior),
            _posterior(x, shape, clicks, arrived, prior),
            _posterior(x + h, shape, clicks, arrived, prior),
        )
        slope, curvature = (right - left) / (2.0 * h), (right - 2.0 * here + left) / (h * h)
        most = _LARGEST_MOVE * shape
        move = -slope / curvature if curvature < 0.0 else math.copysign(most, slope)
        move = min(max(move, -most), most)
        x += move
        if abs(move) < _CONVERGED:
            break
    exposure = _exposure(x, shape, clicks, arrived)
    return Fit(x, _log_likelihood(x, exposure, arrived), exposure)


@njit(cache=True)
def _exposure(x: float, shape: float, clicks: Clicks, arrived: Arrived) -> float:
    return arrived.mature + (clicks.exposure * faded_arrivals(x, shape, clicks)).sum()


@njit(cache=True)
def _log_likelihood(x: float, exposure: float, arrived: Arrived) -> float:
    n = arrived.conversions
    return (
        n * x
        - math.exp(x) * arrived.sum_power
        - (n + _PSEUDO_CONVERSIONS) * math.log(exposure + _PSEUDO_CONVERSIONS)
    )


@njit(cache=True)
def _posterior(x: float, shape: float, clicks: Clicks, arrived: Arrived, prior: Prior) -> float:
    exposure = _exposure(x, shape, clicks, arrived)
    return _log_likelihood(x, exposure, arrived) - 0.5 * ((x - prior.mean) / prior.sd) ** 2
