"""How alike two ads are, in [0, 1], for the slate's diversity.

Two ads of the same category are alike (1); others as far as the Jaccard index of their two sets of labels
goes (Jaccard '01). Ads without a category or without labels have none in common. What ads of one advertiser
or campaign may do is a matter of caps and of ``max_per_campaign``. Vectors are left out: a cosine of 64
dimensions for each candidate and slot costs more than all the rest of filling a slate.

Legend: A ads, G separation groups of an ad, C distinct contents (category and labels), L labels of one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .columns import AdColumns

I32 = NDArray[np.int32]


class Facets(NamedTuple):
    """What the rules of a slate compare, by row of the catalogue; codes are compared for equality alone."""

    campaign: I32
    """`[A]`"""
    category: I32
    """`[A]` -1 for none."""
    advertiser: I32
    """`[A]` -1 for none."""
    separation: I32
    """`[A, G]` -1 for none."""
    content: I32
    """`[A]` row in ``labels``."""
    labels: I32
    """`[C, L]` the labels of a content, each once, -1 after the last."""


def facets_of(columns: AdColumns) -> Facets:
    """Return what the rules compare of a catalogue's ads."""
    return Facets(
        columns.campaign,
        columns.category,
        columns.advertiser,
        columns.separation,
        columns.content,
        columns.labels,
    )


@njit(cache=True)
def similarity(facets: Facets, row: int, other: int) -> float:
    """Return how alike the ads of two rows are."""
    if facets.category[row] >= 0 and facets.category[row] == facets.category[other]:
        return 1.0
    return _jaccard(facets.labels, facets.content[row], facets.content[other])


@njit(cache=True)
def _jaccard(labels: I32, one: int, other: int) -> float:
    """Return the Jaccard index of two contents' labels; rows are indexed, as a slice costs more than both."""
    if labels[one, 0] < 0 or labels[other, 0] < 0:
        return 0.0
    common = ones = others = 0
    while labels[other, others] >= 0:
        others += 1
    while labels[one, ones] >= 0:
        for n in range(others):
            common += labels[one, ones] == labels[other, n]
        ones += 1
    return common / (ones + others - common)
