"""What the frozen model would have done in the randomised bucket, beside what was done.

For the guard of the online learning (`models.learning.counterfactual`): each slot of a randomised decision
logs the probability with which the same law (Plackett-Luce over the same candidates, the same temperature
and uniform share) would have given the slot to its ad, had the ads been ranked by the base model's logits
alone, given the slots before. Its ratio to the propensity weighs the slot's click for the frozen model.

Legend: B decisions, K candidates, S slots.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.policy import Exploration
from models.policy.auction import CPA, CPM
from models.policy.diversity import Board, SlateRules, close_rows
from models.policy.similarity import Facets

from .arithmetic import Logits, Offers, sigmoid

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


def frozen_propensities(
    rows: I32,
    logits: Logits,
    offers: Offers,
    bid_type: NDArray[np.int8],
    shown: I64,
    randomized: Flags,
    facets: Facets,
    rules: SlateRules,
    exploration: Exploration,
) -> F64:
    """Return the frozen model's probability of each slot's ad `[B, S]`; 0 outside the randomised bucket.

    Parameters
    ----------
    rows
        `[B, K]` candidates as rows of the catalogue, -1 for none.
    bid_type
        `[A]` of every ad of the catalogue.
    shown
        `[B, S]` the rows of the ads that were shown, -1 for an empty slot.

    """
    out = np.zeros(shown.shape)
    for b in np.flatnonzero(randomized):
        one = slice(b, b + 1)
        left = _frozen_ranks(rows[b], logits.click[b], logits.conversion[b], offers.pctr[b], offers.pcvr[b],
                             offers.log_rank[b], bid_type)  # fmt: skip
        tau, mix = exploration.temperature, exploration.uniform_mix
        out[b] = _follow(rows[one], left[None, :], shown[b], facets, rules, tau, mix)
    return out


@njit(cache=True)
def _frozen_ranks(
    rows: I32,
    click: NDArray[np.float32],
    conversion: NDArray[np.float32],
    pctr: F64,
    pcvr: F64,
    log_rank: F64,
    bid_type: NDArray[np.int8],
) -> F64:
    """Return the log rank values `[K]` with the base model's probabilities for the adjusted ones."""
    out = log_rank.copy()
    for k in range(rows.shape[0]):
        if not log_rank[k] > -np.inf or bid_type[rows[k]] == CPM:
            continue
        out[k] += math.log(sigmoid(float(click[k]))) - math.log(pctr[k])
        if bid_type[rows[k]] == CPA:
            out[k] += math.log(sigmoid(float(conversion[k]))) - math.log(pcvr[k])
    return out


@njit(cache=True)
def _follow(
    rows: I32, left: F64, shown: I64, facets: Facets, rules: SlateRules, tau: float, mix: float
) -> F64:
    """Return the probability of each slot's ad `[S]`, given those before; spends ``left``."""
    out, column = np.zeros(shown.shape[0]), np.full((1, shown.shape[0]), -1, np.int64)
    board = Board(left, np.zeros(left.shape), np.zeros(left.shape, np.int8))
    for slot in range(shown.shape[0]):
        for k in range(rows.shape[1]):
            if shown[slot] >= 0 and rows[0, k] == shown[slot]:
                column[0, slot] = k
        if column[0, slot] < 0:
            break
        out[slot] = _chance(left[0], column[0, slot], tau, mix)
        close_rows(board, rows, column, slot, facets, rules, np.ones(1, np.bool_))
    return out


@njit(cache=True)
def _chance(left: F64, k: int, tau: float, mix: float) -> float:
    top, count, total = -np.inf, 0, 0.0
    for j in range(left.shape[0]):
        if left[j] > -np.inf:
            top, count = max(top, left[j]), count + 1
    if not left[k] > -np.inf:
        return 0.0
    for j in range(left.shape[0]):
        if left[j] > -np.inf:
            total += math.exp((left[j] - top) / tau)
    return mix / count + (1.0 - mix) * math.exp((left[k] - top) / tau) / total
