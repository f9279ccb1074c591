r"""Delayed conversions: a campaign's conversion rate without waiting for its labels.

Of a click that converts with probability p, r p G(e) conversions are to be expected by its age e, with r the
campaign's factor on the model's rate and G as `models.learning.delay_law` has it: the share of the delays up
to e, faded with the time since they ended. So with maturity-weighted exposure E = sum p G(e)

    r = (N + a) / (E + a),     log r has variance about 1 / (N + a),

``a`` pseudo-conversions holding a new campaign at the model's rate. The delays are Weibull (k = 1:
exponential), found by the likelihood of what arrived, in which clicks without a conversion stand with what
may still come (censoring; Chapelle, KDD '14, who fades nothing), for each shape k of a small grid; the k of
the highest likelihood is taken. Ages count from the decision. Delays are log-normal around the setting's for
all campaigns together, and around theirs for each one.

A campaign that never converts could be one whose delay is endless. So one in a hundred is taken to be dead:
while no conversion is known r is multiplied by the probability that it is not, with the likelihood of none so
far (a / (a + E))^a exp(-(log b - log b0)^2 / (2 k^2 sd^2)) if it is alive and 1 if it is dead.

A conversion fades with the time since it came (time constant T), so the rate follows drift. Were it to fade
with the age of its click, one that comes two days late would count for little, whatever it says. Several
conversions of one click count each; view-through ones do not count (pcvr is given a click).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .delay_law import Arrived, Clicks, Fit, Prior, clicks_of, faded_arrivals, fit

_PSEUDO_CONVERSIONS = 10.0
_SHAPES = (0.5, 0.7, 1.0, 1.4)
_EXPONENTIAL = 2
_SPREAD = 1.0
"""Standard deviation of the logarithms of campaigns' mean delays around that of all."""
_SPREAD_OF_GUESS = 3.0
"""The same around the setting's mean delay, which is a guess."""
_DEAD = 0.01
"""Share of campaigns that are taken to have no conversions at all."""
_LEAST_ALIVE = 0.01
_NO_CONVERSION = 0.5
_LIKELIHOOD_MARGIN = 2.0
_BIN_GROWTH = 12
_SUREST = 50.0


@dataclass(frozen=True)
class DelaySettings:
    """Prior mean delay, time constant of forgetting and the age at which a click counts as mature."""

    mean_delay_s: float = 3600.0
    time_constant_s: float = 86_400.0
    horizon_s: float = 7 * 86_400.0


@dataclass
class CampaignDelay:
    """One campaign's clicks by age and its conversions' sufficient statistics, these faded to ``time_s``.

    ``bins`` holds [time, exposure] of clicks that are not mature yet, merged as they age, at most some 200
    of them, ``mature`` what the older ones brought. The sums over conversions are one per shape of the grid.
    """

    time_s: float = 0.0
    bins: list[list[float]] = field(default_factory=list)
    mature: float = 0.0
    conversions: float = 0.0
    sum_log_delay: float = 0.0
    sum_power: list[float] = field(default_factory=lambda: [0.0] * len(_SHAPES))
    log_rates: list[float] = field(default_factory=list)
    shape: int = _EXPONENTIAL
    factor: float = 1.0

    def click(self, time_s: float, pcvr: float, settings: DelaySettings) -> None:
        """Add one click's exposure."""
        self._fade_to(max(time_s, self.time_s), settings)
        self.bins.append([time_s, pcvr])

    def conversion(self, time_s: float, delay_s: float, settings: DelaySettings) -> None:
        """Add one conversion that came ``delay_s`` after its decision."""
        self._fade_to(max(time_s, self.time_s), settings)
        delay_s = max(delay_s, 1e-3)
        weight = math.exp(-(self.time_s - time_s) / settings.time_constant_s)
        self.conversions += weight
        self.sum_log_delay += weight * math.log(delay_s)
        self.sum_power = [s + weight * delay_s**k for s, k in zip(self.sum_power, _SHAPES, strict=True)]

    def refit(self, time_s: float, settings: DelaySettings, like: CampaignDelay | None = None) -> None:
        """Fit the law of the delays and solve for the factor, as of ``time_s``.

        ``like`` is all campaigns as one, fitted: delays are like its until the campaign's own tell otherwise.
        """
        self._fade_to(max(time_s, self.time_s), settings)
        usual = [-k * math.log(settings.mean_delay_s) for k in _SHAPES] if like is None else like.log_rates
        spread = _SPREAD_OF_GUESS if like is None else _SPREAD
        if not self.log_rates:
            self.log_rates = list(usual)
        clicks = self._clicks(settings)
        fits = [self._fit(i, clicks, Prior(usual[i], k * spread)) for i, k in enumerate(_SHAPES)]
        self.log_rates = [one.log_rate for one in fits]
        self.shape = self._best_shape(fits, _EXPONENTIAL if like is None else like.shape)
        exposure, off = fits[self.shape].exposure, self.log_rates[self.shape] - usual[self.shape]
        alive = 1.0 if like is None else self._alive(exposure, off / (_SHAPES[self.shape] * spread))
        self.factor = (self.conversions + _PSEUDO_CONVERSIONS) / (exposure + _PSEUDO_CONVERSIONS) * alive

    @property
    def log_factor(self) -> tuple[float, float]:
        """Mean and variance of log r."""
        return math.log(self.factor), 1.0 / (self.conversions + _PSEUDO_CONVERSIONS)

    def matured(self, elapsed_s: float) -> float:
        """Return F(elapsed): the share of conversions to be expected by then."""
        if elapsed_s <= 0.0:
            return 0.0
        log_power = self.log_rates[self.shape] + _SHAPES[self.shape] * math.log(elapsed_s)
        return -math.expm1(-math.exp(log_power))

    def _fade_to(self, time_s: float, settings: DelaySettings) -> None:
        fade = math.exp(-(time_s - self.time_s) / settings.time_constant_s) if self.time_s else 1.0
        self.time_s = time_s
        self.mature *= fade
        self.conversions *= fade
        self.sum_log_delay *= fade
        self.sum_power = [s * fade for s in self.sum_power]

    def _clicks(self, settings: DelaySettings) -> Clicks:
        """Return the clicks that are not mature, after adding up what those brought that have become it."""
        bins = _merged(self.bins, self.time_s)
        self.bins = [one for one in bins if self.time_s - one[0] <= settings.horizon_s]
        if old := bins[: len(bins) - len(self.bins)]:
            clicks = self._grid(old, settings)
            brought = faded_arrivals(self.log_rates[self.shape], _SHAPES[self.shape], clicks)
            self.mature += float((clicks.exposure * brought).sum())
        return self._grid(self.bins, settings)

    def _grid(self, bins: list[list[float]], settings: DelaySettings) -> Clicks:
        at_s, exposure = np.array(bins).reshape(-1, 2)[::-1].T
        return clicks_of(self.time_s - at_s, exposure, settings.time_constant_s)

    def _fit(self, i: int, clicks: Clicks, prior: Prior) -> Fit:
        arrived = Arrived(self.conversions, self.sum_power[i], self.mature)
        found = Fit(*fit(self.log_rates[i], _SHAPES[i], clicks, arrived, prior))
        of_shape = self.conversions * math.log(_SHAPES[i]) + (_SHAPES[i] - 1.0) * self.sum_log_delay
        return found._replace(log_likelihood=found.log_likelihood + of_shape)

    def _alive(self, exposure: float, deviations: float) -> float:
        """Return the probability that a campaign of which no conversion is known has any to come."""
        if self.conversions >= _NO_CONVERSION:
            return 1.0
        none_yet = -_PSEUDO_CONVERSIONS * math.log1p(exposure / _PSEUDO_CONVERSIONS) - 0.5 * deviations**2
        odds = _DEAD / (1.0 - _DEAD) * math.exp(min(-none_yet, _SUREST))
        return max(1.0 / (1.0 + odds), _LEAST_ALIVE)

    def _best_shape(self, fits: list[Fit], usual: int) -> int:
        likelihood = [one.log_likelihood for one in fits]
        best = int(np.argmax(likelihood))
        return best if likelihood[best] > likelihood[usual] + _LIKELIHOOD_MARGIN else usual

    def values(self) -> dict[str, Any]:
        """Return the state as plain values; ``CampaignDelay(**values)`` restores it."""
        return asdict(self)


def _merged(bins: list[list[float]], time_s: float) -> list[list[float]]:
    """Return bins by time, neighbours within a twelfth of their age as one at their mean time."""
    merged: list[list[float]] = []
    for at_s, exposure in sorted(bins):
        if merged and (at_s - merged[-1][0]) * _BIN_GROWTH < time_s - merged[-1][0]:
            total = merged[-1][1] + exposure
            merged[-1] = [merged[-1][0] + (at_s - merged[-1][0]) * exposure / total, total]
        else:
            merged.append([at_s, exposure])
    return merged


def logit_change(pcvr: float, log_factor: float) -> float:
    """Return what to add to ``logit(pcvr)`` so that the probability becomes ``pcvr * exp(log_factor)``."""
    moved = min(pcvr * math.exp(log_factor), 1.0 - 1e-6)
    return math.log(moved / (1.0 - moved)) - math.log(pcvr / (1.0 - pcvr))
