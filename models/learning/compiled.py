"""A `WeightTable` laid out along a `Catalogue`, for the decision path.

Both are immutable: partitions of one process share them, and `WeightCache` lets the second partition
that meets a record take the first one's work.

Legend: A ads, B rows, K candidates, S segments that the table knows (row S stands for all others).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.catalogue import Catalogue
from models.domain.events import Adjustments, Weight, is_stale

from .creative_weights import (
    Choices,
    Place,
    Presented,
    SegmentLifts,
    choices_of,
    creative_lifts,
    places_of,
    presented_of,
    segment_lifts,
)
from .priors import DEFAULT_PRIORS, Priors
from .weights import Applied, WeightTable, cell_of, chained

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_CHOICES_KEPT = 4096
"""Places whose creatives with their weights are kept at hand, of one version."""


class CandidateParts(NamedTuple):
    """The adjustments of candidates, all float64 `[B, K]` in logits; rows of -1 read as 0."""

    ad: F64
    campaign: F64
    segment_category: F64
    variance: F64
    """Summed variance of bias, ad, campaign and segment x category."""
    conversion: F64
    """Added to the conversion logit."""


class _Codes(NamedTuple):
    """What does not change with the weights: code of each campaign and category, and ads' creatives."""

    campaigns: Mapping[str, int]
    categories: Mapping[str, int]
    presented: dict[int, Presented]
    """By row, as far as asked for."""

    @classmethod
    def of(cls, catalogue: Catalogue) -> _Codes:
        """Return the codes of a catalogue."""
        campaigns = {name: code for code, name in enumerate(catalogue.campaigns)}
        return cls(campaigns, {name: code for code, name in enumerate(catalogue.categories)}, {})

    def presented_of(self, row: int, catalogue: Catalogue) -> Presented:
        """Return what may be shown of the ad of a row."""
        if row not in self.presented:
            self.presented[row] = presented_of(catalogue.ads[row])
        return self.presented[row]


@dataclass(frozen=True, eq=False)
class CompiledWeights:
    """A `WeightTable` laid out along a catalogue; build with `compile_weights`."""

    table: WeightTable
    catalogue: Catalogue
    priors: Priors
    codes: _Codes
    ad: F64
    """`[A, 2]` mean and variance of each ad."""
    campaign: F64
    """`[campaigns, 2]` by campaign code."""
    conversion: F64
    """`[campaigns]` mean of the conversion adjustment by campaign code."""
    segments: Mapping[str, int]
    """Row of each segment that the table knows."""
    segment_category: F64
    """`[S + 1, categories, 2]` by segment row and category code; row S is the prior."""
    lifts: Mapping[int, float]
    """What the best creative adds to an ad, by row; only of ads whose creatives something is known of."""
    segment_lifts: Mapping[Place, float]
    """What the creative that is best in a segment adds to that; only where something is known."""

    @cached_property
    def ad_level(self) -> F64:
        """`[A, 2]` as `ad`, with what an ad's best creative adds in the mean."""
        if not self.lifts:
            return self.ad
        level = self.ad.copy()
        level[list(self.lifts), 0] += list(self.lifts.values())
        return level

    @cached_property
    def by_segment(self) -> SegmentLifts:
        """`segment_lifts` as arrays."""
        lifts = self.segment_lifts.items()
        places = [(self.segments[segment], row, lift) for (segment, row), lift in lifts if lift]
        return SegmentLifts.of(places, len(self.segments))

    def choices(self, row: int, segment: str) -> Choices:
        """Return the approved creatives of an ad with their weights in a segment."""
        place = (cell_of(segment), row)
        if place not in self._choices:
            if len(self._choices) >= _CHOICES_KEPT:
                self._choices.clear()
            self._choices[place] = self._general_choices(row).within(
                segment, self.table.segment_creatives, self.priors.segment_creative
            )
        return self._choices[place]

    def _general_choices(self, row: int) -> Choices:
        if row not in self._general:
            shown = self.codes.presented_of(row, self.catalogue)
            self._general[row] = choices_of(shown, self.table.creatives, self.priors.creative)
        return self._general[row]

    @cached_property
    def _general(self) -> dict[int, Choices]:
        return {}

    @cached_property
    def _choices(self) -> dict[Place, Choices]:
        return {}

    @property
    def bias(self) -> Weight:
        """Mean and variance of the one bias."""
        return self.table.bias or (0.0, self.priors.bias)

    @property
    def calibration(self) -> tuple[float, float]:
        """Slope and centre of the click logits."""
        return self.table.calibration

    def segment_rows(self, segments: Sequence[str]) -> I64:
        """Return the row `[B]` of each segment, S for those that no weight knows."""
        unknown = len(self.segments)
        rows = (self.segments.get(cell_of(segment), unknown) for segment in segments)
        return np.fromiter(rows, np.int64, count=len(segments))

    def situation_bias(self, segment: str) -> F32:
        """Return ad + campaign + segment x category of every ad, float32 `[A]`, for retrieval.

        The bias is left out, being the same for all.
        """
        row = int(self.segment_rows([segment])[0])
        cells = self.segment_category[row, :, 0].copy()
        learned = _sum_parts(
            self.ad_level, self.campaign, cells, self.catalogue.campaign, self.catalogue.category
        )
        rows, lifts = self.by_segment.of_segment(row)
        learned[rows] += lifts.astype(np.float32)
        return learned

    def parts(self, rows: NDArray[np.int32], segment_row: I64) -> CandidateParts:
        """Return the parts of candidates `[B, K]` (catalogue rows, -1 for none) in segments `[B]`."""
        return CandidateParts(
            *_gather(
                rows,
                segment_row,
                self.catalogue.campaign,
                self.catalogue.category,
                self.ad_level,
                self.campaign,
                self.segment_category,
                self.conversion,
                self.bias[1],
                *self.by_segment,
            )
        )


@njit(cache=True)
def _sum_parts(ad: F64, campaign: F64, cells: F64, campaign_of: I32, category_of: I32) -> F32:
    out = np.empty(ad.shape[0], np.float32)
    for a in range(ad.shape[0]):
        out[a] = ad[a, 0] + campaign[campaign_of[a], 0] + cells[category_of[a]]
    return out


@njit(cache=True)
def _gather(
    rows: I32,
    segment_row: I64,
    campaign_of: I32,
    category_of: I32,
    ad: F64,
    campaign: F64,
    cells: F64,
    conversion: F64,
    bias_variance: float,
    lift_start: I64,
    lift_row: I32,
    lift: F64,
) -> tuple[F64, F64, F64, F64, F64]:
    out = np.zeros((5, rows.shape[0], rows.shape[1]))
    for b in range(rows.shape[0]):
        first, end = lift_start[segment_row[b]], lift_start[segment_row[b] + 1]
        for k in range(rows.shape[1]):
            a = rows[b, k]
            if a < 0:
                continue
            c, cell = campaign_of[a], cells[segment_row[b], category_of[a]]
            out[0, b, k] = ad[a, 0]
            if first < end:
                at = first + np.searchsorted(lift_row[first:end], a)
                if at < end and lift_row[at] == a:
                    out[0, b, k] += lift[at]
            out[1, b, k] = campaign[c, 0]
            out[2, b, k] = cell[0]
            out[3, b, k] = ad[a, 1] + campaign[c, 1] + cell[1] + bias_variance
            out[4, b, k] = conversion[c]
    return out[0], out[1], out[2], out[3], out[4]


def compile_weights(
    table: WeightTable, catalogue: Catalogue, priors: Priors = DEFAULT_PRIORS
) -> CompiledWeights:
    """Lay a table out along a catalogue from nothing; O(ads). Weights of unknown ads are kept aside."""
    codes = _Codes.of(catalogue)
    ad = _filled(len(catalogue), priors.ad)
    _scatter(ad, catalogue.row_of, table.ads)
    campaign = _filled(len(catalogue.campaigns), priors.campaign)
    _scatter(campaign, codes.campaigns, table.campaigns)
    segments = _segments_of(table)
    cells = _segment_cells(table.segment_categories, segments, codes.categories, priors)
    conversion = _conversions(table.conversions, codes.campaigns)
    lifts = creative_lifts(table.creatives, table.creatives, catalogue)
    places = places_of(table.segment_creatives, catalogue)
    in_segments = segment_lifts(places, table.creatives, table.segment_creatives, catalogue)
    return CompiledWeights(
        table, catalogue, priors, codes, ad, campaign, conversion, segments, cells, lifts, in_segments
    )


def recompile(previous: CompiledWeights, table: WeightTable, record: Adjustments) -> CompiledWeights:
    """Return `compile_weights` of ``table``, cheaply, where ``record`` led from ``previous`` to it.

    Copies the arrays and rewrites the changed rows. After a ``reset``, from nothing.
    """
    if record.reset:
        return compile_weights(table, previous.catalogue, previous.priors)
    codes = previous.codes
    ad, campaign = previous.ad, previous.campaign
    segments, cells = previous.segments, previous.segment_category
    conversion = previous.conversion
    if record.ads:
        _scatter(ad := ad.copy(), previous.catalogue.row_of, record.ads)
    if record.campaigns:
        _scatter(campaign := campaign.copy(), codes.campaigns, record.campaigns)
    if record.segment_categories or record.segment_creatives:
        segments = _segments_of(table)
        if segments == previous.segments:
            _fill_cells(cells := cells.copy(), record.segment_categories, segments, codes.categories)
        else:
            cells = _segment_cells(table.segment_categories, segments, codes.categories, previous.priors)
    if record.conversions:
        conversion = _conversions(table.conversions, codes.campaigns)
    lifts = previous.lifts
    if record.creatives:
        lifts = {**lifts, **creative_lifts(record.creatives, table.creatives, previous.catalogue)}
    return replace(
        previous,
        table=table,
        ad=ad,
        campaign=campaign,
        conversion=conversion,
        segments=segments,
        segment_category=cells,
        lifts=lifts,
        segment_lifts=_segment_lifts(previous, table, record),
    )


def _segment_lifts(
    previous: CompiledWeights, table: WeightTable, record: Adjustments
) -> Mapping[Place, float]:
    """Return the lifts after a record: it changes those it names, and those of ads it names in general."""
    ads = {row for _, row in places_of((f"|{key}" for key in record.creatives), previous.catalogue)}
    places = places_of(record.segment_creatives, previous.catalogue)
    places |= {place: None for place in previous.segment_lifts if place[1] in ads}
    if not places:
        return previous.segment_lifts
    new = segment_lifts(places, table.creatives, table.segment_creatives, previous.catalogue)
    return {**previous.segment_lifts, **new}


def _filled(rows: int, variance: float) -> F64:
    out = np.zeros((rows, 2))
    out[:, 1] = variance
    return out


def _scatter(target: F64, row_of: Mapping[str, int], weights: Mapping[str, Weight]) -> None:
    known = [(row_of[key], weight) for key, weight in weights.items() if key in row_of]
    if known:
        rows, values = zip(*known, strict=True)
        target[list(rows)] = values


def _conversions(weights: Mapping[str, Weight], campaigns: Mapping[str, int]) -> F64:
    out = _filled(len(campaigns), 0.0)
    _scatter(out, campaigns, weights)
    return out[:, 0].copy()


def _segments_of(table: WeightTable) -> Mapping[str, int]:
    keys = (*table.segment_categories, *table.segment_creatives)
    return {name: row for row, name in enumerate(dict.fromkeys(key.partition("|")[0] for key in keys))}


def _segment_cells(
    weights: Mapping[str, Weight], segments: Mapping[str, int], categories: Mapping[str, int], priors: Priors
) -> F64:
    cells = np.zeros((len(segments) + 1, max(len(categories), 1), 2))
    cells[:, :, 1] = priors.segment_category
    _fill_cells(cells, weights, segments, categories)
    return cells


def _fill_cells(
    cells: F64, weights: Mapping[str, Weight], segments: Mapping[str, int], categories: Mapping[str, int]
) -> None:
    """Write the weights; one of a segment that has no row is the prior, which is all that is known of it."""
    for key, weight in weights.items():
        segment, bar, category = key.partition("|")
        if bar and category in categories and segment in segments:
            cells[segments[segment], categories[category]] = weight


_K = TypeVar("_K")
_T = TypeVar("_T")


class WeightCache:
    """Shares tables and compiled weights between the partitions of a process.

    Results are kept by the digest of the chain that led to them, so a partition that took another way
    (a stale record, another catalogue) never gets its neighbour's. Holds the last ``size`` of each;
    forgetting one costs time, never another answer.
    """

    def __init__(self, size: int = 4, priors: Priors = DEFAULT_PRIORS) -> None:
        self._size = size
        self._priors = priors
        self._tables: dict[str, WeightTable] = {}
        self._steps: dict[str, tuple[str, Adjustments]] = {}
        self._compiled: dict[tuple[str, str], CompiledWeights] = {}

    def apply(self, table: WeightTable, record: Adjustments) -> Applied:
        """Return `WeightTable.apply`, done once per (table, record)."""
        if is_stale(record, table.version):
            return Applied(table, True)
        digest = chained(table.digest, record)
        if digest not in self._tables:
            self._keep(self._tables, digest, table.apply(record, self._priors).table)
            self._keep(self._steps, digest, (table.digest, record))
        return Applied(self._tables[digest], False)

    def compile(self, table: WeightTable, catalogue: Catalogue) -> CompiledWeights:
        """Return `compile_weights`, done once per (table, catalogue) and from the last one if possible."""
        key = (table.digest, catalogue.version)
        if key not in self._compiled:
            self._keep(self._compiled, key, self._fresh(table, catalogue))
        return self._compiled[key]

    def _fresh(self, table: WeightTable, catalogue: Catalogue) -> CompiledWeights:
        before, record = self._steps.get(table.digest, ("", None))
        previous = self._compiled.get((before, catalogue.version))
        if previous is None or record is None:
            return compile_weights(table, catalogue, self._priors)
        return recompile(previous, table, record)

    def _keep(self, store: dict[_K, _T], key: _K, value: _T) -> None:
        store[key] = value
        while len(store) > self._size:
            del store[next(iter(store))]
