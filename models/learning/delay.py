r"""Delayed conversions: a campaign's conversion rate without waiting for its labels.

A click at age e whose conversion probability is p has produced r p F(e) conversions by now on average,
with F the distribution of the delay and r the campaign's factor on the model's rate. Conversions are
then a thinned Poisson process, and with maturity-weighted exposure E = sum p F(e)

    r = (N + a) / (E + a),     log r has variance about 1 / (N + a),

``a`` pseudo-conversions holding a new campaign at the model's rate. F is Weibull with shape k and rate b,
F(e) = 1 - exp(-b e^k) (k = 1: exponential), fitted with censoring: clicks without a conversion stand in
the expectation step for r p S(e) conversions still to come (Chapelle, KDD '14), so

    log b maximises N log b - b W - (log b - log b0)^2 / (2 k^2 sd^2),   W = sum d^k + r sum p S(e) e^k,

for each k of a small grid; the k of the highest likelihood is taken. Ages count from the decision. Delays are
log-normal around b0, which is the setting's for all campaigns together, and theirs for each one.

A campaign that never converts could be one whose delay is endless. So one in a hundred is taken to be dead:
while no conversion is known r is multiplied by the probability that it is not, with the likelihood of none so
far (a / (a + E))^a exp(-(log b - log b0)^2 / (2 k^2 sd^2)) if it is alive and 1 if it is dead.

Everything fades with the age of the click (time constant T), so the rate follows drift. Several
conversions of one click count each; view-through ones do not count (pcvr is given a click).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_SHAPES = (0.5, 0.7, 1.0, 1.4)
_EXPONENTIAL = 2
_PSEUDO_CONVERSIONS = 10.0
_SPREAD = 1.5
"""Standard deviation of the logarithms of campaigns' mean delays around that of all."""
_SPREAD_OF_GUESS = 3.0
"""The same around the setting's mean delay, which is a guess."""
_DEAD = 0.01
"""Share of campaigns that are taken to have no conversions at all."""
_LEAST_ALIVE = 0.01
_NO_CONVERSION = 0.5
_LIKELIHOOD_MARGIN = 2.0
_BIN_GROWTH = 8
_SUREST = 50.0
_NEWTON_STEPS, _CONVERGED = 50, 1e-9


@dataclass(frozen=True)
class DelaySettings:
    """Prior mean delay, time constant of forgetting and the age at which a click counts as mature."""

    mean_delay_s: float = 3600.0
    time_constant_s: float = 86_400.0
    horizon_s: float = 7 * 86_400.0


@dataclass
class CampaignDelay:
    """One campaign's clicks by age and its conversions' sufficient statistics, all faded to ``time_s``.

    ``bins`` holds [time of the click, exposure] of clicks not mature yet, merged as they age, at most
    some 200 of them; the sums over conversions are one per shape of the grid.
    """

    time_s: float = 0.0
    bins: list[list[float]] = field(default_factory=list)
    mature: float = 0.0
    conversions: float = 0.0
    sum_log_delay: float = 0.0
    sum_power: list[float] = field(default_factory=lambda: [0.0] * len(_SHAPES))
    rates: list[float] = field(default_factory=list)
    shape: int = _EXPONENTIAL
    factor: float = 1.0

    def click(self, time_s: float, pcvr: float, settings: DelaySettings) -> None:
        """Add one click's exposure."""
        self._fade_to(max(time_s, self.time_s), settings)
        faded = pcvr * math.exp(-(self.time_s - time_s) / settings.time_constant_s)
        self.bins.append([time_s, faded])

    def conversion(self, time_s: float, delay_s: float, settings: DelaySettings) -> None:
        """Add one conversion that came ``delay_s`` after its decision."""
        self._fade_to(max(time_s, self.time_s), settings)
        delay_s = max(delay_s, 1e-3)
        weight = math.exp(-(self.time_s - time_s + delay_s) / settings.time_constant_s)
        self.conversions += weight
        self.sum_log_delay += weight * math.log(delay_s)
        self.sum_power = [s + weight * delay_s**k for s, k in zip(self.sum_power, _SHAPES, strict=True)]

    def refit(self, time_s: float, settings: DelaySettings, like: CampaignDelay | None = None) -> None:
        """Take one step of expectation maximisation for F and solve for the factor, as of ``time_s``.

        ``like`` is all campaigns as one, fitted: delays are like its until the campaign's own tell otherwise.
        """
        self._fade_to(max(time_s, self.time_s), settings)
        self._merge(settings)
        age, exposure = self._ages()
        usual = [settings.mean_delay_s**-k for k in _SHAPES] if like is None else like.rates
        spread = _SPREAD_OF_GUESS if like is None else _SPREAD
        if not self.rates:
            self.rates = list(usual)
        factors = [self._maximise(i, age, exposure, math.log(usual[i]), spread) for i in range(len(_SHAPES))]
        self.shape = self._best_shape(age, exposure, factors, _EXPONENTIAL if like is None else like.shape)
        alive = 1.0 if like is None else self._alive(age, exposure, math.log(usual[self.shape]), spread)
        self.factor = factors[self.shape] * alive

    @property
    def log_factor(self) -> tuple[float, float]:
        """Mean and variance of log r."""
        return math.log(self.factor), 1.0 / (self.conversions + _PSEUDO_CONVERSIONS)

    def matured(self, elapsed_s: float) -> float:
        """Return F(elapsed): the share of conversions to be expected by then."""
        return float(-math.expm1(-self.rates[self.shape] * max(elapsed_s, 0.0) ** _SHAPES[self.shape]))

    def _fade_to(self, time_s: float, settings: DelaySettings) -> None:
        fade = math.exp(-(time_s - self.time_s) / settings.time_constant_s) if self.time_s else 1.0
        self.time_s = time_s
        self.mature *= fade
        self.conversions *= fade
        self.sum_log_delay *= fade
        self.sum_power = [s * fade for s in self.sum_power]
        for pair in self.bins:
            pair[1] *= fade

    def _merge(self, settings: DelaySettings) -> None:
        """Merge neighbours closer together than an eighth of their age; retire those past the horizon."""
        merged: list[list[float]] = []
        for time_s, exposure in sorted(self.bins):
            if self.time_s - time_s > settings.horizon_s:
                self.mature += exposure
            elif merged and (time_s - merged[-1][0]) * _BIN_GROWTH < self.time_s - merged[-1][0]:
                merged[-1][1] += exposure
            else:
                merged.append([time_s, exposure])
        self.bins = merged

    def _ages(self) -> tuple[F64, F64]:
        pairs = np.array(self.bins).reshape(-1, 2)
        return np.maximum(self.time_s - pairs[:, 0], 1e-3), pairs[:, 1]

    def _maximise(self, i: int, age: F64, exposure: F64, usual: float, spread: float) -> float:
        power = age ** _SHAPES[i]
        surviving = np.exp(-self.rates[i] * power)
        to_come = self.factor * float(np.sum(exposure * surviving * power))
        waited = self.sum_power[i] + to_come
        self.rates[i] = math.exp(_log_rate(self.conversions, waited, usual, _SHAPES[i] * spread))
        mature = self.mature + float(np.sum(exposure * -np.expm1(-self.rates[i] * power)))
        return (self.conversions + _PSEUDO_CONVERSIONS) / (mature + _PSEUDO_CONVERSIONS)

    def _alive(self, age: F64, exposure: F64, usual: float, spread: float) -> float:
        """Return the probability that a campaign of which no conversion is known has any to come."""
        if self.conversions >= _NO_CONVERSION:
            return 1.0
        shape, rate = _SHAPES[self.shape], self.rates[self.shape]
        mature = self.mature + float(np.sum(exposure * -np.expm1(-rate * age**shape)))
        off = (math.log(rate) - usual) / (shape * spread)
        none_yet = -_PSEUDO_CONVERSIONS * math.log1p(mature / _PSEUDO_CONVERSIONS) - 0.5 * off * off
        odds = _DEAD / (1.0 - _DEAD) * math.exp(min(-none_yet, _SUREST))
        return max(1.0 / (1.0 + odds), _LEAST_ALIVE)

    def _best_shape(self, age: F64, exposure: F64, factors: list[float], usual: int) -> int:
        likelihood = [self._likelihood(i, age, exposure, factors[i]) for i in range(len(_SHAPES))]
        best = int(np.argmax(likelihood))
        return best if likelihood[best] > likelihood[usual] + _LIKELIHOOD_MARGIN else usual

    def _likelihood(self, i: int, age: F64, exposure: F64, factor: float) -> float:
        shape, rate = _SHAPES[i], self.rates[i]
        mature = self.mature + float(np.sum(exposure * -np.expm1(-rate * age**shape)))
        density = self.conversions * math.log(shape * rate) + (shape - 1.0) * self.sum_log_delay
        return density - rate * self.sum_power[i] + self.conversions * math.log(factor) - factor * mature

    def values(self) -> dict[str, Any]:
        """Return the state as plain values; ``CampaignDelay(**values)`` restores it."""
        return asdict(self)


def _log_rate(conversions: float, waited: float, usual: float, sd: float) -> float:
    """Return the x that maximises N x - waited e^x - (x - usual)^2 / (2 sd^2), by Newton's method.

    It lies between ``usual`` and the maximum without the last term; from the right of it the steps of a
    concave function's derivative cannot overshoot.
    """
    most_likely = math.log(conversions) - math.log(waited) if conversions > 0.0 < waited else usual
    x = max(usual, most_likely)
    for _ in range(_NEWTON_STEPS):
        slope = conversions - waited * math.exp(x) - (x - usual) / sd**2
        step = slope / (waited * math.exp(x) + 1.0 / sd**2)
        x += step
        if abs(step) < _CONVERGED:
            break
    return x


def logit_change(pcvr: float, log_factor: float) -> float:
    """Return what to add to ``logit(pcvr)`` so that the probability becomes ``pcvr * exp(log_factor)``."""
    moved = min(pcvr * math.exp(log_factor), 1.0 - 1e-6)
    return math.log(moved / (1.0 - moved)) - math.log(pcvr / (1.0 - pcvr))
