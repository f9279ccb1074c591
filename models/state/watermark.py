"""The shard's clock: event time as the log tells it, guarded against clocks that run ahead."""

from __future__ import annotations

from enum import Enum


class Timeliness(Enum):
    """How an event's time stands to the clock of its shard."""

    ON_TIME = "on_time"
    LATE = "late"
    FUTURE = "future"


class Watermark:
    """The greatest event time seen, never ahead of the log's own timestamps.

    An event dated ahead of its record's ingest time moves the clock to the ingest time only, so one
    fast clock cannot make other users' events late.
    """

    def __init__(self, time_ms: int = 0) -> None:
        self.time_ms = time_ms

    def judge(self, event_time: int, ingest_time: int, lateness_ms: int, future_ms: int) -> Timeliness:
        """Classify an event before it moves the clock."""
        if event_time > ingest_time + future_ms:
            return Timeliness.FUTURE
        if event_time < self.time_ms - lateness_ms:
            return Timeliness.LATE
        return Timeliness.ON_TIME

    def advance(self, event_time: int, ingest_time: int) -> int:
        """Move the clock on by an accepted event and return it."""
        self.time_ms = max(self.time_ms, min(event_time, ingest_time))
        return self.time_ms
