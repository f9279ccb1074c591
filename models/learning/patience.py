"""When an impression counts as unanswered: after the mean delay of clicks, not after the whole window.

Learned at once, negatives run ahead of their clicks and the learner chases its own echo; learned when
the attribution window ends, they trail a minute behind and it overshoots at every change. With the same
mean delay, negatives and clicks of one cohort balance at every moment, whatever the rate does, and
clicks need no look-up: each is a correction of +1, before or after its 0.

What waits goes by the time of its decision, not in the order in which it came: partitions of outcomes are
read one ahead of the other, and an impression of one that lags must not wait for the clock to pass those
that came before it while its clicks are learned.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

import msgspec

from models.domain.decision import Outcome

_LONGEST_MS = 60_000.0
_FIRST_GUESS_MS = 3_000.0
_FIRST_WEIGHT = 10.0
_MEMORY = 1000.0


class Patience:
    """Impressions that wait for the mean delay of clicks, at most ``capacity`` of them."""

    def __init__(self, capacity: int = 100_000) -> None:
        self.mean_delay_ms = _FIRST_GUESS_MS
        self._capacity = capacity
        self._clicks = _FIRST_WEIGHT
        self._came = 0
        self._waiting: list[tuple[int, int, Outcome]] = []
        """A heap by the decision's time, then by when it came."""

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, impression: Outcome) -> None:
        """Let an impression wait for its click."""
        heappush(self._waiting, (impression.decision_time, self._came, impression))
        self._came += 1

    def note_click(self, delay_ms: int) -> None:
        """Take the delay of one click after its decision into the mean."""
        self._clicks = min(self._clicks + 1.0, _MEMORY)
        self.mean_delay_ms += (
            min(max(float(delay_ms), 0.0), _LONGEST_MS) - self.mean_delay_ms
        ) / self._clicks

    def due(self, now_ms: int) -> list[Outcome]:
        """Return, in order, the impressions that have waited long enough or are too many."""
        out = []
        while self._waiting and (
            len(self._waiting) > self._capacity or self._waiting[0][0] + self.mean_delay_ms <= now_ms
        ):
            out.append(heappop(self._waiting)[2])
        return out

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        waiting = [impression for _, _, impression in sorted(self._waiting, key=lambda one: one[:2])]
        return [self.mean_delay_ms, self._clicks, msgspec.msgpack.encode(waiting)]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        self.mean_delay_ms, self._clicks, packed = values
        waiting = msgspec.msgpack.decode(packed, type=list[Outcome])
        self._came = len(waiting)
        self._waiting = [(impression.decision_time, n, impression) for n, impression in enumerate(waiting)]
        heapify(self._waiting)
