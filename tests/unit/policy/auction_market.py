"""A market for one paced campaign: auctions through the day, competitors, and late reports.

A second-price auction: the campaign bids ``value / (1 + mu)``, wins above the competition's price and
owes that price in expectation; it is charged on clicks, which are reported ``delay_s`` later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from models.domain.catalogue import Ad
from models.policy.accounts import DAY_MS
from models.policy.pacing import Pacer
from models.policy.pacing_settings import PacingSettings
from models.policy.under_way import CLICKS, Bill

Traffic = Callable[[np.ndarray], np.ndarray]
"""Traffic at a time of the day in [0, 1), over its mean."""


def one_wave(begins: float = 0.7) -> Traffic:
    """Traffic that swings by .6 around its mean; ``begins``: where in the wave the day begins."""
    return lambda time: 1.0 + 0.6 * np.sin(2 * np.pi * (time + begins))


def three_waves(begins: float = 0.0) -> Traffic:
    """Traffic with the first three waves, in its logarithm, of the Open Bandit data's impressions."""
    waves = ((1, 0.65, -2.4), (2, 0.60, -0.8), (3, 0.22, 0.9))

    def traffic(time: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * (time + begins)
        shape = np.exp(sum(height * np.cos(k * angle + at) for k, height, at in waves))
        return shape / shape.mean()

    return traffic


@dataclass(frozen=True)
class Market:
    times: np.ndarray
    value: np.ndarray
    price: np.ndarray
    pctr: np.ndarray
    clicks: np.ndarray

    @classmethod
    def open(cls, days: int, per_minute: float, seed: int, traffic: Traffic | None = None) -> "Market":
        rng = np.random.default_rng(seed)
        minutes = np.arange(days * 1440)
        shape = (traffic or one_wave())(minutes % 1440 / 1440)
        counts = rng.poisson(per_minute * shape)
        times = np.sort(np.repeat(minutes, counts) * 60_000 + rng.integers(0, 60_000, counts.sum()))
        n = len(times)
        pctr = rng.beta(4, 12, n)
        value = pctr * 1e6 * rng.lognormal(0, 0.5, n)
        dearer = 1.0 + 0.3 * np.sin(2 * np.pi * (times / DAY_MS - 0.1))
        price = 0.8 * 0.25e6 * rng.lognormal(0, 0.7, n) * dearer
        return cls(times, value, price, pctr, rng.random(n) < pctr)

    def free_spend_per_day(self) -> float:
        won = self.value > self.price
        return float(self.price[won].sum() / (self.times[-1] // DAY_MS + 1))

    def hindsight(self, day: int, budget: float) -> float:
        """The value that the best choice of auctions could have bought in this day."""
        today = (self.times // DAY_MS == day) & (self.value > self.price)
        value, price = self.value[today], self.price[today]
        best = np.argsort(-value / price)
        return float(value[best][np.cumsum(price[best]) <= budget].sum())


@dataclass
class Result:
    value: np.ndarray
    expected_spend: np.ndarray
    charged: np.ndarray


def run(
    market: Market,
    budget: int,
    settings: PacingSettings,
    delay_s: float = 60.0,
    first_day: int = 0,
    foretold: float = 1.0,
) -> Result:
    """Run a campaign with this daily budget from a day on; results are per day.

    Before, the market's traffic goes to others, and the pacer sees it. Impressions foretell their price times
    ``foretold``, which is off by as much as predictions are; 0: outcomes tell of charges alone.
    """
    pacer = Pacer(settings)
    ad = Ad(ad_id="a", campaign_id="c", daily_budget_micros=budget, start_time=first_day * DAY_MS)
    pacer.follow([ad])
    days = int(market.times[-1] // DAY_MS) + 1
    result = Result(np.zeros(days), np.zeros(days), np.zeros(days))
    reports: list[tuple[int, int, int, float]] = []
    first = pacer.emit()
    mu = 0.0 if first is None else first.multipliers.get("c", 0.0)
    stopped = frozenset[int]()
    columns = (market.times, market.value, market.price, market.pctr, market.clicks)
    for time, value, price, pctr, click in zip(*(c.tolist() for c in columns), strict=True):
        day = time // DAY_MS
        while reports and reports[0][0] <= time:
            _, at, charge, due = heappop(reports)
            pacer.observe("c", charge, at, impressions=1, bill=Bill(CLICKS, due))
            if (record := pacer.emit()) is not None:
                mu = record.multipliers.get("c", mu)
                stopped = frozenset({record.event_time // DAY_MS} if "c" in record.exhausted else ())
        if day in stopped or day < first_day or value / (1.0 + mu) <= price:
            heappush(reports, (time + int(delay_s * 1000), time, 0, 0.0))
            continue
        charge = round(price / pctr) if click else 0
        result.value[day] += value
        result.expected_spend[day] += price
        result.charged[day] += charge
        heappush(reports, (time + int(delay_s * 1000), time, charge, foretold * price))
    return result
