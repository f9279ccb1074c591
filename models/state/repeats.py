"""Outcomes that were written again after a crash, told apart from new ones.

A flow that is killed writes what came after its last snapshot once more, to the byte and under the same
ids. Whoever sums outcomes up must count them once, in bounded memory: so the last ones are remembered, by a
64-bit key each. Two different outcomes among 262,144 share a key with probability 2e-9.
"""

from __future__ import annotations

import numpy as np

from models.domain.decision import Outcome
from models.domain.ids import key64

from .seen import LastKeys

REMEMBERED = 1 << 18
"""A minute at 4,000 outcomes a second; what a crash repeats is what one epoch brought."""


def outcome_identity(outcome: Outcome) -> str:
    """Return what an outcome and its repetition have in common, and no other outcome."""
    return f"{outcome.decision_id}|{outcome.slot}|{outcome.kind}|{outcome.event_id}"


class Repeats:
    """The keys of the last ``capacity`` outcomes, in the order in which they came first."""

    def __init__(self, capacity: int = REMEMBERED) -> None:
        self._last: LastKeys[int] = LastKeys(capacity)

    def __len__(self) -> int:
        return len(self._last)

    def first_time(self, outcome: Outcome) -> bool:
        """Remember an outcome; say whether it was not among the remembered ones."""
        return self._last.add(key64(outcome_identity(outcome)))

    def dump(self) -> bytes:
        """Return the keys, oldest first: eight bytes each."""
        return np.array(self._last.keys(), "<u8").tobytes()

    def load(self, data: bytes) -> None:
        """Take over what `dump` returned."""
        self._last.replace(np.frombuffer(data, "<u8").tolist())
