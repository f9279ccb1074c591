"""Users and ads of the simulated world as arrays, a function of the seed and the row alone.

Legend: U users, A ads, C categories, G classes of users that targeting tells apart (country × device).
An effect that drifts is ``base·cos(ωt) + other·sin(ωt)`` with normal base, other and ω: stationary, and
known at any time without a history.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import BID_TYPES, Ad
from models.domain.events import Context

from .draws import F64, hashes, normal, uniform
from .lexicon import ad_texts, category_name, category_words
from .world_config import WorldConfig

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Wave:
    """Effects that drift; all arrays of the same shape (``omega`` may broadcast), ω in radians per second."""

    base: F64
    other: F64
    omega: F64

    def at(self, seconds: F64 | float) -> F64:
        """Return the effects after so many seconds of drift."""
        angle = self.omega * seconds
        value: F64 = self.base * np.cos(angle) + self.other * np.sin(angle)
        return value

    def rows(self, rows: I64) -> Wave:
        """Return the effects of these rows alone."""
        return Wave(self.base[rows], self.other[rows], self.omega[rows])


def wave(seed: int, purpose: str, sd: float, tau_s: float, *parts: NDArray[np.int64]) -> Wave:
    """Return effects of standard deviation `sd` whose correlation falls to e^-½ after `tau_s` (0: never)."""
    omega = normal(seed, f"{purpose} omega", *parts) / tau_s if tau_s else np.zeros(1)
    base = sd * normal(seed, f"{purpose} base", *parts)
    other = sd * normal(seed, f"{purpose} other", *parts)
    return Wave(base, other, np.broadcast_to(omega, base.shape))


@dataclass(frozen=True, eq=False)
class Users:
    """The users. ``group`` is the class that targeting sees, country times devices plus device."""

    ids: tuple[str, ...]
    contexts: tuple[Context, ...]
    segment: I64
    group: I64
    activity_cdf: F64
    taste: Wave
    """`[U, C]`"""

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each user id."""
        return {user_id: row for row, user_id in enumerate(self.ids)}


def make_users(config: WorldConfig) -> Users:
    """Return the world's users."""
    seed, traffic, n = config.seed, config.traffic, config.sizes.users
    rows = np.arange(n)
    segment = _pick(seed, "user segment", rows, config.sizes.segments)
    country = _pick(seed, "user country", rows, len(traffic.countries))
    device = _pick(seed, "user device", rows, len(traffic.devices))
    activity = np.exp(traffic.activity_sd * normal(seed, "user activity", rows))
    return Users(
        ids=tuple(f"user-{row:06d}" for row in range(n)),
        contexts=_contexts(config, segment, country, device),
        segment=segment,
        group=country * len(traffic.devices) + device,
        activity_cdf=np.cumsum(activity),
        taste=wave(
            seed, "user taste", config.tastes.user_sd, config.drift.user_s,
            rows[:, None], np.arange(config.sizes.categories)[None, :],
        ),
    )  # fmt: skip


def _pick(seed: int, purpose: str, rows: I64, n: int) -> I64:
    return (hashes(seed, purpose, rows) % np.uint64(n)).astype(np.int64)


def _contexts(config: WorldConfig, segment: I64, country: I64, device: I64) -> tuple[Context, ...]:
    traffic = config.traffic
    languages = traffic.languages
    return tuple(
        Context(
            country=traffic.countries[c],
            device=traffic.devices[d],
            language=languages[c % len(languages)],
            segment=f"s{s}",
        )
        for s, c, d in zip(segment.tolist(), country.tolist(), device.tolist(), strict=True)
    )


@dataclass(frozen=True, eq=False)
class AdTable:
    """The ads, row i of every array for ad i. ``born_s`` is the second of arrival."""

    ads: NDArray[np.object_]
    topics: F64
    """`[A, C]` weights of the categories, rows sum to 1."""
    category: I64
    second: I64
    """`[A]` the category of the rest of the topics' weight."""
    campaign: I64
    effect: Wave
    """`[A]` the ad's own part of the click logit."""
    campaign_effect: Wave
    cvr: F64
    delay_s: F64
    popularity: F64
    bid_micros: F64
    bid_type: I64
    allowed: Bools
    """`[A, G]` whether the targeting lets this class of users see it."""
    active: Bools
    born_s: F64

    def __len__(self) -> int:
        return len(self.ads)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each ad id."""
        return {ad.ad_id: row for row, ad in enumerate(self.ads)}

    def visible_to(self, group: int) -> Bools:
        """Return `[A]` whether an ad is active and its targeting lets this class of users see it."""
        return self._visible[group]

    @cached_property
    def _visible(self) -> Bools:
        return np.ascontiguousarray((self.allowed & self.active[:, None]).T)

    def joined(self, more: AdTable) -> AdTable:
        """Return the table with `more` rows behind its own."""
        return AdTable(
            **{f.name: _joined(getattr(self, f.name), getattr(more, f.name)) for f in fields(self)}
        )

    def without(self, rows: I64) -> AdTable:
        """Return the table with these rows no longer active."""
        active = self.active.copy()
        active[rows] = False
        return replace(self, active=active)


def _joined(a: Any, b: Any) -> Any:
    if isinstance(a, Wave):
        return Wave(*(np.concatenate([getattr(a, f.name), getattr(b, f.name)]) for f in fields(Wave)))
    return np.concatenate([a, b])


def make_ads(config: WorldConfig, first: int, count: int, born_s: float) -> AdTable:
    """Return the ads of rows ``first .. first + count - 1``; those past the first catalogue are new ones."""
    seed, sizes, tastes, drift = config.seed, config.sizes, config.tastes, config.drift
    rows = np.arange(first, first + count)
    campaign = _campaigns(config, rows)
    category = _categories(config, rows, campaign)
    second = (category + 1 + _pick(seed, "ad second", rows, sizes.categories - 1)) % sizes.categories
    bid_type, bid = _bids(config, rows)
    allowed = _allowed(config, rows)
    return AdTable(
        ads=_records(config, rows, campaign, category, second, bid_type, bid, allowed),
        topics=_topics(sizes.categories, category, second, tastes.topic_focus),
        category=category,
        second=second,
        campaign=campaign,
        effect=wave(seed, "ad effect", tastes.ad_sd, drift.ad_s, rows),
        campaign_effect=wave(seed, "campaign effect", tastes.campaign_sd, drift.campaign_s, campaign),
        cvr=config.reactions.cvr_sd * normal(seed, "campaign cvr", campaign),
        delay_s=config.reactions.conversion_delay_s
        * np.exp(config.reactions.conversion_delay_sd * normal(seed, "campaign delay", campaign)),
        popularity=np.exp(normal(seed, "ad popularity", rows)),
        bid_micros=bid.astype(np.float64),
        bid_type=bid_type,
        allowed=allowed,
        active=np.ones(count, dtype=np.bool_),
        born_s=np.full(count, born_s),
    )


def _campaigns(config: WorldConfig, rows: I64) -> I64:
    """Return each ad's campaign; half of the new ads join a campaign of the first catalogue."""
    own = rows // config.sizes.ads_per_campaign
    old = _pick(config.seed, "ad joins", rows, max(1, config.sizes.ads // config.sizes.ads_per_campaign))
    joins = (rows >= config.sizes.ads) & (uniform(config.seed, "ad joins?", rows) < 0.5)
    return np.where(joins, old, own)


def _categories(config: WorldConfig, rows: I64, campaign: I64) -> I64:
    n = config.sizes.categories
    usual = _pick(config.seed, "campaign category", campaign, n)
    own = _pick(config.seed, "ad category", rows, n)
    return np.where(uniform(config.seed, "ad category?", rows) < 0.8, usual, own)


def _topics(categories: int, category: I64, second: I64, focus: float) -> F64:
    topics = np.zeros((len(category), categories))
    topics[np.arange(len(category)), second] = 1 - focus
    topics[np.arange(len(category)), category] = focus
    return topics


_CPM_CLICKS = 90.0
"""Clicks per thousand impressions that a CPM bid pays for: a little above the mean ad's."""


def _bids(config: WorldConfig, rows: I64) -> tuple[I64, I64]:
    inventory, seed = config.inventory, config.seed
    u = uniform(seed, "bid type", rows)
    code = {name: i for i, name in enumerate(BID_TYPES)}
    rest = np.where(u < inventory.cpa_share + inventory.cpm_share, code["cpm"], code["cpc"])
    bid_type = np.where(u < inventory.cpa_share, code["cpa"], rest)
    pcvr = 1 / (1 + np.exp(-config.reactions.cvr_logit))
    per = np.where(bid_type == code["cpa"], 1 / pcvr, np.where(bid_type == code["cpm"], _CPM_CLICKS, 1.0))
    bid = inventory.bid_micros * np.exp(inventory.bid_sd * normal(seed, "bid", rows)) * per
    return bid_type, np.clip(bid, 1, _MOST_MICROS).astype(np.int64)


def _allowed(config: WorldConfig, rows: I64) -> Bools:
    """Return `[n, G]`: a targeted ad keeps one country out of sight, and half of them one device too."""
    n_countries, n_devices = len(config.traffic.countries), len(config.traffic.devices)
    allowed = np.ones((len(rows), n_countries, n_devices), dtype=np.bool_)
    u = uniform(config.seed, "targeted", rows)
    some = np.flatnonzero(u < config.inventory.targeted_share)
    if n_countries > 1:
        allowed[some, _pick(config.seed, "not country", rows[some], n_countries), :] = False
    half = np.flatnonzero(u < config.inventory.targeted_share / 2)
    if n_devices > 1:
        allowed[half, :, _pick(config.seed, "not device", rows[half], n_devices)] = False
    return allowed.reshape(len(rows), -1)


def _targeting(config: WorldConfig, allowed: Bools) -> str:
    """Return the expression that `allowed` `[G]` stands for."""
    traffic = config.traffic
    grid = allowed.reshape(len(traffic.countries), len(traffic.devices))
    axes: list[tuple[str, tuple[str, ...], list[bool]]] = [
        ("country", traffic.countries, np.any(grid, axis=1).tolist()),
        ("device", traffic.devices, np.any(grid, axis=0).tolist()),
    ]
    terms = []
    for name, values, keep in axes:
        kept = [f'"{v}"' for v, ok in zip(values, keep, strict=True) if ok]
        if len(kept) < len(values):
            terms.append(f"{name} in ({', '.join(kept)})" if len(kept) > 1 else f"{name} == {kept[0]}")
    return " and ".join(terms)


_QUALITY, _MOST_MICROS = (1e-4, 10.0), 1e15
"""What an ad of the catalogue may say; a world of huge spreads is cut there."""


def _records(
    config: WorldConfig, rows: I64, campaign: I64, category: I64, second: I64,
    bid_type: I64, bid: I64, allowed: Bools,
) -> NDArray[np.object_]:  # fmt: skip
    words = [category_words(config.seed, c) for c in range(config.sizes.categories)]
    quality = np.exp(config.inventory.quality_sd * normal(config.seed, "quality", rows))
    quality = np.clip(quality, *_QUALITY)
    budgets = _budgets(config, campaign)
    texts = ad_texts(config.seed, rows, category, second, words, config.inventory.text_noise)
    seen_by, which = np.unique(allowed, axis=0, return_inverse=True)
    targets = [_targeting(config, each) for each in seen_by]
    records = np.empty(len(rows), dtype=np.object_)
    for i, row in enumerate(rows.tolist()):
        records[i] = Ad(
            ad_id=f"ad-{row:06d}",
            campaign_id=f"campaign-{campaign[i]:05d}",
            advertiser_id=f"advertiser-{campaign[i] // config.sizes.campaigns_per_advertiser:04d}",
            category=category_name(int(category[i])),
            title=texts[i][0],
            text=texts[i][1],
            bid_type=BID_TYPES[bid_type[i]],
            bid_micros=int(bid[i]),
            quality=round(float(quality[i]), 4),
            daily_budget_micros=budgets[i],
            targeting=targets[which[i]],
        )
    return records


def _budgets(config: WorldConfig, campaign: I64) -> list[int | None]:
    inventory = config.inventory
    limited = uniform(config.seed, "campaign budget?", campaign) < inventory.budget_share
    amount = inventory.daily_budget_micros * np.exp(0.5 * normal(config.seed, "campaign budget", campaign))
    amount = np.minimum(amount, _MOST_MICROS)
    return [int(a) if yes else None for a, yes in zip(amount, limited.tolist(), strict=True)]
