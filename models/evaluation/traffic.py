"""What happens in the simulated world whatever is decided: requests, organic views, ads that come and go.

Everything of one second is drawn at once from the seed and the second, and comes in time order.
"""

from __future__ import annotations

import numpy as np

from models.domain.events import AdUpsert, AdWithdraw, Event, Request, View

from .draws import F64, choice, second_generator, uniform
from .inventory import AdTable
from .population import I64
from .truth import Truth
from .world_config import WorldConfig

Timed = tuple[int, str, Event]
"""Event time, id, event: the order in which events leave the world."""

_UPSERT_ADS = 1000
_DAY_S = 86_400


def rate_at(config: WorldConfig, mean: float, second: int) -> float:
    """Return the rate per second of a kind of traffic whose mean rate is `mean`."""
    return mean * (1 + config.traffic.day_swing * float(np.sin(2 * np.pi * second / _DAY_S)))


def _arrivals(truth: Truth, purpose: str, mean: float, second: int) -> tuple[I64, I64, np.random.Generator]:
    """Return users `[n]` and sorted times `[n]` of one second, and the generator for the rest."""
    config = truth.config
    rng = second_generator(config.seed, purpose, second)
    n = int(rng.poisson(rate_at(config, mean, second)))
    user = choice(truth.users.activity_cdf, rng.random(n))
    times = np.sort(rng.integers(0, 1000, n)) + config.epoch_ms + second * 1000
    return user, times, rng


def requests(truth: Truth, second: int) -> list[Timed]:
    """Return the requests of one second."""
    traffic, users = truth.config.traffic, truth.users
    user, times, rng = _arrivals(truth, "requests", traffic.requests_per_s, second)
    place = rng.integers(0, len(traffic.placements), len(user))
    made: list[Timed] = []
    for i, (u, t, p) in enumerate(zip(user.tolist(), times.tolist(), place.tolist(), strict=True)):
        request = Request(
            id=f"r{second}-{i}", event_time=t, user_id=users.ids[u],
            placement_id=traffic.placements[p], context=users.contexts[u],
        )  # fmt: skip
        made.append((t, request.id, request))
    return made


class Shelf:
    """The active ads by category with their organic popularity, to draw views from."""

    def __init__(self, ads: AdTable) -> None:
        rows = np.flatnonzero(ads.active)
        order = rows[np.argsort(ads.category[rows], kind="stable")]
        self.order = order
        self.cdf = np.concatenate([[0.0], np.cumsum(ads.popularity[order])])
        edges = np.arange(ads.topics.shape[1] + 1)
        self.edges = np.searchsorted(ads.category[order], edges, side="left")

    def draw(self, category: I64, u: F64) -> I64:
        """Return an ad row for each category `[B]`, -1 where the category holds none."""
        low, high = self.cdf[self.edges[category]], self.cdf[self.edges[category + 1]]
        place = np.searchsorted(self.cdf, low + u * (high - low), side="right") - 1
        inside = np.clip(place, self.edges[category], np.maximum(self.edges[category + 1] - 1, 0))
        return np.where(high > low, self.order[np.minimum(inside, len(self.order) - 1)], -1)


def views(truth: Truth, shelf: Shelf, second: int) -> list[Timed]:
    """Return the organic views of one second: a category by the user's taste, an ad by its popularity."""
    mean = truth.config.traffic.views_per_s
    user, times, rng = _arrivals(truth, "views", mean, second)
    if not len(user) or not len(shelf.order):
        return []
    category = truth.view_category(user, truth.second(times), rng.random(len(user)))
    ad = shelf.draw(category, rng.random(len(user)))
    made: list[Timed] = []
    for i, (u, a, t) in enumerate(zip(user.tolist(), ad.tolist(), times.tolist(), strict=True)):
        if a >= 0:
            user_id, ad_id = truth.users.ids[u], truth.ads.ads[a].ad_id
            view = View(id=f"v{second}-{i}", event_time=t, user_id=user_id, ad_id=ad_id)
            made.append((t, view.id, view))
    return made


def upserts(table: AdTable, rows: I64, time_ms: int, name: str) -> list[Timed]:
    """Return the control records that bring these ads, at most 1,000 ads each."""
    made: list[Timed] = []
    for i in range(0, len(rows), _UPSERT_ADS):
        record = AdUpsert(
            id=f"{name}-{i // _UPSERT_ADS:05d}",
            event_time=time_ms,
            ads=tuple(table.ads[rows[i : i + _UPSERT_ADS]]),
        )
        made.append((time_ms, record.id, record))
    return made


def burst_number(config: WorldConfig, second: int) -> int:
    """Return the number of the burst of new ads that begins in this second, 0 for none."""
    every = config.inventory.burst_every_s
    if not every or second <= 0:
        return 0
    number = int((second + 1) // every)
    return number if number > int(second // every) else 0


def withdrawals(config: WorldConfig, table: AdTable, burst: int) -> I64:
    """Return the rows that a burst takes away."""
    rows = np.arange(len(table))
    gone = uniform(config.seed, "withdraw", burst, rows) < config.inventory.withdraw_share
    return rows[gone & table.active]


def withdraw_record(table: AdTable, rows: I64, time_ms: int, name: str) -> list[Timed]:
    """Return the control record that withdraws these ads (none for no ads)."""
    if not len(rows):
        return []
    record = AdWithdraw(id=name, event_time=time_ms, ad_ids=tuple(ad.ad_id for ad in table.ads[rows]))
    return [(time_ms, record.id, record)]
