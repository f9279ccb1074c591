"""Next-item prediction in the order of time: each event is ranked among all items before it is learned.

Legend: N events, I items.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.scorer.metrics import clustered_error, ndcg, target_ranks

from .draws import F64

I64 = NDArray[np.int64]

ScoresBefore = Callable[[int, I64], NDArray[np.floating]]
"""Scores `[M, I]` of every item before the events at these places `[M]` of one user's sequence."""

AT_ONCE = 256
"""Events of one user that are scored together, so that their scores fit in memory."""


class _Counts:
    """Sums of few of many items, in the order in which they came first; room doubles when it is full."""

    def __init__(self) -> None:
        self._items, self._sums = np.zeros(2, np.int32), np.zeros(2, np.float32)
        self._size = 0

    @property
    def items(self) -> NDArray[np.int32]:
        """`[M]` the items, each once."""
        return self._items[: self._size]

    @property
    def sums(self) -> NDArray[np.float32]:
        """`[M]`"""
        return self._sums[: self._size]

    def add(self, item: int, weight: np.float32) -> None:
        """Add to the sum of an item."""
        place = np.flatnonzero(self.items == item)
        if len(place):
            self._sums[place[0]] += weight
            return
        if self._size == len(self._items):
            self._items = np.append(self._items, np.zeros_like(self._items))
            self._sums = np.append(self._sums, np.zeros_like(self._sums))
        self._items[self._size], self._sums[self._size] = item, weight
        self._size += 1


class OnlineMarkov:
    """Counts of which item followed which, within the last few events of a user; the floor for any claim.

    An item's score is the sum over the user's last ``order`` items of ``decay^age`` times the share of
    that item's followers that it makes up; popularity breaks ties, then the lower index. Room is taken for
    pairs that came (at most ``order`` per event), not for all pairs of items.
    """

    def __init__(self, items: int, order: int = 10, decay: float = 0.9) -> None:
        self._followers = [_Counts() for _ in range(items)]
        self._sum = np.zeros(items, np.float32)
        self._seen = np.zeros(items, np.float32)
        self._weights = decay ** np.arange(order, dtype=np.float32)
        self._order = order

    def scores(self, recent: deque[int]) -> F64:
        """Return the score `[I]` of every item after a user's recent ones, latest first."""
        popular = self._seen / (self._seen.sum() + 1.0)
        scores = 1e-3 * popular.astype(np.float64)
        for age, item in enumerate(recent):
            counts = self._followers[item]
            scores[counts.items] += self._weights[age] * counts.sums / (self._sum[item] + 1.0)
        return scores

    def learn(self, recent: deque[int], item: int) -> None:
        """Count one event after a user's recent items."""
        self._seen[item] += 1.0
        for age, before in enumerate(recent):
            self._followers[before].add(item, self._weights[age])
            self._sum[before] += self._weights[age]

    @property
    def order(self) -> int:
        """How many recent items count."""
        return self._order


class OnlinePopularity(OnlineMarkov):
    """How often each item came so far."""

    def __init__(self, items: int) -> None:
        super().__init__(items, order=1)

    def scores(self, recent: deque[int]) -> F64:
        """Return the count `[I]` of every item."""
        return self._seen.astype(np.float64)


def ranks_in_turn(
    make: Callable[[int], OnlineMarkov], user: I64, item: I64, items: int, *, seen: str = "drop"
) -> I64:
    """Return the rank `[N]`, from 0, of each event's item before it was learned; -1 for a user's first one.

    Items that the user met before are left out with ``seen`` "drop", except the event's own.
    """
    model, out = make(items), np.full(len(item), -1, np.int64)
    recent: dict[int, deque[int]] = {}
    past: dict[int, list[int]] = {}
    for n, (u, i) in enumerate(zip(user.tolist(), item.tolist(), strict=True)):
        before, met = recent.setdefault(u, deque(maxlen=model.order)), past.setdefault(u, [])
        if before:
            scores = model.scores(before)
            own = scores[i]
            if seen == "drop":
                scores[met] = -1.0
            out[n] = int((scores > own).sum() + (scores[:i] == own).sum())
        model.learn(before, i)
        before.appendleft(i)
        met.append(i)
    return out


def ranks_along(scores: ScoresBefore, user: I64, item: I64, since: int, *, seen: str = "drop") -> I64:
    """Return what `ranks_in_turn` does, `[N]`, of a model that does not learn, for events from ``since`` on.

    -1 stands for the events before, and for a user's first one. Histories go on with each event.
    """
    out = np.full(len(item), -1, np.int64)
    order = np.argsort(user, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(user[order])) + 1):
        later = np.flatnonzero(at >= since)
        later = later[later > 0]
        for places in np.split(later, range(AT_ONCE, len(later), AT_ONCE)) if len(later) else ():
            own = item[at]
            met = [own[:place] for place in places] if seen == "drop" else None
            out[at[places]] = target_ranks(scores(int(user[at[0]]), places), own[places], met)
    return out


def hit_figures(ranks: I64, user: I64, k: int = 10) -> dict[str, Any]:
    """Return hit rate and NDCG at k over the ranked events, with standard errors over the users `[N]`.

    Events of one user are alike, so users are what the errors count, not events.
    """
    held = ranks >= 0
    ranked, of = ranks[held], user[held]
    if not len(ranked):
        return {"events": 0, **dict.fromkeys((f"hr@{k}", f"ndcg@{k}", f"hr@{k}_se", f"ndcg@{k}_se"))}
    hits, gains = (ranked < k).astype(np.float64), ndcg(ranked, k)
    return {
        "events": len(ranked),
        f"hr@{k}": float(hits.mean()),
        f"ndcg@{k}": float(gains.mean()),
        f"hr@{k}_se": clustered_error(hits, of),
        f"ndcg@{k}_se": clustered_error(gains, of),
    }
