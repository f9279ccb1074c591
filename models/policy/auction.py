r"""The auction: what an impression is worth, who ranks before whom, and what the winner pays.

An ad's **value** is the seller's expected revenue of a thousand impressions at the full bid,

    cpm: bid        cpc: 1000 * pctr * bid        cpa: 1000 * pctr * pcvr * bid,

A campaign with pacing multiplier mu takes part with ``bid / (1 + mu)`` (multiplicative pacing, Balseiro and
Gur '19): ads rank by ``value * quality / (1 + mu)``, and the winner pays per billed event the least such bid
that would have kept their rank (generalised second price, Edelman, Ostrovsky, Schwarz '07), and at least what
the reserve asks:

    price = max(rank_next / rank_own * bid / (1 + mu), reserve * bid / value, floor),

at most ``bid / (1 + mu)``: so a click costs a campaign at most its bid over 1 + mu, which is what holding
back is for. Prices are in whole micros, rounded **up**: rounding puts none below reserve or next rank.
``rank_next`` is the best rank value not above the own one among candidates of *other campaigns*: nobody
bids against themselves. It is taken from the whole candidate list, so it does not depend on which of
them diversity or exploration put into the slate. ``reserve`` is the least expected revenue per
thousand impressions, before quality: the policy's or the placement's, whichever is larger; ``floor`` is an
ad's own least price per billed event. Whose paced bid does not reach them is not sold.

Every result is elementwise or summed row by row in a fixed order, so it does not depend on the batch.

Legend: B decisions, K candidates, S slots.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.catalogue import BID_TYPES

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

CPM, CPC, CPA = (BID_TYPES.index(name) for name in ("cpm", "cpc", "cpa"))

MAX_BID_MICROS = 10**12
"""Bids above a million units per event are refused (`validation`); below, every figure here is exact."""


class Bids(NamedTuple):
    """What the candidates offer; all arrays have one shape, `[B, K]` or `[K]`."""

    bid_type: NDArray[np.int8]
    """Index into BID_TYPES."""
    bid_micros: I64
    """Per billed event: a thousand impressions, a click or a conversion."""
    quality: F64
    floor_micros: I64
    """Least price per billed event."""
    campaign: NDArray[np.int32]
    """Code of the campaign."""
    mu: F64
    """Pacing multiplier of the campaign, 0 for an unpaced one."""


def value_micros(bids: Bids, pctr: F64, pcvr: F64) -> F64:
    """Return the expected revenue of a thousand impressions at the full bid, in micros."""
    events = np.where(bids.bid_type == CPM, 1.0, 1000.0 * pctr)
    return np.where(bids.bid_type == CPA, events * pcvr, events) * bids.bid_micros


def rank_value(bids: Bids, value: F64) -> F64:
    """Return what ads are ranked by: ``value * quality / (1 + mu)``, in micros per thousand impressions."""
    return value * bids.quality / (1.0 + bids.mu)


def admitted(bids: Bids, value: F64, reserve_micros: I64 | int) -> Flags:
    """Return which candidates may be sold: their bid, paced, reaches the reserve `[B, 1]` and the floor."""
    paced = 1.0 + bids.mu
    return (value / paced >= reserve_micros) & (bids.bid_micros / paced >= bids.floor_micros)


def ecpm_micros(rank: F64) -> I64:
    """Return rank values as integer micros, to the nearest (half to even); -inf (no candidate) is 0."""
    return np.rint(np.where(rank > 0.0, rank, 0.0)).astype(np.int64)


def gsp_prices(bids: Bids, value: F64, rank: F64, column: I64, reserve_micros: I64 | int) -> I64:
    """Return what each slot's ad pays per billed event, in micros.

    Parameters
    ----------
    bids, value, rank
        `[B, K]` candidates; a rank of -inf marks one that does not compete.
    column
        `[B, S]` the candidate in each slot, -1 for an empty one (its price is 0).
    reserve_micros
        `[B]` least expected revenue of a thousand impressions; one number holds for all.

    """
    prices = np.zeros(column.shape, np.int64)
    reserve = np.full(len(column), reserve_micros, np.int64)
    price_slots(
        bids.bid_micros, bids.mu, bids.floor_micros, bids.campaign, value, rank, column, reserve, prices
    )
    return prices


@njit(cache=True)
def price_slots(
    bid: I64,
    mu: F64,
    floor: I64,
    campaign: NDArray[np.int32],
    value: F64,
    rank: F64,
    column: I64,
    reserve: I64,
    prices: I64,
) -> None:
    """Write the prices of `gsp_prices` `[B, S]`; for kernels."""
    for b in range(column.shape[0]):
        for s in range(column.shape[1]):
            k = column[b, s]
            if k >= 0:
                rival = _next_rank(rank[b], campaign[b], k)
                paced = bid[b, k] / (1.0 + mu[b, k])
                asked = float(reserve[b]) * bid[b, k] / value[b, k] if value[b, k] > 0.0 else 0.0
                prices[b, s] = _price(paced, rank[b, k], rival, max(asked, floor[b, k]))


@njit(cache=True)
def _next_rank(rank: F64, campaign: NDArray[np.int32], k: int) -> float:
    """Return the best rank value not above candidate k's in another campaign; 0 if there is none."""
    best = 0.0
    for j in range(rank.shape[0]):
        if campaign[j] != campaign[k] and best < rank[j] <= rank[k]:
            best = rank[j]
    return best


@njit(cache=True)
def _price(paced_bid: float, rank: float, rival: float, least: float) -> int:
    price = max(least, rival * paced_bid / rank) if rank > 0.0 else least
    return math.ceil(min(price, paced_bid))
