"""Where a target stands among all items, and how good probabilities are; plain numpy.

Legend: B users, A items, I impressions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ImpulseError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


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
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    return float((middle[inverse][label].sum() - positives * (positives + 1) / 2) / (positives * negatives))


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
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return float(-np.mean(np.where(label, np.log(p), np.log1p(-p))))


def calibration_error(label: NDArray[np.bool_], p: F64, bins: int = 20) -> float:
    """Return the expected calibration error over bins of equally many impressions (0 is perfect)."""
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    gaps = [len(rows) * abs(p[rows].mean() - label[rows].mean()) for rows in parts]
    return float(sum(gaps) / len(p))
