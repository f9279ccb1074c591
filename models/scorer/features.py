"""An event or ad as rows of the network's tables; training and serving both call these.

Integers only, so the rows are the same everywhere. The scalar functions are compiled by numba and may
be called from other kernels; the array functions run them over arrays.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.ids import NO_KEY

DWELL_UNIT_MS = 256
GAP_UNIT_MS = 1024
NO_TIME = -1
"""Time of the event before a user's first one."""

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@njit(cache=True)
def log2_bucket(units: int, buckets: int) -> int:
    """Return 1 + the bit length of ``units`` (0 counts as no bits), at most ``buckets - 1``."""
    bucket = 1
    while units > 0:
        units >>= 1
        bucket += 1
    return bucket if bucket < buckets else buckets - 1


@njit(cache=True)
def dwell_bucket(dwell_ms: int, buckets: int) -> int:
    """Return the row of a dwell: 0 for none, then powers of two of a quarter of a second."""
    return 0 if dwell_ms <= 0 else log2_bucket(dwell_ms // DWELL_UNIT_MS, buckets)


@njit(cache=True)
def gap_bucket(time_ms: int, previous_ms: int, buckets: int) -> int:
    """Return the row of the time since the event before: 0 for a first event, then powers of two of a second.

    Time that runs backwards (a late event) counts as no gap.
    """
    if previous_ms == NO_TIME:
        return 0
    return log2_bucket(max(time_ms - previous_ms, 0) // GAP_UNIT_MS, buckets)


@njit(cache=True)
def category_bucket(category_key: int, buckets: int) -> int:
    """Return the row of a category: 0 for none, else its key modulo the others."""
    key = np.uint64(category_key)
    if key == np.uint64(NO_KEY):
        return 0
    return int(key % np.uint64(buckets - 1)) + 1


@njit(cache=True)
def vocabulary_row(sorted_keys: U64, key: int) -> int:
    """Return the table row of an ad: 1 + its place in the sorted keys, 0 where it is unknown."""
    low, high, wanted = 0, len(sorted_keys), np.uint64(key)
    while low < high:
        middle = (low + high) >> 1
        if sorted_keys[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    found = low < len(sorted_keys) and sorted_keys[low] == wanted
    return low + 1 if found else 0


def vocabulary_rows(sorted_keys: U64, keys: U64) -> I64:
    """Return `vocabulary_row` of each of ``keys``, any shape."""
    if len(sorted_keys) == 0:
        return np.zeros(keys.shape, np.int64)
    place = np.searchsorted(sorted_keys, keys)
    found = sorted_keys[np.minimum(place, len(sorted_keys) - 1)] == keys
    return np.where(found, place + 1, 0).astype(np.int64)


@njit(cache=True)
def event_rows(
    category_key: U64, dwell_ms: I64, time_ms: I64, first: I64, categories: int, dwells: int, gaps: int
) -> tuple[I64, I64, I64]:
    """Return category, dwell and gap rows, each `[N]`, of users' events laid end to end.

    ``first`` `[U]` is the place of each user's first event, ascending.
    """
    n = len(time_ms)
    category, dwell, gap = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    user = 0
    for i in range(n):
        while user < len(first) and first[user] < i:
            user += 1
        is_first = user < len(first) and first[user] == i
        category[i] = category_bucket(category_key[i], categories)
        dwell[i] = dwell_bucket(dwell_ms[i], dwells)
        gap[i] = gap_bucket(time_ms[i], NO_TIME if is_first else time_ms[i - 1], gaps)
    return category, dwell, gap


@njit(cache=True)
def wait_rows(asked_ms: I64, last_ms: I64, gaps: int) -> I64:
    """Return `gap_bucket` of each request, `[N]`, after a last event; ``last_ms`` is NO_TIME without one."""
    rows = np.zeros(len(asked_ms), np.int64)
    for i in range(len(asked_ms)):
        rows[i] = gap_bucket(asked_ms[i], last_ms[i], gaps)
    return rows


@njit(cache=True)
def category_rows(category_key: U64, categories: int) -> I64:
    """Return `category_bucket` of each key, `[A]`."""
    rows = np.zeros(len(category_key), np.int64)
    for i in range(len(category_key)):
        rows[i] = category_bucket(category_key[i], categories)
    return rows
