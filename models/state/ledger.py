"""Decisions that are waiting for what follows, so that feedback can be joined with them.

Bounded twice: by the attribution horizon in event time and by a number of decisions without and as many with
a click; what must go, goes oldest first. Few decisions are clicked and conversions come late, so that the
clicked ones stay many times as long.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Any

import msgspec

from models.domain.decision import Decision

NOT_YET = -1


class Followed(msgspec.Struct, array_like=True):
    """A decision and, per slot, when its ad was shown and clicked (``NOT_YET``) and how it was labelled."""

    offset: int
    decision: Decision
    shown_ms: list[int]
    clicked_ms: list[int]
    labelled: list[bool]

    @classmethod
    def new(cls, offset: int, decision: Decision) -> Followed:
        """Return a decision of which nothing has been seen yet."""
        slots = len(decision.ads)
        return cls(offset, decision, [NOT_YET] * slots, [NOT_YET] * slots, [False] * slots)

    def slot_of(self, ad_id: str) -> int:
        """Return the slot of an ad; -1 where the decision does not hold it."""
        for slot in self.decision.ads:
            if slot.ad_id == ad_id:
                return slot.slot
        return -1


class Ledger:
    """The decisions of one shard that feedback can still join, by the offset that caused them."""

    def __init__(self, capacity: int, horizon_ms: int) -> None:
        self.capacity = capacity
        self.horizon_ms = horizon_ms
        self._time_of: OrderedDict[int, int] = OrderedDict()  # a dict walks over what went to find its first
        self._clicked: OrderedDict[int, int] = OrderedDict()
        self._followed: dict[int, Followed] = {}
        self._last_of: dict[tuple[str, str], int] = {}
        self._unlabelled: list[tuple[int, int, int]] = []
        self.overflowed = 0

    def __len__(self) -> int:
        return len(self._time_of) + len(self._clicked)

    def reserve(self, offset: int, time_ms: int) -> None:
        """Make room for the decision that the record at this offset will get.

        Decisions are computed in batches, a moment after their record; who must make room for them
        is settled here, in the order of the log, so that it does not depend on the batch.
        """
        self._time_of[offset] = time_ms
        self._make_room(self._time_of)

    def follow(self, offset: int, decision: Decision) -> None:
        """Start waiting for what follows a decision whose place was reserved."""
        if offset in self._time_of:
            self._followed[offset] = Followed.new(offset, decision)

    def find(self, offset: int) -> Followed | None:
        """Return the decision caused by the record at this offset, while it is remembered."""
        return self._followed.get(offset)

    def last_with(self, user_id: str, ad_id: str) -> Followed | None:
        """Return the user's latest decision of which this ad was shown or clicked."""
        return self._followed.get(self._last_of.get((user_id, ad_id), -1))

    def mark_shown(self, followed: Followed, slot: int, time_ms: int, label_due_ms: int) -> None:
        """Note that an ad was shown and when its impression becomes a negative."""
        followed.shown_ms[slot] = time_ms
        key = (followed.decision.user_id, followed.decision.ads[slot].ad_id)
        self._last_of[key] = max(followed.offset, self._last_of.get(key, -1))
        heapq.heappush(self._unlabelled, (label_due_ms, followed.offset, slot))

    def mark_clicked(self, followed: Followed, slot: int, time_ms: int) -> None:
        """Note that an ad was clicked; its decision is kept among the clicked ones from here on."""
        followed.clicked_ms[slot] = time_ms
        if followed.offset in self._time_of:
            self._clicked[followed.offset] = self._time_of.pop(followed.offset)
            self._make_room(self._clicked)

    def _make_room(self, kept: OrderedDict[int, int]) -> None:
        if len(kept) > self.capacity:
            self.overflowed += 1
            self._drop(next(iter(kept)))

    def next_due(self, now_ms: int) -> tuple[Followed, int, int] | None:
        """Pop the next (decision, slot, due time) shown so long ago that it counts as not clicked."""
        while self._unlabelled and self._unlabelled[0][0] <= now_ms:
            due, offset, slot = heapq.heappop(self._unlabelled)
            followed = self._followed.get(offset)
            if followed is not None and not followed.labelled[slot]:
                return followed, slot, due
        return None

    def peek_due(self, now_ms: int) -> bool:
        """Say whether `next_due` may have something."""
        return bool(self._unlabelled) and self._unlabelled[0][0] <= now_ms

    def expire(self, now_ms: int) -> None:
        """Drop the decisions made before the attribution horizon, clicked ones in the order of the clicks."""
        for kept in (self._time_of, self._clicked):
            while kept:
                offset, time_ms = next(iter(kept.items()))
                if time_ms >= now_ms - self.horizon_ms:
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
            "clicked": list(self._clicked),
            "unlabelled": self._unlabelled,
            "overflowed": self.overflowed,
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` returned, decoded again."""
        followed = msgspec.convert(data["followed"], list[Followed])
        self._followed = {f.offset: f for f in followed}
        time_of = {f.offset: f.decision.event_time for f in followed}
        self._clicked = OrderedDict((offset, time_of.pop(offset)) for offset in data["clicked"])
        self._time_of = OrderedDict(time_of)
        self._unlabelled = [(due, offset, slot) for due, offset, slot in data["unlabelled"]]
        self.overflowed = data["overflowed"]
        self._last_of = {
            (f.decision.user_id, f.decision.ads[slot].ad_id): f.offset
            for f in followed
            for slot, shown in enumerate(f.shown_ms)
            if shown != NOT_YET
        }

    def _drop(self, offset: int) -> None:
        del (self._time_of if offset in self._time_of else self._clicked)[offset]
        followed = self._followed.pop(offset, None)
        if followed is None:
            return
        for slot in followed.decision.ads:
            key = (followed.decision.user_id, slot.ad_id)
            if self._last_of.get(key) == offset:
                del self._last_of[key]
