"""What a user looks at on their own account, beyond what their segment does.

A network needs many clicks to find out that who looks at a category clicks on it; counting needs few. Of a
user's last L events n are views of a category and N of any, and s is the category's share of the views of
the user's segment. Then

    leaning = log((n + shrink) / (s N + shrink)),

0 where s is 0, tells what the user likes besides what the segment does; ``weight * leaning`` is added to
the click logits of the category's ads. Weight and shrink are fitted on impressions that the network has not
read (calibration.py): where views tell nothing of clicks, or the network knows it already, the weight is 0.

Legend: S segments, C rows of categories (`features.category_bucket`), U users, L events, I impressions, A
ads, B decisions, K candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.errors import ArtifactError
from models.domain.events import KINDS

from .features import category_bucket
from .sequences import Dataset, Labels
from .weights import tensor

if TYPE_CHECKING:
    from .interface import HistoryTable

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

SHRINK = 4.0
"""Views that a user is given beforehand, spread as the segment's are, until data tells otherwise."""
PRIOR_VIEWS = 100.0
"""Views that a segment is given beforehand, spread as everyone's are."""

VIEW_SHARES, VIEW_WEIGHT, VIEW_SHRINK = "view_shares", "view_weight", "view_shrink"
_VIEW = KINDS.index("view")


@dataclass(frozen=True, eq=False)
class LeaningTable:
    """Shares of the segments' views by category `[S + 1, C]`, the last row everyone's; weight and shrink."""

    shares: F32
    weight: float
    shrink: float = SHRINK

    def __post_init__(self) -> None:
        sums = self.shares.sum(axis=-1) if self.shares.ndim == 2 else np.full(1, np.nan)
        shares = self.shares.dtype == np.float32 and bool((self.shares >= 0).all())
        numbers = 0 <= self.weight < math.inf and 0 < self.shrink < math.inf
        if not (shares and bool((sums <= 1.001).all()) and numbers):
            got = f"{self.shares.dtype} {self.shares.shape}, weight {self.weight}, shrink {self.shrink}"
            raise ArtifactError.expected(
                "leaning table", got=got, fix="train the model again",
                expected="float32 [S + 1, C] of shares, a weight from 0 and a shrink above it",
            )  # fmt: skip

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the table as tensors of a model; none where it adds nothing."""
        if self.weight == 0:
            return {}
        weight, shrink = (np.array([number], np.float32) for number in (self.weight, self.shrink))
        return {VIEW_SHARES: self.shares, VIEW_WEIGHT: weight, VIEW_SHRINK: shrink}

    def add(
        self,
        click: F32,
        conversion: F32,
        candidates: I32,
        slope: float,
        history: HistoryTable,
        rows: I64,
        segment: I64,
        category: I64,
        length: int,
    ) -> None:
        """Add leanings to the logits `[B, K]` of ``candidates`` `[B, K]`, -1 for none, in place.

        Conversions take ``slope`` times what clicks do. Users stand in ``rows`` `[B]` of the history, their
        segments in ``segment`` `[B]` of the table; ``category`` `[A]` are the ads', ``length`` is L.
        """
        if self.weight > 0:
            _add(
                click, conversion, candidates, self.shares, self.weight, self.shrink, slope, history.kind,
                history.category_key, history.count, rows, segment, category, length,
            )  # fmt: skip


def no_leanings(categories: int = 2) -> LeaningTable:
    """Return the table of a model that reads nothing in views."""
    return LeaningTable(np.zeros((1, categories), np.float32), 0.0)


def stored_leanings(tensors: Mapping[str, NDArray[Any]], rows: int, categories: int) -> LeaningTable:
    """Return the table among a model's tensors; ArtifactError where it does not fit the model."""
    if VIEW_SHARES not in tensors:
        return no_leanings(categories)
    shares, weight = tensor(tensors, VIEW_SHARES, (rows, categories)), tensor(tensors, VIEW_WEIGHT, (1,))
    shrink = float(tensor(tensors, VIEW_SHRINK, (1,))[0]) if VIEW_SHRINK in tensors else SHRINK
    return LeaningTable(np.ascontiguousarray(shares), float(weight[0]), shrink)


def view_shares(dataset: Dataset, segments: int, categories: int) -> F32:
    """Return the shares of views by category `[S + 1, C]` of the segments and, last, of everyone.

    A user's segment is that of their last impression. Categories that nobody looked at have no share.
    """
    looked = (dataset.kind == _VIEW) & (dataset.category > 0)
    user = np.repeat(np.arange(len(dataset.offsets) - 1), np.diff(dataset.offsets))[looked]
    segment_of = np.full(len(dataset.offsets) - 1, segments)
    order = np.lexsort((dataset.labels.position, dataset.labels.user))
    segment_of[dataset.labels.user[order]] = dataset.labels.segment[order]
    category = dataset.category[looked]
    everyone = np.bincount(category, minlength=categories) / max(len(category), 1)
    cells = segment_of[user] * categories + category
    count = np.bincount(cells, minlength=(segments + 1) * categories).reshape(segments + 1, categories)
    shares = (count + PRIOR_VIEWS * everyone) / (count.sum(1, keepdims=True) + PRIOR_VIEWS)
    shares[segments] = everyone
    return shares.astype(np.float32)


def label_leanings(shares: F32, dataset: Dataset, labels: Labels, length: int, shrink: float = SHRINK) -> F64:
    """Return the leaning `[I]` towards the ad of each impression, from the events before its decision."""
    begin = dataset.offsets[labels.user]
    return np.asarray(
        _of_labels(
            shares, dataset.kind, dataset.category, begin, begin + labels.position, labels.segment,
            labels.category, length, shrink,
        )
    )  # fmt: skip


@njit(cache=True)
def leaning(views: float, total: float, share: float, shrink: float = SHRINK) -> float:
    """Return log((n + shrink) / (s N + shrink)), 0 where nothing is known of the category."""
    if share <= 0.0:
        return 0.0
    return math.log((views + shrink) / (share * total + shrink))


@njit(cache=True)
def _of_labels(
    shares: F32, kind: I64, category: I64, begin: I64, end: I64, segment: I64, of: I64, length: int,
    shrink: float,
) -> F64:  # fmt: skip
    out = np.zeros(len(begin))
    for i in range(len(begin)):
        views, total = 0.0, 0.0
        for at in range(max(begin[i], end[i] - length), end[i]):
            if kind[at] == _VIEW and category[at] > 0:
                total += 1.0
                views += category[at] == of[i]
        out[i] = leaning(views, total, float(shares[segment[i], of[i]]), shrink)
    return out


@njit(cache=True)
def _add(
    click: F32, conversion: F32, candidates: I32, shares: F32, weight: float, shrink: float, slope: float,
    kind: U8, category_key: U64, count: I64, rows: I64, segment: I64, category: I64, length: int,
) -> None:  # fmt: skip
    buckets, ring = shares.shape[1], kind.shape[1]
    views = np.zeros(buckets)
    seen = np.zeros(length, np.int64)
    for b in range(len(rows)):
        row, total = rows[b], 0
        for n in range(min(count[rows[b]], length)):
            at = (count[row] - 1 - n) % ring
            bucket = category_bucket(category_key[row, at], buckets)
            if kind[row, at] == _VIEW and bucket > 0:
                views[bucket] += 1.0
                seen[total] = bucket
                total += 1
        for k in range(candidates.shape[1]):
            if candidates[b, k] >= 0:
                bucket = category[candidates[b, k]]
                share = float(shares[segment[b], bucket])
                told = weight * leaning(views[bucket], float(total), share, shrink)
                click[b, k] += np.float32(told)
                conversion[b, k] += np.float32(slope * told)
        for n in range(total):
            views[seen[n]] = 0.0
