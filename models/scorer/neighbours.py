"""The item graph in service: ads that often follow a user's last events get a boost in both stages.

cooccurrence.py says how the graph is counted. The boost of ad j is ``share * sum over the last events n,
newest first, of decay^n * w[event n, j]``, with one share for retrieval and one for clicks; at most
RECENT * N ads of a user have one.

Legend: B users, K candidates, V known ads, N neighbours per ad, RECENT events, A ads of the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numba import njit
from numpy.typing import NDArray

from models.domain.errors import ArtifactError

from .features import vocabulary_row
from .interface import HistoryTable
from .retrieval import Boosts
from .weights import LARGEST, Tensors, tensor

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

LARGEST_VOCABULARY = 1 << 24
"""Rows travel inside the user's vector as float32, exact below this."""

_Share = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]


class Neighbours(NamedTuple):
    """The graph's arrays."""

    rows: I32
    """`[V+1, N]` rows of the ad table, 0 for none."""
    weights: F32
    """`[V+1, N]`"""
    decay: F32
    """`[RECENT]` weight of the user's last events, newest first."""
    blend: float
    """Share of the score in retrieval logits."""
    click: float
    """Its share in click logits."""


def neighbours_of(
    described: Mapping[str, Any] | None, tensors: Tensors, vocabulary: int
) -> Neighbours | None:
    """Return the graph of a model's manifest, None where it has none or makes no use of it."""
    if described is None:
        return None
    graph = _described(described)
    if graph.blend == 0 and graph.click == 0:
        return None
    rows = tensors.get("neighbour_rows", np.zeros((0, 0), np.int32))
    right = rows.dtype == np.int32 and rows.ndim == 2 and len(rows) == vocabulary + 1 and rows.size > 0
    if not right or not 0 <= rows.min() <= rows.max() <= vocabulary:
        raise ArtifactError.expected(
            "model tensor neighbour_rows", got=f"{rows.dtype} {rows.shape}",
            expected=f"int32 [{vocabulary + 1}, N] rows up to {vocabulary}", fix="train the model again",
        )  # fmt: skip
    weights = tensor(tensors, "neighbour_weights", (len(rows), rows.shape[1]))
    if vocabulary >= LARGEST_VOCABULARY:
        raise ArtifactError.expected(
            "vocabulary of a model with an item graph", got=vocabulary,
            expected=f"fewer than {LARGEST_VOCABULARY}", fix="train without the graph",
        )  # fmt: skip
    decay = (graph.recent_decay ** np.arange(graph.recent)).astype(np.float32)
    return Neighbours(
        np.ascontiguousarray(rows), np.ascontiguousarray(weights), decay, graph.blend, graph.click
    )


class _Described(msgspec.Struct):
    """What a manifest says of the graph, as far as serving reads it."""

    blend: _Share
    recent: Annotated[int, Meta(ge=1, le=1024)]
    recent_decay: Annotated[float, Meta(ge=0, le=1)]
    click: _Share = 0.0


def _described(values: Mapping[str, Any]) -> _Described:
    try:
        return msgspec.convert(values, _Described)
    except msgspec.ValidationError as error:
        raise ArtifactError.expected(
            "manifest of the model, neighbours", got=str(error), expected="what `impulse train` writes",
            fix="train the model again",
        ) from error  # fmt: skip


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


def boosts(neighbours: Neighbours, share: float, recent: F32, place: I32, ads: int) -> Boosts:
    """Return ``share`` of the score as the boosts of users by their last events `[B, RECENT]`.

    ``place`` is the catalogue's row of each row of the ad table, -1 where it has none (as have those past
    its end); ``ads`` is A. Sums run over the events, newest first.
    """
    decay = np.float32(share) * neighbours.decay
    return Boosts(*_boosts(neighbours.rows, neighbours.weights, decay, recent, place, ads))


@njit(cache=True)
def add_boosts(logits: F32, candidates: I32, boosts: Boosts, ads: int) -> None:
    """Add users' boosts to the logits `[B, K]` of their ``candidates`` `[B, K]`, -1 for none, in place."""
    added = np.zeros(ads, np.float32)
    for b in range(len(candidates)):
        for i in range(boosts.begin[b], boosts.begin[b + 1]):
            added[boosts.ad[i]] = boosts.added[i]
        for k in range(candidates.shape[1]):
            if candidates[b, k] >= 0:
                logits[b, k] += added[candidates[b, k]]
        for i in range(boosts.begin[b], boosts.begin[b + 1]):
            added[boosts.ad[i]] = 0


@njit(cache=True)
def _boosts(
    followers: I32, weights: F32, decay: F32, recent: F32, place: I32, ads: int
) -> tuple[I64, I32, F32]:
    added = np.zeros(ads, np.float32)
    begin = np.zeros(len(recent) + 1, np.int64)
    width = followers.shape[1]
    found = np.zeros(len(recent) * recent.shape[1] * width, np.int32)
    score = np.zeros(len(found), np.float32)
    size = 0
    for b in range(len(recent)):
        for n in range(recent.shape[1]):
            event = np.int64(recent[b, n])
            for i in range(width):
                row = followers[event, i]
                a = np.int64(place[row]) if row < len(place) else -1
                weight = weights[event, i] * decay[n]
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
    return begin, found[:size], score[:size]
