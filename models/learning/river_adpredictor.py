"""River's AdPredictor with an offset, and the engine around it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import linear_model
from river.base.typing import ClfTarget
from river.linear_model import ad_predictor
from scipy.special import ndtri

from .bayes import sigmoid
from .priors import DEFAULT_PRIORS, Priors
from .protocol import Examples
from .tracking import WIDENED, TrackedEngine

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_BIAS_KEY = "__bias__"
_START_SLOPE = 2.0
_SLOPE_RATE = 0.002
_MEAN_LIMIT = 5.0
_SMALLEST_P = 1e-6


def _surprise(t: float) -> float:
    return float(ad_predictor._v_w(t)[0])


class OffsetAdPredictor(linear_model.AdPredictor):
    """River's AdPredictor that starts from a known logit.

    The offset enters on the probit scale so that at zero means the prediction is ``sigmoid(offset)``:
    ``Phi((sum m + std * ndtri(sigmoid(offset))) / std)``. Without an offset it is River's own.
    """

    _offset: float | None = None

    def learn_one(self, x: dict[Any, Any], y: ClfTarget, offset: float | None = None) -> None:
        """Pass one message; see `AdPredictor.learn_one`."""
        self._offset = offset
        try:
            super().learn_one(x, y)  # type: ignore[no-untyped-call]
        finally:
            self._offset = None

    def predict_proba_one(  # type: ignore[override]
        self, x: dict[Any, Any], offset: float | None = None
    ) -> dict[ClfTarget, float]:
        """Return the probability of each label."""
        self._offset = offset
        try:
            return dict(super().predict_proba_one(x))  # type: ignore[no-untyped-call]
        finally:
            self._offset = None

    def tilt(self, x: dict[Any, float], offset: float) -> tuple[float, float]:
        """Return t = total mean / std and std, the offset included."""
        self._offset = offset
        try:
            mean, variance = self._total_mean_variance(x)
        finally:
            self._offset = None
        return mean / math.sqrt(variance), math.sqrt(variance)

    def _total_mean_variance(self, features: Any) -> tuple[float, float]:
        mean, variance = super()._total_mean_variance(features)
        if self._offset is not None:
            mean += math.sqrt(variance) * _probit(self._offset)
        return mean, variance


def _probit(logit: float) -> float:
    p = min(max(sigmoid(logit), _SMALLEST_P), 1.0 - _SMALLEST_P)
    return float(ndtri(p))


class RiverAdPredictorEngine(TrackedEngine):
    """AdPredictor on the adjustments, forgetting with time instead of per update (its epsilon is 0).

    Its beliefs live on the probit scale; they are reported in logits by the running average of
    ``d logit(p) / d mean`` over the examples, a first-order reading (its ECE is the worst of the three).
    Weighted examples count once.
    """

    name = "river_adpredictor"

    def __init__(self, priors: Priors = DEFAULT_PRIORS, beta: float = 1.0) -> None:
        self._beta = beta
        super().__init__(priors)

    def _clear(self) -> None:
        super()._clear()
        self._slope = _START_SLOPE
        self.model = OffsetAdPredictor(beta=self._beta, prior_probability=0.5, epsilon=0.0)
        self.model.means[_BIAS_KEY], self.model.variances[_BIAS_KEY] = 0.0, 0.0

    def _learn(self, examples: Examples) -> None:
        columns = (examples.offset, examples.label, examples.time_ms, examples.age_ms)
        rows = zip(examples.feature.tolist(), *(c.tolist() for c in columns), strict=True)
        for feature, offset, label, time_ms, age_ms in rows:
            x = {slot: 1.0 for slot in feature if slot >= 0}
            self._fade(feature, time_ms)
            t, std = self.model.tilt(x, offset)
            if age_ms >= 0:
                self._shift(x, t, std, label * math.exp(-age_ms / self._constant_ms))
            else:
                self._note_slope(t, std)
                self.model.learn_one(x, label >= 0.5, offset)
            for slot in x:
                self.model.means[slot] = min(max(self.model.means[slot], -_MEAN_LIMIT), _MEAN_LIMIT)

    def _note_slope(self, t: float, std: float) -> None:
        p = min(max(0.5 * math.erfc(-t / math.sqrt(2.0)), _SMALLEST_P), 1.0 - _SMALLEST_P)
        density = math.exp(-0.5 * t * t) / math.sqrt(2.0 * math.pi)
        self._slope += _SLOPE_RATE * (density / (p * (1.0 - p)) / std - self._slope)

    def _shift(self, x: dict[int, float], t: float, std: float, change: float) -> None:
        """Move the means by what a click would have moved them beyond a no-click."""
        step = change * (_surprise(t) + _surprise(-t)) / std
        for slot in x:
            self.model.means[slot] += self.model.variances[slot] * step

    def _move(self, slot: I64, group: int, step: F64, time_ms: int) -> None:
        for at, by in zip(slot.tolist(), (step / self._slope).tolist(), strict=True):
            self._fade([*[-1] * group, at], time_ms)
            self.model.means[at] = min(max(self.model.means[at] + by, -_MEAN_LIMIT), _MEAN_LIMIT)
            self.model.variances[at] += WIDENED * by * by

    def _prior_probit(self, group: int) -> float:
        return float(self._prior_variance[group]) / _START_SLOPE**2

    def _fade(self, feature: list[int], time_ms: int) -> None:
        s, model = self.slots, self.model
        for group, slot in enumerate(feature):
            if slot < 0:
                continue
            prior = self._prior_probit(group)
            if not s["seen"][slot]:
                s["seen"][slot], s["time_ms"][slot] = True, time_ms
                model.means[slot], model.variances[slot] = 0.0, prior
            elif time_ms > s["time_ms"][slot]:
                fade = math.exp(-(time_ms - s["time_ms"][slot]) / self._constant_ms)
                model.means[slot] *= fade
                model.variances[slot] = prior + (model.variances[slot] - prior) * fade * fade
                s["time_ms"][slot] = time_ms

    def posterior(self, slot: I64, time_ms: int) -> tuple[F64, F64]:
        """See `Engine.posterior`."""
        prior = self._prior(slot) / _START_SLOPE**2
        mean, variance = np.zeros(len(slot)), prior.copy()
        for i, at in enumerate(slot.tolist()):
            if at < len(self.slots["seen"]) and self.slots["seen"][at]:
                fade = math.exp(-max(time_ms - int(self.slots["time_ms"][at]), 0) / self._constant_ms)
                mean[i] = self.model.means[at] * fade
                variance[i] = prior[i] + (self.model.variances[at] - prior[i]) * fade * fade
        return mean * self._slope, variance * _START_SLOPE**2

    def forget(self, slot: I64) -> None:
        """See `Engine.forget`."""
        super().forget(slot)
        for at in slot.tolist():
            self.model.means.pop(at, None)
            self.model.variances.pop(at, None)

    def _values(self) -> dict[str, Any]:
        means = {k: v for k, v in self.model.means.items() if k != _BIAS_KEY}
        variances = {k: v for k, v in self.model.variances.items() if k != _BIAS_KEY}
        return {"means": means, "variances": variances, "slope": self._slope}

    def _take_values(self, values: dict[str, Any]) -> None:
        self.model.means.update(values["means"])
        self.model.variances.update(values["variances"])
        self._slope = values["slope"]
