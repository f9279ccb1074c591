"""The oracle's inner loop over all ads, compiled; `Truth.pairs` is its slow reference in a property test."""

from __future__ import annotations

import numpy as np
from numba import njit

from .draws import F64
from .population import I64, Bools

_G = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


@njit(cache=True)
def _finalise(h: np.uint64) -> np.uint64:
    h = (h ^ (h >> np.uint64(30))) * _M1
    h = (h ^ (h >> np.uint64(27))) * _M2
    return h ^ (h >> np.uint64(31))


@njit(cache=True)
def all_values(
    taste: F64, category: I64, second: I64, focus: float, effects: F64, offset: float,
    noise_hash: np.uint64, noise: float, cvr: F64, cvr_base: float, cvr_taste: float,
    accident: float, bid_type: I64, bid: F64, allowed: Bools, out: F64,
) -> None:  # fmt: skip
    """Write each allowed ad's true value per examined impression into `out` `[A]`, -1 for the others.

    `taste` `[C]` is the user's; `offset` is what all ads share of the logit; `noise_hash` the hash of the
    user's noise, to be folded with the ad's row. The other arrays are `[A]`, one entry per ad.
    """
    for a in range(len(category)):
        if not allowed[a]:
            out[a] = -1.0
            continue
        match = focus * taste[category[a]] + (1 - focus) * taste[second[a]]
        u = np.float64(_finalise((noise_hash ^ np.uint64(a)) + _G) >> np.uint64(11)) + 0.5
        logit = offset + match + effects[a] + noise * (u * 2.0**-53 - 0.5)
        value = bid[a]
        if bid_type[a] == 0:
            value *= 1e-3
        else:
            value *= accident + (1 - accident) / (1 + np.exp(-logit))
            if bid_type[a] == 2:
                value /= 1 + np.exp(-(cvr_base + cvr[a] + cvr_taste * match))
        out[a] = value
