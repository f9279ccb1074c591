"""The traffic plan: which share of a day's impressions each minute brings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from models.domain.errors import SettingError

MINUTES = 1_440
"""Minutes of a day."""
BUCKETS = 96
"""Quarters of an hour of a day."""

_PER_BUCKET = MINUTES // BUCKETS
_BUCKET_MS = _PER_BUCKET * 60_000
_LEAST_LEARN = 1.0 / 3.0
_FLAT = 0.1


class TrafficPlan(msgspec.Struct):
    """Weights of the quarters of a day: flat at first, then a moving average of the days seen whole.

    The first such day replaces the flat weights, the second counts half, every later one a third. A
    tenth of each stays flat, so no minute is planned away for good.
    """

    weights: list[float] = msgspec.field(default_factory=lambda: [1.0 / BUCKETS] * BUCKETS)
    counts: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)
    whole_day: bool = False
    """The day being counted was seen from its start."""
    days: int = 0
    """Days learned from."""

    @classmethod
    def of(cls, weights: Sequence[float]) -> TrafficPlan:
        """Return a plan that begins with known weights of equal parts of a day; flat for none.

        A tenth stays flat here too.

        Raises
        ------
        SettingError
            where their number does not divide 96, or one is negative or no number, or all are 0.

        """
        if not weights:
            return cls()
        total = sum(weights)
        sound = all(math.isfinite(w) and w >= 0 for w in weights) and total > 0
        if BUCKETS % len(weights) or not sound:
            raise SettingError.expected(
                "traffic plan", got=list(weights), expected="24 or 96 weights of 0 or more", fix="correct it"
            )
        each = BUCKETS // len(weights)
        shares = (weights[n // each] / each / total for n in range(BUCKETS))
        return cls(weights=[_FLAT / BUCKETS + (1.0 - _FLAT) * share for share in shares])

    def start(self, time_ms: int) -> None:
        """Begin to count at this event time; a day counts as whole from its first quarter of an hour on."""
        self.whole_day = time_ms // _BUCKET_MS % BUCKETS == 0

    def count(self, time_ms: int, impressions: int) -> None:
        """Count impressions at an event time."""
        self.counts[time_ms // _BUCKET_MS % BUCKETS] += impressions

    def close_day(self) -> None:
        """Learn from the day that ends, if it was seen whole and brought anything."""
        total = sum(self.counts)
        if self.whole_day and total:
            self.days += 1
            learn = max(1.0 / self.days, _LEAST_LEARN)
            for n, (weight, count) in enumerate(zip(self.weights, self.counts, strict=True)):
                shape = _FLAT / BUCKETS + (1.0 - _FLAT) * count / total
                self.weights[n] = (1.0 - learn) * weight + learn * shape
        self.counts = [0] * BUCKETS
        self.whole_day = True

    def share_of_rest(self, minute: int) -> float:
        """Return this minute's share of the traffic from its start to the end of the day."""
        bucket, into = divmod(minute, _PER_BUCKET)
        own = self.weights[bucket] / _PER_BUCKET
        rest = own * (_PER_BUCKET - into) + sum(self.weights[bucket + 1 :])
        return own / rest
