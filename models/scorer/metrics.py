"""Where a target stands among all items, and how good probabilities are; plain numpy.

Legend: B users, A items, I impressions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ImpulseError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

LEAST = np.finfo(np.float32).min
"""The lowest score that is not that of a dropped item."""

EPSILON = 1e-12
"""Probabilities are taken as no nearer to 0 and 1, so that a loss is finite."""


def target_ranks(scores: NDArray[np.floating], target: I64, seen: list[I64] | None = None) -> I64:
    """Return how many items stand above each target, `[B]`; 0 is the top.

    Ties are in stable order: among equal scores the item with the lower number stands first.

    Parameters
    ----------
    scores
        `[B, A]` of all items; not changed.
    target
        `[B]`
    seen
        Items to drop per user; a target is never dropped. None drops nothing.

    Raises
    ------
    ImpulseError
        where a score is NaN.

    """
    if np.isnan(scores).any():
        raise ImpulseError.expected(
            "scores to rank", got="NaN", expected="numbers", fix="check the model and its inputs"
        )
    rows = np.arange(len(target))
    own = scores[rows, target][:, None]
    above = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < target[:, None]))
    for row, items in enumerate(seen or ()):
        above[row, items] = False
    return above.sum(axis=1)


def ndcg(ranks: I64, k: int) -> F64:
    """Return each user's NDCG@k with one relevant item: 1 / log2(rank + 2) inside the top k."""
    return np.where(ranks < k, 1 / np.log2(ranks + 2), 0.0)


def auc(label: NDArray[np.bool_], score: F64) -> float:
    """Return the area under the ROC curve, ties counted half; NaN where a class is missing."""
    positives = int(label.sum())
    negatives = len(label) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    above = mean_ranks(score)[label].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def mean_ranks(values: F64) -> F64:
    """Return the rank of each value from 1, equal values sharing the middle one of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: F64 = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def grouped_auc(label: NDArray[np.bool_], score: F64, group: I64) -> float:
    """Return the AUC per group (user), weighted by impressions; groups of one class do not count."""
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    parts = [(len(rows), auc(label[rows], score[rows])) for rows in np.split(order, cuts)]
    kept = [(weight, value) for weight, value in parts if not np.isnan(value)]
    total = sum(weight for weight, _ in kept)
    return sum(weight * value for weight, value in kept) / total if total else float("nan")


def logloss(label: NDArray[np.bool_], p: F64) -> float:
    """Return the mean negative log likelihood of the labels."""
    p = np.clip(p, EPSILON, 1 - EPSILON)
    return float(-np.mean(np.where(label, np.log(p), np.log1p(-p))))


def calibration_error(label: NDArray[np.bool_], p: F64, bins: int = 20) -> float:
    """Return the expected calibration error over bins of equally many impressions (0 is perfect)."""
    predicted, observed, count = binned(p, label.astype(np.float64), bins)
    return float((count * np.abs(predicted - observed)).sum() / max(float(count.sum()), 1.0))


def binned(predicted: F64, label: F64, bins: int) -> tuple[F64, F64, F64]:
    """Return mean prediction, mean label and rows of bins of equally many rows; equal ones share a bin."""
    if not len(predicted):
        return predicted, label, predicted
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, predicted, side="left")
    count = np.bincount(place, minlength=len(edges) + 1).astype(np.float64)
    held = count > 0
    sums = [np.bincount(place, weights=x, minlength=len(count))[held] for x in (predicted, label)]
    return sums[0] / count[held], sums[1] / count[held], count[held]


def standard_error(values: F64) -> float:
    """Return the standard error of the mean of what is not NaN; 0 for a single value."""
    values = values[~np.isnan(values)]
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def clustered_error(values: F64, group: I64) -> float:
    """Return the standard error of the mean of ``values`` `[N]`; rows of a group stand or fall together."""
    _, place = np.unique(group, return_inverse=True)
    count = np.bincount(place)
    return standard_error(np.bincount(place, values - values.mean()) / count.mean())


def top(values: F32, k: int) -> tuple[I64, I64]:
    """Return rows and items `[M]` of the first k of each row of ``values`` `[B, A]`, in ascending order.

    Ties are in stable order; dropped items (-inf) stand in no row's top.
    """
    size = values.shape[1]
    k = min(k, size)
    last = np.partition(values, size - k, axis=1)[:, size - k, None]  # [B, 1] the k-th best
    row, item = np.divmod(np.flatnonzero(values >= np.maximum(last, LEAST)), size)
    tied = values[row, item] == last[row, 0]
    free = k - np.bincount(row[~tied], minlength=len(values))  # [B] places left to the tied ones
    before = np.cumsum(tied) - tied  # ties before this one, of all rows
    first = np.searchsorted(row, row)  # where this one's row begins
    kept = ~tied | (before - before[first] < free[row])
    return row[kept], item[kept]
