"""River's LogisticRegression with an offset, and the engine around it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from river import linear_model, optim
from river.base.typing import ClfTarget

from .bayes import sigmoid
from .priors import DEFAULT_PRIORS, Priors
from .protocol import Examples
from .tracking import TrackedEngine

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_MEAN_LIMIT = 10.0


class OffsetLogisticRegression(linear_model.LogisticRegression):
    """River's LogisticRegression whose logit has a known part: ``sigmoid(offset + w.x + intercept)``.

    Without an offset it is River's own, to the bit. The mini-batch methods take none.
    """

    _offset = 0.0

    def learn_one(self, x: dict[Any, Any], y: ClfTarget, w: float = 1.0, offset: float = 0.0) -> None:
        """Take one gradient step at the logit that includes the offset."""
        self._offset = offset
        try:
            super().learn_one(x, y, w)
        finally:
            self._offset = 0.0

    def predict_proba_one(  # type: ignore[override]
        self, x: dict[Any, Any], offset: float = 0.0
    ) -> dict[ClfTarget, float]:
        """Return the probability of each label at the logit that includes the offset."""
        p = sigmoid(self._raw_dot_one(x) + offset)
        return {False: 1.0 - p, True: p}

    def shift(self, x: dict[Any, float], change: float) -> None:
        """Take the step of a label that changed by ``change``: ``w += learning_rate * change * x``."""
        for key, value in x.items():
            self.set_weight(key, self.weight(key) + self.optimizer.learning_rate * change * value)

    def weight(self, key: Any) -> float:
        """Return one weight, 0 for an unknown feature."""
        return float(self._weights.get(key, 0.0))

    def set_weight(self, key: Any, value: float) -> None:
        """Replace one weight."""
        self._weights[key] = value

    def _raw_dot_one(self, x: dict[Any, float]) -> float:
        return float(super()._raw_dot_one(x)) + self._offset


class RiverLrEngine(TrackedEngine):
    """SGD on the adjustments; weights fade with the priors' time constant.

    SGD has no variance: the one reported is Laplace's, ``1 / (1/v0 + sum p(1 - p))``, its sum fading too.
    """

    name = "river_lr"
    _columns: ClassVar[dict[str, type]] = {"information": np.float64}

    def __init__(self, priors: Priors = DEFAULT_PRIORS, learning_rate: float = 0.03) -> None:
        self._learning_rate = learning_rate
        super().__init__(priors)

    def _clear(self) -> None:
        super()._clear()
        self.model = OffsetLogisticRegression(optim.SGD(self._learning_rate), intercept_lr=0.0)

    def _learn(self, examples: Examples) -> None:
        columns = (examples.offset, examples.label, examples.time_ms, examples.weight, examples.age_ms)
        rows = zip(examples.feature.tolist(), *(c.tolist() for c in columns), strict=True)
        for feature, offset, label, time_ms, weight, age_ms in rows:
            x = {slot: 1.0 for slot in feature if slot >= 0}
            self._fade(x, time_ms)
            if age_ms >= 0:
                self.model.shift(x, weight * label * np.exp(-age_ms / self._constant_ms))
            else:
                p = self.model.predict_proba_one(x, offset)[True]
                self.slots["information"][list(x)] += weight * p * (1.0 - p)
                self.model.learn_one(x, label, weight, offset)
            for slot in x:
                held = min(max(self.model.weight(slot), -_MEAN_LIMIT), _MEAN_LIMIT)
                self.model.set_weight(slot, held)

    def _move(self, slot: I64, group: int, step: F64, time_ms: int) -> None:
        self._fade(dict.fromkeys(slot.tolist(), 1.0), time_ms)
        for at, by in zip(slot.tolist(), step.tolist(), strict=True):
            self.model.set_weight(at, min(max(self.model.weight(at) + by, -_MEAN_LIMIT), _MEAN_LIMIT))

    def _fade(self, x: dict[int, float], time_ms: int) -> None:
        s = self.slots
        for slot in x:
            idle_ms = time_ms - s["time_ms"][slot]
            if s["seen"][slot] and idle_ms > 0:
                fade = np.exp(-idle_ms / self._constant_ms)
                self.model.set_weight(slot, self.model.weight(slot) * fade)
                s["information"][slot] *= fade * fade
            s["time_ms"][slot] = max(time_ms, s["time_ms"][slot]) if s["seen"][slot] else time_ms
            s["seen"][slot] = True

    def posterior(self, slot: I64, time_ms: int) -> tuple[F64, F64]:
        """See `Engine.posterior`."""
        prior = self._prior(slot)
        mean, information = np.zeros(len(slot)), np.zeros(len(slot))
        for i, at in enumerate(slot.tolist()):
            if at < len(self.slots["seen"]) and self.slots["seen"][at]:
                fade = np.exp(-max(time_ms - self.slots["time_ms"][at], 0) / self._constant_ms)
                mean[i] = self.model.weight(at) * fade
                information[i] = self.slots["information"][at] * fade * fade
        return mean, 1.0 / (1.0 / prior + information)

    def forget(self, slot: I64) -> None:
        """See `Engine.forget`."""
        super().forget(slot)
        for at in slot.tolist():
            self.model.set_weight(at, 0.0)

    def _values(self) -> dict[str, Any]:
        return {"weights": self.model.weights}

    def _take_values(self, values: dict[str, Any]) -> None:
        for slot, weight in values["weights"].items():
            self.model.set_weight(slot, weight)
