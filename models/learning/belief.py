r"""A Gaussian belief in one number that shifts what an ad's click logit says, learned from clicks.

With p = e \sigma(z) the probability of a click on an ad of logit z in a slot of examination e, and x the
derivative of z in the number, a label y moves the belief N(m, v) by one step of assumed-density filtering::

    v <- 1 / (1 / v + p / (1 - p) (1 - \sigma(z))^2 x^2),    m <- m + v (y - p) / (1 - p) (1 - \sigma(z)) x.

Between labels it returns to its prior as the weights do (`bayes`).
"""

from __future__ import annotations

import math
from typing import Any

from .bayes import sigmoid


class Belief:
    """Prior N(``mean``, ``sd``^2), returned to with ``time_constant_s``; the mean is held in ``bounds``."""

    def __init__(self, mean: float, sd: float, time_constant_s: float, bounds: tuple[float, float]) -> None:
        self.mean, self.variance = mean, sd**2
        self._prior = (mean, sd**2)
        self._constant_ms, self._bounds = 1000.0 * time_constant_s, bounds
        self._time_ms: int | None = None

    def fade(self, time_ms: int) -> float:
        """Let time pass, and return how much is left of what was known."""
        last = time_ms if self._time_ms is None else self._time_ms
        self._time_ms = max(time_ms, last)
        if self._time_ms == last:
            return 1.0
        fade = math.exp(-(self._time_ms - last) / self._constant_ms)
        mean, variance = self._prior
        self.mean = mean + (self.mean - mean) * fade
        self.variance = variance + (self.variance - variance) * fade**2
        return fade

    def learn(self, logit: float, examination: float, x: float, label: float) -> None:
        """Learn a label of an ad of this logit, as it is by the mean."""
        p, steep = _click(logit, examination)
        self.variance = 1.0 / (1.0 / self.variance + p * (steep * x) ** 2 / (1.0 - p))
        self._move((label - p) * steep * x / (1.0 - p))

    def correct(self, logit: float, examination: float, x: float) -> None:
        """Turn a label 0 that was learned into 1."""
        p, steep = _click(logit, examination)
        self._move(steep * x / (1.0 - p))

    def _move(self, gradient: float) -> None:
        least, most = self._bounds
        self.mean = min(max(self.mean + self.variance * gradient, least), most)

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        return [self.mean, self.variance, self._time_ms]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        self.mean, self.variance, self._time_ms = values


def _click(logit: float, examination: float) -> tuple[float, float]:
    """Return P(click) and 1 - sigma(z), the derivative of its logarithm in z."""
    seen = sigmoid(logit)
    return min(examination * seen, 1.0 - 1e-9), 1.0 - seen
