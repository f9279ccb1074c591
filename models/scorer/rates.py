"""Rates of few events, shrunk: what an ad's clicks and conversions say beyond its campaign's and everyone's.

Empirical Bayes with Gamma beliefs, level by level: a group with N events where E were expected has the
ratio r = (N + k) / (E + k). The pseudo-count k is 1 / variance of the true ratios, which the data tells
by the method of moments: N has variance E + E^2 / k. Legend: A ads (or rows of a table), I impressions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .sequences import Dataset, Labels

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LEAST_VARIANCE, MOST_VARIANCE = 1e-3, 2.0
"""Bounds of what the data may say of the variance of true ratios."""


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


class LabelRates(NamedTuple):
    """What counting tells of clicks and conversions; `[V + 1]` arrays have 0 in row 0, the unknown ad."""

    click: float
    """Rate in the first slot."""
    conversion: float
    """Rate of a click, once every conversion has come."""
    slot_log_ratio: F64
    """`[S]` clicks in a slot, against the first one."""
    click_log_ratio: F64
    """`[V + 1]` clicks beyond those of the slots and the category."""
    conversion_log_odds: F64
    """`[V + 1]` conversions of clicks beyond the mean rate."""
    campaign_conversion_log_odds: F64
    """`[N + 1]` the same by number of the campaign, for ads without a row; 0 for no campaign."""
    segment_log_odds: F64
    """`[S + 1, C]` clicks of a segment in a category beyond all segments'; the last row, for none, is 0."""


def label_rates(dataset: Dataset, slots: int, segments: int = 0) -> LabelRates:
    """Count clicks and conversions by slot, category, segment, campaign and ad."""
    labels, rows = dataset.labels, len(dataset.category_of)
    click, slot = labels.click.astype(np.float64), np.minimum(labels.slot, slots - 1)
    flat = np.full(len(labels), max(click.mean(), 1e-6))
    of_slot = _log_ratios(slot, click, flat, slots)
    expected = flat * np.exp(of_slot)[slot]
    categories = int(labels.category.max()) + 1
    expected *= np.exp(_log_ratios(labels.category, click, expected, categories))[labels.category]
    of_cell = _cell_ratios(labels, click, expected, segments)
    expected *= np.exp(of_cell[labels.segment, labels.category])
    due = click * labels.maturity
    rate = max(float(labels.conversion.sum()), 0.5) / max(float(due.sum()), 1.0)
    levels = [dataset.campaign_of, np.arange(rows)] if len(dataset.campaign_of) else [np.arange(rows)]

    def of_ads(events: F64, foreseen: F64, levels: list[I64] = levels) -> F64:
        known = labels.ad > 0
        seen, due = (np.bincount(labels.ad[known], x[known], rows) for x in (events, foreseen))
        ratios = shrunk_log_ratios(_f64(seen), _f64(due), levels)
        ratios[0] = 0
        return ratios

    converted = labels.conversion.astype(np.float64), rate * due
    conversions, families = of_ads(*converted), np.zeros(int(dataset.campaign_of.max(initial=0)) + 1)
    if len(families) > 1:
        families[dataset.campaign_of] = of_ads(*converted, [dataset.campaign_of])
        families[0] = 0
    rate = min(rate, 0.5)
    return LabelRates(
        click=min(float(flat[0] * np.exp(of_slot[0])), 0.99),
        conversion=rate,
        slot_log_ratio=of_slot - of_slot[0],
        click_log_ratio=of_ads(click, expected),
        conversion_log_odds=conversions / (1 - rate),
        campaign_conversion_log_odds=families / (1 - rate),
        segment_log_odds=of_cell / (1 - min(float(flat[0]), 0.5)),
    )


def _cell_ratios(labels: Labels, click: F64, expected: F64, segments: int) -> F64:
    """Return the shrunk log ratios `[S + 1, C]` of segments' clicks by category."""
    categories = int(labels.category.max()) + 1
    ratios = np.zeros((segments + 1, categories))
    known = np.flatnonzero(labels.segment < segments)
    if len(known):
        cell = labels.segment[known] * categories + labels.category[known]
        found = _log_ratios(cell, click[known], expected[known], segments * categories)
        ratios[:segments] = found.reshape(segments, categories)
    return ratios


def _log_ratios(group: I64, events: F64, expected: F64, groups: int) -> F64:
    """Return the shrunk log ratio of each group `[G]`."""
    seen, foreseen = (_f64(np.bincount(group, x, groups)) for x in (events, expected))
    return shrunk_log_ratios(seen, foreseen, [np.arange(groups)])


def _f64(counts: NDArray[Any]) -> F64:
    return counts.astype(np.float64)
