r"""By how much the predictions that decisions were made by were off, on average.

Weights are learned against what is believed when a label comes. Decisions are made by what was believed
before, and they pick the ads that chance has just raised; by the time of the label others have put that
right. So every weight can be right on average and the predictions of decisions too high all the same, by one
to three percent here (the winner's curse, Capen, Clapp & Campbell '71). With z the logit by which an ad was
shown, without the level in it, and e the examination of its slot, the level l is learned from

    P(click) = e \sigma(z + l),

l ~ N(0, SD^2) beforehand, by assumed-density filtering like the slope beside it (`slope`). It goes out with
the weight of the bias. The prior is narrow, so that a shift of interests does not bend it. Decisions made by
anything but what was told of late say nothing: a learner that catches up with a log of hours learns from
predictions that lack all it knows by then.
"""

from __future__ import annotations

import math
from typing import Any

from .bayes import sigmoid

SD = 0.02
TIME_CONSTANT_S = 600.0
MOST = 0.5
TOLERANCE = 0.004
REMEMBERED = 128
"""Versions whose decisions it learns from, the latest; there is one a second at most."""


class Level:
    """Learns the level from labels in the order of the stream; ``mean`` is what is believed."""

    def __init__(self) -> None:
        self.mean, self._variance = 0.0, SD**2
        self._time_ms: int | None = None
        self._told: dict[int, float] = {}

    @property
    def told(self) -> float:
        """The level that was told last."""
        return next(reversed(self._told.values()), 0.0)

    def due(self) -> bool:
        """Tell whether predictions would move by what has been learned since."""
        return abs(self.mean - self.told) > TOLERANCE

    def tell(self, version: int, level: float) -> None:
        """Note that decisions of this version carry this level."""
        self._told[version] = level
        if len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]

    def learn(self, version: int, logit: float, examination: float, label: float, time_ms: int) -> None:
        """Learn one label of an ad that was shown by this logit, in a slot of this examination."""
        if (held := self._told.get(version)) is not None:
            self._fade(time_ms)
            p, steep = self._at(logit - held, examination)
            self._variance = 1.0 / (1.0 / self._variance + p * steep * steep / (1.0 - p))
            self._move((label - p) * steep / (1.0 - p))

    def correct(self, version: int, logit: float, examination: float) -> None:
        """Turn a label 0 that was learned into 1."""
        if (held := self._told.get(version)) is not None:
            p, steep = self._at(logit - held, examination)
            self._move(steep / (1.0 - p))

    def _at(self, logit: float, examination: float) -> tuple[float, float]:
        """Return P(click) and the slope of its logarithm in the level."""
        seen = sigmoid(logit + self.mean)
        return min(examination * seen, 1.0 - 1e-9), 1.0 - seen

    def _fade(self, time_ms: int) -> None:
        last = time_ms if self._time_ms is None else self._time_ms
        self._time_ms = max(time_ms, last)
        fade = math.exp(-(self._time_ms - last) / 1000.0 / TIME_CONSTANT_S)
        self.mean *= fade
        self._variance = SD**2 + (self._variance - SD**2) * fade**2

    def _move(self, gradient: float) -> None:
        self.mean = min(max(self.mean + self._variance * gradient, -MOST), MOST)

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        return [self.mean, self._variance, self._time_ms, list(self._told.items())]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        self.mean, self._variance, self._time_ms, told = values
        self._told = dict(told)
