r"""How far predictions are to be trusted: a slope on the adjusted logit, learned in the stream.

Interests shift unannounced, and of many ads those come on top whose rates chance has raised; so high
predictions are too high and low ones too low on average, whatever each weight's posterior says. With z the
adjusted logit of a shown ad and e the examination of its slot,

    P(click) = e \sigma(c + s (z - c)),

where s (Cox's calibration slope, Biometrika '58) has the prior N(1, SD^2), is learned by assumed-density
filtering (`belief`), and returns to its prior with the time constant TIME_CONSTANT_S. It
moves no level, that is the bias's and `level`'s: c is the mean of all z weighed by p (1 - p), p = \sigma(z),
about which a small change of slope leaves the mean prediction as it is.
"""

from __future__ import annotations

from typing import Any

from .bayes import sigmoid
from .belief import Belief

SD = 0.05
TIME_CONSTANT_S = 3600.0
LEAST, MOST = 0.5, 1.5
_STEP, _LEAST_LABELS = 0.005, 500

Line = tuple[float, float]
"""Slope and centre."""


class CalibrationSlope:
    """Learns the slope from labels in the order of the stream."""

    def __init__(self) -> None:
        self._slope = Belief(1.0, SD, TIME_CONSTANT_S, (LEAST, MOST))
        self._labels, self._weight, self._sum = 0.0, 0.0, 0.0
        self._told: Line = (1.0, 0.0)
        self._again = False

    def learn(self, logit: float, examination: float, label: float, time_ms: int) -> None:
        """Learn one label of an ad with this adjusted logit, in a slot of this examination."""
        self._fade(time_ms)
        self._weigh(logit)
        x, scaled = self._at(logit)
        self._slope.learn(scaled, examination, x, label)

    def correct(self, logit: float, examination: float) -> None:
        """Turn a label 0 that was learned into 1."""
        x, scaled = self._at(logit)
        self._slope.correct(scaled, examination, x)

    def announce_again(self) -> None:
        """Let `changed` return slope and centre once more though they did not move."""
        self._again = True

    def changed(self) -> Line | None:
        """Return slope and centre where predictions would move by it since they were last returned."""
        again, self._again = self._again, False
        if self._labels < _LEAST_LABELS or self._weight <= 0.0:
            return self._told if again and self._told[0] != 1.0 else None
        centre = self._sum / self._weight
        slope = self._slope.mean
        moved = max(abs(slope - self._told[0]), abs((slope - 1.0) * (centre - self._told[1])))
        if moved < _STEP and not again:
            return None
        self._told = (round(slope, 4), round(centre, 4))
        return self._told

    def _fade(self, time_ms: int) -> None:
        fade = self._slope.fade(time_ms)
        self._labels *= fade
        self._weight *= fade
        self._sum *= fade

    def _weigh(self, logit: float) -> None:
        p = sigmoid(logit)
        weight = p * (1.0 - p)
        self._labels += 1.0
        self._weight += weight
        self._sum += weight * logit

    def _at(self, logit: float) -> tuple[float, float]:
        """Return the distance from the centre, and the logit that is scaled about it."""
        centre = self._sum / self._weight if self._weight else logit
        return logit - centre, centre + self._slope.mean * (logit - centre)

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        return [self._slope.values(), [self._labels, self._weight, self._sum], list(self._told)]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        belief, (self._labels, self._weight, self._sum), (slope, centre) = values
        self._slope.restore(belief)
        self._told = (slope, centre)
