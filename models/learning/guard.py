"""The guard: a frozen copy (the base model alone) predicts beside the adjusted model, on every label.

Prequential: each prediction was logged before its label was known. Compared over exponentially weighted
windows are calibration, log-loss (which a wrong level and a wrong order both raise), and what either model's
choice would earn in clicks, estimated in the randomised bucket (`counterfactual`). The adjusted model loses,
and the learner rolls back, when

- its choices earn fewer clicks than the frozen model's would, by ``z`` standard errors, or
- its log-loss exceeds the frozen one's by ``z`` standard errors, unless its choices are known to earn more
  (the 95 % interval of the difference lies above 0): then a level is wrong that goes on being learned.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from .counterfactual import ClickContest, Contest
from .fading import FadingSums

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
    contest: Contest


@dataclass
class Guard(FadingSums):
    """Sums over labels, and the contest of those in the bucket."""

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
    contest: ClickContest = field(default_factory=ClickContest)

    def __post_init__(self) -> None:
        if isinstance(self.contest, dict):  # from a snapshot
            self.contest = ClickContest(**self.contest)
        self.contest.window = self.window

    def add(
        self, frozen_logit: float, adjusted_logit: float, click: bool, weight: float | None = None
    ) -> None:
        """Take a label and both predictions for it; ``weight`` of `frozen_weight`, in the bucket."""
        if weight is not None:
            self.contest.add(weight, click)
        frozen_p, adjusted_p = _probability(frozen_logit), _probability(adjusted_logit)
        frozen, adjusted = _loss(frozen_p, click), _loss(adjusted_p, click)
        self.labels += 1
        self.fade_in(
            weight=1.0,
            clicks=click,
            frozen_clicks=frozen_p,
            adjusted_clicks=adjusted_p,
            frozen_loss=frozen,
            adjusted_loss=adjusted,
            excess_squared=(adjusted - frozen) ** 2,
        )

    def correct(self, frozen_logit: float, adjusted_logit: float, weight: float | None = None) -> None:
        """Turn a no-click taken earlier into a click."""
        if weight is not None:
            self.contest.correct(weight)
        frozen_p, adjusted_p = _probability(frozen_logit), _probability(adjusted_logit)
        frozen, adjusted = _loss(frozen_p, True), _loss(adjusted_p, True)
        frozen_before, adjusted_before = _loss(frozen_p, False), _loss(adjusted_p, False)
        self.correct_by(
            clicks=1.0,
            frozen_loss=frozen - frozen_before,
            adjusted_loss=adjusted - adjusted_before,
            excess_squared=(adjusted - frozen) ** 2 - (adjusted_before - frozen_before) ** 2,
        )

    def lost(self) -> bool:
        """Tell whether the adjusted model has lost against the frozen one."""
        return bool(self.verdict())

    def verdict(self) -> str:
        """Return by what the adjusted model has lost (``clicks``, ``log-loss``), or an empty string."""
        if self.labels < self.least_labels:
            return ""
        report = self.report()
        if report.contest.z > self.z:
            return "clicks"
        earns_more = report.contest.decided and report.contest.low > 0.0
        return "log-loss" if report.z > self.z and not earns_more else ""

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
            contest=self.contest.result(),
        )

    def values(self) -> dict[str, Any]:
        """Return the sums as plain values; ``replace(guard, **values)`` restores them."""
        settings = ("window", "least_labels", "z")
        return {name: value for name, value in asdict(self).items() if name not in settings}


def reason_of(verdict: str, report: GuardReport) -> str:
    """Return in one line why a roll-back happens, for the record that says so."""
    clicks = f"clicks {report.contest.adjusted:.4f} against {report.contest.frozen:.4f}"
    loss = f"log-loss {report.logloss_adjusted:.4f} against {report.logloss_frozen:.4f}"
    level = f"calibration {report.calibration_adjusted:.2f} against {report.calibration_frozen:.2f}"
    return f"{verdict}: {clicks}, {loss}, {level}"


def _probability(logit: float) -> float:
    p = 1.0 / (1.0 + math.exp(-min(max(logit, -30.0), 30.0)))
    return min(max(p, _SMALLEST_P), 1.0 - _SMALLEST_P)


def _loss(p: float, click: bool) -> float:
    return -math.log(p if click else 1.0 - p)
