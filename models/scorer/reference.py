"""Slow, plain twins of the retrieval's kernels in numpy; tests hold the fast ones to their bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .retrieval import Boosts, ScanIndex, no_boosts
from .simd import LANES, padded

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


def dot_reference(u: F32, v: F32) -> np.float32:
    """Return the dot product of two vectors in the scorer's fixed order, slowly."""
    width = padded(len(u))
    a, b = (np.pad(x, (0, width - len(x))).reshape(-1, LANES) for x in (u, v))
    lanes = np.zeros(LANES, np.float32)
    for x, y in zip(a, b, strict=True):
        lanes = fma_reference(x, y, lanes)
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return np.float32(lanes[0])


def fma_reference(a: F32, b: F32, c: F32) -> F32:
    """Return ``a * b + c`` with one rounding to fp32.

    The product is exact in float64. Rounding the sum to odd there keeps what the second rounding, to
    fp32, needs to know (Boldo and Melquiond 2008).
    """
    product, addend = a.astype(np.float64) * b, c.astype(np.float64)
    total = product + addend
    part = total - product
    lost = (product - (total - part)) + (addend - part)
    odd = total.view(np.int64) & 1 == 1
    nudged = np.nextafter(total, np.where(lost > 0, np.inf, -np.inf))
    return np.where((lost == 0) | odd, total, nudged).astype(np.float32)


def topk_reference(
    users: F32,
    index: ScanIndex,
    bias: F32,
    bias_row: I64,
    eligible: U64,
    k: int,
    boosts: Boosts | None = None,
) -> tuple[I32, F32]:
    """Return what `models.scorer.retrieval.top_k` must return, by scoring every ad."""
    rows = np.full((len(users), k), -1, np.int32)
    scores = np.full((len(users), k), -np.inf, np.float32)
    words = eligible.astype("<u8").view(np.uint8)
    given = no_boosts(len(users)) if boosts is None else boosts
    for b, user in enumerate(users):
        bits = np.unpackbits(words[b].reshape(-1), bitorder="little")[: index.ads].astype(bool)
        added = index.bias[: index.ads] + bias[bias_row[b]]
        dots = [dot_reference(user, v[: len(user)]) for v in index.vectors[: index.ads]]
        total = np.array(dots, np.float32) + added
        own = slice(given.begin[b], given.begin[b + 1])
        total[given.ad[own]] += given.added[own]
        best = [a for a in np.lexsort((np.arange(index.ads), -total)) if bits[a]][:k]
        rows[b, : len(best)], scores[b, : len(best)] = best, total[best]
    return rows, scores
