r"""From ranked candidates to a slate: rules between the ads of one decision.

A slate is filled slot by slot: somebody picks a candidate by its log rank value (the greedy best here, a
Thompson or Plackett-Luce draw elsewhere), and `close` then marks what that pick rules out, by writing
-inf, and what it makes less welcome. What is left is the candidate set of the next slot.

Hard rules, for everybody:
- no ad twice, and at most ``max_per_campaign`` ads of one campaign;
- **competitive separation**: ads that share a ``separate:...`` label and belong to different advertisers
  do not appear together (ads without an advertiser count as rivals of all others).

Soft rules, not in the randomised bucket:
- **diversity** is maximal marginal relevance (Carbonell, Goldstein '98) with log rank value as relevance:
  an ad of a category that is in the slate already goes down by ``-log(1 - diversity)``, once; that is,
  its rank value counts ``1 - diversity`` times. Ads without a category are never similar.
- **new ads**: in a share ``new_ad_share`` of decisions, by the decision's seed, the last slot goes to a
  new ad if none is in the slate yet and one is left.

In the randomised bucket the hard rules alone decide which candidates a slot may go to, so a draw's
probability among what is left *is* the slot's propensity, and the slate's is the product.

Legend: B decisions, K candidates, S slots, G separation groups of an ad, A ads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.policy import Policy

from .columns import AdColumns

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]


class Facets(NamedTuple):
    """What the rules compare, by row of the catalogue."""

    campaign: I32
    """`[A]`"""
    category: I32
    """`[A]` -1 for none."""
    advertiser: I32
    """`[A]` -1 for none."""
    separation: I32
    """`[A, G]` -1 for none."""


class SlateRules(NamedTuple):
    """A policy's rules between the ads of a slate."""

    max_per_campaign: int
    log_penalty: float
    """Added to the log rank value of ads of a category that is in the slate: log(1 - diversity)."""


def facets_of(columns: AdColumns) -> Facets:
    """Return what the rules compare of a catalogue's ads."""
    return Facets(columns.campaign, columns.category, columns.advertiser, columns.separation)


def slate_rules(policy: Policy) -> SlateRules:
    """Return the policy's rules; a diversity of 1 rules a category's second ad out."""
    penalty = math.log1p(-policy.diversity) if policy.diversity < 1.0 else -math.inf
    return SlateRules(policy.max_per_campaign, penalty)


def close(
    log_rank: F64,
    candidates: I32,
    column: I64,
    slot: int,
    facets: Facets,
    rules: SlateRules,
    randomized: Flags,
) -> None:
    """Apply what the pick of one slot means for the slots after it, in place.

    Parameters
    ----------
    log_rank
        `[B, K]` log rank value as the rules left it so far; -inf: may not be taken. Changed in place.
    candidates
        `[B, K]` rows of the catalogue, -1 for none.
    column
        `[B, S]` the candidate of each slot, filled up to and including ``slot``; -1 for none.
    randomized
        `[B]` decisions without the soft rules.

    """
    close_rows(log_rank, candidates, column, slot, facets, rules, randomized)


def wants_new_ad(seed: U64, share: float) -> Flags:
    """Return `[B]` the decisions that owe a slot to a new ad; seeds are key64 of the decision's id."""
    return (seed >> np.uint64(11)) * 2.0**-53 < share


def favor_new(log_rank: F64, is_new: Flags, column: I64, owed: Flags) -> Flags:
    """Leave only new ads for the next slot where one is owed, none was picked and one is left, in place.

    Call before the last slot. Returns `[B]` where it did: there the pick is the best new ad instead
    of the best, and a logged propensity holds given that the decision owed one.

    Parameters
    ----------
    log_rank, is_new
        `[B, K]`
    column
        `[B, S]` the slots filled so far, -1 for the others.
    owed
        `[B]` from `wants_new_ad`, false in the randomised bucket.

    """
    done = np.zeros(len(owed), np.bool_)
    favor_new_rows(log_rank, is_new, column, owed, done)
    return done


def greedy_slate(
    log_rank: F64,
    candidates: I32,
    slots: int,
    facets: Facets,
    rules: SlateRules,
    is_new: Flags | None = None,
    owed: Flags | None = None,
) -> I64:
    """Return `[B, S]` the candidates of the slate that takes the best one left for every slot.

    Ties go to the lower candidate. ``log_rank`` is not changed; NaN counts as -inf.
    """
    left = log_rank.copy()
    column = np.full((len(left), slots), -1, np.int64)
    randomized = np.zeros(len(left), np.bool_)
    for slot in range(slots):
        if slot == slots - 1 and is_new is not None and owed is not None:
            favor_new(left, is_new, column, owed)
        _pick_best(left, column, slot)
        close_rows(left, candidates, column, slot, facets, rules, randomized)
    return column


@njit(cache=True)
def _pick_best(log_rank: F64, column: I64, slot: int) -> None:
    for b in range(log_rank.shape[0]):
        best = -np.inf
        for k in range(log_rank.shape[1]):
            if log_rank[b, k] > best:
                best, column[b, slot] = log_rank[b, k], k


@njit(cache=True)
def close_rows(
    log_rank: F64,
    candidates: I32,
    column: I64,
    slot: int,
    facets: Facets,
    rules: SlateRules,
    randomized: Flags,
) -> None:
    """Do what `close` does; for kernels."""
    for b in range(log_rank.shape[0]):
        picked = column[b, slot]
        if picked < 0:
            continue
        log_rank[b, picked] = -np.inf
        row = candidates[b, picked]
        full = _in_slate(candidates[b], column[b, : slot + 1], facets.campaign, row) >= rules.max_per_campaign
        seen = _in_slate(candidates[b], column[b, :slot], facets.category, row) > 0
        penalize = not seen and not randomized[b] and facets.category[row] >= 0
        for k in range(log_rank.shape[1]):
            other = candidates[b, k]
            if other < 0 or not log_rank[b, k] > -np.inf:
                continue
            if (full and facets.campaign[other] == facets.campaign[row]) or _compete(facets, row, other):
                log_rank[b, k] = -np.inf
            elif penalize and facets.category[other] == facets.category[row]:
                log_rank[b, k] += rules.log_penalty


@njit(cache=True)
def _in_slate(candidates: I32, column: I64, facet: I32, row: int) -> int:
    """Return how many of the picks share the row's facet."""
    same = 0
    for s in range(column.shape[0]):
        if column[s] >= 0 and facet[candidates[column[s]]] == facet[row]:
            same += 1
    return same


@njit(cache=True)
def _compete(facets: Facets, row: int, other: int) -> bool:
    """Return whether two ads share a separation group and belong to different advertisers."""
    if facets.separation[row, 0] < 0 or facets.separation[other, 0] < 0:
        return False
    if facets.advertiser[row] == facets.advertiser[other] and facets.advertiser[row] >= 0:
        return False
    for g in range(facets.separation.shape[1]):
        for h in range(facets.separation.shape[1]):
            if facets.separation[row, g] >= 0 and facets.separation[row, g] == facets.separation[other, h]:
                return True
    return False


@njit(cache=True)
def favor_new_rows(log_rank: F64, is_new: Flags, column: I64, owed: Flags, done: Flags) -> None:
    """Do what `favor_new` does and write where it did to ``done`` `[B]`; for kernels."""
    for b in range(log_rank.shape[0]):
        shown = left = 0
        for k in column[b]:
            shown += k >= 0 and is_new[b, k]
        for k in range(log_rank.shape[1]):
            left += is_new[b, k] and log_rank[b, k] > -np.inf
        done[b] = owed[b] and shown == 0 and left > 0
        if done[b]:
            for k in range(log_rank.shape[1]):
                if not is_new[b, k]:
                    log_rank[b, k] = -np.inf
