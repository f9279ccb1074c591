"""The slope and the level of what decisions foretold (`slope`, `level`), learned from the same labels."""

from __future__ import annotations

from typing import Any

from models.domain.decision import Outcome
from models.domain.events import Weight

from .level import Level
from .sample import adjusted_logit
from .slope import CalibrationSlope, Line


class Calibration:
    """Learns both; the level goes out with the bias, whose weight the engine learns from ``prior`` on."""

    def __init__(self, prior: float) -> None:
        self._slope, self.level = CalibrationSlope(), Level()
        self._bias: Weight = (0.0, prior)
        self._again = False

    def learn(self, outcome: Outcome, examination: float, label: float) -> None:
        """Learn a label of an ad that was shown in a slot of this examination."""
        logit, time_ms = adjusted_logit(outcome), outcome.event_time
        told, version = logit + outcome.parts.calibration, outcome.adjustments_version
        self._slope.learn(logit, examination, label, time_ms)
        self.level.learn(version, told, examination, label, time_ms)

    def correct(self, outcome: Outcome, examination: float) -> None:
        """Turn a label 0 that was learned into 1."""
        logit = adjusted_logit(outcome)
        self._slope.correct(logit, examination)
        self.level.correct(outcome.adjustments_version, logit + outcome.parts.calibration, examination)

    def line(self) -> Line | None:
        """Return slope and centre where predictions would move by it since they were last returned."""
        return self._slope.changed()

    def bias(self, weight: Weight | None) -> Weight | None:
        """Return the bias to tell, with the level in it; ``weight`` is the engine's where that has moved."""
        again, self._again = self._again, False
        if weight is None and not again and not self.level.due():
            return None
        self._bias = weight or self._bias
        return round(self._bias[0] + self.level.mean, 5), self._bias[1]

    def told(self, version: int, bias: bool) -> None:
        """Note that this version has been told, and whether with a new bias."""
        self.level.tell(version, self.level.mean if bias else self.level.told)

    def announce_again(self) -> None:
        """Let `line` and `bias` return once more what was told though it did not move."""
        self._slope.announce_again()
        self._again = self.level.told != 0.0

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        return [self._slope.values(), self.level.values(), list(self._bias)]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        slope, level, (mean, variance) = values
        self._slope.restore(slope)
        self.level.restore(level)
        self._bias = (mean, variance)
