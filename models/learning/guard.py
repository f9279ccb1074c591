"""The guard: a frozen copy (the base model alone) predicts beside the adjusted model, on every label.

Prequential: each prediction was logged before its label was known. The adjusted model loses when its
log-loss exceeds the frozen one's by ``z`` standard errors over an exponentially weighted window; then
the learner rolls back.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

_SMALLEST_P = 1e-6


@dataclass(frozen=True)
class GuardReport:
    """What the guard has seen in its window; probabilities are of a click given the slot.

    A calibration is predicted over observed clicks, 1 when right; ``z`` is by how many standard errors
    the adjusted model's log-loss exceeds the frozen one's.
    """

    labels: int
    ctr: float
    logloss_frozen: float
    logloss_adjusted: float
    calibration_frozen: float
    calibration_adjusted: float
    z: float


@dataclass
class Guard:
    """Exponentially weighted sums over the last ``window`` labels or so."""

    window: int = 5000
    least_labels: int = 2000
    z: float = 4.0
    labels: int = 0
    weight: float = 0.0
    clicks: float = 0.0
    frozen_clicks: float = 0.0
    adjusted_clicks: float = 0.0
    frozen_loss: float = 0.0
    adjusted_loss: float = 0.0
    excess_squared: float = 0.0

    def add(self, frozen_logit: float, adjusted_logit: float, click: bool) -> None:
        """Take a label and both predictions for it."""
        frozen_p, adjusted_p = _probability(frozen_logit), _probability(adjusted_logit)
        frozen, adjusted = _loss(frozen_p, click), _loss(adjusted_p, click)
        keep = 1.0 - 1.0 / self.window
        self.labels += 1
        self.weight = self.weight * keep + 1.0
        self.clicks = self.clicks * keep + click
        self.frozen_clicks = self.frozen_clicks * keep + frozen_p
        self.adjusted_clicks = self.adjusted_clicks * keep + adjusted_p
        self.frozen_loss = self.frozen_loss * keep + frozen
        self.adjusted_loss = self.adjusted_loss * keep + adjusted
        self.excess_squared = self.excess_squared * keep + (adjusted - frozen) ** 2

    def correct(self, frozen_logit: float, adjusted_logit: float) -> None:
        """Turn a no-click taken earlier into a click."""
        frozen_p, adjusted_p = _probability(frozen_logit), _probability(adjusted_logit)
        frozen = _loss(frozen_p, True) - _loss(frozen_p, False)
        adjusted = _loss(adjusted_p, True) - _loss(adjusted_p, False)
        self.clicks += 1.0
        self.frozen_loss += frozen
        self.adjusted_loss += adjusted
        self.excess_squared += (adjusted - frozen) ** 2

    def lost(self) -> bool:
        """Tell whether the adjusted model has lost against the frozen one."""
        return self.labels >= self.least_labels and self.report().z > self.z

    def report(self) -> GuardReport:
        """Return the window's figures."""
        n = max(self.weight, 1.0)
        excess = (self.adjusted_loss - self.frozen_loss) / n
        variance = max(self.excess_squared / n - excess * excess, 0.0) / n
        return GuardReport(
            labels=self.labels,
            ctr=self.clicks / n,
            logloss_frozen=self.frozen_loss / n,
            logloss_adjusted=self.adjusted_loss / n,
            calibration_frozen=self.frozen_clicks / max(self.clicks, 1.0),
            calibration_adjusted=self.adjusted_clicks / max(self.clicks, 1.0),
            z=excess / math.sqrt(variance) if variance > 0 else 0.0,
        )

    def values(self) -> dict[str, Any]:
        """Return the sums as plain values; ``replace(guard, **values)`` restores them."""
        settings = ("window", "least_labels", "z")
        return {name: value for name, value in asdict(self).items() if name not in settings}


def _probability(logit: float) -> float:
    p = 1.0 / (1.0 + math.exp(-min(max(logit, -30.0), 30.0)))
    return min(max(p, _SMALLEST_P), 1.0 - _SMALLEST_P)


def _loss(p: float, click: bool) -> float:
    return -math.log(p if click else 1.0 - p)
