r"""Diagonal Bayesian logistic regression with forgetting, one example at a time, as a River classifier.

Every weight has a Gaussian belief N(m, v) that drifts back to its prior N(0, v0) as an
Ornstein-Uhlenbeck process with time constant T. Learning (x, y) at time t with offset z0:

1. forget, for each active feature idle for dt:  m <- m e^{-dt/T},  v <- v0 + (v - v0) e^{-2 dt/T};
2. predict: p = sigmoid(z0 + sum x m),  h = w p (1 - p),  s2 = sum x^2 v;
3. update:  m <- m + v x w (y - p) / (1 + h s2),  v <- v - (v x)^2 h / (1 + h s2),

the diagonal of one extended-Kalman step (Laplace approximation, MacKay '92; Chapelle & Li, NIPS '11).
A label that turns out to have been wrong by d (a click after its no-click: +1), a time `age` after it was
learned, is corrected: after 1 and 2, variances stay, and

    m <- m + v x w d e^{-age/T} / (1 + h (s2 - x^2 v)),

which is exact to first order: the label's update made v_i smaller by 1 + h x^2 v_i, and the means had moved
by v_i / (1 + h s2). Means are held within ±10.

It suits sparse features with few updates each under drift: a rare feature takes large steps, a known
one small ones, and an idle one becomes uncertain again. It does not suit dense correlated features,
whose covariance it drops. `models.learning.impulse` is its batch twin, and the one in service.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Any

from river import base
from river.base.typing import ClfTarget

LOGIT_LIMIT = 30.0
MEAN_LIMIT = 10.0


def sigmoid(logit: float) -> float:
    """Return the logistic function, its argument held within ±30."""
    return 1.0 / (1.0 + math.exp(-min(max(logit, -LOGIT_LIMIT), LOGIT_LIMIT)))


class DiagonalBayes(base.Classifier):
    """Online logistic regression with independent Gaussian weights that forget.

    Parameters
    ----------
    prior_variance
        v0 of each weight, in squared logits.
    time_constant_s
        T, in seconds of event time. Without ``time_ms`` no time passes.
    prior_variances
        v0 of single features, where it differs.

    Examples
    --------
    >>> model = DiagonalBayes()
    >>> model.predict_proba_one({"ad": 1.0}, offset=-2.0)[True]
    0.1192...
    >>> for second in range(20):
    ...     model.learn_one({"ad": 1.0}, True, offset=-2.0, time_ms=1000 * second)
    >>> round(model.predict_proba_one({"ad": 1.0}, offset=-2.0)[True], 1)
    0.6

    """

    def __init__(
        self,
        prior_variance: float = 0.3,
        time_constant_s: float = 900.0,
        prior_variances: dict[Hashable, float] | None = None,
    ) -> None:
        self.prior_variance = prior_variance
        self.time_constant_s = time_constant_s
        self.prior_variances = prior_variances
        self.means: dict[Hashable, float] = {}
        self.variances: dict[Hashable, float] = {}
        self.times_ms: dict[Hashable, int] = {}

    @property
    def _multiclass(self) -> bool:
        return False

    def learn_one(
        self,
        x: dict[Any, Any],
        y: ClfTarget,
        w: float = 1.0,
        offset: float = 0.0,
        time_ms: int | None = None,
    ) -> None:
        """Update the beliefs of the active features by one label; ``w`` weighs it."""
        self._forget(x, time_ms)
        p, h, total = self._at(x, w, offset)
        denominator = 1.0 + h * total
        for key, value in x.items():
            v = self._variance(key)
            self._move(key, v * value * w * (float(y) - p) / denominator)
            self.variances[key] = v - (v * value) ** 2 * h / denominator

    def correct_one(
        self,
        x: dict[Any, Any],
        change: float,
        w: float = 1.0,
        offset: float = 0.0,
        time_ms: int | None = None,
        age_ms: int = 0,
    ) -> None:
        """Correct the beliefs for a label that changed by ``change``, learned ``age_ms`` ago."""
        self._forget(x, time_ms)
        _, h, total = self._at(x, w, offset)
        step = w * change * math.exp(-age_ms / (1000.0 * self.time_constant_s))
        for key, value in x.items():
            v = self._variance(key)
            self._move(key, v * value * step / (1.0 + h * (total - value * value * v)))

    def predict_proba_one(  # type: ignore[override]
        self, x: dict[Any, Any], offset: float = 0.0, time_ms: int | None = None
    ) -> dict[ClfTarget, float]:
        """Return the probability of each label at the mean weights, as of ``time_ms``."""
        mean = sum(value * self.means.get(key, 0.0) * self._fade(key, time_ms) for key, value in x.items())
        p = sigmoid(offset + mean)
        return {False: 1.0 - p, True: p}

    def _at(self, x: dict[Any, float], w: float, offset: float) -> tuple[float, float, float]:
        """Return p, h and s2 of the module's formulas."""
        p = sigmoid(offset + self._dot(x))
        total = sum(value * value * self._variance(key) for key, value in x.items())
        return p, w * p * (1.0 - p), total

    def _move(self, key: Hashable, by: float) -> None:
        self.means[key] = min(max(self.means.get(key, 0.0) + by, -MEAN_LIMIT), MEAN_LIMIT)

    def _dot(self, x: dict[Any, float]) -> float:
        return sum(value * self.means.get(key, 0.0) for key, value in x.items())

    def _prior(self, key: Hashable) -> float:
        return (self.prior_variances or {}).get(key, self.prior_variance)

    def _variance(self, key: Hashable) -> float:
        return self.variances.get(key, self._prior(key))

    def _fade(self, key: Hashable, time_ms: int | None) -> float:
        last = self.times_ms.get(key)
        if time_ms is None or last is None:
            return 1.0
        return math.exp(-max(time_ms - last, 0) / (1000.0 * self.time_constant_s))

    def _forget(self, x: dict[Any, float], time_ms: int | None) -> None:
        for key in x:
            fade = self._fade(key, time_ms)
            if key in self.means and fade < 1.0:
                prior = self._prior(key)
                self.means[key] *= fade
                self.variances[key] = prior + (self._variance(key) - prior) * fade * fade
            if time_ms is not None:
                self.times_ms[key] = max(time_ms, self.times_ms.get(key, time_ms))

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"prior_variance": 0.3}
