"""Next-item prediction in the order of time: each event is ranked among all items before it is learned.

Legend: N events, I items.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.scorer.metrics import clustered_error, ndcg

from .draws import F64

I64 = NDArray[np.int64]


class OnlineMarkov:
    """Counts of which item followed which, within the last few events of a user; the floor for any claim.

    An item's score is the sum over the user's last ``order`` items of ``decay^age`` times the share of
    that item's followers that it makes up; popularity breaks ties, then the lower index.
    """

    def __init__(self, items: int, order: int = 10, decay: float = 0.9) -> None:
        self._follows = np.zeros((items, items), np.float32)
        self._sum = np.zeros(items, np.float32)
        self._seen = np.zeros(items, np.float32)
        self._weights = decay ** np.arange(order, dtype=np.float32)
        self._order = order

    def scores(self, recent: deque[int]) -> F64:
        """Return the score `[I]` of every item after a user's recent ones, latest first."""
        popular = self._seen / (self._seen.sum() + 1.0)
        scores = 1e-3 * popular.astype(np.float64)
        for age, item in enumerate(recent):
            scores += self._weights[age] * self._follows[item] / (self._sum[item] + 1.0)
        return scores

    def learn(self, recent: deque[int], item: int) -> None:
        """Count one event after a user's recent items."""
        self._seen[item] += 1.0
        for age, before in enumerate(recent):
            self._follows[before, item] += self._weights[age]
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
