"""Ads as the log brings them, and the catalogue as arrays.

`Catalogue` is an immutable value: a change returns a new one, and equal histories give equal
versions. Row ``i`` of every array belongs to ``ad_ids[i]`` for as long as the chain of changes lives;
withdrawn ads keep their row with ``active`` false. Arrays are `[A]` with A ads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .errors import ArtifactError
from .fields import EpochMs, Id, Label, Micros, PositiveSeconds, Seconds, Text
from .ids import key64, label_key

BidType = Literal["cpm", "cpc", "cpa"]
Review = Literal["pending", "approved", "rejected"]

BID_TYPES: tuple[BidType, ...] = ("cpm", "cpc", "cpa")
"""What a bid pays for: a thousand impressions, a click or a conversion; the index is its code."""

NO_END = np.iinfo(np.int64).max

MAX_CREATIVES = 64
"""Creatives that an ad may hold."""


class Creative(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One way to present an ad; shown only once ``review`` is ``approved``.

    Where no review is told a ``generated`` creative is pending, and any other approved. Headline, call to
    action and image URL are templates: ``{title}`` stands for the ad's title (`models.domain.templates`).
    Decisions carry them filled.
    """

    creative_id: Id
    headline: Text = ""
    image_url: Text = ""
    call_to_action: Label = ""
    generated: bool = False
    review: Review | None = None


class Ad(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One ad of the catalogue, with what its campaign pays and where it may be shown.

    ``targeting`` is an expression over the request's context, e.g.
    ``country in ("de", "at") and device == "mobile" and 8 <= hour < 20``; hour and weekday are in UTC.
    Among ``labels``, those that begin with ``separate:`` name groups of competitors, four at most:
    ads of different advertisers that share one, say ``separate:cars``, do not appear in one slate. Labels
    that two ads share make them alike for the policy's ``diversity``, and may be blocked like categories.
    ``floor_micros`` is the least price of the billed event, at most the bid. ``vector`` is an embedding of
    the ad's image, audio or video by any encoder. Budgets belong to the campaign and must agree in
    all of its ads; the last record wins.
    """

    ad_id: Id
    campaign_id: Id
    advertiser_id: Label = ""
    category: Label = ""
    labels: Annotated[tuple[Label, ...], Meta(max_length=32)] = ()
    title: Text = ""
    text: Text = ""
    vector: Annotated[tuple[float, ...], Meta(max_length=4096)] = ()
    bid_type: BidType = "cpc"
    bid_micros: Micros = 1_000_000
    quality: Annotated[float, Meta(gt=0, le=10)] = 1.0
    daily_budget_micros: Micros | None = None
    lifetime_budget_micros: Micros | None = None
    start_time: EpochMs | None = None
    end_time: EpochMs | None = None
    targeting: Text = ""
    placements: Annotated[tuple[Label, ...], Meta(max_length=32)] = ()
    floor_micros: Micros = 0
    click_through_s: PositiveSeconds | None = None
    view_through_s: Seconds | None = None
    creatives: Annotated[tuple[Creative, ...], Meta(max_length=MAX_CREATIVES)] = ()


def review_of(creative: Creative) -> Review:
    """Return how a creative's review stands, told or not."""
    return creative.review or ("pending" if creative.generated else "approved")


def approved(ad: Ad) -> tuple[Creative, ...]:
    """Return the creatives of an ad that may be shown."""
    return tuple(creative for creative in ad.creatives if review_of(creative) == "approved")


def text_of(ad: Ad) -> str:
    """Return the text that an ad's content vector is made of."""
    return f"{ad.title} {ad.text}".strip()


_COLUMNS: dict[str, tuple[type, Callable[[Ad], Any]]] = {
    "keys": (np.uint64, lambda ad: key64(ad.ad_id)),
    "category_keys": (np.uint64, lambda ad: label_key(ad.category)),
    "bid_micros": (np.int64, lambda ad: ad.bid_micros),
    "bid_type": (np.int8, lambda ad: BID_TYPES.index(ad.bid_type)),
    "quality": (np.float64, lambda ad: ad.quality),
    "floor_micros": (np.int64, lambda ad: ad.floor_micros),
    "window_s": (np.int64, lambda ad: max(ad.click_through_s or 0, ad.view_through_s or 0)),
}
_CODES: dict[str, tuple[str, Callable[[Ad], str]]] = {
    "campaign": ("campaigns", lambda ad: ad.campaign_id),
    "category": ("categories", lambda ad: ad.category),
}


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
    first_ms
        `[A]` int64; when the ad came into the catalogue, by the time of the record that brought it.

    """

    ads: tuple[Ad, ...] = ()
    active: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    version: str = "0-00000000"
    first_ms: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ads)

    def ad(self, ad_id: str) -> Ad | None:
        """Return the last record of an ad, withdrawn or not; None for one never seen."""
        row = self.row_of.get(ad_id)
        return None if row is None else self.ads[row]

    def upsert(self, ads: Sequence[Ad], time_ms: int = 0) -> Catalogue:
        """Return the catalogue with these ads added or replaced at a time, all active.

        Arrays that were computed already are patched, so a small change costs copies, not a rebuild.
        """
        rows = dict(self.row_of)
        merged = list(self.ads)
        for ad in ads:
            row = rows.setdefault(ad.ad_id, len(merged))
            if row == len(merged):
                merged.append(ad)
            else:
                merged[row] = ad
        changed = np.array(sorted({rows[ad.ad_id] for ad in ads}), np.int64)
        active = _patched(self.active, len(merged), changed, np.ones(len(changed), np.bool_))
        added = np.arange(len(self.ads), len(merged))
        first_ms = _patched(self.first_ms, len(merged), added, np.full(len(added), time_ms))
        version = self._next_version(_canonical(ads, time_ms))
        result = Catalogue(tuple(merged), active, version, first_ms)
        result.__dict__["row_of"] = rows
        self._hand_on(result, changed)
        return result

    def withdraw(self, ad_ids: Sequence[str]) -> Catalogue:
        """Return the catalogue without these ads; ids that it does not hold are ignored."""
        active = self.active.copy()
        active[[self.row_of[a] for a in ad_ids if a in self.row_of]] = False
        change = msgspec.json.encode(("withdraw", tuple(ad_ids)))
        result = replace(self, active=active, version=self._next_version(change))
        self._hand_on(result, np.zeros(0, np.int64))
        return result

    def replaced(self, ads: Sequence[Ad], time_ms: int = 0) -> Catalogue:
        """Return a catalogue of just these ads, as the next version of this one.

        An ad that this one holds, withdrawn or not, keeps the time at which it came.
        """
        fresh = Catalogue().upsert(ads, time_ms) if ads else Catalogue()
        first_ms = fresh.first_ms.copy()
        for row, ad in enumerate(fresh.ads):
            if ad.ad_id in self.row_of:
                first_ms[row] = self.first_ms[self.row_of[ad.ad_id]]
        version = self._next_version(b"replace" + _canonical(ads, time_ms))
        return replace(fresh, version=version, first_ms=first_ms)

    def to_bytes(self) -> bytes:
        """Return the catalogue as JSON."""
        active, first_ms = self.active.tolist(), self.first_ms.tolist()
        return msgspec.json.encode(_Stored(self.ads, active, self.version, first_ms))

    @classmethod
    def from_bytes(cls, data: bytes) -> Catalogue:
        """Read `to_bytes` back; raises ArtifactError for anything else."""
        try:
            stored = msgspec.json.decode(data, type=_Stored)
        except msgspec.DecodeError as error:
            raise ArtifactError(
                f"catalogue: {error}. Fix: restore it from a copy or send it anew."
            ) from error
        first_ms = np.array(stored.first_ms, np.int64)
        return cls(stored.ads, np.array(stored.active, np.bool_), stored.version, first_ms)

    def _next_version(self, change: bytes) -> str:
        count, chain = self.version.split("-")
        digest = blake2b(chain.encode() + change, digest_size=4).hexdigest()
        return f"{int(count) + 1}-{digest}"

    def _hand_on(self, result: Catalogue, changed: NDArray[np.int64]) -> None:
        """Give a successor the columns computed here, patched in the rows that changed."""
        ads = [result.ads[row] for row in changed.tolist()]
        known, new, rows = self.__dict__, result.__dict__, len(result.ads)
        for name, (dtype, read) in _COLUMNS.items():
            if name in known:
                values: NDArray[Any] = np.array([read(ad) for ad in ads], dtype)
                new[name] = _patched(known[name], rows, changed, values)
        for name, (names, read_name) in _CODES.items():
            if name in known:
                new[names] = tuple(dict.fromkeys((*known[names], *(read_name(ad) for ad in ads))))
                code = {value: i for i, value in enumerate(new[names])}
                codes = np.array([code[read_name(ad)] for ad in ads], np.int32)
                new[name] = _patched(known[name], rows, changed, codes)

    def _column(self, name: str) -> NDArray[Any]:
        dtype, read = _COLUMNS[name]
        return np.fromiter((read(ad) for ad in self.ads), dtype, len(self.ads))

    def _code_column(self, name: str) -> NDArray[np.int32]:
        names, read = _CODES[name]
        code = {value: i for i, value in enumerate(getattr(self, names))}
        return np.fromiter((code[read(ad)] for ad in self.ads), np.int32, len(self.ads))

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each ad id."""
        return {ad.ad_id: row for row, ad in enumerate(self.ads)}

    @cached_property
    def campaigns(self) -> tuple[str, ...]:
        """Campaign ids in order of first appearance; codes in `campaign` index it."""
        return tuple(dict.fromkeys(ad.campaign_id for ad in self.ads))

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """Categories; codes in `category` index it."""
        return tuple(dict.fromkeys(ad.category for ad in self.ads))

    @cached_property
    def campaign(self) -> NDArray[np.int32]:
        """`[A]` campaign code of each ad."""
        return self._code_column("campaign")

    @cached_property
    def category(self) -> NDArray[np.int32]:
        """`[A]` category code of each ad."""
        return self._code_column("category")

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """`[A]` stable key of each ad id."""
        return self._column("keys")

    @cached_property
    def category_keys(self) -> NDArray[np.uint64]:
        """`[A]` stable key of each ad's category, NO_KEY for none."""
        return self._column("category_keys")

    @cached_property
    def bid_micros(self) -> NDArray[np.int64]:
        """`[A]` bid per thousand impressions, click or conversion."""
        return self._column("bid_micros")

    @cached_property
    def bid_type(self) -> NDArray[np.int8]:
        """`[A]` index into BID_TYPES."""
        return self._column("bid_type")

    @cached_property
    def quality(self) -> NDArray[np.float64]:
        """`[A]` quality factor of the auction."""
        return self._column("quality")

    @cached_property
    def floor_micros(self) -> NDArray[np.int64]:
        """`[A]` least price of the ad's billed event."""
        return self._column("floor_micros")

    @cached_property
    def window_s(self) -> NDArray[np.int64]:
        """`[A]` longest attribution window of the ad's own, 0 for none."""
        return self._column("window_s")

    @cached_property
    def longest_window_s(self) -> int:
        """Longest attribution window that any ad asks for, 0 for none."""
        return int(self.window_s.max(initial=0))


def _canonical(ads: Sequence[Ad], time_ms: int) -> bytes:
    """Return bytes that are equal for equal ads that came at the same time.

    Their JSON is not: msgspec tells defaults to be left out by identity, and an ad that came from another
    process has equal ones.
    """
    astuple = msgspec.structs.astuple
    told = [
        (astuple(msgspec.structs.replace(ad, creatives=())), [astuple(c) for c in ad.creatives]) for ad in ads
    ]
    return msgspec.json.encode((time_ms, told))


class _Stored(msgspec.Struct):
    ads: tuple[Ad, ...]
    active: list[bool]
    version: str
    first_ms: list[int]


def _patched(
    column: NDArray[Any], rows: int, changed: NDArray[np.int64], values: NDArray[Any]
) -> NDArray[Any]:
    out = np.zeros(rows, column.dtype)
    out[: len(column)] = column
    out[changed] = values
    return out
