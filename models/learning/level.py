r"""By how much the predictions that decisions were made by were off, on average.

Weights are learned against what is believed when a label comes. Decisions are made by what was believed
before, and they pick the ads that chance has just raised; by the time of the label others have put that
right. So every weight can be right on average and the predictions of decisions too high all the same, by one
to three percent here (the winner's curse, Capen, Clapp & Campbell '71). With z the logit by which an ad was
shown, without the level in it, and e the examination of its slot, the level l is learned from

    P(click) = e \sigma(z + l),

l ~ N(0, SD^2) beforehand, by assumed-density filtering like the slope beside it (`belief`). It goes out with
the weight of the bias. The prior is narrow, so that a shift of interests does not bend it. Decisions made by
anything but what was told of late say nothing: a learner that catches up with a log of hours learns from
predictions that lack all it knows by then.
"""

from __future__ import annotations

from typing import Any

from .belief import Belief

SD = 0.02
TIME_CONSTANT_S = 600.0
MOST = 0.5
TOLERANCE = 0.004
REMEMBERED = 128
"""Versions whose decisions it learns from, the latest; there is one a second at most."""


class Level:
    """Learns the level from labels in the order of the stream."""

    def __init__(self) -> None:
        self._belief = Belief(0.0, SD, TIME_CONSTANT_S, (-MOST, MOST))
        self._told: dict[int, float] = {}

    @property
    def mean(self) -> float:
        """The level that is believed."""
        return self._belief.mean

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
            self._belief.fade(time_ms)
            self._belief.learn(logit - held + self.mean, examination, 1.0, label)

    def correct(self, version: int, logit: float, examination: float) -> None:
        """Turn a label 0 that was learned into 1."""
        if (held := self._told.get(version)) is not None:
            self._belief.correct(logit - held + self.mean, examination, 1.0)

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        return [self._belief.values(), list(self._told.items())]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        belief, told = values
        self._belief.restore(belief)
        self._told = dict(told)
