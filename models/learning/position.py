"""Position bias: log examination odds per slot, estimated where slots were given at random.

In the randomised bucket an ad's slot depends on chance and on its rank value. The rank value's effect is
in the logged logit, which is the offset; as that logit may be too bold or too timid (after a shift it
is), a slope on it is learned beside the slots, so that what is left of a slot's click rate is the slot's
(an additive examination model; Wang et al., WSDM '18, randomise to the same end). Slot 0 is the reference
and has log odds 0: base logits are read as those of the first slot.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

from .bayes import DiagonalBayes

_LEVEL = "level"
_SLOPE = "slope"
_SLOTS = 20
_SLOT_VARIANCE = 0.5
_PRIORS: dict[Hashable, float] = {_LEVEL: 0.5, _SLOPE: 0.25}
_TIME_CONSTANT_S = 6 * 3600.0
_CENTRE_RATE = 0.01


class PositionBias:
    """Learns one logit per slot by `DiagonalBayes`; level and slope take the offset's overall error."""

    def __init__(self, least_labels: int = 1000) -> None:
        self.labels = 0
        self._least_labels = least_labels
        self._centre: float | None = None
        self._model = DiagonalBayes(_SLOT_VARIANCE, _TIME_CONSTANT_S, dict(_PRIORS))

    def learn(self, slot: int, offset: float, label: float, time_ms: int) -> None:
        """Learn one label of the randomised bucket; ``offset`` is the logged logit."""
        self.labels += 1
        x = self._features(slot, offset)
        self._model.learn_one(x, label, offset=offset, time_ms=time_ms)  # type: ignore[arg-type]

    def correct(self, slot: int, offset: float, age_ms: int) -> None:
        """Turn a 0 learned ``age_ms`` ago into a 1: the means move by ``v x exp(-age/T)``."""
        fade = math.exp(-max(age_ms, 0) / (1000.0 * _TIME_CONSTANT_S))
        for key, value in self._features(slot, offset).items():
            if key in self._model.means:
                self._model.means[key] += self._model.variances[key] * value * fade

    def logits(self) -> tuple[float, ...]:
        """Return the log examination odds of slots 0.., empty until enough labels have been seen."""
        if self.labels < self._least_labels:
            return ()
        known = [key for key in self._model.means if isinstance(key, int)]
        means = (self._model.means.get(slot, 0.0) for slot in range(1, max(known, default=0) + 1))
        return (0.0, *(round(min(max(mean, -8.0), 8.0), 3) for mean in means))

    def _features(self, slot: int, offset: float) -> dict[Any, float]:
        if self._centre is None:
            self._centre = offset
        self._centre += _CENTRE_RATE * (offset - self._centre)
        x: dict[Any, float] = {_LEVEL: 1.0, _SLOPE: min(max(offset - self._centre, -4.0), 4.0)}
        if 0 < slot < _SLOTS:
            x[slot] = 1.0
        return x

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        m = self._model
        weights = [[key, m.means[key], m.variances[key], m.times_ms[key]] for key in m.means]
        return [self.labels, self._centre, weights]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        self.labels, self._centre, weights = values
        for key, mean, variance, time_ms in weights:
            self._model.means[key], self._model.variances[key] = mean, variance
            self._model.times_ms[key] = time_ms
