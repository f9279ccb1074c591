"""Random numbers that depend on what they are for, never on the order in which they are asked for.

Each draw is a hash of (seed, purpose, entity, time...), so two policies in the same world meet the
same users, requests and luck (common random numbers), and a run can be cut into any steps. The hash is
SplitMix64's finaliser (Steele, Lea, Flood, OOPSLA'14) folded over the parts.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

F64 = NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


def _finalise(h: NDArray[np.uint64]) -> NDArray[np.uint64]:
    h = (h ^ (h >> np.uint64(30))) * _M1
    h = (h ^ (h >> np.uint64(27))) * _M2
    return h ^ (h >> np.uint64(31))


def hashes(seed: int, purpose: str, *parts: ArrayLike) -> NDArray[np.uint64]:
    """Return one 64-bit hash per element of the broadcast integer `parts` (at least one-dimensional)."""
    start = np.array([(seed * 0x10001 + crc32(purpose.encode())) % 2**64], dtype=np.uint64)
    h = _finalise(start + _GOLDEN)
    for part in parts:
        h = _finalise((h ^ _as_u64(part)) + _GOLDEN)
    return h


def _as_u64(part: ArrayLike) -> NDArray[np.uint64]:
    values: NDArray[Any] = np.atleast_1d(np.asarray(part))
    return values if values.dtype == np.uint64 else values.astype(np.int64).astype(np.uint64)


def uniform(seed: int, purpose: str, *parts: ArrayLike) -> F64:
    """Return uniform numbers in (0, 1), one per element of the broadcast `parts`."""
    whole = (hashes(seed, purpose, *parts) >> np.uint64(11)).astype(np.float64)
    return (whole + 0.5) * 2.0**-53


def normal(seed: int, purpose: str, *parts: ArrayLike) -> F64:
    """Return standard normal numbers, one per element of the broadcast `parts`."""
    drawn: F64 = ndtri(uniform(seed, purpose, *parts))
    return drawn


def choice(cdf: F64, u: F64) -> NDArray[np.int64]:
    """Return the index that each uniform number in `u` picks from the cumulative weights `cdf`."""
    picked = np.searchsorted(cdf, u * cdf[-1], side="right")
    return np.minimum(picked, len(cdf) - 1)


def second_generator(seed: int, purpose: str, second: int) -> np.random.Generator:
    """Return the generator for everything of one purpose that happens in one second of the world."""
    key = hashes(seed, purpose, second)[0]
    return np.random.Generator(np.random.PCG64(int(key)))
