"""Weights of creatives: which there are to choose from for an ad, and what they add to it.

A creative's weight is relative to its ad's, with mean 0 before anything is known of it. The auction takes
an ad at its best creative (`creative_lifts`), so that what is learned of creatives counts before one is
chosen. Ads without creatives, and creatives that nothing is known of, cost nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import Ad, Catalogue, Creative, approved
from models.domain.events import Weight
from models.domain.ids import known_key64
from models.domain.templates import presented

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]


def creative_key(ad_id: str, creative_id: str) -> str:
    """Return the key of ``Adjustments.creatives``; a ``|`` in a creative's id becomes ``/``."""
    return f"{ad_id}|{creative_id.replace('|', '/')}"


@dataclass(frozen=True, eq=False)
class Choices:
    """The approved creatives of one ad, slots filled, and what is known of them; arrays are `[1, N]`."""

    creatives: tuple[Creative, ...]
    keys: U64
    mean: F64
    variance: F64
    known: bool
    """Whether any of them has a learned weight."""

    @cached_property
    def deviation(self) -> F64:
        """Standard deviation of each `[N]`."""
        return np.sqrt(self.variance[0])


def choices_of(ad: Ad, weights: Mapping[str, Weight], prior_variance: float) -> Choices:
    """Return what may be shown of an ad; creatives without a weight count with the prior."""
    shown = tuple(presented(ad, creative) for creative in approved(ad))
    keys = [creative_key(ad.ad_id, creative.creative_id) for creative in shown]
    beliefs = [weights.get(key, (0.0, prior_variance)) for key in keys]
    return Choices(
        shown,
        np.array([[known_key64(key) for key in keys]], np.uint64),
        np.array([[mean for mean, _ in beliefs]], np.float64),
        np.array([[variance for _, variance in beliefs]], np.float64),
        any(key in weights for key in keys),
    )


def creative_lifts(
    changed: Iterable[str], weights: Mapping[str, Weight], catalogue: Catalogue
) -> dict[int, float]:
    """Return, by row of the catalogue, the mean of the best creative of each ad that a changed key names."""
    ads = (catalogue.row_of.get(key.rpartition("|")[0]) for key in changed)
    return {row: _best_mean(catalogue.ads[row], weights) for row in dict.fromkeys(ads) if row is not None}


def _best_mean(ad: Ad, weights: Mapping[str, Weight]) -> float:
    keys = (creative_key(ad.ad_id, creative.creative_id) for creative in approved(ad))
    return max((weights.get(key, (0.0, 0.0))[0] for key in keys), default=0.0)
