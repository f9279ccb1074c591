"""Drift alarms per segment x category: River's ADWIN on what the frozen model gets wrong.

The watched value is ``label - sigmoid(base)`` (a click that answers an impression watched as 0 adds +1):
it moves when the world does, while the adjusted model's residual returns to 0 as it learns. Alarms are
for people (the flow writes each into the log as a `Notice`); no decision depends on them. Detectors are not
part of a snapshot (River's hold no state that can be written without pickling), so after a restore they
start afresh.
"""

from __future__ import annotations

from dataclasses import dataclass

from river.drift import ADWIN

_FEWEST = 300


@dataclass(frozen=True)
class DriftAlarm:
    """The click residual of a segment x category moved; ``after`` is the mean of the window kept."""

    segment: str
    category: str
    time_ms: int
    before: float
    after: float
    labels: int


class DriftWatch:
    """One ADWIN per segment x category, at most ``capacity`` of them (the first ones seen)."""

    def __init__(self, delta: float = 1e-4, capacity: int = 4096) -> None:
        self._delta = delta
        self._capacity = capacity
        self._detectors: dict[tuple[str, str], ADWIN] = {}

    def __len__(self) -> int:
        return len(self._detectors)

    def add(self, segment: str, category: str, residual: float, time_ms: int) -> DriftAlarm | None:
        """Take one residual; return an alarm where their mean has moved."""
        detector = self._detector((segment, category))
        if detector is None:
            return None
        before = detector.estimation
        detector.update(residual)  # type: ignore[no-untyped-call]
        if not detector.drift_detected:
            return None
        return DriftAlarm(segment, category, time_ms, before, detector.estimation, int(detector.width))

    def _detector(self, key: tuple[str, str]) -> ADWIN | None:
        if key not in self._detectors:
            if len(self._detectors) >= self._capacity:
                return None
            self._detectors[key] = ADWIN(delta=self._delta, grace_period=_FEWEST)  # type: ignore[no-untyped-call]
        return self._detectors[key]
