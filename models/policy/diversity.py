r"""From ranked candidates to a slate: rules between the ads of one decision.

A slate is filled slot by slot: somebody picks a candidate by its log rank value (the greedy best here, a
Thompson or Plackett-Luce draw elsewhere), and `close` then marks what that pick rules out, by writing
-inf, and what it makes less welcome. What is left is the candidate set of the next slot.

Hard rules, for everybody:
- no ad twice, and at most ``max_per_campaign`` ads of one campaign;
- **competitive separation**: ads that share a ``separate:...`` label and belong to different advertisers
  do not appear together (ads without an advertiser count as rivals of all others).

Soft rule, not in the randomised bucket:
- **diversity** is maximal marginal relevance (Carbonell, Goldstein '98) with log rank value as relevance
  and a graded `similarity`: the rank value of an ad counts ``1 - diversity * s`` times, where s in [0, 1]
  is its greatest similarity to an ad in the slate.

In the randomised bucket the hard rules alone decide which candidates a slot may go to, so a draw's
probability among what is left *is* the slot's propensity, and the slate's is the product.
`new_ads` has one more rule, for the last slot.

Legend: B decisions, K candidates, S slots, A ads.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.policy import Policy

from .similarity import Facets, similarity
from .standing import CAMPAIGN_LIMIT, DIVERSITY, SEPARATION, Codes

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


class SlateRules(NamedTuple):
    """A policy's rules between the ads of a slate."""

    max_per_campaign: int
    diversity: float
    """Share of its rank value that an ad loses to one in the slate that is just like it."""


class Board(NamedTuple):
    """The candidates of a slate as the picks so far left them; all `[B, K]`, changed in place."""

    log_rank: F64
    """Log rank value as the rules left it; -inf: may not be taken."""
    alike: F64
    """Greatest similarity to an ad in the slate."""
    standing: Codes
    """The rule that keeps the candidate out (`standing`)."""


def slate_rules(policy: Policy) -> SlateRules:
    """Return the policy's rules; a diversity of 1 rules a category's second ad out."""
    return SlateRules(policy.max_per_campaign, policy.diversity)


def board_of(log_rank: F64, standing: Codes | None = None) -> Board:
    """Return the board of an empty slate; the arrays `[B, K]` are copied."""
    codes = np.zeros(log_rank.shape, np.int8) if standing is None else standing.copy()
    return Board(log_rank.copy(), np.zeros(log_rank.shape), codes)


def close(
    board: Board,
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
    board
        `[B, K]` the candidates as they stand; changed in place.
    candidates
        `[B, K]` rows of the catalogue, -1 for none.
    column
        `[B, S]` the candidate of each slot, filled up to and including ``slot``; -1 for none.
    randomized
        `[B]` decisions without the soft rule.

    """
    close_rows(board, candidates, column, slot, facets, rules, randomized)


def greedy_slate(log_rank: F64, candidates: I32, slots: int, facets: Facets, rules: SlateRules) -> I64:
    """Return `[B, S]` the candidates of the slate that takes the best one left for every slot.

    Ties go to the lower candidate. ``log_rank`` is not changed; NaN counts as -inf.
    """
    board = board_of(log_rank)
    column = np.full((len(log_rank), slots), -1, np.int64)
    randomized = np.zeros(len(log_rank), np.bool_)
    for slot in range(slots):
        _pick_best(board.log_rank, column, slot)
        close_rows(board, candidates, column, slot, facets, rules, randomized)
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
    board: Board,
    candidates: I32,
    column: I64,
    slot: int,
    facets: Facets,
    rules: SlateRules,
    randomized: Flags,
) -> None:
    """Do what `close` does; for kernels."""
    for b in range(board.log_rank.shape[0]):
        picked = column[b, slot]
        if picked < 0:
            continue
        board.log_rank[b, picked] = -np.inf
        row = candidates[b, picked]
        full = _in_slate(candidates[b], column[b, : slot + 1], facets.campaign, row) >= rules.max_per_campaign
        soft = rules.diversity > 0.0 and not randomized[b]
        for k in range(board.log_rank.shape[1]):
            other = candidates[b, k]
            if other < 0 or not board.log_rank[b, k] > -np.inf:
                continue
            if full and facets.campaign[other] == facets.campaign[row]:
                board.log_rank[b, k], board.standing[b, k] = -np.inf, CAMPAIGN_LIMIT
            elif _compete(facets, row, other):
                board.log_rank[b, k], board.standing[b, k] = -np.inf, SEPARATION
            elif soft:
                _diversify(board, b, k, similarity(facets, row, other), rules.diversity)


@njit(cache=True)
def _diversify(board: Board, b: int, k: int, alike: float, diversity: float) -> None:
    """Lower a candidate's log rank value by what it now resembles more than before."""
    before = board.alike[b, k]
    if alike <= before:
        return
    board.alike[b, k] = alike
    if diversity * alike >= 1.0:
        board.log_rank[b, k], board.standing[b, k] = -np.inf, DIVERSITY
    else:
        board.log_rank[b, k] += math.log1p(-diversity * alike) - math.log1p(-diversity * before)


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
