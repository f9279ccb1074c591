"""Filling the slots: exploration and the rules between the ads of one decision, prices, explanations.

Legend: B decisions, K candidates, S slots of the decision that has most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.learning.exploration import moved_logit, pick_rows
from models.policy.auction import price_slots
from models.policy.diversity import Board, SlateRules, close_rows
from models.policy.new_ads import favor_new
from models.policy.similarity import Facets
from models.policy.standing import Codes, count_codes

from .arithmetic import Logits, Offers
from .compiled_view import CompiledView
from .terms import Terms

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]


class SlotFigures(NamedTuple):
    """What one slot says; the parts of its click logit last."""

    pctr: float
    pcvr: float
    propensity: float
    base: float
    ad: float
    campaign: float
    segment_category: float
    user_category: float
    exploration: float
    """Logits by which the Thompson draw moved the ad in the ranking."""


class Slates(NamedTuple):
    """The filled slots."""

    numbers: I64
    """`[B, S, 3]` row of the catalogue (-1: empty slot), eCPM and price, both in micros."""
    figures: F64
    """`[B, S, 9]` in the order of `SlotFigures`."""
    propensity: F64
    """`[B]` of the whole slate."""
    kept_out: I64
    """`[B, R]` candidates by the first of `standing.CANDIDATE_REASONS` that keeps them out."""


class _Draws(NamedTuple):
    """Whose draws they are and what holds for them, by decision `[B]`; see `Terms`."""

    seed: U64
    randomized: Flags
    slots: I64
    least_micros: I64
    owes_new: Flags


def fill(
    compiled: CompiledView, rows: I32, logits: Logits, offers: Offers, is_new: Flags, terms: Terms
) -> Slates:
    """Return the slates of B decisions.

    Parameters
    ----------
    rows
        `[B, K]` candidates as rows of the catalogue, -1 for none.
    is_new
        `[B, K]` the new ads among the candidates of decisions that owe one.

    """
    exploration, draws = compiled.view.policy.exploration, _Draws(*terms[1:])
    return _slates(
        rows, logits, offers, draws, is_new, compiled.facets, compiled.slate_rules, exploration.temperature,
        exploration.uniform_mix,
    )  # fmt: skip


@njit(cache=True)
def _slates(
    rows: I32, logits: Logits, offers: Offers, draws: _Draws, is_new: Flags, facets: Facets,
    rules: SlateRules, tau: float, mix: float,
) -> Slates:  # fmt: skip
    shape = (len(draws.seed), max(draws.slots.max(), 1))
    column, shift, propensity = np.full(shape, -1, np.int64), np.zeros(shape), np.ones(shape)
    standing: Codes = offers.standing.copy()
    for b in range(shape[0]):
        one, last = slice(b, b + 1), draws.slots[b] - 1
        board = Board(offers.log_rank[one].copy(), np.zeros((1, rows.shape[1])), standing[one])
        for slot in range(draws.slots[b]):
            if slot == last and draws.owes_new[b]:
                favor_new(board.log_rank[0], is_new[b], column[b])
            index, chance, moved = pick_rows(
                board.log_rank, offers.deviation[one], offers.keys[one], draws.seed[one], np.uint64(slot),
                draws.randomized[one], tau, mix,
            )  # fmt: skip
            column[b, slot], propensity[b, slot], shift[b, slot] = index[0], chance[0], moved[0]
            if slot < last:
                close_rows(board, rows[one], column[one], slot, facets, rules, draws.randomized[one])
    prices = np.zeros(shape, np.int64)
    price_slots(
        offers.bid_micros, offers.mu, offers.floor_micros, offers.campaign, offers.value, offers.rank, column,
        draws.least_micros, prices,
    )  # fmt: skip
    numbers, figures, whole = _described(rows, logits, offers, column, propensity, shift, prices)
    return Slates(numbers, figures, whole, count_codes(standing))


@njit(cache=True)
def _described(
    rows: I32, logits: Logits, offers: Offers, column: I64, propensity: F64, shift: F64, prices: I64
) -> tuple[I64, F64, F64]:
    (decisions, slots), learned = column.shape, logits.learned
    numbers, figures = np.full((decisions, slots, 3), -1, np.int64), np.zeros((decisions, slots, 9))
    whole = np.ones(decisions)
    for b in range(decisions):
        for s in range(slots):
            k = column[b, s]
            whole[b] *= propensity[b, s]
            if k < 0:
                continue
            rank, pctr = offers.rank[b, k], offers.pctr[b, k]
            numbers[b, s, 0] = rows[b, k]
            numbers[b, s, 1] = np.int64(np.rint(rank)) if rank > 0.0 else 0
            numbers[b, s, 2] = prices[b, s]
            figures[b, s, 0], figures[b, s, 1] = pctr, offers.pcvr[b, k]
            figures[b, s, 2], figures[b, s, 3] = propensity[b, s], logits.click[b, k]
            figures[b, s, 4], figures[b, s, 5] = learned.ad[b, k], learned.campaign[b, k]
            figures[b, s, 6], figures[b, s, 7] = learned.segment_category[b, k], logits.taste[b, k]
            if shift[b, s] != 0.0:
                figures[b, s, 8] = moved_logit(min(max(pctr, 1e-9), 1.0 - 1e-9), shift[b, s])
    return numbers, figures, whole
