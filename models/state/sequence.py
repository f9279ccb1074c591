"""The user's recent sequence: which events the Transformer reads, and the ring they are kept in.

Legend: U users, L events kept per user, N events to append.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.events import KINDS, EventKind

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

IN_SEQUENCE: frozenset[EventKind] = frozenset(("click", "dwell", "view", "swipe", "hide", "conversion"))
"""What the user did. Requests and impressions are what was done to them: they are in the windows."""

KIND_CODE = {kind: code for code, kind in enumerate(KINDS)}


@njit(cache=True)
def append(
    ring_ad: U64,
    ring_category: U64,
    ring_kind: U8,
    ring_dwell: I32,
    ring_time: I64,
    count: I64,
    rows: I64,
    ad: U64,
    category: U64,
    kind: U8,
    dwell: I32,
    time: I64,
) -> None:
    """Append events `[N]`, in order, to the rings `[U, L]` of their users."""
    length = ring_ad.shape[1]
    for n in range(len(rows)):
        row = rows[n]
        place = count[row] % length
        ring_ad[row, place] = ad[n]
        ring_category[row, place] = category[n]
        ring_kind[row, place] = kind[n]
        ring_dwell[row, place] = dwell[n]
        ring_time[row, place] = time[n]
        count[row] += 1
