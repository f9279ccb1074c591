"""Exact top K of all ads: an integer scan that cannot miss, then fp32 scores of what is left.

Score of ad a for user u, in fp32: ``dot(u, v_a) + (bias_a + situational_a)`` with the fixed order of
`models.scorer.simd.dot`. The scan sees vectors rounded to 8 bits, ``v = s q + dv`` and ``u = t p + du``. By
Cauchy-Schwarz

    |u.v - t s p.q|  <=  |t p| |dv| + |du| |v|

so an ad whose approximate score plus that bound (and the roundings of fp32) lies below the K-th best
exact score so far cannot be among the best. The others get their exact score. Results are those of
scoring every ad, and depend on the user's row alone. `models.scorer.reference` is the slow twin.

A few ads of a user may have a boost besides: they are scored first and left out of the scan.

Legend: B users, A ads, D width, K wanted, S situations, N tiles of TILE ads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.errors import ImpulseError

from .simd import F32_EPSILON, TILE, dot, lowest_bit, padded, tile_hits

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

LEVELS = 127
"""Largest magnitude of an 8-bit code."""
_SHIFT = 128
"""Added to a user's codes, so that they are unsigned bytes."""
_TILES_AT_ONCE = 8
"""Tiles scanned for one user before the next user: they stay in the first-level cache."""
_NO_ROW = np.int32(2**31 - 1)
_INFLATE = 1.0 + 1e-6
"""Makes bounds computed in float64 safe against their own rounding."""


class Boosts(NamedTuple):
    """What is added to the scores of some ads of each user; each ad at most once per user."""

    begin: I64
    """`[B+1]` where each user's boosts begin."""
    ad: I32
    """`[T]` rows of the index."""
    added: F32
    """`[T]`"""


def no_boosts(users: int) -> Boosts:
    """Return boosts of nothing for a batch of users."""
    return Boosts(np.zeros(users + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))


@dataclass(frozen=True, eq=False)
class ScanIndex:
    """Ads' vectors and what the integer scan needs of them; Dp is D padded to a multiple of LANES."""

    vectors: F32
    """`[N * TILE, Dp]`, zeros past A and past D."""
    bias: F32
    """`[N * TILE]`"""
    codes: I8
    """`[N, Dp / 4, TILE, 4]`: vectors in 8 bits."""
    offset: I32
    """`[N * TILE]` what the shift of the user's codes adds to the integer sum."""
    scale: F32
    """`[N * TILE]` value of one level of the ad's codes."""
    error: F64
    """`[N]` largest |dv| of the tile."""
    norm: F64
    """`[N]` largest |v| of the tile."""
    ads: int


def scan_index(vectors: F32, bias: F32) -> ScanIndex:
    """Return the index of ads with these vectors `[A, D]` and biases `[A]`."""
    ads, width = vectors.shape
    rows = -(-max(ads, 1) // TILE) * TILE
    empty = ScanIndex(
        vectors=np.zeros((rows, padded(width)), np.float32),
        bias=np.zeros(rows, np.float32),
        codes=np.zeros((rows // TILE, padded(width) // 4, TILE, 4), np.int8),
        offset=np.zeros(rows, np.int32),
        scale=np.zeros(rows, np.float32),
        error=np.zeros(rows // TILE, np.float64),
        norm=np.zeros(rows // TILE, np.float64),
        ads=ads,
    )
    _write_rows(empty, np.arange(ads), vectors, bias)
    return empty


def updated_index(previous: ScanIndex, ads: int, rows: I64, vectors: F32, bias: F32) -> ScanIndex:
    """Return ``previous`` grown to ``ads`` rows with the given `rows` `[R]` set anew (`[R, D]`, `[R]`)."""
    size = -(-max(ads, 1) // TILE) * TILE
    arrays = {
        name: _grown(getattr(previous, name), size // (1 if name in _PER_AD else TILE)) for name in _ARRAYS
    }
    index = replace(previous, ads=ads, **arrays)
    _write_rows(index, rows, vectors, bias)
    return index


_PER_AD = ("vectors", "bias", "offset", "scale")
_ARRAYS = (*_PER_AD, "codes", "error", "norm")


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    grown = np.zeros((size, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def _write_rows(index: ScanIndex, rows: I64, vectors: F32, bias: F32) -> None:
    """Set rows of a fresh index in place and the bounds of their tiles."""
    if not (np.isfinite(vectors).all() and np.isfinite(bias).all()):
        raise ImpulseError.expected(
            "ad vectors and biases", got="NaN or infinity", expected="finite numbers", fix="check the model"
        )
    index.vectors[rows, : vectors.shape[1]] = vectors
    index.bias[rows] = bias
    exact = index.vectors[rows].astype(np.float64)  # [R, Dp]
    scale = (np.abs(exact).max(axis=1) / LEVELS).astype(np.float32)  # [R]
    step = np.where(scale > 0, scale, 1).astype(np.float64)[:, None]
    codes = np.clip(np.rint(exact / step), -LEVELS, LEVELS)  # [R, Dp]
    index.scale[rows] = scale
    index.offset[rows] = _SHIFT * codes.sum(axis=1).astype(np.int32)
    index.codes[rows // TILE, :, rows % TILE, :] = codes.reshape(len(rows), index.codes.shape[1], 4)
    _write_bounds(index, np.unique(rows // TILE))


def _write_bounds(index: ScanIndex, tiles: I64) -> None:
    shape = (len(tiles), TILE, index.vectors.shape[1])
    v = index.vectors.reshape(-1, *shape[1:])[tiles].astype(np.float64)
    q = index.codes[tiles].transpose(0, 2, 1, 3).reshape(shape)
    dv = v - q * index.scale.reshape(-1, TILE)[tiles][..., None].astype(np.float64)
    index.error[tiles] = np.sqrt((dv * dv).sum(axis=2).max(axis=1)) * _INFLATE
    index.norm[tiles] = np.sqrt((v * v).sum(axis=2).max(axis=1)) * _INFLATE


def top_k(
    users: F32,
    index: ScanIndex,
    bias: F32,
    bias_row: I64,
    eligible: U64,
    k: int,
    boosts: Boosts | None = None,
) -> tuple[I32, F32]:
    """Return the exact top ``k`` per user; see `models.scorer.interface.Scorer.retrieve`.

    A ``bias`` padded to whole tiles is read as it stands, any other is copied.
    A boost is added last: ``score + added``. An ad whose score is -inf can be returned, one whose score
    is NaN never is.
    """
    _check_shapes(users, index, bias, bias_row, eligible, k)
    rows = np.full((len(users), k), -1, np.int32)
    scores = np.full((len(users), k), -np.inf, np.float32)
    if k and len(users) and index.ads:
        width = index.vectors.shape[1]
        queries = np.zeros((len(users), width), np.float32)
        queries[:, : users.shape[1]] = users
        extra = _padded_bias(bias, len(index.bias))
        given = no_boosts(len(users)) if boosts is None else boosts
        scan: Any = _scan
        scan(queries, *_arrays(index), extra, bias_row, eligible, given, rows, scores)
    return rows, scores


def _padded_bias(bias: F32, size: int) -> F32:
    if bias.shape[1] == size and bias.flags.c_contiguous:
        return bias
    extra = np.zeros((len(bias), size), np.float32)
    extra[:, : bias.shape[1]] = bias
    return extra


def _arrays(index: ScanIndex) -> tuple[NDArray[Any], ...]:
    return (index.vectors, index.bias, index.codes, index.offset, index.scale, index.error, index.norm)


def _check_shapes(users: F32, index: ScanIndex, bias: F32, bias_row: I64, eligible: U64, k: int) -> None:
    batch, words = len(users), -(-index.ads // TILE)
    widths = (index.ads, len(index.bias))  # as given, or padded already
    wrong = [
        (k < 0, "k", k, "0 or more"),
        (users.shape[1] > index.vectors.shape[1], "users", users.shape, f"[B, {index.vectors.shape[1]}]"),
        (bias.ndim != 2 or bias.shape[1] not in widths, "bias", bias.shape, f"[S, {index.ads}]"),
        (bias_row.shape != (batch,), "bias_row", bias_row.shape, f"[{batch}]"),
        (eligible.shape != (batch, words), "eligible", eligible.shape, f"[{batch}, {words}]"),
    ]
    for bad, what, got, expected in wrong:
        if bad:
            raise ImpulseError.expected(
                f"retrieve {what}", got=got, expected=expected, fix="pass arrays of this index's catalogue"
            )
    if batch and not 0 <= bias_row.min() <= bias_row.max() < len(bias):
        raise ImpulseError.expected(
            "retrieve bias_row", got=bias_row.tolist(), expected=f"rows below {len(bias)}", fix="see bias"
        )


@njit(cache=True)
def _quantise(query: F32, codes: U8) -> tuple[float, float, float, float]:
    """Write a user's shifted codes; return (t, |t p|, |du|, |u|)."""
    top = 0.0
    for d in range(len(query)):
        top = max(top, abs(np.float64(query[d])))
    scale = np.float64(np.float32(top / LEVELS))
    step = scale if scale > 0 else 1.0
    coded, error, norm = 0.0, 0.0, 0.0
    for d in range(len(query)):
        exact = np.float64(query[d])
        code = min(max(np.rint(exact / step), -127.0), 127.0)
        codes[d] = np.uint8(np.int64(code) + 128)
        coded += code * code
        error += (exact - code * scale) ** 2
        norm += exact * exact
    return scale, np.sqrt(coded) * scale, np.sqrt(error), np.sqrt(norm)


@njit(cache=True)
def _limit(
    worst: float, coded: float, error: float, norm: float, ad_error: float, ad_norm: float, width: int
) -> float:
    """Return the least approximate score that an ad with exact score ``worst`` or more can have.

    Besides the quantisation bound there are the fp32 roundings: of the dot product, at most
    (D / LANES + 5) eps |u||v|; and a few eps of the score itself and of its parts.
    """
    size = norm * ad_norm
    bound = (coded * ad_error + error * ad_norm) * (1.0 + 1e-6)
    return worst - bound - F32_EPSILON * ((64.0 + width) * size + 16.0 * abs(worst)) - 1e-30


@njit(cache=True)
def _better(score: float, row: int, other_score: float, other_row: int) -> bool:
    """Whether an entry ranks before another: a higher score, or the same and a lower row."""
    return score > other_score or (score == other_score and row < other_row)


@njit(cache=True)
def _swap(scores: F32, rows: I32, a: int, b: int) -> None:
    scores[a], scores[b] = scores[b], scores[a]
    rows[a], rows[b] = rows[b], rows[a]


@njit(cache=True)
def _select(scores: F32, rows: I32, size: int, k: int) -> None:
    """Move the best ``k`` of ``size`` entries to the front, in any order (Hoare's quickselect)."""
    low, high = 0, size - 1
    while low < high:
        score, row = scores[(low + high) // 2], rows[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while _better(scores[i], rows[i], score, row):
                i += 1
            while _better(score, row, scores[j], rows[j]):
                j -= 1
            if i <= j:
                _swap(scores, rows, i, j)
                i, j = i + 1, j - 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return


@njit(cache=True)
def _sort(scores: F32, rows: I32, size: int) -> None:
    """Sort entries, best first (by insertion: a decision wants a hundred)."""
    for i in range(1, size):
        score, row, at = scores[i], rows[i], i
        while at > 0 and _better(score, row, scores[at - 1], rows[at - 1]):
            scores[at], rows[at] = scores[at - 1], rows[at - 1]
            at -= 1
        scores[at], rows[at] = score, row


@njit(cache=True)
def _offer(
    scores: F32, rows: I32, size: int, k: int, floor: F32, floor_row: I32, score: float, row: int
) -> int:
    """Keep an entry unless it cannot be among the best ``k``; return how many are kept.

    ``floor[0]`` and ``floor_row[0]`` are the k-th best entry when the buffer was last full. NaN is refused.
    """
    if not _better(score, row, floor[0], floor_row[0]):
        return size
    scores[size], rows[size] = score, row
    size += 1
    if size < len(scores):
        return size
    _select(scores, rows, size, k)
    floor[0], floor_row[0] = scores[0], rows[0]
    for i in range(1, k):
        if _better(floor[0], floor_row[0], scores[i], rows[i]):
            floor[0], floor_row[0] = scores[i], rows[i]
    return k


@njit(cache=True)
def _offer_boosted(
    queries: F32, b: int, vectors: F32, bias: F32, extra: F32, eligible: U64, boosts: Boosts, scores: F32,
    rows: I32, k: int, floor: F32, floor_row: I32,
) -> int:  # fmt: skip
    """Offer a user's eligible boosted ads and strike them from ``eligible``; return how many are kept."""
    size, width = 0, queries.shape[1]
    for i in range(boosts.begin[b], boosts.begin[b + 1]):
        a = int(boosts.ad[i])
        bit = np.uint64(1) << np.uint64(a % TILE)
        if eligible[a // TILE] & bit:
            eligible[a // TILE] &= ~bit
            score = dot(queries, b * width, vectors, a * width, width) + (bias[a] + extra[a])
            size = _offer(scores, rows, size, k, floor, floor_row, score + boosts.added[i], a)
    return size


@njit(cache=True)
def _scan(
    queries: F32, vectors: F32, bias: F32, codes: I8, offset: I32, scale: F32, error: F64, norm: F64,
    extra: F32, bias_row: I64, eligible: U64, boosts: Boosts, best_rows: I32, best_scores: F32,
) -> None:  # fmt: skip
    """Write the sorted top K of each query `[B, Dp]` into ``best_rows`` and ``best_scores`` `[B, K]`."""
    (batch, width), k = queries.shape, best_rows.shape[1]
    scores, rows = np.zeros((batch, 2 * k + 8), np.float32), np.zeros((batch, 2 * k + 8), np.int32)
    floor, floor_row = np.full((batch, 1), -np.inf, np.float32), np.full((batch, 1), _NO_ROW, np.int32)
    user_codes = np.zeros((batch, width), np.uint8)
    user_bound = np.zeros((batch, 4), np.float64)  # t, |t p|, |du|, |u|
    size = np.zeros(batch, np.int64)
    left = eligible.copy()
    for b in range(batch):
        user_bound[b] = _quantise(queries[b], user_codes[b])
        size[b] = _offer_boosted(
            queries, b, vectors, bias, extra[bias_row[b]], left[b], boosts, scores[b], rows[b], k,
            floor[b], floor_row[b],
        )  # fmt: skip
    for first in range(0, left.shape[1], _TILES_AT_ONCE):
        last = min(first + _TILES_AT_ONCE, left.shape[1])
        for b in range(batch):
            t, coded, du, length = user_bound[b]
            extra_at = bias_row[b] * extra.shape[1]
            for n in range(first, last):
                if left[b, n] == 0:
                    continue
                limit = np.float32(-np.inf)
                if floor[b, 0] > limit:
                    limit = np.float32(_limit(floor[b, 0], coded, du, length, error[n], norm[n], width))
                hits = left[b, n] & tile_hits(
                    codes, n * width * TILE, width // 4, user_codes, b * width, offset, scale, bias,
                    extra, extra_at + n * TILE, n * TILE, np.float32(t), limit,
                )  # fmt: skip
                while hits != 0:
                    a = n * TILE + lowest_bit(hits)
                    hits &= hits - np.uint64(1)
                    exact = dot(queries, b * width, vectors, a * width, width)
                    score = exact + (bias[a] + extra[bias_row[b], a])
                    size[b] = _offer(scores[b], rows[b], size[b], k, floor[b], floor_row[b], score, a)
    for b in range(batch):
        found = min(k, size[b])
        _select(scores[b], rows[b], size[b], found)
        _sort(scores[b], rows[b], found)
        best_scores[b, :found], best_rows[b, :found] = scores[b, :found], rows[b, :found]
