"""When campaigns end: with the last of their ads, as far as these have an end."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest

import msgspec

from models.domain.catalogue import Ad

MAX_ENDS = 1_000
"""Ends kept per campaign; of more, the latest."""


class Ends(msgspec.Struct):
    """The ends of the ads of campaigns with a lifetime budget: nothing else is paced by them."""

    of_ads: dict[str, dict[str, int]] = {}
    """By campaign, then by ad."""
    campaign_of: dict[str, str] = {}

    def latest(self, campaign_id: str) -> int | None:
        """Return the end of a campaign; None where none of its ads has one."""
        return max(self.of_ads.get(campaign_id, {}).values(), default=None)

    def follow(self, ads: Iterable[Ad]) -> list[str]:
        """Take over the ends of these ads; return the campaigns that held one of them before."""
        held: list[str] = []
        for ad in ads:
            held += self.drop((ad.ad_id,))
            if ad.lifetime_budget_micros is None:
                self.drop(tuple(self.of_ads.get(ad.campaign_id, ())))
            elif ad.end_time is not None:
                self.campaign_of[ad.ad_id] = ad.campaign_id
                self.of_ads.setdefault(ad.campaign_id, {})[ad.ad_id] = ad.end_time
        return held

    def trim(self, campaign_id: str) -> None:
        """Forget a campaign's earliest ends where there are too many."""
        ends = self.of_ads.get(campaign_id, {})
        if len(ends) > MAX_ENDS:
            latest = set(nlargest(MAX_ENDS, ends, key=ends.__getitem__))
            self.drop([ad_id for ad_id in ends if ad_id not in latest])

    def drop(self, ad_ids: Iterable[str]) -> list[str]:
        """Forget the ends of these ads; return the campaigns that held one."""
        held: dict[str, None] = {}
        for ad_id in ad_ids:
            campaign_id = self.campaign_of.pop(ad_id, None)
            if campaign_id is None:
                continue
            held[campaign_id] = None
            ends = self.of_ads[campaign_id]
            del ends[ad_id]
            if not ends:
                del self.of_ads[campaign_id]
        return list(held)
