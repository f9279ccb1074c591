"""Fitting the segments' logits beside a trained network: one random effect per segment and category.

For the impressions of a cell with the network's logits z, the effect w is the mode of

    sum log Bernoulli(click | sigmoid(z + w)) - w^2 / (2 v),

found by Newton steps for all cells at once; the variance v of the effects is what makes the data most
likely, by EM: v <- mean(w^2 + posterior variance).

Legend: I impressions, S segments, C rows of categories.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .segments import SegmentTable

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

MOST_SEGMENTS = 256
"""Segments that get rows, the most frequent ones."""
FIRST_VARIANCE = 0.1
LEAST_VARIANCE = 1e-4
_ROUNDS = 12
_LARGEST_STEP = 1.0


def fit_segments(logit: F64, segment_key: U64, category: I64, click: Bools, categories: int) -> SegmentTable:
    """Return the table of the segments of impressions.

    Parameters
    ----------
    logit
        `[I]` the network's logits of click, position and all.
    segment_key
        `[I]` stable keys of the segments, 0 for none.
    category
        `[I]` rows of the ads' categories, below ``categories``.
    click
        `[I]`

    """
    keys, count = np.unique(segment_key[segment_key != 0], return_counts=True)
    kept = np.sort(keys[np.argsort(-count, kind="stable")[:MOST_SEGMENTS]])
    logits = np.zeros((len(kept) + 1, categories), np.float32)
    known = np.isin(segment_key, kept)
    if known.any():
        cell = np.searchsorted(kept, segment_key[known]) * categories + category[known]
        used, place = np.unique(cell, return_inverse=True)
        logits.ravel()[used] = effects(logit[known], place, click[known])
    return SegmentTable(kept.astype(np.uint64), logits)


def effects(logit: F64, group: I64, click: Bools) -> F64:
    """Return the effect `[G]` of each group of impressions; ``group`` `[I]` counts from 0 without gaps."""
    groups = int(group.max()) + 1
    clicks = np.bincount(group, click, groups)
    effect, variance = np.zeros(groups), FIRST_VARIANCE
    for _ in range(_ROUNDS):
        p = expit(logit + effect[group])
        slope = clicks - np.bincount(group, p, groups) - effect / variance
        curvature = np.bincount(group, p * (1 - p), groups) + 1 / variance
        effect += np.clip(slope / curvature, -_LARGEST_STEP, _LARGEST_STEP)
        variance = max(float(np.mean(effect**2 + 1 / curvature)), LEAST_VARIANCE)
    return effect
