"""The engine in service: `bayes.DiagonalBayes` in numba over arrays by slot, under several priors at once.

How far weights lie from 0, and how fast they wander, is for the data to say: it differs between a model that
knows its ads well and one that knows little, and between calm and sudden times. So every example is learned
under several hypotheses, each a factor of the prior variances and one of the time constant, and the means
are averaged by how well each hypothesis has predicted the recent labels: dynamic model averaging (Raftery
et al., Technometrics '10), the log evidence fading with a time constant of its own. The variances reported
are those of the first hypothesis, the widest.

It learns example by example in the order given, so the results do not depend on how the stream is cut into
batches; under one hypothesis it agrees with its twin to rounding (`tests/unit/learning/test_bayes.py`).

Legend: S slots, H hypotheses, N examples, F features of an example.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .priors import DEFAULT_PRIORS, Priors
from .protocol import Examples
from .tracking import TrackedEngine

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

_LOGIT_LIMIT = 30.0
_MEAN_LIMIT = 10.0
EVIDENCE_S = 120.0
"""Time constant with which the evidence fades."""


class Hypothesis(NamedTuple):
    """What the weights may be like: factors of the prior variances and of their time constant."""

    variance: float
    time: float


HYPOTHESES = (Hypothesis(1.0, 1.0), Hypothesis(1.0, 8.0), Hypothesis(0.1, 1.0), Hypothesis(0.1, 8.0))


class ImpulseEngine(TrackedEngine):
    """Diagonal Bayesian logistic regression with an Ornstein-Uhlenbeck prior (formulas: `bayes`).

    Corrections move the means by ``v * change * exp(-age/T)`` and leave the variances: after an update the
    posterior variance is its gain, so this is exact, to first order, for a label just learned, and fades
    as the label's own effect has.
    """

    name = "impulse"
    _columns: ClassVar[dict[str, type]] = {"mean": np.float64, "variance": np.float64}

    def __init__(
        self, priors: Priors = DEFAULT_PRIORS, hypotheses: tuple[Hypothesis, ...] = HYPOTHESES
    ) -> None:
        self._members = len(hypotheses)
        self._scale, time = (np.array(column) for column in zip(*hypotheses, strict=True))
        self._constants = time * priors.time_constant_s * 1000.0
        super().__init__(priors)

    def _clear(self) -> None:
        super()._clear()
        self._evidence = np.zeros(self._members)
        self._evidence_ms = np.zeros(1, np.int64)

    def _learn(self, examples: Examples) -> None:
        s = self.slots
        _learn(
            self._table("mean"),
            self._table("variance"),
            s["time_ms"],
            s["seen"],
            examples.feature,
            examples.offset,
            examples.label,
            examples.time_ms,
            examples.weight,
            examples.age_ms,
            self._prior_variance[:, None] * self._scale,
            self._constants,
            self._evidence,
            self._evidence_ms,
        )

    def _table(self, name: str) -> F64:
        """Return a column as `[S, H]`."""
        return self.slots[name].reshape(-1, self._members)

    def shares(self) -> F64:
        """Return how much each hypothesis counts `[H]`."""
        relative = np.exp(self._evidence - self._evidence.max())
        shares: F64 = relative / relative.sum()
        return shares

    def posterior(self, slot: I64, time_ms: int) -> tuple[F64, F64]:
        """See `Engine.posterior`."""
        prior = self._prior(slot) * self._scale[0]
        mean, variance = np.zeros(len(slot)), prior.copy()
        known = slot < len(self.slots["seen"])
        known[known] &= self.slots["seen"][slot[known]]
        at = slot[known]
        idle_ms = np.maximum(time_ms - self.slots["time_ms"][at], 0)
        fade = np.exp(-idle_ms[:, None] / self._constants)  # [M, H]
        mean[known] = (self._table("mean")[at] * fade * self.shares()).sum(axis=1)
        widest, fade = self._table("variance")[at, 0], fade[:, 0]
        variance[known] = prior[known] + (widest - prior[known]) * fade * fade
        return mean, variance

    def _values(self) -> dict[str, Any]:
        return {"evidence": self._evidence.tolist(), "evidence_ms": int(self._evidence_ms[0])}

    def _take_values(self, values: dict[str, Any]) -> None:
        self._evidence = np.array(values["evidence"])
        self._evidence_ms = np.array([values["evidence_ms"]])


@njit(cache=True)
def _learn(
    mean: F64,
    variance: F64,
    last_ms: I64,
    seen: Flags,
    feature: I32,
    offset: F64,
    label: F64,
    time_ms: I64,
    weight: F64,
    age_ms: I64,
    prior: F64,
    constant: F64,
    evidence: F64,
    evidence_ms: I64,
) -> None:
    for n in range(label.shape[0]):
        _forget(mean, variance, last_ms, seen, feature[n], time_ms[n], prior, constant)
        _fade(evidence, evidence_ms, time_ms[n])
        for h in range(len(constant)):
            logit, total = offset[n], 0.0
            for slot in feature[n]:
                if slot >= 0:
                    logit += mean[slot, h]
                    total += variance[slot, h]
            logit = min(max(logit, -_LOGIT_LIMIT), _LOGIT_LIMIT)
            curvature, gain = 0.0, 1.0
            if age_ms[n] >= 0:
                step = weight[n] * label[n] * math.exp(-float(age_ms[n]) / constant[h])
                if feature[n, 0] >= 0:  # a preference has no bias and is no prediction's label
                    evidence[h] += weight[n] * label[n] * logit
            else:
                p = 1.0 / (1.0 + math.exp(-logit))
                evidence[h] += weight[n] * (label[n] * logit - math.log1p(math.exp(logit)))
                curvature = weight[n] * p * (1.0 - p)
                gain = 1.0 / (1.0 + curvature * total)
                step = gain * weight[n] * (label[n] - p)
            for slot in feature[n]:
                if slot >= 0:
                    v = variance[slot, h]
                    mean[slot, h] = min(max(mean[slot, h] + v * step, -_MEAN_LIMIT), _MEAN_LIMIT)
                    variance[slot, h] = v - v * v * curvature * gain


@njit(cache=True)
def _fade(evidence: F64, evidence_ms: I64, now_ms: int) -> None:
    elapsed = now_ms - evidence_ms[0]
    if elapsed > 0:
        evidence *= math.exp(-elapsed / (1000.0 * EVIDENCE_S))
        evidence_ms[0] = now_ms


@njit(cache=True)
def _forget(
    mean: F64,
    variance: F64,
    last_ms: I64,
    seen: Flags,
    features: I32,
    now_ms: int,
    prior: F64,
    constant: F64,
) -> None:
    for f in range(features.shape[0]):
        slot = features[f]
        if slot < 0:
            continue
        new, elapsed = not seen[slot], float(now_ms - last_ms[slot])
        for h in range(len(constant)):
            v0 = prior[f, h]
            if new:
                mean[slot, h], variance[slot, h] = 0.0, v0
            elif elapsed > 0:
                fade = math.exp(-elapsed / constant[h])
                mean[slot, h] *= fade
                variance[slot, h] = v0 + (variance[slot, h] - v0) * fade * fade
        if new or elapsed > 0:
            seen[slot], last_ms[slot] = True, now_ms
