"""Where the reading of one partition stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.domain.log import LogRecord


@dataclass
class Place:
    """Records taken in but not handed out, and the bounds of reading."""

    next_offset: int
    end: int
    low: int = 0
    """The first offset that the log still held at the start."""
    queue: list[LogRecord] = field(default_factory=list)
    reached: int = 0
    """Where the partition ended when it was last at its end: markers of transactions are no records."""
    stamp_ms: int | None = None
    """Timestamp of the last record handed out; a topic that was made anew has another one there."""

    def first(self) -> int:
        """Return where to read from: the record before, where it is there and has a stamp to be compared."""
        return self.next_offset - (self.stamp_ms is not None and self.next_offset > self.low)

    def hand_out(self) -> list[LogRecord]:
        """Return what was taken in, and move on behind it and whatever holds no record after it."""
        records, self.queue = self.queue, []
        if records:
            self.next_offset, self.stamp_ms = records[-1].offset + 1, records[-1].timestamp_ms
        self.next_offset = max(self.next_offset, self.reached)
        return records
