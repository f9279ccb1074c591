"""What users tell of an ad besides clicking it: how long they stay, that they swipe it away or hide it.

Each is a change of the label in -1..1, centred: on average over all ads nothing is said.
"""

from __future__ import annotations

from models.domain.decision import Outcome

from .settings import LearnerSettings

_GRADE_SHARE = 0.01
_RATE_SHARE = 0.001


class Preferences:
    """Grades of stays less their running mean; swipes and hides less their running rates."""

    def __init__(self, settings: LearnerSettings) -> None:
        self._settings = settings
        self._weights = {"swipe": settings.swipe_weight, "hide": settings.hide_weight}
        self._rates = {"swipe": 0.0, "hide": 0.0}
        self._mean_grade = 0.5

    def stayed(self, outcome: Outcome) -> float:
        """Return what a stay says of an ad: d / (d + half) less its mean, times the weight."""
        dwell = max(outcome.dwell_ms, 0)
        above = dwell / (dwell + self._settings.dwell_half_ms) - self._mean_grade
        self._mean_grade += _GRADE_SHARE * above
        return self._settings.dwell_weight * above

    def refused(self, outcome: Outcome) -> float:
        """Return what a swipe or a hide says of an ad."""
        self._rates[outcome.kind] += _RATE_SHARE
        return -self._weights[outcome.kind]

    def shown(self) -> float:
        """Return what an impression says: that it might have been swiped or hidden, and was not yet."""
        for kind in self._rates:
            self._rates[kind] *= 1.0 - _RATE_SHARE
        return sum(self._weights[kind] * rate for kind, rate in self._rates.items())

    def values(self) -> list[float]:
        """Return the state as plain values."""
        return [self._rates["swipe"], self._rates["hide"], self._mean_grade]

    def restore(self, values: list[float]) -> None:
        """Take the state of `values`."""
        self._rates["swipe"], self._rates["hide"], self._mean_grade = values
