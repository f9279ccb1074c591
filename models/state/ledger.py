"""Decisions that are waiting for what follows, so that feedback can be joined with them.

Bounded twice: by the windows of what may follow, in event time, and by a number of decisions without and as
many with a click; what must go, goes oldest first. Few decisions are clicked and conversions come late, so
that the clicked ones stay many times as long.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from models.domain.decision import Decision

NOT_YET = -1
_FEW = 16
"""Impressions that are awaited no more and may stay in the queue beside as many as are."""


class Windows(NamedTuple):
    """How long after a click and after a view a conversion still belongs to it."""

    click_ms: int
    view_ms: int


class Followed(msgspec.Struct, array_like=True):
    """A decision and, per slot, when its ad was shown and clicked (``NOT_YET``) and how it was labelled.

    ``windows`` are those in force when it was asked for: the ads may have changed since, or be gone.
    """

    offset: int
    decision: Decision
    windows: list[Windows]
    shown_ms: list[int]
    clicked_ms: list[int]
    labelled: list[bool]

    @classmethod
    def new(cls, offset: int, decision: Decision, windows: list[Windows]) -> Followed:
        """Return a decision of which nothing has been seen yet."""
        slots = len(decision.ads)
        return cls(offset, decision, windows, [NOT_YET] * slots, [NOT_YET] * slots, [False] * slots)

    def slot_of(self, ad_id: str) -> int:
        """Return the slot of an ad; -1 where the decision does not hold it."""
        for slot in self.decision.ads:
            if slot.ad_id == ad_id:
                return slot.slot
        return -1


class Ledger:
    """The decisions of one shard that feedback can still join, by the offset that caused them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # Until when each is kept; a dict would walk over what went to find its first.
        self._unclicked: OrderedDict[int, int] = OrderedDict()
        self._clicked: OrderedDict[int, int] = OrderedDict()
        self._followed: dict[int, Followed] = {}
        self._shown: dict[tuple[str, str], list[int]] = {}
        """Offsets, ascending, of the decisions of which a user was shown an ad."""
        self._unlabelled: list[tuple[int, int, int]] = []
        """A heap of (due time, offset, slot); but for a few, at least as many are awaited as are not."""
        self._awaited = 0
        """Impressions of remembered decisions that have no label yet; each stands in the heap once."""
        self.overflowed = 0

    def __len__(self) -> int:
        return len(self._unclicked) + len(self._clicked)

    def reserve(self, offset: int, until_ms: int) -> None:
        """Make room for the decision that the record at this offset will get, to be kept until a time.

        Decisions are computed in batches, a moment after their record; who must make room for them
        is settled here, in the order of the log, so that it does not depend on the batch.
        """
        self._unclicked[offset] = until_ms
        self._make_room(self._unclicked)

    def follow(self, offset: int, decision: Decision, windows: list[Windows]) -> None:
        """Start waiting for what follows a decision whose place was reserved."""
        if offset in self._unclicked:
            self._followed[offset] = Followed.new(offset, decision, windows)

    def find(self, offset: int) -> Followed | None:
        """Return the decision caused by the record at this offset, while it is remembered."""
        return self._followed.get(offset)

    def shown(self, user_id: str, ad_id: str) -> Iterator[Followed]:
        """Yield the user's decisions of which this ad was shown or clicked, the latest first."""
        for offset in reversed(self._shown.get((user_id, ad_id), ())):
            yield self._followed[offset]

    def mark_shown(self, followed: Followed, slot: int, time_ms: int, label_due_ms: int) -> None:
        """Note that an ad was shown and when its impression becomes a negative."""
        followed.shown_ms[slot] = time_ms
        self._index(followed, slot)
        self._keep(followed.offset, max(label_due_ms, time_ms + followed.windows[slot].view_ms))
        heapq.heappush(self._unlabelled, (label_due_ms, followed.offset, slot))
        self._awaited += 1
        if len(self._unlabelled) > 2 * self._awaited + _FEW:
            self._unlabelled = [entry for entry in self._unlabelled if self._is_awaited(*entry[1:])]
            heapq.heapify(self._unlabelled)

    def label(self, followed: Followed, slot: int) -> bool:
        """Note that an impression has its label; say whether it had one before."""
        before, followed.labelled[slot] = followed.labelled[slot], True
        self._awaited -= not before
        return before

    def mark_clicked(self, followed: Followed, slot: int, time_ms: int) -> None:
        """Note that an ad was clicked; its decision is kept among the clicked ones from here on."""
        followed.clicked_ms[slot] = time_ms
        self._keep(followed.offset, time_ms + followed.windows[slot].click_ms)
        if followed.offset in self._unclicked:
            self._clicked[followed.offset] = self._unclicked.pop(followed.offset)
            self._make_room(self._clicked)

    def _keep(self, offset: int, until_ms: int) -> None:
        kept = self._kept(offset)
        kept[offset] = max(kept[offset], until_ms)

    def _kept(self, offset: int) -> OrderedDict[int, int]:
        return self._unclicked if offset in self._unclicked else self._clicked

    def _make_room(self, kept: OrderedDict[int, int]) -> None:
        if len(kept) > self.capacity:
            self.overflowed += 1
            self._drop(next(iter(kept)))

    def next_due(self, now_ms: int) -> tuple[Followed, int, int] | None:
        """Pop the next (decision, slot, due time) shown so long ago that it counts as not clicked."""
        while self._unlabelled and self._unlabelled[0][0] <= now_ms:
            due, offset, slot = heapq.heappop(self._unlabelled)
            if self._is_awaited(offset, slot):
                return self._followed[offset], slot, due
        return None

    def expire(self, now_ms: int) -> None:
        """Drop the oldest decisions that were kept long enough, clicked ones in the order of the clicks."""
        for kept in (self._unclicked, self._clicked):
            while kept:
                offset, until_ms = next(iter(kept.items()))
                if until_ms >= now_ms:
                    break
                self._drop(offset)

    def erase(self, user_id: str) -> None:
        """Forget all decisions of a user."""
        for offset in [o for o, f in self._followed.items() if f.decision.user_id == user_id]:
            self._drop(offset)

    def dump(self) -> dict[str, Any]:
        """Return the ledger as plain data and structs for a snapshot."""
        return {
            "followed": list(self._followed.values()),
            "unclicked": list(self._unclicked.items()),
            "clicked": list(self._clicked.items()),
            "unlabelled": self._unlabelled,
            "overflowed": self.overflowed,
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` returned, decoded again."""
        followed = msgspec.convert(data["followed"], list[Followed])
        self._followed = {f.offset: f for f in followed}
        self._unclicked, self._clicked = OrderedDict(data["unclicked"]), OrderedDict(data["clicked"])
        self._unlabelled = [(due, offset, slot) for due, offset, slot in data["unlabelled"]]
        self.overflowed = data["overflowed"]
        self._shown = {}
        self._awaited = sum(map(_unlabelled, followed))
        for each in followed:
            for slot in _shown_slots(each):
                self._index(each, slot)

    def _is_awaited(self, offset: int, slot: int) -> bool:
        followed = self._followed.get(offset)
        return followed is not None and not followed.labelled[slot]

    def _drop(self, offset: int) -> None:
        del self._kept(offset)[offset]
        followed = self._followed.pop(offset, None)
        if followed is None:
            return
        self._awaited -= _unlabelled(followed)
        for slot in _shown_slots(followed):
            key = _key(followed, slot)
            offsets = self._shown[key]
            del offsets[bisect_left(offsets, offset)]
            if not offsets:
                del self._shown[key]

    def _index(self, followed: Followed, slot: int) -> None:
        insort(self._shown.setdefault(_key(followed, slot), []), followed.offset)


def _shown_slots(followed: Followed) -> list[int]:
    return [slot for slot, shown in enumerate(followed.shown_ms) if shown != NOT_YET]


def _unlabelled(followed: Followed) -> int:
    return sum(not followed.labelled[slot] for slot in _shown_slots(followed))


def _key(followed: Followed, slot: int) -> tuple[str, str]:
    return followed.decision.user_id, followed.decision.ads[slot].ad_id
