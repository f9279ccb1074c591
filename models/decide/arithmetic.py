"""What each candidate is worth: elementwise, compiled, so that a row's bits depend on that row alone.

`models.policy.auction` and `models.learning.exploration` state the same formulas on whole arrays, and a
test holds `appraise` to them; here they share one pass over the candidates.

Legend: A ads, B decisions, K candidates.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.learning.compiled import CandidateParts
from models.policy.auction import CPA, CPM
from models.policy.standing import FLOOR, OPEN, PLACEMENT_FLOOR, RESERVE, WORTHLESS, Codes

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_LIMIT = 30.0


class Ads(NamedTuple):
    """What the decision path reads of a catalogue; arrays are `[A]`."""

    keys: U64
    bid_type: NDArray[np.int8]
    bid_micros: I64
    quality: F64
    floor_micros: I64
    campaign: I32
    mu: F64
    """Pacing multiplier of the ad's campaign."""


class Logits(NamedTuple):
    """The parts of the candidates' logits; arrays are `[B, K]`."""

    click: F32
    """The model's logit of a click; -inf where there is no candidate."""
    conversion: F32
    bias: float
    taste: F64
    """The user's own adjustment for the ad's category."""
    taste_variance: F64
    learned: CandidateParts
    slope: float
    """Share of what is learned by segment, category and user that holds for conversions, too."""
    calibration: tuple[float, float]
    """Slope and centre of the click logits' sums."""


class Offers(NamedTuple):
    """The candidates in the auction; arrays are `[B, K]`, zeros where there is no candidate."""

    keys: U64
    pctr: F64
    pcvr: F64
    bid_micros: I64
    mu: F64
    floor_micros: I64
    campaign: I32
    value: F64
    """Expected revenue of a thousand impressions at the full bid, in micros."""
    rank: F64
    """Rank value, in micros per thousand impressions; -inf for candidates not admitted."""
    log_rank: F64
    """-inf for candidates not admitted and for those that earn nothing."""
    deviation: F64
    """Standard deviation of the log rank value under the Thompson draw."""
    standing: Codes
    """The rule of the auction that keeps the candidate out (`models.policy.standing`), OPEN for none."""


@njit(cache=True)
def sigmoid(logit: float) -> float:
    """Return 1 / (1 + exp(-logit)), the logit held within ±30; 0 for -inf."""
    if not logit > -np.inf:
        return 0.0
    return 1.0 / (1.0 + math.exp(-min(max(logit, -_LIMIT), _LIMIT)))


@njit(cache=True)
def drawn_in(logit: float, calibration: tuple[float, float]) -> float:
    """Return what calibration adds to a sum of the other parts: (slope - 1) * (logit - centre)."""
    slope, centre = calibration
    return (slope - 1.0) * (logit - centre)


@njit(cache=True)
def gathered(values: U64, rows: I32) -> U64:
    """Return ``values[rows]`` `[B, K]`, 0 for rows of -1."""
    out = np.zeros(rows.shape, np.uint64)
    for b in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            if rows[b, k] >= 0:
                out[b, k] = values[rows[b, k]]
    return out


@njit(cache=True)
def appraise(
    rows: I32, logits: Logits, ads: Ads, nu: float, reserve_micros: int, least_micros: I64
) -> Offers:
    """Return the offers of candidates `[B, K]` (rows of the catalogue, -1 for none).

    ``nu`` scales the Thompson draw; ``least_micros`` `[B]` is the least value that is admitted, of which
    ``reserve_micros`` is the policy's share.
    """
    offers = _no_offers(rows.shape)
    for b in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            a = rows[b, k]
            if a < 0:
                continue
            pctr, pcvr = _probabilities(logits, b, k)
            bid, floor = ads.bid_micros[a], ads.floor_micros[a]
            value = _value(ads.bid_type[a], bid, pctr, pcvr)
            offers.keys[b, k], offers.campaign[b, k] = ads.keys[a], ads.campaign[a]
            offers.bid_micros[b, k], offers.floor_micros[b, k] = bid, floor
            offers.mu[b, k] = ads.mu[a]
            offers.pctr[b, k], offers.pcvr[b, k], offers.value[b, k] = pctr, pcvr, value
            paced = 1.0 + ads.mu[a]
            standing = _admission(value / paced, bid / paced, floor, reserve_micros, least_micros[b])
            offers.standing[b, k] = standing
            if standing in (OPEN, WORTHLESS):
                rank = value * ads.quality[a] / paced
                offers.rank[b, k] = rank
                offers.log_rank[b, k] = math.log(rank) if rank > 0.0 else -np.inf
            if ads.bid_type[a] != CPM:
                variance = logits.learned.variance[b, k] + logits.taste_variance[b, k]
                offers.deviation[b, k] = nu * math.sqrt(variance) * (1.0 - pctr)
    return offers


@njit(cache=True)
def _no_offers(shape: tuple[int, int]) -> Offers:
    return Offers(
        np.zeros(shape, np.uint64),
        np.zeros(shape),
        np.zeros(shape),
        np.zeros(shape, np.int64),
        np.zeros(shape),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int32),
        np.zeros(shape),
        np.full(shape, -np.inf),
        np.full(shape, -np.inf),
        np.zeros(shape),
        np.zeros(shape, np.int8),
    )


@njit(cache=True)
def _admission(value: float, bid: float, floor: int, reserve: int, least: int) -> int:
    """Return the code of what keeps a candidate of a value and a bid, both paced, from being sold."""
    if value < reserve:
        return RESERVE
    if value < least:
        return PLACEMENT_FLOOR
    if bid < floor:
        return FLOOR
    return OPEN if value > 0.0 else WORTHLESS


@njit(cache=True)
def _probabilities(logits: Logits, b: int, k: int) -> tuple[float, float]:
    """Return pctr and pcvr; the click logit is summed in the order of `decision.Parts`."""
    learned = logits.learned
    total = float(logits.click[b, k]) + logits.bias
    total += learned.ad[b, k]
    total += learned.campaign[b, k]
    total += learned.segment_category[b, k]
    total += logits.taste[b, k]
    total += drawn_in(total, logits.calibration)
    conversion = float(logits.conversion[b, k]) + learned.conversion[b, k]
    conversion += logits.slope * (learned.segment_category[b, k] + logits.taste[b, k])
    return sigmoid(total), sigmoid(conversion)


@njit(cache=True)
def _value(bid_type: int, bid_micros: int, pctr: float, pcvr: float) -> float:
    events = 1.0 if bid_type == CPM else 1000.0 * pctr
    if bid_type == CPA:
        events = events * pcvr
    return events * bid_micros
