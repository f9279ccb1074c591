"""Rates of few events, shrunk: what an ad's clicks and conversions say beyond its campaign's and everyone's.

Clicks: random effects of slots, categories, segments in them, campaigns and ads, all at once (effects.py).

Conversions, of which there are few: empirical Bayes with Gamma beliefs, level by level. A group with N events
where E were expected has the ratio r = (N + k) / (E + k). The pseudo-count k is 1 / variance of the true
ratios, which the data tells by the method of moments: N has variance E + E^2 / k.

Legend: A ads (or rows of a table), I impressions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .effects import LEAST_VARIANCE, MOST_VARIANCE, Factor, fit_effects
from .sequences import Dataset
from .slots import SlotCounts, count_slots

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def spread(events: F64, expected: F64) -> float:
    """Return the variance of the groups' true ratios ``events / expected``, both `[G]`, chance taken out."""
    chance = expected.sum()
    square = float((expected**2).sum())
    variance = float(((events - expected) ** 2).sum() - chance) / square if square else 0.0
    return min(max(variance, LEAST_VARIANCE), MOST_VARIANCE)


def shrunk_log_ratios(events: F64, expected: F64, levels: list[I64]) -> F64:
    """Return log ratios `[A]` of events to what was expected, 0 where nothing is known.

    ``levels`` are groups `[A]` of the ads from coarse to fine; each is shrunk to the one before it.
    """
    ratio = np.full(len(events), events.sum() / max(expected.sum(), 1e-12)) if events.sum() else 1.0
    for group in levels:
        count = int(group.max(initial=0)) + 1
        seen, foreseen = (_f64(np.bincount(group, x, count)) for x in (events, expected * ratio))
        k = 1.0 / spread(seen, foreseen)
        ratio = ratio * ((seen + k) / (foreseen + k))[group]
    return np.log(ratio)


class ClickRates(NamedTuple):
    """What counting tells of clicks; `[V + 1]` has 0 in row 0, the unknown ad."""

    first_slot: float
    """Rate, had all impressions been in the first slot."""
    slots: F64
    """`[S]` log odds in a slot, against the first one."""
    ads: F64
    """`[V + 1]` log odds beyond those of the slots and the category,"""
    campaigns: F64
    """`[N + 1]` and those by number of the campaign, for ads without a row; 0 for no campaign."""
    segments: F64
    """`[S + 1, C]` log odds of a segment in a category beyond all segments'; the last row, for none, is 0."""
    by_slot: SlotCounts
    """Impressions and clicks by slot, among ads of about one rate."""


class ConversionRates(NamedTuple):
    """What counting tells of conversions; `[V + 1]` has 0 in row 0, the unknown ad."""

    of_click: float
    """Rate of a click, once every conversion has come."""
    ads: F64
    """`[V + 1]` log odds beyond that,"""
    campaigns: F64
    """`[N + 1]` and those by number of the campaign, for ads without a row; 0 for no campaign."""


def ads_in_campaigns(ad: I64, dataset: Dataset) -> Factor:
    """Return the ads `[I]`, rows of the ad table, as groups within their campaigns, where these are known."""
    if len(dataset.campaign_of):
        return Factor(ad, dataset.campaign_of)
    return Factor.flat(ad, len(dataset.category_of))


def click_rates(dataset: Dataset, slots: int, segments: int = 0) -> ClickRates:
    """Count clicks by slot, category, segment, campaign and ad."""
    labels, rows = dataset.labels, len(dataset.category_of)
    categories = int(labels.category.max()) + 1
    cells = (segments + 1) * categories
    cell = labels.segment * categories + labels.category
    place = (np.minimum(labels.slot, slots - 1) * cells + cell) * rows + labels.ad
    places, place = np.unique(place, return_inverse=True)  # impressions that are alike are one row
    shown = _f64(np.bincount(place, minlength=len(places)))
    clicks = _f64(np.bincount(place, labels.click, len(places)))
    slot, cell = np.divmod(places // rows, cells)
    of_slots, of_cells = Factor.flat(slot, slots), Factor(cell, np.arange(cells) % categories)
    of_ads = ads_in_campaigns(places % rows, dataset)
    found = fit_effects(np.zeros(len(places)), clicks, shown, [of_slots, of_cells, of_ads])
    by_slot, by_ad, by_campaign = found.whole(0, of_slots), found.whole(2, of_ads), found.coarse[2]
    in_first = expit(found.level + by_slot[0] + found.whole(1, of_cells)[cell] + by_ad[of_ads.fine])
    by_segment = found.fine[1].reshape(segments + 1, categories)
    by_segment[segments], by_ad[0], by_campaign[0] = 0.0, 0.0, 0.0
    rate = float(np.clip(np.average(in_first, weights=shown), 1e-6, 0.99))
    counts = count_slots(slot, in_first, shown, clicks)
    return ClickRates(rate, by_slot - by_slot[0], by_ad, by_campaign, by_segment, counts)


def conversion_rates(dataset: Dataset) -> ConversionRates:
    """Count conversions by campaign and ad."""
    labels, rows, campaign_of = dataset.labels, len(dataset.category_of), dataset.campaign_of
    due = labels.click * labels.maturity.astype(np.float64)
    rate = max(float(labels.conversion.sum()), 0.5) / max(float(due.sum()), 1.0)
    known = labels.ad > 0
    seen = _f64(np.bincount(labels.ad[known], labels.conversion[known], rows))
    foreseen = _f64(np.bincount(labels.ad[known], rate * due[known], rows))
    of_campaign = [campaign_of] if len(campaign_of) else []
    ads = shrunk_log_ratios(seen, foreseen, [*of_campaign, np.arange(rows)])
    campaigns = np.zeros(int(campaign_of.max(initial=0)) + 1)
    if len(campaigns) > 1:
        campaigns[campaign_of] = shrunk_log_ratios(seen, foreseen, of_campaign)
    ads[0], campaigns[0] = 0.0, 0.0
    rate = min(rate, 0.5)
    return ConversionRates(rate, ads / (1 - rate), campaigns / (1 - rate))


def _f64(counts: NDArray[Any]) -> F64:
    return counts.astype(np.float64)
