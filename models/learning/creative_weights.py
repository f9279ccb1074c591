"""Weights of creatives: which there are to choose from for an ad, and what they add to it.

A creative's weight is relative to its ad's, and what it is in a segment relative to that, with mean 0 before
anything is known of it. The auction takes an ad at the creative that is best in the user's segment
(`creative_lifts`, `segment_lifts`), so that what is learned of creatives counts before one is chosen. Ads
without creatives, and creatives that nothing is known of, cost nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import Ad, Catalogue, Creative, approved
from models.domain.events import Weight
from models.domain.ids import known_key64
from models.domain.templates import presented

from .weights import cell_of

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

Place = tuple[str, int]
"""A segment's name in keys, and an ad's row in the catalogue."""

_NOTHING = (0.0, 0.0)


def creative_key(ad_id: str, creative_id: str) -> str:
    """Return the key of ``Adjustments.creatives``; a ``|`` in a creative's id becomes ``/``."""
    return f"{ad_id}|{creative_id.replace('|', '/')}"


def segment_creative_key(segment: str, key: str) -> str:
    """Return the key of ``Adjustments.segment_creatives`` for a `creative_key`."""
    return f"{cell_of(segment)}|{key}"


class Presented(NamedTuple):
    """The approved creatives of one ad, whatever is known of them."""

    creatives: tuple[Creative, ...]
    """With their slots filled."""
    names: tuple[str, ...]
    """Their keys (`creative_key`)."""
    keys: U64
    """`[1, N]`"""


def presented_of(ad: Ad) -> Presented:
    """Return what may be shown of an ad."""
    shown = tuple(presented(ad, creative) for creative in approved(ad))
    names = tuple(creative_key(ad.ad_id, creative.creative_id) for creative in shown)
    return Presented(shown, names, np.array([[known_key64(name) for name in names]], np.uint64))


@dataclass(frozen=True, eq=False)
class Choices:
    """The approved creatives of one ad and what is known of them; arrays are `[1, N]`."""

    shown: Presented
    mean: F64
    variance: F64
    known: bool
    """Whether any of them has a learned weight."""

    @property
    def creatives(self) -> tuple[Creative, ...]:
        """What there is to choose from."""
        return self.shown.creatives

    @cached_property
    def deviation(self) -> F64:
        """Standard deviation of each `[N]`."""
        return np.sqrt(self.variance[0])

    def within(self, segment: str, weights: Mapping[str, Weight], prior_variance: float) -> Choices:
        """Return the same with what is known of them in a segment added, or its prior."""
        there = choices_of(self.shown, weights, prior_variance, segment_creative_key(segment, ""))
        return Choices(
            self.shown, self.mean + there.mean, self.variance + there.variance, self.known or there.known
        )


class SegmentLifts(NamedTuple):
    """Lifts of M places: those of segment row s are ``row[start[s]:start[s + 1]]``, ascending."""

    start: I64
    """`[S + 2]`; the row of all other segments has none."""
    row: I32
    """`[M]` rows of the catalogue."""
    lift: F64
    """`[M]` logits."""

    @classmethod
    def of(cls, places: Sequence[tuple[int, int, float]], segments: int) -> SegmentLifts:
        """Lay (segment row, row, lift) out."""
        segment, row, lift = np.array(sorted(places), np.float64).reshape(-1, 3).T
        start = np.searchsorted(segment, np.arange(segments + 2)).astype(np.int64)
        return cls(start, row.astype(np.int32), np.ascontiguousarray(lift))

    def of_segment(self, row: int) -> tuple[I32, F64]:
        """Return the rows and lifts of one segment."""
        part = slice(self.start[row], self.start[row + 1])
        return self.row[part], self.lift[part]


def choices_of(
    shown: Presented, weights: Mapping[str, Weight], prior_variance: float, before: str = ""
) -> Choices:
    """Return creatives with their weights, by keys that begin with ``before``; else with the prior."""
    found = [weights.get(before + name) for name in shown.names]
    beliefs = np.array([(0.0, prior_variance) if one is None else one for one in found]).reshape(-1, 2)
    return Choices(shown, beliefs[None, :, 0], beliefs[None, :, 1], any(one is not None for one in found))


def creative_lifts(
    changed: Iterable[str], weights: Mapping[str, Weight], catalogue: Catalogue
) -> dict[int, float]:
    """Return, by row of the catalogue, the mean of the best creative of each ad that a changed key names."""
    rows = (_row_of(key, catalogue) for key in changed)
    return {row: _best_mean(catalogue.ads[row], weights) for row in dict.fromkeys(rows) if row is not None}


def segment_lifts(
    places: Iterable[Place],
    weights: Mapping[str, Weight],
    in_segments: Mapping[str, Weight],
    catalogue: Catalogue,
) -> dict[Place, float]:
    """Return what the creative that is best in a segment adds to what `creative_lifts` says."""
    return {
        (segment, row): _best_mean(ad, weights, in_segments, segment) - _best_mean(ad, weights)
        for segment, row in places
        for ad in (catalogue.ads[row],)
    }


def places_of(keys: Iterable[str], catalogue: Catalogue) -> dict[Place, None]:
    """Return the places in a catalogue that keys of ``segment_creatives`` name, each once."""
    named = (key.split("|", 1) for key in keys)
    found = ((segment, _row_of(key, catalogue)) for segment, key in named)
    return {(segment, row): None for segment, row in found if row is not None}


def _row_of(key: str, catalogue: Catalogue) -> int | None:
    return catalogue.row_of.get(key.rpartition("|")[0])


def _best_mean(
    ad: Ad, weights: Mapping[str, Weight], in_segments: Mapping[str, Weight] | None = None, segment: str = ""
) -> float:
    keys = [creative_key(ad.ad_id, creative.creative_id) for creative in approved(ad)]
    means = (weights.get(key, _NOTHING)[0] for key in keys)
    if in_segments is not None:
        added = (in_segments.get(segment_creative_key(segment, key), _NOTHING)[0] for key in keys)
        means = (mean + more for mean, more in zip(means, added, strict=True))
    return max(means, default=0.0)
