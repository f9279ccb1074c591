"""Ads as the log brings them, and the catalogue as arrays.

`Catalogue` is an immutable value: a change returns a new one, and equal histories give equal
versions. Row ``i`` of every array belongs to ``ad_ids[i]`` for as long as the chain of changes lives;
withdrawn ads keep their row with ``active`` false. Arrays are `[A]` with A ads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .ids import key64

_Id = Annotated[str, Meta(min_length=1, max_length=128)]
_Label = Annotated[str, Meta(max_length=128)]
_Text = Annotated[str, Meta(max_length=4096)]
_Micros = Annotated[int, Meta(ge=0, le=10**15)]

BID_TYPES = ("cpm", "cpc", "cpa")
"""What a bid pays for: a thousand impressions, a click or a conversion; the index is its code."""

NO_END = np.iinfo(np.int64).max


class Creative(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One way to present an ad; shown only once ``review`` is ``approved``."""

    creative_id: _Id
    headline: _Text = ""
    image_url: _Text = ""
    call_to_action: _Label = ""
    generated: bool = False
    review: Annotated[str, Meta(pattern="^(pending|approved|rejected)$")] = "approved"


class Ad(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One ad of the catalogue, with what its campaign pays and where it may be shown.

    ``targeting`` is an expression over the request's context, e.g.
    ``country in ("de", "at") and device == "mobile" and 8 <= hour < 20``. ``vector`` is an embedding of
    the ad's image, audio or video by any encoder. Budgets belong to the campaign and must agree in
    all of its ads; the last record wins.
    """

    ad_id: _Id
    campaign_id: _Id
    advertiser_id: _Label = ""
    category: _Label = ""
    labels: Annotated[tuple[_Label, ...], Meta(max_length=32)] = ()
    title: _Text = ""
    text: _Text = ""
    vector: Annotated[tuple[float, ...], Meta(max_length=4096)] = ()
    bid_type: Annotated[str, Meta(pattern="^(cpm|cpc|cpa)$")] = "cpc"
    bid_micros: _Micros = 1_000_000
    quality: Annotated[float, Meta(gt=0, le=10)] = 1.0
    daily_budget_micros: _Micros | None = None
    lifetime_budget_micros: _Micros | None = None
    start_time: Annotated[int, Meta(ge=0)] | None = None
    end_time: Annotated[int, Meta(ge=0)] | None = None
    targeting: _Text = ""
    placements: Annotated[tuple[_Label, ...], Meta(max_length=32)] = ()
    floor_micros: _Micros = 0
    click_through_s: Annotated[int, Meta(ge=1)] | None = None
    view_through_s: Annotated[int, Meta(ge=0)] | None = None
    creatives: Annotated[tuple[Creative, ...], Meta(max_length=64)] = ()


def _column(ads: Sequence[Ad], values: Iterable[object], dtype: type) -> NDArray:  # type: ignore[type-arg]
    return np.fromiter(values, dtype=dtype, count=len(ads))


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All ads in force, as rows of arrays.

    Parameters
    ----------
    ads
        Row ``i`` is the ad's last record.
    active
        `[A]` bool; false for withdrawn ads.
    version
        ``<number of changes>-<hash of the chain of changes>``.

    """

    ads: tuple[Ad, ...] = ()
    active: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    version: str = "0-00000000"

    def __len__(self) -> int:
        return len(self.ads)

    def upsert(self, ads: Sequence[Ad]) -> Catalogue:
        """Return the catalogue with these ads added or replaced, all active."""
        rows = dict(self.row_of)
        merged = list(self.ads)
        for ad in ads:
            row = rows.setdefault(ad.ad_id, len(merged))
            if row == len(merged):
                merged.append(ad)
            else:
                merged[row] = ad
        active = np.ones(len(merged), dtype=np.bool_)
        active[: len(self.active)] = self.active
        active[[rows[ad.ad_id] for ad in ads]] = True
        change = msgspec.json.encode(ads)
        return Catalogue(tuple(merged), active, self._next_version(change))

    def withdraw(self, ad_ids: Sequence[str]) -> Catalogue:
        """Return the catalogue without these ads; ids that it does not hold are ignored."""
        active = self.active.copy()
        active[[self.row_of[a] for a in ad_ids if a in self.row_of]] = False
        change = msgspec.json.encode(("withdraw", tuple(ad_ids)))
        return replace(self, active=active, version=self._next_version(change))

    def _next_version(self, change: bytes) -> str:
        count, chain = self.version.split("-")
        digest = blake2b(chain.encode() + change, digest_size=4).hexdigest()
        return f"{int(count) + 1}-{digest}"

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each ad id."""
        return {ad.ad_id: row for row, ad in enumerate(self.ads)}

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """`[A]` stable key of each ad id."""
        return _column(self.ads, (key64(ad.ad_id) for ad in self.ads), np.uint64)

    @cached_property
    def campaigns(self) -> tuple[str, ...]:
        """Campaign ids in order of first appearance; codes in `campaign` index it."""
        return tuple(dict.fromkeys(ad.campaign_id for ad in self.ads))

    @cached_property
    def campaign(self) -> NDArray[np.int32]:
        """`[A]` campaign code of each ad."""
        return self._codes(self.campaigns, (ad.campaign_id for ad in self.ads))

    @cached_property
    def advertisers(self) -> tuple[str, ...]:
        """Advertiser ids; codes in `advertiser` index it."""
        return tuple(dict.fromkeys(ad.advertiser_id for ad in self.ads))

    @cached_property
    def advertiser(self) -> NDArray[np.int32]:
        """`[A]` advertiser code of each ad."""
        return self._codes(self.advertisers, (ad.advertiser_id for ad in self.ads))

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Categories; codes in `category` index it."""
        return tuple(dict.fromkeys(ad.category for ad in self.ads))

    @cached_property
    def category(self) -> NDArray[np.int32]:
        """`[A]` category code of each ad."""
        return self._codes(self.categories, (ad.category for ad in self.ads))

    @cached_property
    def bid_micros(self) -> NDArray[np.int64]:
        """`[A]` bid."""
        return _column(self.ads, (ad.bid_micros for ad in self.ads), np.int64)

    @cached_property
    def bid_type(self) -> NDArray[np.int8]:
        """`[A]` index into BID_TYPES."""
        return _column(self.ads, (BID_TYPES.index(ad.bid_type) for ad in self.ads), np.int8)

    @cached_property
    def quality(self) -> NDArray[np.float64]:
        """`[A]` quality factor of the auction."""
        return _column(self.ads, (ad.quality for ad in self.ads), np.float64)

    @cached_property
    def start_time(self) -> NDArray[np.int64]:
        """`[A]` first millisecond in which the ad may be shown."""
        return _column(self.ads, (ad.start_time or 0 for ad in self.ads), np.int64)

    @cached_property
    def end_time(self) -> NDArray[np.int64]:
        """`[A]` first millisecond in which the ad may no longer be shown."""
        return _column(self.ads, (NO_END if a.end_time is None else a.end_time for a in self.ads), np.int64)

    def _codes(self, names: tuple[str, ...], values: Iterable[str]) -> NDArray[np.int32]:
        code = {name: i for i, name in enumerate(names)}
        return _column(self.ads, (code[value] for value in values), np.int32)
