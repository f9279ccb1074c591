"""Bitsets over the ads of a catalogue: bit ``a % 64`` of word ``a // 64`` belongs to row ``a``.

Legend: A ads, W = ceil(A / 64) words. Bits at and above A are zero.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Words = NDArray[np.uint64]


def words_for(ads: int) -> int:
    """Return W, the number of 64-bit words for this many ads."""
    return (ads + 63) // 64


def pack(flags: NDArray[np.bool_]) -> Words:
    """Return the bitset `[W]` of flags `[A]`."""
    padded = np.zeros(words_for(len(flags)) * 8, np.uint8)
    packed = np.packbits(flags, bitorder="little")
    padded[: len(packed)] = packed
    return padded.view("<u8").astype(np.uint64, copy=False)


def unpack(words: Words, ads: int) -> NDArray[np.bool_]:
    """Return the flags `[A]` of a bitset `[W]`."""
    bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), bitorder="little")
    return bits[:ads].astype(np.bool_)


def members(words: Words) -> NDArray[np.int64]:
    """Return the rows in a bitset, ascending."""
    return np.flatnonzero(unpack(words, len(words) * 64))


@njit(cache=True)
def popcount(words: Words) -> int:
    """Return how many bits are set."""
    total = 0
    for word in words:
        total += _ones(word)
    return total


@njit(cache=True)
def remove(words: Words, out_of: Words) -> int:
    """Clear in ``out_of`` the bits set in ``words``, in place; return how many that were."""
    total = 0
    for i in range(len(words)):
        both = out_of[i] & words[i]
        total += _ones(both)
        out_of[i] ^= both
    return total


@njit(cache=True, inline="always")
def _ones(word: np.uint64) -> int:
    """Return the number of ones in a word (SWAR, Hacker's Delight figure 5-2)."""
    one, two, four = np.uint64(1), np.uint64(2), np.uint64(4)
    word = word - ((word >> one) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> two) & np.uint64(0x3333333333333333))
    word = (word + (word >> four)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int((word * np.uint64(0x0101010101010101)) >> np.uint64(56))
