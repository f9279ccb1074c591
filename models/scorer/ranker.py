"""The second stage: candidates attend to the user's recent hidden states, then a small network.

For candidate a of user u (Rank in transformer.py, after Deep Interest Network, Zhou et al. 2018):
``attended = attention(query_a, the user's rings)``;
``hidden = relu(W_u u + half_a + W [attended, u * v_a])``;
``logits = W_out hidden + shortcut * (u.v_a + b_a) + offsets``, and e_a more for the click, c_a for the
conversion. The ads'
queries and halves are computed once per catalogue (ad_index.py), the user's part once per user. Each
candidate's logits depend on its ad and its user alone, to the last bit.

Legend: B users, K candidates, D width, Dp padded, H heads, Ep head width, R ring, M inner width.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .kernels import attend, multiply
from .kv_cache import Seats, Shape
from .simd import dot
from .weights import Head

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_TOGETHER = 16
"""Candidates worked on at once."""


@njit(cache=True)
def rank_candidates(
    seats: Seats, shape: Shape, head: Head, taken: I64, users: F32, vectors: F32, bias: F32, queries: F32,
    halves: F32, candidates: I32,
) -> tuple[F32, F32]:  # fmt: skip
    """Return click and conversion logits `[B, K]` of ``candidates`` `[B, K]`, -inf where it is -1.

    ``taken`` `[B]` are the users' seats, up to date, and ``users`` `[B, Dp]` their vectors when asked for.
    ``vectors`` `[A, Dp]`, ``bias`` `[A]`, ``queries`` `[A, H Ep]` and ``halves`` `[A, M + 2]` are the ads';
    last in the halves stand c_a and what is added to everyone's click logit.
    """
    click = np.full(candidates.shape, -np.inf, np.float32)
    conversion = np.full(candidates.shape, -np.inf, np.float32)
    inner, width = head.user.shape[1], vectors.shape[1]
    user = np.zeros(inner, np.float32)
    rows = np.zeros(_TOGETHER, np.int64)
    places = np.zeros(_TOGETHER, np.int64)
    for b in range(len(taken)):
        multiply(users, b * width, 0, head.user, 0, width, inner, user, 0, 0, 1)
        size = 0
        for k in range(candidates.shape[1]):
            if candidates[b, k] >= 0:
                rows[size], places[size] = candidates[b, k], k
                size += 1
            if size == _TOGETHER or (size > 0 and k == candidates.shape[1] - 1):
                logits = _rank_some(
                    seats, shape, head, taken[b], users, b, user, vectors, bias, queries, halves, rows[:size]
                )
                for i in range(size):
                    click[b, places[i]], conversion[b, places[i]] = logits[i, 0], logits[i, 1]
                size = 0
    return click, conversion


@njit(cache=True)
def _rank_some(
    seats: Seats, shape: Shape, head: Head, seat: int, users: F32, b: int, user: F32, vectors: F32, bias: F32,
    queries: F32, halves: F32, rows: I64,
) -> F32:  # fmt: skip
    """Return the logits `[n, 2]` of a few ads for user ``b``, whose part of the first layer is ``user``."""
    size, width, inner = len(rows), vectors.shape[1], len(user)
    heads = shape.heads * shape.head
    mixed = _attended(seats, shape, seat, queries, rows, heads + width)
    hidden = np.zeros(size * inner, np.float32)
    logits = np.zeros((size, 2), np.float32)
    for i in range(size):
        for d in range(width):
            mixed[i * (heads + width) + heads + d] = users[b, d] * vectors[rows[i], d]
    multiply(mixed, 0, heads + width, head.mixed, 0, heads + width, inner, hidden, 0, inner, size)
    for i in range(size):
        a = rows[i]
        for m in range(inner):
            first = (user[m] + halves[a, m]) + hidden[i * inner + m]
            hidden[i * inner + m] = max(first, np.float32(0.0))
        retrieval = dot(users, b * width, vectors, a * width, width) + bias[a]
        for j in range(2):
            logit = dot(hidden, i * inner, head.out, j * inner, inner) + head.out_bias[j]
            logits[i, j] = logit + head.shortcut[j] * retrieval
        logits[i, 0] += head.everyone * halves[a, inner + 1]
        logits[i, 1] += halves[a, inner]
    return logits


@njit(cache=True)
def _attended(seats: Seats, shape: Shape, seat: int, queries: F32, rows: I64, stride: int) -> F32:
    """Return `[n * stride]`: in the first H Ep columns the ads' attention over the user's events."""
    heads, ring, size = shape.heads * shape.head, shape.ring, len(rows)
    mixed = np.zeros(size * stride, np.float32)
    seen = min(shape.window, seats.stepped[seat] - seats.first[seat])
    if seen <= 0:
        return mixed
    wanted = np.zeros(size * heads, np.float32)
    scores = np.zeros(size * (ring + 1), np.float32)
    for i in range(size):
        for d in range(heads):
            wanted[i * heads + d] = queries[rows[i], d]
    newest = (seats.stepped[seat] - 1) % ring
    layer = seats.keys.shape[1] - 1
    for h in range(shape.heads):
        at = ((seat * seats.keys.shape[1] + layer) * shape.heads + h) * shape.head * ring
        attend(
            wanted, h * shape.head, heads, seats.keys, at, seats.values, at, newest, seen, ring, shape.head,
            scores, mixed, h * shape.head, stride, size,
        )  # fmt: skip
    return mixed
