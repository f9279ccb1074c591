"""The item graph in service: ads that often follow a user's last events get a boost in retrieval.

cooccurrence.py says how the graph is counted. The boost of ad j is ``blend * sum over the last events n,
newest first, of decay^n * w[event n, j]``; at most RECENT * N ads of a user have one.

Legend: B users, V known ads, N neighbours per ad, RECENT events, A ads of the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.errors import ArtifactError

from .features import vocabulary_row
from .interface import HistoryTable
from .retrieval import Boosts
from .weights import Tensors

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

LARGEST_VOCABULARY = 1 << 24
"""Rows travel inside the user's vector as float32, exact below this."""


class Neighbours(NamedTuple):
    """The graph's arrays."""

    rows: I32
    """`[V+1, N]` rows of the ad table, 0 for none."""
    weights: F32
    """`[V+1, N]`"""
    decay: F32
    """`[RECENT]` weight of the user's last events, newest first, times the blend."""


def neighbours_of(
    described: Mapping[str, Any] | None, tensors: Tensors, vocabulary: int
) -> Neighbours | None:
    """Return the graph of a model's manifest, None where it has none or blends none of it in."""
    if described is None or described["blend"] == 0:
        return None
    rows, weights = tensors.get("neighbour_rows"), tensors.get("neighbour_weights")
    bad = rows is None or weights is None or rows.shape != weights.shape or len(rows) != vocabulary + 1
    if rows is None or weights is None or bad or not 0 <= rows.min() <= rows.max() <= vocabulary:
        raise ArtifactError.expected(
            "model tensors neighbour_rows and neighbour_weights", got="something else",
            expected=f"[{vocabulary + 1}, N] rows up to {vocabulary}", fix="train the model again",
        )  # fmt: skip
    if vocabulary >= LARGEST_VOCABULARY:
        raise ArtifactError.expected(
            "vocabulary of a model with an item graph", got=vocabulary,
            expected=f"fewer than {LARGEST_VOCABULARY}", fix="train without the graph",
        )  # fmt: skip
    powers = described["recent_decay"] ** np.arange(described["recent"])
    decay = (described["blend"] * powers).astype(np.float32)
    return Neighbours(np.ascontiguousarray(rows, np.int32), np.ascontiguousarray(weights, np.float32), decay)


def recent_rows(history: HistoryTable, rows: I64, keys: U64, depth: int) -> F32:
    """Return the users' last ads `[B, RECENT]`, newest first, as rows of the ad table; 0 for none."""
    return np.asarray(_recent_rows(history.ad_key, history.count, rows, keys, depth))


@njit(cache=True)
def _recent_rows(ad_key: U64, count: I64, rows: I64, keys: U64, depth: int) -> F32:
    recent = np.zeros((len(rows), depth), np.float32)
    for b in range(len(rows)):
        total = count[rows[b]]
        for n in range(min(depth, total, ad_key.shape[1])):
            recent[b, n] = vocabulary_row(keys, ad_key[rows[b], (total - 1 - n) % ad_key.shape[1]])
    return recent


@njit(cache=True)
def boosts(neighbours: Neighbours, recent: F32, place: I32, ads: int) -> Boosts:
    """Return the boosts of users by their last events `[B, RECENT]`.

    ``place`` is the catalogue's row of each row of the ad table, -1 where it has none (as have those past
    its end); ``ads`` is A. Sums run over the events, newest first.
    """
    added = np.zeros(ads, np.float32)
    begin = np.zeros(len(recent) + 1, np.int64)
    width = neighbours.rows.shape[1]
    found = np.zeros(len(recent) * recent.shape[1] * width, np.int32)
    score = np.zeros(len(found), np.float32)
    size = 0
    for b in range(len(recent)):
        for n in range(recent.shape[1]):
            event = np.int64(recent[b, n])
            for i in range(width):
                row = neighbours.rows[event, i]
                a = np.int64(place[row]) if row < len(place) else -1
                weight = neighbours.weights[event, i] * neighbours.decay[n]
                if event == 0 or a < 0 or weight <= 0:
                    continue
                if added[a] == 0:
                    found[size] = a
                    size += 1
                added[a] += weight
        for i in range(begin[b], size):
            score[i] = added[found[i]]
            added[found[i]] = 0
        begin[b + 1] = size
    return Boosts(begin, found[:size], score[:size])
