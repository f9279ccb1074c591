"""Which model would earn more clicks, the adjusted one or the frozen one: asked of the randomised bucket.

In the bucket, slots are drawn by a known law from the adjusted model's ranking, and each logs how probable
its ad was under the same law and the frozen model's ranking. So with w = frozen / logged propensity

    CTR of the adjusted model  A = mean(y)                 as it was seen,
    CTR of the frozen model    F = sum(w y) / sum(w)        SNIPS (Swaminathan and Joachims, NeurIPS '15),

slot by slot, given the slots before as they were logged. The interval of A - F is by the delta method over
the window's labels, and there is no verdict below 500 effective labels, (sum w)^2 / sum w^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from models.domain.decision import Outcome

from .exploration import is_randomized
from .fading import FadingSums

LEAST_EFFECTIVE = 500.0


class Contest(NamedTuple):
    """Estimated click rates of the shown slots; ``low`` and ``high`` bound adjusted - frozen (95 %)."""

    frozen: float
    adjusted: float
    error: float
    """Standard error of adjusted - frozen."""
    effective: float

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval of adjusted - frozen."""
        return self.adjusted - self.frozen - 1.96 * self.error

    @property
    def high(self) -> float:
        """Upper end of it."""
        return self.adjusted - self.frozen + 1.96 * self.error

    @property
    def decided(self) -> bool:
        """Whether there are labels enough for any verdict."""
        return self.effective >= LEAST_EFFECTIVE and self.error > 0.0

    @property
    def z(self) -> float:
        """By how many standard errors the frozen model is ahead; 0 while nothing is decided."""
        return (self.frozen - self.adjusted) / self.error if self.decided else 0.0


def frozen_weight(outcome: Outcome) -> float | None:
    """Return a label's weight for the frozen model; None outside the bucket or where none was logged."""
    usable = outcome.frozen_propensity > 0.0 and 0.0 < outcome.propensity <= 1.0
    if not usable or not is_randomized(outcome.behavior_policy):
        return None
    weight = outcome.frozen_propensity / outcome.propensity
    return weight if math.isfinite(weight) else None


@dataclass
class ClickContest(FadingSums):
    """Sums over the labels of the bucket."""

    labels: float = 0.0
    clicks: float = 0.0
    weight: float = 0.0
    weight_squared: float = 0.0
    weighted_clicks: float = 0.0
    squared_clicks: float = 0.0

    def add(self, weight: float, click: bool) -> None:
        """Take a label with its weight for the frozen model."""
        square = weight * weight
        self.fade_in(
            labels=1.0,
            clicks=click,
            weight=weight,
            weight_squared=square,
            weighted_clicks=weight * click,
            squared_clicks=square * click,
        )

    def correct(self, weight: float) -> None:
        """Turn a no-click taken earlier into a click."""
        self.correct_by(clicks=1.0, weighted_clicks=weight, squared_clicks=weight * weight)

    def result(self) -> Contest:
        """Return the estimates of the window."""
        if self.labels <= 0.0 or self.weight <= 0.0:
            return Contest(0.0, 0.0, 0.0, 0.0)
        adjusted, frozen = self.clicks / self.labels, self.weighted_clicks / self.weight
        effective = self.weight * self.weight / self.weight_squared
        return Contest(frozen, adjusted, self._error(frozen, adjusted), effective)

    def _error(self, frozen: float, adjusted: float) -> float:
        """Return the standard error of the difference of the two ratios, by their influence functions.

        With y in {0, 1}, (y - F)(y - A) = y (1 - F - A) + F A, so the sums kept are enough.
        """
        mean = self.weight / self.labels
        own = self.clicks * (1.0 - 2.0 * adjusted) + adjusted * adjusted * self.labels
        other = self.squared_clicks * (1.0 - 2.0 * frozen) + frozen * frozen * self.weight_squared
        both = self.weighted_clicks * (1.0 - frozen - adjusted) + frozen * adjusted * self.weight
        variance = other / (mean * mean) - 2.0 * both / mean + own
        return math.sqrt(max(variance, 0.0)) / self.labels
