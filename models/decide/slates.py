"""Filling the slots: exploration and the rules between the ads of one decision, prices, explanations.

Legend: B decisions, K candidates, S slots of the decision that has most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.policy import Policy
from models.learning.exploration import moved_logit, pick_rows
from models.policy.auction import price_slots
from models.policy.diversity import Facets, SlateRules, close_rows, favor_new_rows, wants_new_ad

from .arithmetic import Logits, Offers
from .compiled_view import CompiledView

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


class _Draws(NamedTuple):
    """Whose draws they are, by decision `[B]`."""

    seed: U64
    randomized: Flags
    slots: I64
    owed: Flags
    """The last slot is owed to a new ad."""


def fill(
    compiled: CompiledView,
    rows: I32,
    logits: Logits,
    offers: Offers,
    seed: U64,
    randomized: Flags,
    slots: I64,
) -> Slates:
    """Return the slates of B decisions.

    Parameters
    ----------
    rows
        `[B, K]` candidates as rows of the catalogue, -1 for none.
    seed
        `[B]` key64 of the decision's id.
    randomized
        `[B]` decisions for users of the randomised bucket.
    slots
        `[B]` slots to fill.

    """
    policy = compiled.view.policy
    owed, new = np.zeros(len(seed), np.bool_), np.zeros((len(seed), 0), np.bool_)
    if policy.new_ad_share > 0:
        owed = wants_new_ad(seed, policy.new_ad_share) & ~randomized
        new = is_new(offers.pctr, _ad_variance(compiled, rows), policy, compiled.weights.priors.ad)
    return _slates(
        rows, logits, offers, _Draws(seed, randomized, slots, owed), new, compiled.facets,
        compiled.slate_rules, policy.exploration.temperature, policy.exploration.uniform_mix,
        policy.reserve_micros,
    )  # fmt: skip


def is_new(pctr: F64, ad_variance: F64, policy: Policy, prior_variance: float) -> Flags:
    """Return the ads `[B, K]` that were shown less than ``policy.new_ad_impressions`` times.

    Read off the posterior: n impressions of an ad with click probability p leave a variance of about
    v0 / (1 + n p (1 - p) v0), so no count has to be kept.
    """
    information = pctr * (1.0 - pctr) * policy.new_ad_impressions
    return ad_variance > prior_variance / (1.0 + information * prior_variance)


def _ad_variance(compiled: CompiledView, rows: I32) -> F64:
    variance = compiled.weights.ad[:, 1]
    return variance[rows] if len(variance) else np.zeros(rows.shape)


@njit(cache=True)
def _slates(
    rows: I32, logits: Logits, offers: Offers, draws: _Draws, new: Flags, facets: Facets, rules: SlateRules,
    tau: float, mix: float, reserve: int,
) -> Slates:  # fmt: skip
    shape = (len(draws.seed), max(draws.slots.max(), 1))
    column, shift, propensity = np.full(shape, -1, np.int64), np.zeros(shape), np.ones(shape)
    for b in range(shape[0]):
        one = slice(b, b + 1)
        left = offers.log_rank[one].copy()
        for slot in range(draws.slots[b]):
            if draws.owed[b] and slot == draws.slots[b] - 1:
                favor_new_rows(left, new[one], column[one], draws.owed[one], np.zeros(1, np.bool_))
            index, chance, moved = pick_rows(
                left, offers.deviation[one], offers.keys[one], draws.seed[one], np.uint64(slot),
                draws.randomized[one], tau, mix,
            )  # fmt: skip
            column[b, slot], propensity[b, slot], shift[b, slot] = index[0], chance[0], moved[0]
            close_rows(left, rows[one], column[one], slot, facets, rules, draws.randomized[one])
    prices = np.zeros(shape, np.int64)
    price_slots(
        offers.bid_micros, offers.floor_micros, offers.campaign, offers.value, offers.rank, column, reserve,
        prices,
    )  # fmt: skip
    return _described(rows, logits, offers, column, propensity, shift, prices)


@njit(cache=True)
def _described(
    rows: I32, logits: Logits, offers: Offers, column: I64, propensity: F64, shift: F64, prices: I64
) -> Slates:
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
    return Slates(numbers, figures, whole)
