"""Filling the slots: auction values, exploration and the rules between the ads of one decision.

Legend: B decisions with the same number of slots, K candidates, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.policy import Policy
from models.learning.exploration import exploration_logit, log_rank_sd, pick, slate_propensity
from models.policy.auction import CPM, Bids, admitted, gsp_prices, rank_value, value_micros
from models.policy.diversity import close, favor_new, wants_new_ad

from .compiled_view import CompiledView

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """The ranked candidates of B decisions; every array is `[B, K]`."""

    rows: I32
    """Rows of the catalogue, -1 for none."""
    keys: U64
    pctr: F64
    pcvr: F64
    variance: F64
    """Summed variance of the adjustments, in logits."""
    ad_variance: F64


@dataclass(frozen=True)
class Slates:
    """The filled slots; arrays are `[B, S]` unless said otherwise."""

    column: I64
    """The candidate in each slot, -1 for none."""
    propensity: F64
    exploration: F64
    """Logits by which the Thompson draw moved the ad in the ranking."""
    price_micros: I64
    rank: F64
    """`[B, K]` rank value in micros per thousand impressions; -inf for candidates not admitted."""
    slate_propensity: F64
    """`[B]`"""


def fill(compiled: CompiledView, candidates: Candidates, seed: U64, randomized: Flags, slots: int) -> Slates:
    """Return the slates of B decisions; ``seed`` `[B]` is key64 of the decision's id."""
    policy = compiled.view.policy
    bids = bids_of(compiled, candidates.rows)
    value = value_micros(bids, candidates.pctr, candidates.pcvr)
    allowed = (candidates.rows >= 0) & admitted(bids, value, policy.reserve_micros)
    rank = np.where(allowed, rank_value(bids, value), -np.inf)
    deviation = log_rank_sd(
        candidates.variance, candidates.pctr, policy.exploration.thompson_nu, bids.bid_type == CPM
    )
    column, propensity, shift = _fill(compiled, candidates, log_of(rank), deviation, seed, randomized, slots)
    picked = np.take_along_axis(candidates.pctr, np.maximum(column, 0), axis=1)
    return Slates(
        column=column,
        propensity=propensity,
        exploration=np.where(shift != 0.0, exploration_logit(np.clip(picked, 1e-9, 1 - 1e-9), shift), 0.0),
        price_micros=gsp_prices(bids, value, rank, column, policy.reserve_micros),
        rank=rank,
        slate_propensity=slate_propensity(propensity),
    )


def _fill(
    compiled: CompiledView,
    candidates: Candidates,
    left: F64,
    deviation: F64,
    seed: U64,
    randomized: Flags,
    slots: int,
) -> tuple[I64, F64, F64]:
    """Pick slot by slot; ``left`` `[B, K]` is the log rank value and is consumed."""
    policy = compiled.view.policy
    shape = (len(seed), slots)
    column, propensity, shift = np.full(shape, -1, np.int64), np.ones(shape), np.zeros(shape)
    for slot in range(slots):
        if slot == slots - 1 and policy.new_ad_share > 0:
            owed = wants_new_ad(seed, policy.new_ad_share) & ~randomized
            favor_new(left, is_new(candidates, policy, compiled.weights.priors.ad), column, owed)
        picks = pick(left, deviation, candidates.keys, seed, slot, randomized, policy.exploration)
        column[:, slot], propensity[:, slot], shift[:, slot] = picks
        close(left, candidates.rows, column, slot, compiled.facets, compiled.slate_rules, randomized)
    return column, propensity, shift


def is_new(candidates: Candidates, policy: Policy, prior_variance: float) -> Flags:
    """Return the ads `[B, K]` that were shown less than ``policy.new_ad_impressions`` times.

    Read off the posterior: n impressions of an ad with click probability p leave a variance of about
    v0 / (1 + n p (1 - p) v0), so no count has to be kept.
    """
    information = candidates.pctr * (1.0 - candidates.pctr) * policy.new_ad_impressions
    return candidates.ad_variance > prior_variance / (1.0 + information * prior_variance)


def bids_of(compiled: CompiledView, rows: I32) -> Bids:
    """Return what the candidates `[B, K]` offer; rows of -1 read the last ad and must be masked."""
    catalogue = compiled.view.catalogue
    if len(catalogue) == 0:
        nothing, zero = np.zeros(rows.shape, np.int64), np.zeros(rows.shape)
        return Bids(nothing.astype(np.int8), nothing, zero, nothing, rows, zero)
    return Bids(
        catalogue.bid_type[rows],
        catalogue.bid_micros[rows],
        catalogue.quality[rows],
        catalogue.floor_micros[rows],
        catalogue.campaign[rows],
        compiled.mu[rows],
    )


@njit(cache=True)
def log_of(rank: F64) -> F64:
    """Return the log of rank values `[B, K]`; -inf where nothing is earned."""
    out = np.full(rank.shape, -np.inf)
    for b in range(rank.shape[0]):
        for k in range(rank.shape[1]):
            if rank[b, k] > 0.0:
                out[b, k] = np.log(rank[b, k])
    return out
