"""From stable 64-bit keys to the rows of a catalogue, for kernels.

Legend: N keys, A ads, W words of a bitset.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class KeyIndex(NamedTuple):
    """Rows of each key: those of ``keys[n]`` are ``rows[start[n]:start[n + 1]]``."""

    keys: U64
    """`[N]` ascending."""
    start: I64
    """`[N + 1]`"""
    rows: I64
    """`[A]` or fewer."""


def index_keys(keys: U64, code: I32 | None = None) -> KeyIndex:
    """Index rows by key.

    Parameters
    ----------
    keys
        `[N]` distinct keys.
    code
        `[A]` which key each row has, -1 for none; without it row n has ``keys[n]``.

    """
    order = np.argsort(keys, kind="stable")
    if code is None:
        return KeyIndex(keys[order], np.arange(len(keys) + 1), order)
    place = np.empty(len(keys), np.int64)
    place[order] = np.arange(len(keys))
    rows = np.flatnonzero(code >= 0)
    of_row = place[code[rows]]
    start = np.zeros(len(keys) + 1, np.int64)
    np.cumsum(np.bincount(of_row, minlength=len(keys)), out=start[1:])
    return KeyIndex(keys[order], start, rows[np.argsort(of_row, kind="stable")])


def rows_of(index: KeyIndex, key: int) -> I64:
    """Return the rows of a key, ascending; none for a key that is not there."""
    n = int(np.searchsorted(index.keys, np.uint64(key)))
    if n == len(index.keys) or index.keys[n] != np.uint64(key):
        return np.zeros(0, np.int64)
    return index.rows[index.start[n] : index.start[n + 1]]


@njit(cache=True)
def remove_key(words: U64, index: KeyIndex, key: np.uint64) -> int:
    """Clear the bits of a key's rows in ``words`` `[W]`, in place; return how many were set."""
    n = np.searchsorted(index.keys, key)
    removed = 0
    if n < index.keys.shape[0] and index.keys[n] == key:
        for at in range(index.start[n], index.start[n + 1]):
            row = index.rows[at]
            bit = np.uint64(1) << np.uint64(row & 63)
            if words[row >> 6] & bit:
                words[row >> 6] ^= bit
                removed += 1
    return removed
