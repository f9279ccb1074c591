"""How well campaigns' conversion rates are known while most conversions are still to come.

    python tests/benchmarks/bench_conversions.py [--json] [--quick]

Campaigns of 20 clicks an hour, begun within a week, of which the model expects one in twenty to convert; by
how much each is off wanders (its logarithm has a standard deviation of .4 and comes back within some five
days). Conversions come late, by a Weibull law (shape 1: exponential) of each campaign's own mean (.8 around
all of them in logarithms) that the learner is not told, and those of more than seven days not at all. Every
six hours from the second day on the factor that the learner would apply is set against the true one, for
campaigns that have run for six hours.

``error`` is the root mean square of the difference of their logarithms, ``bias`` its mean; beside it the
errors of one who takes clicks without a conversion for clicks that will have none (``naive``), and of one who
is told every conversion with its click (``told_at_once``), both with the same forgetting and prior. ``ratio``
is naive's error over the learner's.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray
from printed import Row, print_rows

from models.learning.delay import CampaignDelay, DelaySettings

F64 = NDArray[np.float64]

HOUR_S = 3600.0
DAYS, FIRST_DAY = 10, 1
LAUNCH_DAYS = 7
DELAY_SD = 0.8
CAMPAIGNS, CLICKS_PER_HOUR, PCVR = 10, 20.0, 0.05
DRIFT_SD, DRIFT_HOURS = 0.4, 120.0
REFIT_S, LOOK_S = 600.0, 6 * HOUR_S
SETTINGS = DelaySettings()
PRIOR = 10.0
"""Pseudo-conversions of the two beside it: those of the learner."""


@dataclass
class Faded:
    """Conversions over exposure, both faded."""

    time_s: float = 0.0
    conversions: float = 0.0
    exposure: float = 0.0

    def add(self, time_s: float, conversions: float = 0.0, exposure: float = 0.0) -> None:
        """Count what is told of a click at this time."""
        fade = math.exp(-(time_s - self.time_s) / SETTINGS.time_constant_s)
        self.time_s = time_s
        self.conversions = self.conversions * fade + conversions
        self.exposure = self.exposure * fade + exposure

    @property
    def log_factor(self) -> float:
        """What a click's conversion rate is taken to be over the model's."""
        return math.log((self.conversions + PRIOR) / (self.exposure + PRIOR))


@dataclass
class Campaign:
    """One campaign as each of the three knows it."""

    learned: CampaignDelay = field(default_factory=CampaignDelay)
    naive: Faded = field(default_factory=Faded)
    at_once: Faded = field(default_factory=Faded)

    def errors(self, true: float) -> list[float]:
        """Return by how much each is off a true log factor."""
        known = self.learned.log_factor[0], self.naive.log_factor, self.at_once.log_factor
        return [one - true for one in known]


Told = tuple[float, int, bool, float]
"""Time, campaign, and of a conversion its delay; of a click whether it will convert."""


def factors(rng: np.random.Generator) -> F64:
    """Return the campaigns' true log factors `[CAMPAIGNS, hours]`, an Ornstein-Uhlenbeck process."""
    keep, hours = math.exp(-1.0 / DRIFT_HOURS), 24 * DAYS + 1
    path = np.empty((CAMPAIGNS, hours))
    path[:, 0] = rng.normal(0.0, DRIFT_SD, CAMPAIGNS)
    for hour in range(1, hours):
        noise = rng.normal(0.0, DRIFT_SD * math.sqrt(1.0 - keep**2), CAMPAIGNS)
        path[:, hour] = keep * path[:, hour - 1] + noise
    return path


def starts() -> F64:
    """Return when each campaign begins `[CAMPAIGNS]`, in seconds."""
    return np.linspace(0.0, 24 * LAUNCH_DAYS * HOUR_S, CAMPAIGNS)


def told(rng: np.random.Generator, true: F64, mean_s: float, shape: float) -> list[Told]:
    """Return clicks (delay -1) and conversions in the order in which they are told."""
    out: list[Told] = []
    for campaign, start_s in enumerate(starts().tolist()):
        scale = mean_s * math.exp(DELAY_SD * rng.normal()) / math.gamma(1.0 + 1.0 / shape)
        hours = 24 * DAYS - start_s / HOUR_S
        clicks = rng.uniform(start_s, 24 * DAYS * HOUR_S, rng.poisson(CLICKS_PER_HOUR * hours))
        rate = PCVR * np.exp(true[campaign, (clicks / HOUR_S).astype(int)])
        delays = scale * rng.weibull(shape, len(clicks))
        converts = (rng.random(len(clicks)) < rate) & (delays < SETTINGS.horizon_s)
        for time_s, will, delay_s in zip(clicks.tolist(), converts.tolist(), delays.tolist(), strict=True):
            out.append((time_s, campaign, will, -1.0))
            if will:
                out.append((time_s + delay_s, campaign, True, delay_s))
    return sorted(out)


def looked_at(rng: np.random.Generator, mean_s: float, shape: float) -> Iterator[list[float]]:
    """Yield the errors of all three for each campaign at each look."""
    true = factors(rng)
    campaigns, together = [Campaign() for _ in range(CAMPAIGNS)], CampaignDelay()
    refit_s, look_s = REFIT_S, FIRST_DAY * 24 * HOUR_S
    for time_s, at, converts, delay_s in told(rng, true, mean_s, shape):
        while time_s > refit_s:
            together.refit(refit_s, SETTINGS)
            for campaign in campaigns:
                campaign.learned.refit(refit_s, SETTINGS, like=together)
            refit_s += REFIT_S
        if time_s > 24 * DAYS * HOUR_S:
            return
        if time_s > look_s:
            now = true[:, int(look_s / HOUR_S)]
            for campaign, log, start_s in zip(campaigns, now, starts(), strict=True):
                if look_s >= start_s + LOOK_S:
                    yield campaign.errors(float(log))
            look_s += LOOK_S
        tell(campaigns[at], together, time_s, delay_s, converts=converts)


def tell(
    campaign: Campaign, together: CampaignDelay, time_s: float, delay_s: float, *, converts: bool
) -> None:
    """Tell all three of a click, or of a conversion."""
    for delay in (campaign.learned, together):
        if delay_s < 0:
            delay.click(time_s, PCVR, SETTINGS)
        else:
            delay.conversion(time_s, delay_s, SETTINGS)
    if delay_s < 0:
        campaign.naive.add(time_s, exposure=PCVR)
        campaign.at_once.add(time_s, conversions=float(converts), exposure=PCVR)
    else:
        campaign.naive.add(time_s, conversions=1.0)


def measure(quick: bool) -> list[Row]:
    """Return one line per law of the delay."""
    seeds, delays = (1, (8.0,)) if quick else (3, (1.0, 8.0, 24.0, 48.0))
    return [line(hours, shape, seeds) for hours, shape in product(delays, (1.0, 0.6))]


def line(hours: float, shape: float, seeds: int) -> Row:
    """Return the errors where conversions take so many hours on average."""
    rngs = [np.random.default_rng(seed) for seed in range(seeds)]
    learned, naive, at_once = np.array([e for rng in rngs for e in looked_at(rng, hours * HOUR_S, shape)]).T
    return {
        "what": f"conversions {hours:g} h late, shape {shape:g}",
        "how": "factor of a campaign",
        "ratio": round(_rms(naive) / _rms(learned), 2),
        "error": round(_rms(learned), 3),
        "bias": round(float(learned.mean()), 3),
        "naive": round(_rms(naive), 3),
        "told_at_once": round(_rms(at_once), 3),
    }


def _rms(errors: F64) -> float:
    return float(np.sqrt((errors**2).mean()))


def main() -> None:
    """Measure and print."""
    print_rows(__doc__, measure, "one delay, one seed")


if __name__ == "__main__":
    main()
