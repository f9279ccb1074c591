"""Position bias: the log examination of each slot, learned from every label beside the model's own errors.

An examination model (Richardson et al., WWW '07): P(click | slot s) = e_s * pctr with e_0 = 1, and pctr that
of an ad in the first slot. Slots hold the ads by rank value, so the errors of the logged logit z must not
pass for the slots': a level and a slope on z are learned beside log e_s, all by Gaussian beliefs as in
`bayes`, linearised at z' = z + level + slope * (z - centre)::

    p = e_s * sigmoid(z')        d logit(p) / d log e_s = 1 / (1 - p)
                                 d logit(p) / d z'      = (1 - sigmoid(z')) / (1 - p)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bayes import sigmoid

F64 = NDArray[np.float64]

_FIRST_SLOT = 2
_SLOTS = 20
_LEVEL_VARIANCE = 0.5
_SLOPE_VARIANCE = 0.25
_SLOT_VARIANCE = 0.5
_WANDER_S = 600.0
_TIME_CONSTANT_S = 6 * 3600.0
_CENTRE_RATE = 0.01


def examination_of(log_examination: Sequence[float], slot: int) -> float:
    """Return log e of a slot; the last known one repeats, 0 where none is known."""
    return log_examination[min(slot, len(log_examination) - 1)] if log_examination else 0.0


def examination_shift(logit: float, log_e: float) -> float:
    """Return what turns the logit of an examined click into that of a click: logit(e * sigmoid(z)) - z.

    That is log e - log(1 + (1 - e) exp(z)): close to log e where clicks are rare, and log e itself for e > 1.
    """
    if log_e >= 0.0:
        return log_e
    return log_e - math.log1p(-math.expm1(log_e) * math.exp(min(max(logit, -30.0), 30.0)))


class PositionBias:
    """Beliefs about (level, slope, log e_1, log e_2, ...): means `[D]` and a full covariance `[D, D]`.

    The covariance matters: slots and level move together, and a diagonal one would hold for ever what the
    first labels taught it wrongly. Level and slope wander, as the model that they are about is corrected.
    """

    def __init__(self, least_labels: int = 1000) -> None:
        self.labels = 0
        self._least_labels = least_labels
        self._centre: float | None = None
        self._last_ms: int | None = None
        self._mean = np.zeros(_FIRST_SLOT)
        self._covariance = np.diag(np.array([_LEVEL_VARIANCE, _SLOPE_VARIANCE]))

    def learn(self, slot: int, logit: float, label: float, time_ms: int) -> None:
        """Learn one label; ``logit`` is the logged one, for the first slot."""
        self.labels += 1
        if self._centre is None:
            self._centre = logit
        self._centre += _CENTRE_RATE * (logit - self._centre)
        self._grow(min(slot, _SLOTS - 1))
        self._wander(time_ms)
        x, p = self._point(slot, logit)
        step, h = self._covariance @ x, p * (1.0 - p)
        gain = 1.0 / (1.0 + h * float(x @ step))
        self._mean += step * (gain * (label - p))
        self._covariance -= np.outer(step, step * (h * gain))

    def correct(self, slot: int, logit: float, age_ms: int) -> None:
        """Turn a 0 learned ``age_ms`` ago into a 1; the covariance after an update is its gain."""
        if self._centre is None or slot >= len(self._mean) - 1:
            return
        fade = math.exp(-max(age_ms, 0) / (1000.0 * _TIME_CONSTANT_S))
        self._mean += self._covariance @ self._point(slot, logit)[0] * fade

    def logits(self) -> tuple[float, ...]:
        """Return log e of slots 0.., none above 0; empty until enough labels have been seen."""
        if self.labels < self._least_labels:
            return ()
        return (0.0, *(round(min(max(mean, -8.0), 0.0), 3) for mean in self._mean[_FIRST_SLOT:].tolist()))

    def _grow(self, slot: int) -> None:
        """Make room for the slots up to this one."""
        more = slot + 1 - (len(self._mean) - 1)
        if more > 0:
            old = self._covariance
            self._mean = np.concatenate([self._mean, np.zeros(more)])
            self._covariance = np.eye(len(self._mean)) * _SLOT_VARIANCE
            self._covariance[: len(old), : len(old)] = old

    def _wander(self, time_ms: int) -> None:
        elapsed_s = max(time_ms - (time_ms if self._last_ms is None else self._last_ms), 0) / 1000.0
        self._last_ms = max(time_ms, self._last_ms or time_ms)
        for place, most in ((0, _LEVEL_VARIANCE), (1, _SLOPE_VARIANCE)):
            known = self._covariance[place, place]
            self._covariance[place, place] = max(known, min(most, known + most * elapsed_s / _WANDER_S))

    def _point(self, slot: int, logit: float) -> tuple[F64, float]:
        """Return the gradient `[D]` of logit(p) by each belief, and p."""
        place = min(slot, _SLOTS - 1) + _FIRST_SLOT - 1
        away = min(max(logit - (self._centre or 0.0), -4.0), 4.0)
        z = logit + float(self._mean[0]) + float(self._mean[1]) * away
        log_e = float(self._mean[place]) if slot > 0 else 0.0
        p = sigmoid(z + examination_shift(z, log_e))
        steep = (1.0 - sigmoid(z)) / (1.0 - p)
        x = np.zeros(len(self._mean))
        x[0], x[1] = steep, steep * away
        if slot > 0:
            x[place] = 1.0 / (1.0 - p)
        return x, p

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        return [self.labels, self._centre, self._last_ms, self._mean.tolist(), self._covariance.tolist()]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        self.labels, self._centre, self._last_ms, mean, covariance = values
        self._mean, self._covariance = np.array(mean), np.array(covariance)
