"""Settings of the learner."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from models.domain.errors import SettingError

from .delay import DelaySettings
from .engines import ENGINES
from .priors import DEFAULT_PRIORS, Priors

NEGATIVES = ("impression", "no_click")


@dataclass(frozen=True)
class LearnerSettings:
    """How the one logical learner learns.

    Parameters
    ----------
    engine
        One of `ENGINES`.
    priors
        Prior variances and the time constant of forgetting; the decision path must use the same.
    negatives
        ``impression``: an impression is learned as unanswered after a delay like those of clicks, and a click
        corrects it, so nothing waits for the attribution window (`patience`). ``no_click``: labels
        alone, negatives come when the window ends; only where clicks take as long.
    emit_every_ms
        Least event time between two records.
    most_weights
        Weights in one record at most; the largest changes go first, the others in the next ones.
    features
        Weights held at most; the idle longest return to the prior.
    dwell_weight, dwell_half_ms
        Dwell as graded feedback: ``d / (d + half)`` less its running mean, times the weight, moves the ad's,
        campaign's and segment x category's weights by that share of a click. Being centred, it ranks ads by
        dwell and leaves the level of pctr alone.
    hide_weight, swipe_weight
        Negative feedback, in clicks taken back; centred on its rate per impression in the same way.
    drift_delta
        Confidence of the ADWIN alarms.
    guard_window, guard_least_labels, guard_z
        See `Guard`.
    interest_weight, interest_change_s
        See `interest`: the elasticity to begin with (0: views teach nothing), and the mean time between two
        changes of what a segment thinks of a category.
    first_version
        Version of the first record; above every version in the log when a learner starts without a snapshot.

    """

    engine: str = "impulse"
    priors: Priors = DEFAULT_PRIORS
    negatives: str = "impression"
    emit_every_ms: int = 1000
    most_weights: int = 8192
    features: int = 1_000_000
    dwell_weight: float = 0.1
    dwell_half_ms: float = 10_000.0
    hide_weight: float = 0.5
    swipe_weight: float = 0.02
    drift_delta: float = 1e-4
    guard_window: int = 20_000
    guard_least_labels: int = 10_000
    guard_z: float = 4.0
    interest_weight: float = 0.5
    interest_change_s: float = 1000.0
    position_least_labels: int = 1000
    delay: DelaySettings = field(default_factory=DelaySettings)
    first_version: int = 1

    def __post_init__(self) -> None:
        _require("engine", self.engine, self.engine in ENGINES, f"one of {ENGINES}")
        _require("negatives", self.negatives, self.negatives in NEGATIVES, f"one of {NEGATIVES}")
        for name in ("emit_every_ms", "most_weights", "guard_window", "guard_least_labels", "first_version"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        for name in ("dwell_weight", "hide_weight", "swipe_weight"):
            _require(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "a share of a click in 0..1")
        _require("interest_weight", self.interest_weight, 0 <= self.interest_weight <= 2, "0..2")
        for name in ("dwell_half_ms", "drift_delta", "guard_z", "interest_change_s"):
            value = getattr(self, name)
            _require(name, value, math.isfinite(value) and value > 0, "a positive number")
        _require("features", self.features, self.features >= 16, "16 or more")


def _require(name: str, got: object, good: bool, expected: str) -> None:
    if not good:
        raise SettingError(f"learner.{name}: got {got!r}, expected {expected}. Fix: correct the setting.")
