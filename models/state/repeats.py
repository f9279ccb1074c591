"""Outcomes that were written again after a crash, told apart from new ones.

A flow that is killed writes what came after its last snapshot once more, to the byte and under the same
ids. Whoever sums outcomes up must count them once, in bounded memory: so the last ones are remembered, by a
64-bit key each. Two different outcomes among 262,144 share a key with probability 2e-9.
"""

from __future__ import annotations

import numpy as np

from models.domain.decision import Outcome
from models.domain.ids import key64

REMEMBERED = 1 << 18
"""A minute at 4,000 outcomes a second; what a crash repeats is what one epoch brought."""


def outcome_identity(outcome: Outcome) -> str:
    """Return what an outcome and its repetition have in common, and no other outcome."""
    return f"{outcome.decision_id}|{outcome.slot}|{outcome.kind}|{outcome.event_id}"


class Repeats:
    """The keys of the last ``capacity`` outcomes, in the order in which they came first."""

    def __init__(self, capacity: int = REMEMBERED) -> None:
        self.capacity = capacity
        self._keys: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def first_time(self, outcome: Outcome) -> bool:
        """Remember an outcome; say whether it was not among the remembered ones."""
        key = key64(outcome_identity(outcome))
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > self.capacity:
            del self._keys[next(iter(self._keys))]
        return True

    def dump(self) -> bytes:
        """Return the keys, oldest first: eight bytes each."""
        return np.fromiter(self._keys, np.uint64, len(self._keys)).astype("<u8").tobytes()

    def load(self, data: bytes) -> None:
        """Take over what `dump` returned."""
        self._keys = dict.fromkeys(np.frombuffer(data, "<u8").tolist())
