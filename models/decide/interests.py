"""What a shard's users look at on their own account, counted by segment and category until it is said.

An ad's clicks tell of the categories that are shown; views tell of all of them. Summed over the shards they
show within seconds that a segment's interests have moved (`models.learning.interest`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from models.domain.decision import Interest
from models.learning.weights import segment_category_key

EVERY_MS = 1000
"""Least event time between two records of a shard."""
_MOST_CELLS = 4096
_MOST_BYTES = 500_000
"""Bytes of all cells as JSON: requests bring segments of any 128 characters, and topics take a megabyte."""
_COUNT_BYTES = 7
"""What stands around a cell: a colon, five digits at most, and a comma."""
_MOST_LOOKS = 65_536


class Interests:
    """Counts of one shard; the segment of a user, by row, is that of their latest decision."""

    def __init__(self, shard: str) -> None:
        self._shard = shard
        self._segment: dict[int, str] = {}
        self._views: dict[str, int] = {}
        self._bytes = 0
        self._looks: set[tuple[int, str]] = set()
        self._period = -1

    def note(self, row: int, segment: str) -> None:
        """Note the segment in which a user was decided for."""
        self._segment[row] = segment

    def forget(self, row: int) -> None:
        """Forget whose row it was; what they looked at stays counted."""
        self._segment.pop(row, None)

    def look(self, row: int, category: str) -> None:
        """Count a view: once per user, category and record, so that nobody speaks for a segment alone.

        Not that of a user who was never decided for, and of 4,096 cells and 500,000 bytes of them at most.
        """
        segment = self._segment.get(row)
        if segment is None or len(self._looks) >= _MOST_LOOKS:
            return
        cell = segment_category_key(segment, category)
        if (row, cell) not in self._looks and (cell in self._views or self._begin(cell)):
            self._looks.add((row, cell))
            self._views[cell] += 1

    def _begin(self, cell: str) -> bool:
        """Begin to count a cell, where there is room for it."""
        size = _bytes_of(cell)
        if len(self._views) >= _MOST_CELLS or self._bytes + size > _MOST_BYTES:
            return False
        self._views[cell] = 0
        self._bytes += size
        return True

    def due(self, now_ms: int) -> Interest | None:
        """Return what was counted once the shard's clock enters another period, and count anew."""
        period = now_ms // EVERY_MS
        if period <= self._period:
            return None
        self._period = period
        if not self._views:
            return None
        views, self._views, self._looks, self._bytes = self._views, {}, set(), 0
        return Interest(shard=self._shard, event_time=period * EVERY_MS, views=views)

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        rows = sorted(self._segment)
        segments = [self._segment[row] for row in rows]
        return {
            "rows": rows,
            "segments": segments,
            "views": dict(self._views),
            "looks": sorted(self._looks),
            "period": self._period,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `dump` returned."""
        self._segment = dict(zip(state["rows"], state["segments"], strict=True))
        self._views, self._period = dict(state["views"]), state["period"]
        self._looks = {(row, cell) for row, cell in state["looks"]}
        self._bytes = sum(map(_bytes_of, self._views))


def _bytes_of(cell: str) -> int:
    return len(msgspec.json.encode(cell)) + _COUNT_BYTES
