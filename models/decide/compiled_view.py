"""A view laid out in arrays for the decision path: built once per view, shared by all shards.

Legend: A ads, S distinct segment rows met so far.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from models.policy.diversity import SlateRules, slate_rules
from models.policy.eligibility import Rules
from models.policy.new_ads import NewAds, new_ads_of
from models.policy.placements import PlacementRules, places_of
from models.policy.similarity import Facets
from models.scorer.config import TYPICAL_PCTR
from models.scorer.features import category_rows
from models.scorer.interface import AdIndex
from models.scorer.simd import TILE

from .arithmetic import Ads, sigmoid
from .view import DAY_MS, PacingTable, View

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_SEGMENTS_KEPT = 4096
"""Names of segments whose rows are kept; a request may name anything."""
MOST_BYTES = 128 * 2**20
"""Of retrieval biases by segment, kept by one view."""


@dataclass(frozen=True, eq=False)
class CompiledView:
    """What the decision path reads of a view."""

    view: View
    index: AdIndex
    rules: Rules
    weights: CompiledWeights

    @cached_property
    def _exhausted(self) -> tuple[frozenset[str], frozenset[str]]:
        pacing = self.view.pacing
        return frozenset(pacing.exhausted), frozenset(pacing.lifetime_exhausted)

    def exhausted(self, time_ms: int) -> frozenset[str]:
        """Return the campaigns whose budget is spent at an event time: one object per day's kind."""
        of_day, for_good = self._exhausted
        return of_day if time_ms // DAY_MS <= self.view.pacing.day else for_good

    @cached_property
    def caps(self) -> CompiledCaps:
        """Frequency caps as arrays."""
        return compile_caps(self.view.policy)

    @cached_property
    def facets(self) -> Facets:
        """What the slate's rules compare."""
        return self.rules.facets

    @cached_property
    def slate_rules(self) -> SlateRules:
        """The policy's rules between the ads of a slate."""
        return slate_rules(self.view.policy)

    @cached_property
    def placements(self) -> Mapping[str, PlacementRules]:
        """What holds at the placements that the policy names."""
        return places_of(self.view.policy)

    @cached_property
    def new_ads(self) -> NewAds:
        """The ads that may count as new."""
        variance, prior = self.weights.ad[:, 1], self.weights.priors.ad
        return new_ads_of(self.view.catalogue.first_ms, variance, prior, self.view.policy)

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
        pcvr_logit = self.index.conversion + self.weights.conversion[catalogue.campaign]
        return log_worth(catalogue.bid_micros, catalogue.bid_type, catalogue.quality, self.mu, pcvr_logit)

    @cached_property
    def model_category(self) -> I64:
        """`[A]` row of each ad's category in the model's table of segments."""
        segments = self.view.scorer.segments
        return category_rows(self.view.catalogue.category_keys, segments.logits.shape[1])

    @cached_property
    def _situations(self) -> _Situations:
        return _Situations(self, np.zeros((0, _padded(len(self.view.catalogue))), np.float32), {}, {})

    def forget_situations(self) -> None:
        """Let go of what is kept by segment; it is made again where it is asked for."""
        self.__dict__.pop("_situations", None)

    def situations(self, segments: list[str]) -> Situations:
        """Return what is known of the segments of B requests."""
        return self._situations.of(segments)


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


@dataclass(eq=False)
class _Situations:
    """Retrieval biases by segment, grown as segments are met; segments unknown to both tables share a row.

    Segments are what clients say they are: where rows take more than MOST_BYTES they are made anew, from
    those that are asked for.
    """

    compiled: CompiledView
    bias: F32
    """`[rows that there is room for, A and padding]`"""
    row_of: dict[tuple[int, int], int]
    places: dict[str, tuple[int, int, int]]
    """Rows of each segment: here, in the weights, in the model's table."""

    def of(self, segments: list[str]) -> Situations:
        if len(self.row_of) * self.bias.strides[0] > MOST_BYTES and not self.places.keys() >= set(segments):
            self.row_of, self.places, self.bias = {}, {}, self.bias[:0]
        places = [self.places.get(segment) or self._met(segment) for segment in segments]
        rows = np.array(places, np.int64).reshape(-1, 3)
        return Situations(self.bias[: len(self.row_of)], *np.ascontiguousarray(rows.T))

    def _met(self, segment: str) -> tuple[int, int, int]:
        compiled, of_model = self.compiled, self.compiled.view.scorer.segments
        key = (int(compiled.weights.segment_rows([segment])[0]), of_model.row(segment))
        if key not in self.row_of:
            row = self.row_of[key] = len(self.row_of)
            if row == len(self.bias):
                self.bias = np.concatenate(
                    [self.bias, np.zeros((max(row, 1), self.bias.shape[1]), np.float32)]
                )
            learned = compiled.weights.situation_bias(segment)
            known = of_model.logits[key[1]][compiled.model_category]
            self.bias[row, : len(learned)] = learned + known + compiled.value_bias
        if len(self.places) >= _SEGMENTS_KEPT:
            self.places.clear()
        place = self.places[segment] = (self.row_of[key], *key)
        return place


def _padded(ads: int) -> int:
    """Return the width to which retrieval pads biases, at least one tile."""
    return -(-max(ads, 1) // TILE) * TILE


def pacing_of(catalogue: Catalogue, pacing: PacingTable) -> F64:
    """Return the pacing multiplier `[A]` of each ad's campaign, 0 for an unpaced one."""
    by_code = np.array([pacing.multipliers.get(name, 0.0) for name in catalogue.campaigns])
    return by_code[catalogue.campaign] if len(by_code) else np.zeros(len(catalogue))


@njit(cache=True)
def log_worth(bid_micros: I64, bid_type: NDArray[np.int8], quality: F64, mu: F64, pcvr_logit: F64) -> F32:
    """Return log(bid per click or its like * quality / (1 + mu)) `[A]`; -inf for a bid of 0."""
    out = np.empty(len(bid_micros), np.float32)
    for a in range(len(bid_micros)):
        worth = float(bid_micros[a])
        if bid_type[a] == CPM:
            worth = worth / 1000.0 / TYPICAL_PCTR
        elif bid_type[a] == CPA:
            worth = worth * sigmoid(pcvr_logit[a])
        out[a] = np.log(worth * quality[a] / (1.0 + mu[a])) if worth > 0.0 else -np.inf
    return out
