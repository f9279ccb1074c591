"""When an impression counts as unanswered: after a delay drawn from the law of clicks' delays.

Learned at once, negatives run ahead of their clicks and the learner chases its own echo; learned when the
attribution window ends, they trail a minute behind and it overshoots at every change. Delayed as clicks are,
the negatives of a cohort come when its clicks come, so both balance at every moment, whatever the rate and
the traffic do. (After the mean delay, all at once, they balanced in steady traffic only: where traffic
jumped, clicks came three seconds ahead of the first negatives, and weights swung, one of them to +10.) The
law is learned (`click_delays`); the draw is a hash of the decision and the slot.

Clicks need no look-up: each is a correction of +1, before or after its 0.

A start is no such balance: the first clicks come before any negative, and the first delays that can be seen
are short. So for the first `WARM_UP` mean delays nothing is learned; then what has come is learned at once,
by the law that is known by then, each impression with the label that is.

The delay counts from the event time of the impression, not from when that was heard of: partitions of
outcomes are read one ahead of the other, and an impression of one that lags must not wait for the clock to
pass those that came before it while its clicks are learned. A click tells the time of its decision alone; how
long after it the impressions of a slot come is known on average. Counted from the decision, the clicks of
later slots would lag behind their negatives, and a start take those slots for less looked at than they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

import msgspec

from models.domain.decision import Outcome
from models.domain.ids import key64

from .click_delays import LONGEST_MS, ClickDelays

_GUESSED = 300.0
"""Clicks that what is known of delays weighs at most during the warm-up: much of it is a guess."""
_KEYS = 2.0**64


WARM_UP = 3.0
"""Mean delays after the first decision heard of; of an exponential law 5 % are longer."""
_GAP_MEMORY = 0.01
"""Weight of one impression in the mean time that those of a slot take."""


class Due(NamedTuple):
    """What is to be learned now, in order."""

    labels: Sequence[tuple[Outcome, float]]
    """Impressions with their labels: 0, and at the start 1 where the click is known already."""
    clicks: Sequence[Outcome]
    """At the start, clicks of impressions that are not yet due, or were never heard of."""


NOTHING_DUE = Due((), ())


def _shown(outcome: Outcome) -> tuple[str, int]:
    return outcome.decision_id, outcome.slot


def _draw(impression: Outcome) -> float:
    """Return a draw from 0..1."""
    return 1.0 - key64(f"{impression.decision_id}/{impression.slot}") / _KEYS


class Patience:
    """Impressions that wait for their clicks, at most ``capacity`` of them."""

    def __init__(self, capacity: int = 100_000) -> None:
        self.delays = ClickDelays()
        self._capacity = capacity
        self._first_ms: int | None = None
        """Time of the first decision heard of: a click's delay cannot have been longer than since then."""
        self._warm = False
        self._gap_ms: dict[int, float] = {}
        """Mean time from decision to impression, by slot."""
        self._early: dict[tuple[str, int], Outcome] = {}
        self._came = 0
        self._waiting: list[tuple[float, int, Outcome]] = []
        """A heap by when it is due, then by when it came."""

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, impression: Outcome) -> None:
        """Let an impression wait for its click."""
        self._hear(impression.decision_time)
        gap = min(max(float(impression.event_time - impression.decision_time), 0.0), LONGEST_MS)
        usual = self._gap_ms.setdefault(impression.slot, gap)
        self._gap_ms[impression.slot] = usual + _GAP_MEMORY * (gap - usual)
        heappush(self._waiting, (self._due_ms(impression), self._came, impression))
        self._came += 1

    def note_click(self, click: Outcome) -> None:
        """Take the delay of one click after its impression into their law."""
        since_ms = click.event_time - self._gap_ms.get(click.slot, 0.0)
        longest = max(since_ms - self._hear(click.decision_time), 1.0)
        self.delays.learn(since_ms - click.decision_time, longest)

    def _due_ms(self, impression: Outcome) -> float:
        return impression.event_time + self.delays.quantile(_draw(impression))

    def _hear(self, decision_ms: int) -> int:
        """Return the time of the first decision heard of, which may be this one."""
        self._first_ms = decision_ms if self._first_ms is None else min(self._first_ms, decision_ms)
        return self._first_ms

    def holds(self, click: Outcome) -> bool:
        """Keep a click that came before learning began; say whether it was kept."""
        if self._warm or len(self._early) >= self._capacity:
            return False
        self._early[_shown(click)] = click
        return True

    def due(self, now_ms: int) -> Due:
        """Return what is to be learned by now: impressions that waited long enough or are too many."""
        if not self._is_warm(now_ms):
            return NOTHING_DUE
        labels = []
        while self._waiting and (len(self._waiting) > self._capacity or self._waiting[0][0] <= now_ms):
            impression = heappop(self._waiting)[2]
            clicked = bool(self._early) and self._early.pop(_shown(impression), None) is not None
            labels.append((impression, 1.0 if clicked else 0.0))
        early, self._early = tuple(self._early.values()), {}
        return Due(labels, early)

    def _is_warm(self, now_ms: int) -> bool:
        if not self._warm and self._first_ms is not None:
            long_enough = now_ms >= self._first_ms + WARM_UP * self.delays.mean_ms
            self._warm = long_enough or len(self._waiting) > self._capacity
            self.delays.trust_at_most(_GUESSED)
            if self._warm:  # by what is known of delays now
                self._waiting = [(self._due_ms(one), came, one) for _, came, one in self._waiting]
                heapify(self._waiting)
        return self._warm

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        waiting = sorted(self._waiting, key=lambda one: one[:2])
        outcomes = msgspec.msgpack.encode([[one[2] for one in waiting], list(self._early.values())])
        due_ms = [one[0] for one in waiting]
        gaps = list(self._gap_ms.items())
        return [self.delays.values(), self._first_ms, self._warm, gaps, due_ms, outcomes]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        delays, self._first_ms, self._warm, gaps, due_ms, packed = values
        self.delays.restore(delays)
        self._gap_ms = dict(gaps)
        waiting, early = msgspec.msgpack.decode(packed, type=tuple[list[Outcome], list[Outcome]])
        self._early = {_shown(click): click for click in early}
        self._came = len(waiting)
        self._waiting = list(zip(due_ms, range(self._came), waiting, strict=True))  # sorted, so a heap
