"""The ads of the simulated world as arrays, a function of the seed and the row alone.

Legend: A ads, n rows asked for, C categories, G classes of users that targeting tells apart.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import BID_TYPES, Ad
from models.policy.auction import MAX_BID_MICROS

from .audiences import allowed_classes, targeting_by
from .draws import F64, normal, uniform
from .lexicon import ad_texts, category_name, category_words
from .population import I64, Bools, Wave, pick, wave
from .world_config import WorldConfig


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
    second = (category + 1 + pick(seed, "ad second", rows, sizes.categories - 1)) % sizes.categories
    budget = _budgets(config, campaign)
    bid_type, bid = _bids(config, rows, budget)
    allowed = allowed_classes(config, rows)
    return AdTable(
        ads=_records(config, rows, campaign, category, second, bid_type, bid, budget, allowed),
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
    old = pick(config.seed, "ad joins", rows, max(1, config.sizes.ads // config.sizes.ads_per_campaign))
    joins = (rows >= config.sizes.ads) & (uniform(config.seed, "ad joins?", rows) < 0.5)
    return np.where(joins, old, own)


def _categories(config: WorldConfig, rows: I64, campaign: I64) -> I64:
    n = config.sizes.categories
    usual = pick(config.seed, "campaign category", campaign, n)
    own = pick(config.seed, "ad category", rows, n)
    return np.where(uniform(config.seed, "ad category?", rows) < 0.8, usual, own)


def _topics(categories: int, category: I64, second: I64, focus: float) -> F64:
    topics = np.zeros((len(category), categories))
    topics[np.arange(len(category)), second] = 1 - focus
    topics[np.arange(len(category)), category] = focus
    return topics


_CPM_CLICKS = 90.0
"""Clicks per thousand impressions that a CPM bid pays for: a little above the mean ad's."""


def _bids(config: WorldConfig, rows: I64, budget: F64) -> tuple[I64, I64]:
    """Return type and bid of each ad, which the product takes: a charge is within the campaign's budget."""
    inventory, seed = config.inventory, config.seed
    u = uniform(seed, "bid type", rows)
    code = {name: i for i, name in enumerate(BID_TYPES)}
    rest = np.where(u < inventory.cpa_share + inventory.cpm_share, code["cpm"], code["cpc"])
    bid_type = np.where(u < inventory.cpa_share, code["cpa"], rest)
    pcvr = 1 / (1 + np.exp(-config.reactions.cvr_logit))
    per = np.where(bid_type == code["cpa"], 1 / pcvr, np.where(bid_type == code["cpm"], _CPM_CLICKS, 1.0))
    bid = inventory.bid_micros * np.exp(inventory.bid_sd * normal(seed, "bid", rows)) * per
    payable = np.where(np.isnan(budget), np.inf, budget) * np.where(bid_type == code["cpm"], 1000, 1)
    most = np.minimum(payable, MAX_BID_MICROS)
    return bid_type, np.clip(bid, 1, most).astype(np.int64)


_QUALITY, _MOST_MICROS = (1e-4, 10.0), 1e15
"""What an ad of the catalogue may say; a world of huge spreads is cut there."""


def _records(
    config: WorldConfig, rows: I64, campaign: I64, category: I64, second: I64,
    bid_type: I64, bid: I64, budget: F64, allowed: Bools,
) -> NDArray[np.object_]:  # fmt: skip
    words = [category_words(config.seed, c) for c in range(config.sizes.categories)]
    quality = np.exp(config.inventory.quality_sd * normal(config.seed, "quality", rows))
    quality = np.clip(quality, *_QUALITY)
    texts = ad_texts(config.seed, rows, category, second, words, config.inventory.text_noise)
    seen_by, which = np.unique(allowed, axis=0, return_inverse=True)
    targets = [targeting_by(config, each) for each in seen_by]
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
            daily_budget_micros=None if np.isnan(budget[i]) else int(budget[i]),
            targeting=targets[which[i]],
        )
    return records


def _budgets(config: WorldConfig, campaign: I64) -> F64:
    """Return the whole micros of each campaign's daily budget, nan where it has none."""
    inventory = config.inventory
    limited = uniform(config.seed, "campaign budget?", campaign) < inventory.budget_share
    amount = inventory.daily_budget_micros * np.exp(0.5 * normal(config.seed, "campaign budget", campaign))
    return np.where(limited, np.floor(np.clip(amount, 1, _MOST_MICROS)), np.nan)
