r"""A share of decisions that hold a new ad: which ads are new, who owes one, and what that leaves of a slate.

An ad is **new** at a decision when both hold:
- it came into the catalogue less than ``new_ad_s`` before, by the time of the record that brought it first.
  Ads that came within `STOCK_MS` of the oldest one are the stock that a system starts with, not new ones;
- so far it was shown less than ``new_ad_impressions`` times, read off its posterior variance: n impressions
  of an ad with click probability p leave about v0 / (1 + n p (1 - p) v0) of the prior's v0, at
  `ASSUMED_PCTR`. Evidence fades, so an ad that nobody shows for long may count as unseen again, but never
  past ``new_ad_s``. Without a learner the time alone decides.

Both are facts of the log. A decision **owes** a new ad by the hash of its id, outside the randomised bucket.
It asks retrieval once more, for new ads alone, and they join its candidates; its last slot goes to a new ad
if none is in the slate by then and one is left. Reserve, floors and the rules of the slate stay in force: a
share of decisions without any new ad is one where these leave none. The propensity of that slot holds given
that the decision owed one.

Legend: B decisions, K candidates, S slots, N ads that may be new, W words of a bitset, A ads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.policy import Policy

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]

STOCK_MS = 60_000
"""Ads that came so soon after the oldest ad of a catalogue are its stock."""
ASSUMED_PCTR = 0.05
"""Click probability by which impressions are read off a variance."""
CANDIDATES = 16
"""New ads that join the candidates of a decision that owes one."""


class NewAds(NamedTuple):
    """The ads that may be new, youngest first; `[N]`."""

    row: I32
    first_ms: I64
    """When they came into the catalogue."""


def new_ads_of(first_ms: I64, ad_variance: F64, prior_variance: float, policy: Policy) -> NewAds:
    """Return the ads of a catalogue `[A]` that count as new while they are young enough."""
    information = ASSUMED_PCTR * (1.0 - ASSUMED_PCTR) * policy.new_ad_impressions
    unseen = ad_variance > prior_variance / (1.0 + information * prior_variance)
    stock_until = first_ms.min(initial=np.iinfo(np.int64).max - STOCK_MS) + STOCK_MS
    rows = np.flatnonzero(unseen & (first_ms >= stock_until))
    rows = rows[np.argsort(-first_ms[rows], kind="stable")]
    return NewAds(rows.astype(np.int32), first_ms[rows])


def owes_new_ad(seed: U64, share: float) -> Flags:
    """Return `[B]` the decisions that owe a slot to a new ad; seeds are key64 of the decision's id."""
    return (seed >> np.uint64(11)) * 2.0**-53 < share


@njit(cache=True)
def eligible_new(new: NewAds, after_ms: I64, eligible: U64) -> U64:
    """Return the bitsets `[B, W]` of the eligible ads that came after ``after_ms`` `[B]` and may be new."""
    words = np.zeros_like(eligible)
    for b in range(eligible.shape[0]):
        for n in range(new.row.shape[0]):
            if new.first_ms[n] <= after_ms[b]:
                break
            word, bit = new.row[n] >> 6, np.uint64(1) << np.uint64(new.row[n] & 63)
            words[b, word] |= eligible[b, word] & bit
    return words


@njit(cache=True)
def with_new(found: I32, owed: Flags, extra: I32, words: U64) -> tuple[I32, Flags]:
    """Return the candidates with the new ads of those who owe one, and which of them are new.

    Parameters
    ----------
    found
        `[B, K]` candidates as rows of the catalogue, -1 for none.
    owed
        `[B]`
    extra, words
        `[O, N]` new ads, -1 for none, and `[O, W]` the bitsets of all of them; one row for each decision
        that owes one, in order.

    Returns
    -------
    tuple
        candidates and flags `[B, K + N]`; an ad that was found already is not added again.

    """
    (decisions, kept), added = found.shape, extra.shape[1]
    rows = np.full((decisions, kept + added), -1, np.int32)
    new = np.zeros(rows.shape, np.bool_)
    rows[:, :kept] = found
    o = 0
    for b in range(decisions):
        if owed[b]:
            for n in range(added):
                if not (extra[o, n] == found[b]).any():
                    rows[b, kept + n] = extra[o, n]
            _mark(rows[b], words[o], new[b])
            o += 1
    return rows, new


@njit(cache=True)
def _mark(rows: I32, words: U64, new: Flags) -> None:
    for k in range(rows.shape[0]):
        if rows[k] >= 0:
            new[k] = words[rows[k] >> 6] >> np.uint64(rows[k] & 63) & np.uint64(1) != 0


@njit(cache=True)
def favor_new(log_rank: F64, is_new: Flags, column: I64) -> bool:
    """Leave only new ads for the last slot if none was picked and one is left, in place; say if so.

    Parameters
    ----------
    log_rank, is_new
        `[K]` the candidates of one decision that owes a new ad.
    column
        `[S]` the slots filled so far, -1 for the others.

    """
    left = 0
    for k in column:
        if k >= 0 and is_new[k]:
            return False
    for k in range(log_rank.shape[0]):
        left += is_new[k] and log_rank[k] > -np.inf
    if left == 0:
        return False
    for k in range(log_rank.shape[0]):
        if not is_new[k]:
            log_rank[k] = -np.inf
    return True
