"""A view laid out in arrays for the decision path: built once per view, shared by all shards.

Legend: A ads, S distinct segment rows met so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.catalogue import Catalogue
from models.learning.compiled import CompiledWeights
from models.policy.auction import CPA, CPM
from models.policy.caps import CompiledCaps, compile_caps
from models.policy.diversity import Facets, SlateRules, facets_of, slate_rules
from models.policy.eligibility import Rules
from models.scorer.features import category_rows
from models.scorer.interface import AdIndex
from models.scorer.simd import TILE

from .arithmetic import Ads
from .view import PacingTable, View

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

TYPICAL_PCTR = 0.05
TYPICAL_PCVR = 0.1
"""Rates by which bids of different types are compared in retrieval; ranking uses the predicted ones.

They are those of ads worth retrieving, not of all: a pcvr too low keeps out bids per conversion for good.
"""


@dataclass(frozen=True, eq=False)
class CompiledView:
    """What the decision path reads of a view."""

    view: View
    index: AdIndex
    rules: Rules
    weights: CompiledWeights

    @cached_property
    def exhausted(self) -> frozenset[str]:
        """Campaigns whose budget is spent."""
        return frozenset(self.view.pacing.exhausted)

    @cached_property
    def caps(self) -> CompiledCaps:
        """Frequency caps as arrays."""
        return compile_caps(self.view.policy)

    @cached_property
    def facets(self) -> Facets:
        """What the slate's rules compare."""
        return facets_of(self.rules.columns)

    @cached_property
    def slate_rules(self) -> SlateRules:
        """The policy's rules between the ads of a slate."""
        return slate_rules(self.view.policy)

    @cached_property
    def ads(self) -> Ads:
        """What the auction reads of the catalogue."""
        catalogue = self.view.catalogue
        return Ads(
            catalogue.keys,
            catalogue.bid_type,
            catalogue.bid_micros,
            catalogue.quality,
            catalogue.floor_micros,
            catalogue.campaign,
            self.mu,
        )

    @cached_property
    def mu(self) -> F64:
        """`[A]` pacing multiplier of each ad's campaign."""
        return pacing_of(self.view.catalogue, self.view.pacing)

    @cached_property
    def pacing(self) -> list[float]:
        """`mu` as a list."""
        return self.mu.tolist()

    @cached_property
    def value_bias(self) -> F32:
        """`[A]` log of what an ad's impression is worth at typical rates, for retrieval."""
        catalogue = self.view.catalogue
        return log_worth(catalogue.bid_micros, catalogue.bid_type, catalogue.quality, self.mu)

    @cached_property
    def model_category(self) -> I64:
        """`[A]` row of each ad's category in the model's table of segments."""
        segments = self.view.scorer.segments
        return category_rows(self.view.catalogue.category_keys, segments.logits.shape[1])

    @cached_property
    def _situations(self) -> _Situations:
        return _Situations(np.zeros((0, _padded(len(self.view.catalogue))), np.float32), {})

    def situations(self, segments: list[str]) -> Situations:
        """Return what is known of the segments of B requests."""
        rows, model_rows = self.weights.segment_rows(segments), self.view.scorer.segments.rows(segments)
        keys = list(zip(rows.tolist(), model_rows.tolist(), strict=True))
        return Situations(*self._situations.of(self, segments, keys), rows, model_rows)


class Situations(NamedTuple):
    """What is known of the segments of B requests."""

    bias: F32
    """`[S, A and padding]` retrieval biases."""
    bias_row: I64
    """`[B]` row of each request's segment in them,"""
    weight_row: I64
    """in the weights,"""
    model_row: I64
    """and in the model's table of segments."""


class _Situations:
    """Retrieval biases by segment row, grown as segments are met."""

    def __init__(self, bias: F32, row_of: dict[tuple[int, int], int]) -> None:
        self._bias = bias
        self._row_of = row_of

    def of(self, compiled: CompiledView, segments: list[str], keys: list[tuple[int, int]]) -> tuple[F32, I64]:
        """Return the biases, and the row of each segment by its rows in the weights and in the model."""
        for segment, key in zip(segments, keys, strict=True):
            if key not in self._row_of:
                self._row_of[key] = len(self._bias)
                fresh = np.zeros((1, self._bias.shape[1]), np.float32)
                of_model = compiled.view.scorer.segments.logits[key[1]][compiled.model_category]
                learned = compiled.weights.situation_bias(segment)
                fresh[0, : len(learned)] = learned + of_model + compiled.value_bias
                self._bias = np.concatenate([self._bias, fresh])
        return self._bias, np.array([self._row_of[key] for key in keys], np.int64)


def _padded(ads: int) -> int:
    """Return the width to which retrieval pads biases, at least one tile."""
    return -(-max(ads, 1) // TILE) * TILE


def pacing_of(catalogue: Catalogue, pacing: PacingTable) -> F64:
    """Return the pacing multiplier `[A]` of each ad's campaign, 0 for an unpaced one."""
    by_code = np.array([pacing.multipliers.get(name, 0.0) for name in catalogue.campaigns])
    return by_code[catalogue.campaign] if len(by_code) else np.zeros(len(catalogue))


@njit(cache=True)
def log_worth(bid_micros: I64, bid_type: NDArray[np.int8], quality: F64, mu: F64) -> F32:
    """Return log(bid per click or its like * quality / (1 + mu)) `[A]`; -inf for a bid of 0."""
    out = np.empty(len(bid_micros), np.float32)
    for a in range(len(bid_micros)):
        worth = float(bid_micros[a])
        if bid_type[a] == CPM:
            worth = worth / 1000.0 / TYPICAL_PCTR
        elif bid_type[a] == CPA:
            worth = worth * TYPICAL_PCVR
        out[a] = np.log(worth * quality[a] / (1.0 + mu[a])) if worth > 0.0 else -np.inf
    return out
