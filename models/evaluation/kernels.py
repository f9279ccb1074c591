"""The baselines' loops over all ads, compiled; each has a slow reference in a property test."""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

from .draws import F64
from .population import I64, Bools

_G = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_EDGE, _PER_UNIT = 24.0, 16


@cache
def sigmoid_above() -> F64:
    """Return upper bounds of the sigmoid on steps of 1/16 from -24 to 24: a table is cheaper than exp."""
    edges = np.arange(2 * int(_EDGE) * _PER_UNIT + 2) / _PER_UNIT - _EDGE
    bounds: F64 = (1 + 1e-12) / (1 + np.exp(-edges))
    return bounds


@njit(cache=True)
def _finalise(h: np.uint64) -> np.uint64:
    h = (h ^ (h >> np.uint64(30))) * _M1
    h = (h ^ (h >> np.uint64(27))) * _M2
    return h ^ (h >> np.uint64(31))


@njit(cache=True)
def _noise(noise_hash: np.uint64, a: int, noise: float) -> float:
    u = np.float64(_finalise((noise_hash ^ np.uint64(a)) + _G) >> np.uint64(11)) + 0.5
    return noise * (u * 2.0**-53 - 0.5)


@njit(cache=True)
def _value(
    kind: int, bid: float, logit: float, accident: float, cvr_logit: float,
) -> float:  # fmt: skip
    if kind == 0:
        return bid * 1e-3
    value = bid * (accident + (1 - accident) / (1 + np.exp(-logit)))
    if kind == 2:
        value /= 1 + np.exp(-cvr_logit)
    return value


@njit(cache=True)
def all_values(
    out: F64, taste: F64, category: I64, second: I64, focus: float, effects: F64, offset: float,
    noise_hash: np.uint64, noise: float, cvr: F64, cvr_base: float, cvr_taste: float,
    accident: float, bid_type: I64, bid: F64, allowed: Bools,
) -> None:  # fmt: skip
    """Write each allowed ad's true value per examined impression into `out` `[A]`, -1 for the others.

    `taste` `[C]` is the user's; `offset` is what all ads share of the logit; `noise_hash` the hash of the
    user's noise, to be folded with the ad's row. The other arrays are `[A]`, one entry per ad.
    """
    for a in range(len(category)):
        out[a] = -1.0
        if allowed[a]:
            match = focus * taste[category[a]] + (1 - focus) * taste[second[a]]
            logit = offset + match + effects[a] + _noise(noise_hash, a, noise)
            out[a] = _value(bid_type[a], bid[a], logit, accident, cvr_base + cvr[a] + cvr_taste * match)


@njit(cache=True)
def top_values(
    above: F64, places: I64, values: F64,
    taste: F64, category: I64, second: I64, focus: float, effects: F64, offset: float,
    noise_hash: np.uint64, noise: float, cvr: F64, cvr_base: float, cvr_taste: float,
    accident: float, bid_type: I64, bid: F64, allowed: Bools,
) -> int:  # fmt: skip
    """Write the ads of the largest values of `all_values` into `places` `[k]`, best first, and `values`.

    Returns how many there are; ties go to the lower row. An ad whose value cannot reach the k-th best by
    the bounds `above` of the sigmoid is passed over without an exponential.
    """
    k, found = len(places), 0
    for a in range(len(category)):
        if not allowed[a]:
            continue
        match = focus * taste[category[a]] + (1 - focus) * taste[second[a]]
        logit = offset + match + effects[a] + _noise(noise_hash, a, noise)
        if found == k and bid_type[a] != 0:
            step = int((min(max(logit, -_EDGE), _EDGE) + _EDGE) * _PER_UNIT) + 1
            if bid[a] * (accident + (1 - accident) * above[step]) <= values[k - 1]:
                continue
        value = _value(bid_type[a], bid[a], logit, accident, cvr_base + cvr[a] + cvr_taste * match)
        if found == k and value <= values[k - 1]:
            continue
        at = min(found, k - 1)
        while at > 0 and values[at - 1] < value:
            values[at], places[at] = values[at - 1], places[at - 1]
            at -= 1
        values[at], places[at] = value, a
        found = min(found + 1, k)
    return found


@njit(cache=True)
def draw_without_replacement(weights: F64, u: F64, places: I64, propensities: F64) -> None:
    """Draw a place by `weights` for each number of `u`, without the places before, with its propensity.

    As the cumulative sum of what is left would say each time; only what a draw changes is summed again.
    """
    left, cdf = weights.copy(), np.empty(len(weights))
    start = 0
    for i in range(len(u)):
        total = cdf[start - 1] if start > 0 else 0.0
        for a in range(start, len(left)):
            total += left[a]
            cdf[a] = total
        place = min(np.searchsorted(cdf, u[i] * total, side="right"), len(left) - 1)
        places[i], propensities[i] = place, left[place] / total
        left[place] = 0.0
        start = place
