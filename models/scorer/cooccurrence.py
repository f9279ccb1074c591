"""The item graph: which items follow an item, soon after it, in other users' sequences.

It is the Markov baseline, a second source of candidates beside the Transformer, and a feature of the second
stage. Weight of j after i:

    w_ij = sum over lags l = 1..LAGS of LAG_DECAY^(l-1) * #(j came l events after i)  /  (#i + SHRINKAGE)

and a user's score for j is the sum over the last RECENT events, newest first, of
RECENT_DECAY^n * w[event n, j]. Serving adds ``blend * score`` to the retrieval logits and ``click * score``
to the click logits: for each of the RECENT events at most N neighbours change. Legend: V items, N neighbours
kept, B users, I impressions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .sequences import F32, I32, I64, Dataset, Labels

F64 = NDArray[np.float64]

NEIGHBOURS = 128
_TOGETHER = 1 << 15
LARGEST_TABLE = 1 << 24
"""Neighbours kept in all: from 131,072 ads on each keeps fewer than NEIGHBOURS, but 8 at least."""


@dataclass(frozen=True)
class GraphOptions:
    """How the graph is counted and read; the same for all data."""

    lags: int = 5
    lag_decay: float = 0.8
    shrinkage: float = 10.0
    recent: int = 5
    recent_decay: float = 0.8


@dataclass(frozen=True, eq=False)
class ItemGraph:
    """The strongest followers of each row of the ad table; row 0 (unknown) has none.

    ``rows`` and ``weights`` are `[V + 1, N]`, strongest first, row 0 and weight 0 where there are fewer.
    The score is multiplied by ``blend`` and added to retrieval logits, by ``click`` to click logits.
    """

    rows: I32
    weights: F32
    options: GraphOptions = GraphOptions()
    blend: float = 0.0
    click: float = 0.0

    def manifest(self) -> dict[str, Any]:
        """Return what the artifact's manifest says of it."""
        return asdict(self.options) | {"blend": self.blend, "click": self.click}

    @cached_property
    def matrix(self) -> sp.csr_matrix:
        """The weights `[V + 1, V + 1]`; copies, because scipy sorts in place."""
        size, width = self.rows.shape
        start = np.arange(size + 1) * width
        parts = (self.weights.ravel().copy(), self.rows.ravel().copy(), start)
        matrix = sp.csr_matrix(parts, shape=(size, size))
        matrix.eliminate_zeros()
        return matrix

    def scores(self, recent: I64, followers: sp.csr_matrix | None = None) -> F32:
        """Return scores `[B, V + 1]` given the last events `[B, RECENT]`, newest first, 0 for none.

        ``followers`` `[V + 1, A]` are columns of ``matrix``, where scores `[B, A]` of those alone are wanted.
        """
        users, depth = recent.shape
        decay = np.float32(self.options.recent_decay) ** np.arange(depth, dtype=np.float32)
        row = np.repeat(np.arange(users), depth)
        shape = (users, len(self.rows))
        taste = sp.csr_matrix((np.tile(decay, users), (row, recent.ravel())), shape=shape)
        weights = self.matrix if followers is None else followers
        return np.asarray((taste @ weights).toarray(), dtype=np.float32)

    def scores_of(self, recent: I64, ad: I64) -> F64:
        """Return the score of one ad each, `[I]` for ``ad`` `[I]`, given the last events `[I, RECENT]`."""
        total = np.zeros(len(ad))
        for begin in range(0, len(ad), _TOGETHER):
            part = slice(begin, begin + _TOGETHER)
            for n, event in enumerate(recent[part].T):
                follows = (self.rows[event] == ad[part, None]) & (ad[part, None] > 0)  # [., N]
                weight = (self.weights[event] * follows).sum(1, dtype=np.float64)
                total[part] += self.options.recent_decay**n * weight
        return total


class Steps(NamedTuple):
    """What came after what: ad ``after[i]`` `[M]` once events ``begin[i]..end[i]`` had happened.

    Both ends count; ``end < begin`` means that nothing had.
    """

    begin: I64
    end: I64
    after: I64


def steps_of(offsets: I64, ad: I64) -> Steps:
    """Return every event but a user's first as the step from the events before it."""
    begin = np.repeat(offsets[:-1], np.diff(offsets))
    at = np.arange(len(ad))
    later = at > begin
    return Steps(begin[later], at[later] - 1, ad[later])


def build(ad: I64, steps: Steps, size: int, options: GraphOptions | None = None) -> ItemGraph:
    """Count the graph over users' events laid end to end (`[N]` rows of the ad table of ``size`` rows)."""
    options = GraphOptions() if options is None else options
    total = sp.csr_matrix((size, size), dtype=np.float64)
    for lag in range(options.lags):
        at = steps.end - lag
        before, after = ad[np.maximum(at, 0)], steps.after
        real = (at >= steps.begin) & (before > 0) & (after > 0)
        weight = np.full(int(real.sum()), options.lag_decay**lag)
        total = total + sp.coo_matrix((weight, (before[real], after[real])), shape=(size, size)).tocsr()
    count = np.bincount(ad, minlength=size)
    return _strongest(sp.diags(1 / (count + options.shrinkage)) @ total, options)


def _strongest(total: sp.csr_matrix, options: GraphOptions) -> ItemGraph:
    total = total.tocsr()
    total.sort_indices()
    size = total.shape[0]
    width = min(NEIGHBOURS, size, max(8, LARGEST_TABLE // size))
    rows = np.zeros((size, width), np.int32)
    weights = np.zeros(rows.shape, np.float32)
    for i, (begin, end) in enumerate(zip(total.indptr[:-1], total.indptr[1:], strict=True)):
        best = np.argsort(-total.data[begin:end], kind="stable")[:width]
        rows[i, : len(best)] = total.indices[begin:end][best]
        weights[i, : len(best)] = total.data[begin:end][best]
    return ItemGraph(rows, weights, options)


def recent_events(offsets: I64, ad: I64, users: I64, depth: int) -> I64:
    """Return users' last events `[B, depth]`, newest first, 0 where there are none."""
    return recent_before(ad, offsets[users], offsets[users + 1], depth)


def recent_before(ad: I64, begin: I64, end: I64, depth: int) -> I64:
    """Return the last of events ``begin[i]..end[i]`` (exclusive) `[B, depth]`, newest first, 0 for none."""
    at = end[:, None] - 1 - np.arange(depth)
    real = at >= begin[:, None]
    return np.where(real, ad[np.maximum(at, 0)] if len(ad) else 0, 0)


def shown_scores(graph: ItemGraph, dataset: Dataset, labels: Labels) -> F64:
    """Return the scores `[I]` of shown ads, each from the events before its decision."""
    begin = dataset.offsets[labels.user]
    recent = recent_before(dataset.ad, begin, begin + labels.position, graph.options.recent)
    return graph.scores_of(recent, labels.ad)
