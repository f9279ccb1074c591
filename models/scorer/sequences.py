"""What a scorer learns from: users' sequences laid end to end, impressions with labels, ads with content.

Legend: N events of all users, U users, I impressions, A ads or items, F length of content vectors.
User u's events are ``offsets[u]:offsets[u + 1]``, oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import LogError
from models.domain.events import KINDS
from models.domain.ids import key64

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]
Bools = NDArray[np.bool_]

NEVER = -1
"""Time of what did not happen."""

POSITIVE_KINDS = ("click", "dwell", "view", "conversion")
"""Kinds of events whose ad the next-item loss learns to foresee."""


@dataclass(frozen=True, eq=False)
class Interactions:
    """Users' items in time order, as an interaction file brings them.

    ``item`` `[N]` indexes ``item_ids``; ``time_ms`` is None where the file has no times. ``next_ms`` `[U]` is
    the time of what came after each user's last item here, NEVER where nothing did.
    """

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    offsets: I64
    item: I64
    time_ms: I64 | None = None
    data_hash: str = ""
    next_ms: I64 | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    def without_last(self, count: int) -> Interactions:
        """Return the interactions without each user's last ``count`` items; users may become empty."""
        lengths = np.maximum(np.diff(self.offsets) - count, 0)
        keep = np.arange(len(self.item)) < np.repeat(self.offsets[:-1] + lengths, np.diff(self.offsets))
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        times, later = None, None
        if self.time_ms is not None:
            times = self.time_ms[keep]
            dropped = lengths < np.diff(self.offsets)
            later = np.full(len(self), NEVER)
            later[dropped] = self.time_ms[(self.offsets[:-1] + lengths)[dropped]]
        return replace(self, offsets=offsets, item=self.item[keep], time_ms=times, next_ms=later)

    def last(self) -> I64:
        """Return each user's last item `[U]`, -1 for users without any."""
        lengths = np.diff(self.offsets)
        return np.where(lengths > 0, self.item[np.maximum(self.offsets[1:] - 1, 0)], -1)


@dataclass(frozen=True, eq=False)
class AdTable:
    """The ads or items that a model is trained with; all `[A]`, in any order, keys distinct.

    ``text`` feeds the content encoder; ``vector`` `[A, F]` (or None) is an embedding of image, audio
    or video that the catalogue brings. Rates of few events are shrunk to their campaign's.
    """

    key: U64
    category_key: U64
    text: tuple[str, ...] = ()
    vector: F32 | None = None
    campaign_key: U64 | None = None


@dataclass(frozen=True, eq=False)
class LogExamples:
    """What a recorded log teaches, built by the same state code that serves.

    The sequences hold what a user's HistoryTable held. Impression i was decided for ``user[i]`` when
    ``position[i]`` events of that user's sequence had happened.
    """

    offsets: I64
    """`[U + 1]`"""
    ad_key: U64
    """`[N]`, as in HistoryTable, and so the four below."""
    category_key: U64
    kind: U8
    dwell_ms: I64
    time_ms: I64
    ads: AdTable
    impression_user: I64
    """`[I]` index of the user."""
    impression_position: I64
    """`[I]` events of the user's sequence before the decision."""
    impression_ad_key: U64
    impression_time_ms: I64
    click: Bools
    """`[I]`"""
    conversion: Bools
    """`[I]` whether a conversion followed the click; never without a click."""
    data_hash: str = ""
    slot: I64 | None = None
    """`[I]` slot of the decision, 0 first; None where the log does not tell."""
    click_time_ms: I64 | None = None
    """`[I]` event time of the click, NEVER without one; so is ``conversion_time_ms``. None: unknown."""
    conversion_time_ms: I64 | None = None
    segment_key: U64 | None = None
    """`[I]` stable key of the segment that the request named, NO_KEY for none."""
    stay_ms: I64 | None = None
    """`[I]` dwell that followed the click, NEVER where none is known."""
    decision_time_ms: I64 | None = None
    """`[I]` event time of the request behind the decision; None: that of the impression stands in."""

    def __post_init__(self) -> None:
        self._require(len(self.offsets) > 1 and len(self.ad_key) > 0, "no user has any event", "sequences")
        events = {len(x) for x in (self.category_key, self.kind, self.dwell_ms, self.time_ms)}
        self._require(events == {len(self.ad_key)}, f"arrays of lengths {sorted(events)}", "events")
        shown = {
            len(x) for x in (self.impression_position, self.impression_ad_key, self.click, self.conversion)
        }
        self._require(
            shown == {len(self.impression_user)}, f"arrays of lengths {sorted(shown)}", "impressions"
        )
        self._require(len(np.unique(self.ads.key)) == len(self.ads.key), "an ad twice", "ads")
        self._require(not (self.conversion & ~self.click).any(), "a conversion without a click", "labels")

    @staticmethod
    def _require(right: bool, got: str, what: str) -> None:
        if not right:
            raise LogError.expected(
                f"training examples ({what})", got=got, expected="users with events", fix="check the log"
            )

    def targets(self) -> Bools:
        """Return `[N]`: whether the next-item loss should foresee this event from the one before it.

        Not where the user was shown the ad: the event before a click is then mostly the impression of the
        same ad, and foreseeing the one from the other teaches nothing about a decision.
        """
        codes = [KINDS.index(kind) for kind in POSITIVE_KINDS]
        user = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        ads, rows = np.unique(np.concatenate((self.ad_key, self.impression_ad_key)), return_inverse=True)
        events, shown = rows[: len(self.ad_key)], rows[len(self.ad_key) :]
        organic = ~np.isin(user * len(ads) + events, self.impression_user * len(ads) + shown)
        return np.isin(self.kind, codes) & (self.ad_key != 0) & organic


@dataclass(frozen=True, eq=False)
class Labels:
    """Impressions as table rows, each `[I]`, for the second stage.

    ``content_row`` indexes `Dataset.ads_content`, -1 for an ad without content; ``maturity`` is the share of
    a click's conversions that the log lasted long enough to see, ``segment`` the row of the request's,
    ``wait`` that of the time from the event before it.
    """

    user: I64
    position: I64
    ad: I64
    category: I64
    content_row: I64
    click: Bools
    conversion: Bools
    slot: I64
    maturity: F32
    segment: I64
    wait: I64

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: I64) -> Labels:
        """Return the impressions at these rows."""
        return Labels(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    @classmethod
    def none(cls) -> Labels:
        """Return no impressions."""
        rows, flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
        return cls(rows, rows, rows, rows, rows, flags, flags, rows, np.zeros(0, np.float32), rows, rows)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Sequences as rows of the network's tables; what `training.train` learns from.

    ``content`` `[V + 1, F]` and ``category_of`` `[V + 1]` belong to the rows of the ad table; ``counts``
    `[V + 1]` says how often each ad is a target. ``target`` `[N]` marks events to be foreseen from the
    event before; clicked impressions are foreseen from their decisions instead. ``wait`` `[N]` is the row of
    the time from an event to what is foreseen from it: the ``gap`` of the next event, but for a user's last.
    """

    offsets: I64
    ad: I64
    category: I64
    kind: I64
    dwell: I64
    gap: I64
    wait: I64
    target: Bools
    category_of: I64
    content: F32
    labels: Labels = field(default_factory=Labels.none)
    ads_content: F32 = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """`[A, F]` content of every ad that may be shown, known or not; labels index it."""
    campaign_of: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    """`[V + 1]` number of each row's campaign; empty where none is known."""

    @property
    def counts(self) -> I64:
        """`[V + 1]` how often each ad is a target of the next-item loss."""
        targets = np.concatenate((self.ad[self.target], self.labels.ad[self.labels.click]))
        return np.bincount(targets, minlength=len(self.category_of))


def item_keys(item_ids: tuple[str, ...]) -> U64:
    """Return the stable key of each item `[A]`."""
    return np.fromiter((key64(i) for i in item_ids), np.uint64, len(item_ids))


def hash_arrays(*arrays: NDArray[np.generic]) -> str:
    """Return the hex BLAKE2b-128 digest of arrays' bytes: the name of a training data set."""
    digest = blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
