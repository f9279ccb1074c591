"""The traffic plan: which share of a day's impressions each minute brings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from models.domain.errors import SettingError

from .wave import foretold

MINUTES = 1_440
"""Minutes of a day."""
BUCKETS = 96
"""Quarters of an hour of a day."""

_PER_BUCKET = MINUTES // BUCKETS
_BUCKET_MS = _PER_BUCKET * 60_000
_LEAST_LEARN = 1.0 / 3.0
_FLAT = 0.1


class TrafficPlan(msgspec.Struct):
    """Weights of the quarters of a day: a moving average of the days seen whole.

    The first such day gives the weights, the second counts half, every later one a third. Until then they
    are known (`of`), or flat and foretold anew from every quarter that ends (`wave`). A tenth stays flat,
    so no minute is planned away for good.
    """

    weights: list[float] = msgspec.field(default_factory=lambda: [1.0 / BUCKETS] * BUCKETS)
    counts: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)
    whole_day: bool = False
    """The day being counted was seen from its start."""
    days: int = 0
    """Days learned from."""
    known: bool = False
    """The weights were given: no need to foretell a first day."""
    seen: list[int | None] = msgspec.field(default_factory=lambda: [None] * BUCKETS)
    """Counts of the last 24 hours' quarters that were seen whole, until a day was."""
    since: int = 0
    """Quarter that the count begins with."""

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
        return cls(weights=_partly_flat([weights[n // each] for n in range(BUCKETS)]), known=True)

    def start(self, time_ms: int) -> None:
        """Begin to count at this event time; a day counts as whole from its first quarter of an hour on."""
        self.since = -(-time_ms // _BUCKET_MS)
        self.whole_day = time_ms // _BUCKET_MS % BUCKETS == 0

    def count(self, time_ms: int, impressions: int) -> None:
        """Count impressions at an event time."""
        self.counts[time_ms // _BUCKET_MS % BUCKETS] += impressions

    def close_minute(self, minute: int) -> None:
        """Close a minute since the epoch; where it ends a quarter, foretell the rest of a first day."""
        quarter, into = divmod(minute, _PER_BUCKET)
        if self.days or self.known or into < _PER_BUCKET - 1 or quarter < self.since:
            return
        place = quarter % BUCKETS
        self.seen[place] = self.counts[place]
        self.weights = _partly_flat(foretold(self.seen).tolist())

    def close_day(self) -> None:
        """Learn from the day that ends, if it was seen whole and brought anything."""
        total = sum(self.counts)
        if self.whole_day and total:
            self.days += 1
            learn = max(1.0 / self.days, _LEAST_LEARN)
            for n, share in enumerate(_partly_flat(self.counts)):
                self.weights[n] = (1.0 - learn) * self.weights[n] + learn * share
        self.counts = [0] * BUCKETS
        self.whole_day = True

    def share_of_rest(self, minute: int) -> float:
        """Return this minute's share of the traffic from its start to the end of the day."""
        bucket, into = divmod(minute, _PER_BUCKET)
        own = self.weights[bucket] / _PER_BUCKET
        rest = own * (_PER_BUCKET - into) + sum(self.weights[bucket + 1 :])
        return own / rest


def _partly_flat(weights: Sequence[float]) -> list[float]:
    """Return the shares of these weights, a tenth of them spread evenly."""
    total = sum(weights)
    return [_FLAT / len(weights) + (1.0 - _FLAT) * weight / total for weight in weights]
