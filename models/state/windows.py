"""Sliding windows of a user's behaviour in event time, as ring buckets in arrays.

A window of length w is kept as n buckets of w/n. A bucket remembers which interval of time it holds
(its stamp), so nothing has to be expired: an old bucket is ignored when read and overwritten when its
place is needed. A window read at time t covers the current bucket and the n-1 before it, that is
between w - w/n and w of the past. An event older than the bucket that took its place is dropped from
that window only.

Legend: U users, G buckets of all windows together, M measures, W windows (the last is the session).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

MEASURES = ("clicks", "impressions", "dwell_s", "conversions")
CLICKS, IMPRESSIONS, DWELL_S, CONVERSIONS = range(4)


class Window(NamedTuple):
    """One window: its name, the width of a bucket and how many there are."""

    name: str
    bucket_ms: int
    buckets: int


WINDOWS = (
    Window("1m", 10_000, 6),
    Window("5m", 30_000, 10),
    Window("1h", 300_000, 12),
    Window("24h", 3_600_000, 24),
)
SESSION_GAP_MS = 30 * 60_000
NAMES = (*(window.name for window in WINDOWS), "session")

_BUCKET_MS = np.array([w.bucket_ms for w in WINDOWS], np.int64)
_BUCKETS = np.array([w.buckets for w in WINDOWS], np.int64)
_FIRST = np.concatenate(([0], np.cumsum(_BUCKETS)))[:-1].astype(np.int64)
_ALL_BUCKETS = int(_BUCKETS.sum())


@dataclass(frozen=True, eq=False)
class WindowTable:
    """The windows of all users of a shard."""

    value: F32
    """`[U, G, M]` sum of each measure in each bucket."""
    stamp: I64
    """`[U, G]` which interval of time the bucket holds (time // bucket width)."""
    session: F32
    """`[U, M]` sums since the session began."""
    session_last_ms: I64
    """`[U]` time of the session's last event."""

    @classmethod
    def empty(cls, users: int) -> WindowTable:
        """Return the windows of `users` users without events."""
        return cls(
            value=np.zeros((users, _ALL_BUCKETS, len(MEASURES)), np.float32),
            stamp=np.full((users, _ALL_BUCKETS), -1, np.int64),
            session=np.zeros((users, len(MEASURES)), np.float32),
            session_last_ms=np.full(users, -1, np.int64),
        )

    def add(self, rows: I64, time_ms: I64, measure: I64, amount: F32) -> None:
        """Count amounts `[N]` of measures (-1: the event only keeps the session alive), in order."""
        _add_all(
            self.value, self.stamp, self.session, self.session_last_ms,
            _BUCKET_MS, _BUCKETS, _FIRST, rows, time_ms, measure, amount,
        )  # fmt: skip

    def read(self, rows: I64, time_ms: I64) -> F32:
        """Return the sums `[B, W, M]` of these users as of these times `[B]`."""
        return _read(
            self.value, self.stamp, self.session, self.session_last_ms,
            _BUCKET_MS, _BUCKETS, _FIRST, rows, time_ms,
        )  # fmt: skip


@njit(cache=True)
def _add(
    value: F32,
    stamp: I64,
    session: F32,
    session_last: I64,
    widths: I64,
    counts: I64,
    first: I64,
    row: int,
    time: int,
    measure: int,
    amount: float,
) -> None:
    if time - session_last[row] > SESSION_GAP_MS:
        session[row, :] = 0.0
    session_last[row] = max(session_last[row], time)
    if measure < 0:
        return
    session[row, measure] += np.float32(amount)
    for w in range(len(widths)):
        interval = time // widths[w]
        place = first[w] + interval % counts[w]
        if stamp[row, place] > interval:
            continue
        if stamp[row, place] < interval:
            stamp[row, place] = interval
            value[row, place, :] = 0.0
        value[row, place, measure] += np.float32(amount)


@njit(cache=True)
def _add_all(
    value: F32,
    stamp: I64,
    session: F32,
    session_last: I64,
    widths: I64,
    counts: I64,
    first: I64,
    rows: I64,
    times: I64,
    measures: I64,
    amounts: F32,
) -> None:
    for n in range(len(rows)):
        _add(
            value, stamp, session, session_last, widths, counts, first,
            rows[n], times[n], measures[n], amounts[n],
        )  # fmt: skip


@njit(cache=True)
def _read(
    value: F32,
    stamp: I64,
    session: F32,
    session_last: I64,
    widths: I64,
    counts: I64,
    first: I64,
    rows: I64,
    times: I64,
) -> F32:
    windows = len(widths)
    out = np.zeros((len(rows), windows + 1, value.shape[2]), np.float32)
    for b in range(len(rows)):
        row, time = rows[b], times[b]
        for w in range(windows):
            now = time // widths[w]
            for place in range(first[w], first[w] + counts[w]):
                if now - counts[w] < stamp[row, place] <= now:
                    for m in range(value.shape[2]):
                        out[b, w, m] += value[row, place, m]
        if 0 <= time - session_last[row] <= SESSION_GAP_MS or session_last[row] > time:
            out[b, windows, :] = session[row, :]
    return out
