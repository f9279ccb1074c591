"""How long after its impression a click comes: the law of the delays, read off clicks as they arrive.

The law is a histogram over bins that grow by a factor, so it takes any shape; it fades with the number of
clicks. A stream has a beginning: a click that comes c after the first decision heard of can have waited no
longer than c, so it says how delays up to c are spread, and of longer ones nothing. With F the share of the
law up to c, each click is a step of EM for truncated observations (Turnbull, JRSS B '76)::

    law <- law + (F [its bin] + law beyond c - law) / n.

Without that the first seconds would know short delays alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

LONGEST_MS = 60_000.0
"""Longer delays count as this long."""
_SHORTEST_MS = 50.0
_BINS = 65
_GUESS_MS = 3_000.0
_GUESS_WEIGHT = 10.0
_MEMORY = 1000.0

_EDGES = np.append(0.0, np.geomspace(_SHORTEST_MS, LONGEST_MS, _BINS))  # [_BINS + 1]
_LOW, _WIDTH = _EDGES[:-1], np.diff(_EDGES)
_BORDERS: list[float] = _EDGES.tolist()


def _exponential(mean_ms: float) -> F64:
    """Return the exponential law by bins; the last bin holds what is longer, too."""
    beyond = np.append(np.exp(-_LOW / mean_ms), 0.0)
    return beyond[:-1] - beyond[1:]


class ClickDelays:
    """The law of clicks' delays; an exponential one of three seconds until clicks say otherwise."""

    def __init__(self) -> None:
        self._law = _exponential(_GUESS_MS)
        self._clicks = _GUESS_WEIGHT
        self._shares: list[float] = []

    @property
    def mean_ms(self) -> float:
        """The mean delay, milliseconds."""
        return float(self._law @ (_LOW + _WIDTH / 2))

    def learn(self, delay_ms: float, longest_ms: float) -> None:
        """Take the delay of a click that could have been ``longest_ms`` at most."""
        self._clicks = min(self._clicks + 1.0, _MEMORY)
        place = min(max(bisect_right(_BORDERS, delay_ms) - 1, 0), _BINS - 1)
        share = 1.0 / self._clicks
        if longest_ms < LONGEST_MS:
            within = self._law * np.clip((longest_ms - _LOW) / _WIDTH, 0.0, 1.0)
            share *= float(within.sum())
            self._law -= within / self._clicks
        else:
            self._law *= 1.0 - share
        self._law[place] += share
        self._shares = []

    def trust_at_most(self, clicks: float) -> None:
        """Let what was learned so far weigh no more than this many clicks."""
        self._clicks = min(self._clicks, clicks)

    def quantile(self, share: float) -> float:
        """Return the delay, milliseconds, that a ``share`` in 0..1 of the clicks do not exceed."""
        if not self._shares:
            self._shares = np.append(0.0, np.cumsum(self._law)).tolist()
        wanted = share * self._shares[-1]
        place = min(max(bisect_left(self._shares, wanted) - 1, 0), _BINS - 1)
        inside = (wanted - self._shares[place]) / max(self._shares[place + 1] - self._shares[place], 1e-300)
        return _BORDERS[place] + min(inside, 1.0) * (_BORDERS[place + 1] - _BORDERS[place])

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        return [self._clicks, self._law.tolist()]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        self._clicks, self._law, self._shares = values[0], np.array(values[1], np.float64), []
