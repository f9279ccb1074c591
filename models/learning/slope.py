r"""How far predictions are to be trusted: a slope on the adjusted logit, learned in the stream.

Interests shift unannounced, and of many ads those come on top whose rates chance has raised; so high
predictions are too high and low ones too low on average, whatever each weight's posterior says. With z the
adjusted logit of a shown ad and e the examination of its slot,

    P(click) = e \sigma(c + s (z - c)),

where s (Cox's calibration slope, Biometrika '58) has the prior N(1, SD^2), is learned by assumed-density
filtering like the weights (`bayes`), and returns to its prior with the time constant TIME_CONSTANT_S. It
moves no level, that is the bias's and `level`'s: c is the mean of all z weighed by p (1 - p), p = \sigma(z),
about which a small change of slope leaves the mean prediction as it is.
"""

from __future__ import annotations

import math

from .bayes import sigmoid

SD = 0.05
TIME_CONSTANT_S = 3600.0
LEAST, MOST = 0.5, 1.5
_STEP, _LEAST_LABELS = 0.005, 500

Line = tuple[float, float]
"""Slope and centre."""


class CalibrationSlope:
    """Learns the slope from labels in the order of the stream."""

    def __init__(self) -> None:
        self._mean, self._variance = 1.0, SD**2
        self._labels, self._weight, self._sum = 0.0, 0.0, 0.0
        self._time_ms: int | None = None
        self._told: Line = (1.0, 0.0)
        self._again = False

    def learn(self, logit: float, examination: float, label: float, time_ms: int) -> None:
        """Learn one label of an ad with this adjusted logit, in a slot of this examination."""
        self._fade(time_ms)
        self._weigh(logit)
        x, p, steep = self._at(logit, examination)
        lift = (1.0 - p) if p < 1.0 else 1.0
        h = p * steep**2 / lift * x**2
        self._variance = 1.0 / (1.0 / self._variance + h)
        self._move((label - p) / lift * steep * x)

    def correct(self, logit: float, examination: float) -> None:
        """Turn a label 0 that was learned into 1."""
        x, p, steep = self._at(logit, examination)
        self._move(steep * x / ((1.0 - p) if p < 1.0 else 1.0))

    def announce_again(self) -> None:
        """Let `changed` return slope and centre once more though they did not move."""
        self._again = True

    def changed(self) -> Line | None:
        """Return slope and centre where predictions would move by it since they were last returned."""
        again, self._again = self._again, False
        if self._labels < _LEAST_LABELS or self._weight <= 0.0:
            return self._told if again and self._told[0] != 1.0 else None
        centre = self._sum / self._weight
        moved = max(abs(self._mean - self._told[0]), abs((self._mean - 1.0) * (centre - self._told[1])))
        if moved < _STEP and not again:
            return None
        self._told = (round(self._mean, 4), round(centre, 4))
        return self._told

    def _fade(self, time_ms: int) -> None:
        elapsed_s = 0.0 if self._time_ms is None else max(time_ms - self._time_ms, 0) / 1000.0
        self._time_ms = time_ms if self._time_ms is None else max(self._time_ms, time_ms)
        fade = math.exp(-elapsed_s / TIME_CONSTANT_S)
        self._mean = 1.0 + (self._mean - 1.0) * fade
        self._variance = SD**2 + (self._variance - SD**2) * fade**2
        self._labels *= fade
        self._weight *= fade
        self._sum *= fade

    def _weigh(self, logit: float) -> None:
        p = sigmoid(logit)
        weight = p * (1.0 - p)
        self._labels += 1.0
        self._weight += weight
        self._sum += weight * logit

    def _at(self, logit: float, examination: float) -> tuple[float, float, float]:
        """Return the distance from the centre, P(click), and d log P(click) / d logit."""
        centre = self._sum / self._weight if self._weight else logit
        seen = sigmoid(centre + self._mean * (logit - centre))
        return logit - centre, min(examination * seen, 1.0 - 1e-9), 1.0 - seen

    def _move(self, gradient: float) -> None:
        self._mean = min(max(self._mean + self._variance * gradient, LEAST), MOST)

    def values(self) -> list[float | int | None]:
        """Return the state as plain values."""
        sums = self._labels, self._weight, self._sum
        return [self._mean, self._variance, *sums, self._time_ms, *self._told]

    def restore(self, values: list[float | int | None]) -> None:
        """Take the state of `values`."""
        mean, variance, labels, weight, total, time_ms, slope, centre = values
        self._mean, self._variance = float(mean or 0.0), float(variance or 0.0)
        self._labels, self._weight, self._sum = (float(x or 0.0) for x in (labels, weight, total))
        self._time_ms = None if time_ms is None else int(time_ms)
        self._told = float(slope or 0.0), float(centre or 0.0)
