"""How slots are looked at: what is in force, what is counted meanwhile, and when it is told anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.domain.decision import Outcome

from .patience import Due
from .position import F64, PositionBias, examination_of, examination_shift
from .sample import adjusted_logit

TOLERANCE = 0.02


class Examination:
    """The log examination of slots 0.. by which labels are learned, and the counts that move it."""

    def __init__(self, least_labels: int) -> None:
        self._least_labels = least_labels
        self._counts = PositionBias(least_labels)
        self._logits: tuple[float, ...] = ()
        self._again = False

    def begin(self, shown: F64, clicks: F64) -> None:
        """Take in what the first model's log told: impressions and clicks `[S, B]` by slot and stratum."""
        if self._counts.begin(shown, clicks) and not self._logits:
            self._take(self._counts.logits())

    def look(self, due: Due) -> None:
        """Find what slots are worth before first labels are learned: else ads pay for where they stood."""
        if self._logits or len(due.labels) < self._least_labels:
            return
        first = PositionBias(self._least_labels)
        for one, label in due.labels:
            first.learn(one.slot, adjusted_logit(one), label, one.event_time)
        for click in due.clicks:
            first.correct(click.slot, adjusted_logit(click))
        self._take(first.logits())

    def _take(self, logits: tuple[float, ...]) -> None:
        self._logits, self._again = logits, True

    def learn(self, outcome: Outcome, label: float) -> None:
        """Count a fresh label."""
        self._counts.learn(outcome.slot, adjusted_logit(outcome), label, outcome.event_time)

    def correct(self, outcome: Outcome) -> None:
        """Count the click of an impression that was, or will be, learned as unanswered."""
        self._counts.correct(outcome.slot, adjusted_logit(outcome))

    def of(self, slot: int) -> float:
        """Return the examination of a slot, at most 1."""
        return min(math.exp(examination_of(self._logits, slot)), 1.0)

    def shift(self, slot: int, logit: float) -> float:
        """Return what turns the logit of an examined click into that of a click in this slot."""
        return examination_shift(logit, examination_of(self._logits, slot))

    def changed(self) -> tuple[float, ...] | None:
        """Return what is in force from now on, None while it is what was told last."""
        logits, old = self._counts.logits(), self._logits
        same = len(logits) == len(old) and np.allclose(logits, old, rtol=0.0, atol=TOLERANCE)
        if (same and not self._again) or not logits:
            return None
        self._logits, self._again = logits, False
        return logits

    def announce_again(self) -> None:
        """Let `changed` tell what is in force once more."""
        self._again = True

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        return [self._counts.values(), self._logits, self._again]

    def restore(self, values: Sequence[Any]) -> None:
        """Take the state of `values`."""
        counts, logits, self._again = values
        self._counts.restore(counts)
        self._logits = tuple(logits)
