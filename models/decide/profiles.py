"""Everything kept about the users of a shard, in arrays: one row per user in every table.

Events are collected and applied together, in order, by kernels; `Shard` says when.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import Ad
from models.domain.decision import Outcome, Parts, Slot
from models.domain.events import (
    AdEvent,
    Click,
    Conversion,
    Dwell,
    EventKind,
    Hide,
    Impression,
    Swipe,
    UserEvent,
    View,
)
from models.domain.events import Request as RequestEvent
from models.domain.ids import NO_KEY, known_key64, label_key
from models.learning.position import examination_of, examination_shift
from models.learning.user_category import UserCategoryTable
from models.learning.weights import WeightTable
from models.scorer.interface import HistoryTable
from models.state import windows
from models.state.sequence import IN_SEQUENCE, KIND_CODE, append
from models.state.shown import GIVES_UP, Impressions, Shown
from models.state.table import Table
from models.state.windows import WindowTable

from .job import Job

I64 = NDArray[np.int64]

_FIRST_ROWS = 32
_GENERATIONS = count(1)

_MEASURES: dict[type[UserEvent], int] = {
    Click: windows.CLICKS,
    Impression: windows.IMPRESSIONS,
    Dwell: windows.DWELL_S,
    Conversion: windows.CONVERSIONS,
}
"""What an event counts as; looked up by class, since `isinstance` of a struct costs as much as a step."""
_AD_EVENTS: dict[EventKind, type[AdEvent]] = {
    "click": Click,
    "dwell": Dwell,
    "view": View,
    "swipe": Swipe,
    "hide": Hide,
    "conversion": Conversion,
}
_SEQUENCE_CODES = {_AD_EVENTS[kind]: KIND_CODE[kind] for kind in IN_SEQUENCE}


@dataclass(frozen=True, eq=False)
class Moments:
    """Single values per user."""

    last_decision_ms: I64
    """`[U]` event time of the user's last decision."""

    @classmethod
    def empty(cls, users: int) -> Moments:
        """Return the moments of users to whom nothing has happened."""
        return cls(np.full(users, np.iinfo(np.int64).min // 2, np.int64))


class Profiles:
    """The tables of one shard and the events that wait to be applied to them."""

    def __init__(self, history_length: int) -> None:
        self.rows = _FIRST_ROWS
        self._given = 0  # rows from here on are still as blank as they were made
        self._history = Table(lambda users: HistoryTable.empty(users, history_length), self.rows)
        self._windows = Table(WindowTable.empty, self.rows)
        self.shown = Shown(self.rows)
        """The users' impressions and hidden ads."""
        self._tastes = Table(UserCategoryTable.empty, self.rows)
        self._moments = Table(Moments.empty, self.rows)
        self._tables: dict[str, Table[Any] | Shown] = {
            "history": self._history,
            "windows": self._windows,
            "shown": self.shown,
            "tastes": self._tastes,
            "moments": self._moments,
        }
        self._events: list[tuple[int, int, int, float]] = []
        self._sequence: list[tuple[int, int, int, int, int, int]] = []
        self._impressions: list[tuple[int, int, int, int, int, int, int, int, int]] = []
        self._answers: list[tuple[int, int, bool, float, int]] = []

    @property
    def history(self) -> HistoryTable:
        """The users' sequences."""
        return self._history.columns

    @property
    def windows(self) -> WindowTable:
        """The users' sliding windows."""
        return self._windows.columns

    @property
    def tastes(self) -> UserCategoryTable:
        """The users' adjustments per category."""
        return self._tastes.columns

    def open(self, row: int) -> None:
        """Make a row blank for a new user."""
        if row >= self.rows:
            self.rows = max(2 * self.rows, row + 1)
            for table in self._tables.values():
                table.grow(self.rows)
        if row < self._given:
            self.close(row)
        self._given = max(self._given, row + 1)
        self.history.generation[row] = next(_GENERATIONS)

    def close(self, row: int) -> None:
        """Forget everything in a row."""
        for table in self._tables.values():
            table.clear(row)

    def collect(self, row: int, event: UserEvent, ad: Ad | None, *, late: bool = False) -> None:
        """Take an event to be applied by the next `apply`.

        A ``late`` event stays out of windows and sequence; that an ad was hidden counts all the same, as it
        does that one was shown (`show`).
        """
        kind = type(event)
        if not late:
            amount = event.dwell_ms / 1000 if isinstance(event, Dwell) else 1.0
            self._events.append((row, event.event_time, _MEASURES.get(kind, -1), amount))
        if isinstance(event, RequestEvent):
            return
        entry = None if late else sequence_entry(event, ad)
        if entry is not None:
            self._sequence.append((row, *entry))
        if kind is Hide:
            self.shown.hide(row, known_key64(event.ad_id))

    def show(
        self, row: int, event: AdEvent, ad: Ad | None, campaign_id: str, decided_ms: int, keep_ms: int
    ) -> None:
        """Take what an event says was shown for the caps to count, to be applied by the next `apply`.

        ``campaign_id`` and ``decided_ms`` are those of the decision, empty and -1 where none is known; an
        ``ad`` that is gone has no advertiser. ``keep_ms`` is how far back from the event's time the caps in
        force may still look.
        """
        keys = _cap_keys(event.ad_id, campaign_id, ad)
        self._impressions.append((row, *keys, event.event_time, keep_ms, 0, decided_ms, 0))

    def expect(self, job: Job, slots: Iterable[tuple[Slot, Ad | None]], keep_ms: int, unseen_ms: int) -> None:
        """Take the ads that a job was answered with: they count as shown for so long, or until they are."""
        row, time_ms, placement = job.row, job.event.event_time, _print(job.placement_id)
        for slot, ad in slots:
            keys = _cap_keys(slot.ad_id, slot.campaign_id, ad)
            self._impressions.append((row, *keys, time_ms, keep_ms, unseen_ms, -1, placement))

    def give_up(self, job: Job) -> None:
        """Take it that a placement asks again: what was decided for it and not seen counts no more."""
        keys = NO_KEY, NO_KEY, NO_KEY
        self._impressions.append((job.row, *keys, 0, 0, GIVES_UP, -1, _print(job.placement_id)))

    @property
    def collected(self) -> int:
        """How many events, impressions and lessons wait for `apply`."""
        return len(self._events) + len(self._impressions) + len(self._answers)

    def apply(self) -> None:
        """Apply what was collected, in order."""
        if self._events:
            rows, times, measures, amounts = zip(*self._events, strict=True)
            self.windows.add(_i64(rows), _i64(times), _i64(measures), np.array(amounts, np.float32))
            self._events.clear()
        if self._sequence:
            self._append_sequence()
        if self._impressions:
            row, ad, campaign, advertiser, time, keep, unseen, decided, placement = zip(
                *self._impressions, strict=True
            )
            keys, prints = (_u64(ad), _u64(campaign), _u64(advertiser)), np.array(placement, np.uint16)
            spans = _i64(keep), _i64(unseen), _i64(decided)
            self.shown.append(Impressions(_i64(row), *keys, _i64(time), *spans, prints))
            self._impressions.clear()
        if self._answers:
            row, key, clicked, offset, time = zip(*self._answers, strict=True)
            self.tastes.answer(_i64(row), _u64(key), np.array(clicked), np.array(offset), _i64(time))
            self._answers.clear()

    def _append_sequence(self) -> None:
        row, ad, category, kind, dwell, time = zip(*self._sequence, strict=True)
        ring, kinds, dwells = self.history, np.array(kind, np.uint8), np.array(dwell, np.int32)
        append(
            ring.ad_key, ring.category_key, ring.kind, ring.dwell_ms, ring.time_ms, ring.count,
            _i64(row), _u64(ad), _u64(category), kinds, dwells, _i64(time),
        )  # fmt: skip
        self._sequence.clear()

    def since_decision(self, row: int, time_ms: int) -> int:
        """Return the milliseconds since the user's last decision."""
        return time_ms - int(self._moments.columns.last_decision_ms[row])

    def note_decision(self, row: int, time_ms: int) -> None:
        """Note that the user gets a decision at this time; records out of order do not turn it back."""
        last = self._moments.columns.last_decision_ms
        last[row] = max(int(last[row]), time_ms)

    def learn(self, row: int, outcome: Outcome, weights: WeightTable) -> None:
        """Take a lesson on the user's taste for a category: 0 from an impression, its click turns it into 1.

        Nothing waits for the attribution window: were only clicks learned at once, every taste would run
        high by what a window holds of impressions that nobody will click.
        """
        key = label_key(outcome.category)
        if outcome.kind == "click":
            age_ms = max(outcome.event_time - outcome.decision_time, 0)
            self._answers.append((row, key, True, 0.0, age_ms))
        elif outcome.kind == "impression":
            offset = _offset(outcome.parts)
            offset += examination_shift(
                offset + outcome.parts.user_category, examination_of(weights.position_logits, outcome.slot)
            )
            self._answers.append((row, key, False, offset, outcome.event_time))

    def forget_tastes(self) -> None:
        """Forget what was learned of all users' own tastes (a roll-back to the frozen model)."""
        self.apply()
        self.tastes.clear(np.arange(self.rows))

    def dump(self, used: int) -> dict[str, Any]:
        """Return the first `used` rows of every table as plain data."""
        tables = {name: table.dump(used) for name, table in self._tables.items()}
        del tables["history"]["generation"]  # says which occupant of a row a cache knows: never kept
        return tables

    def load(self, data: dict[str, Any], used: int) -> None:
        """Take over what `dump` returned."""
        self.rows = max(self.rows, used)
        self._given = max(self._given, used)
        for name, table in self._tables.items():
            table.grow(self.rows)
            table.load(data[name])
        self.history.generation[:used] = [next(_GENERATIONS) for _ in range(used)]


class SequenceEntry(NamedTuple):
    """One event of a user's sequence, as `HistoryTable` keeps it."""

    ad_key: int
    category_key: int
    kind: int
    dwell_ms: int
    time_ms: int


def sequence_entry(event: AdEvent, ad: Ad | None) -> SequenceEntry | None:
    """Return what an event adds to the user's sequence, if anything; ``ad`` is its ad as known now."""
    code = _SEQUENCE_CODES.get(type(event))
    if code is None:
        return None
    category = label_key(ad.category) if ad is not None else NO_KEY
    dwell = event.dwell_ms if isinstance(event, Dwell) else 0
    return SequenceEntry(known_key64(event.ad_id), category, code, dwell, event.event_time)


def _cap_keys(ad_id: str, campaign_id: str, ad: Ad | None) -> tuple[int, int, int]:
    """Return what caps count an ad by: itself, its campaign, its advertiser."""
    advertiser = NO_KEY if ad is None else label_key(ad.advertiser_id)
    return known_key64(ad_id), label_key(campaign_id), advertiser


def _print(placement_id: str) -> int:
    return known_key64(placement_id) & 0xFFFF


def _offset(parts: Parts) -> float:
    """Return the click logit without the user's own part and without exploration."""
    return parts.base + parts.bias + parts.ad + parts.campaign + parts.segment_category + parts.creative


def _i64(values: tuple[int, ...]) -> I64:
    return np.array(values, np.int64)


def _u64(values: tuple[int, ...]) -> NDArray[np.uint64]:
    return np.array(values, np.uint64)
