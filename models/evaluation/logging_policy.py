"""The policy behind recorded logs: it explores, and knows the exact chance of everything that it shows."""

from __future__ import annotations

import numpy as np

from models.domain.events import Click
from models.domain.policy import Policy

from .draws import F64, uniform
from .kernels import draw_without_replacement
from .oracle import PRIOR_PCTR, Baseline, Choice, counted
from .population import I64
from .truth import Truth


class LoggingPolicy(Baseline):
    """What the recorded logs were decided by: draws without replacement, a share uniform, the rest by clicks.

    Every slot's propensity is exact, given the slots before it.
    """

    name = "logging"

    def __init__(self, truth: Truth, policy: Policy | None = None, uniform_share: float = 0.7) -> None:
        super().__init__(truth, policy)
        self._uniform_share = uniform_share
        self._clicks: dict[int, int] = {}
        self._weights: dict[int, F64] = {}
        self._second, self._of = -1, truth.ads

    def observe(self, event: object) -> None:
        """Count clicks."""
        super().observe(event)
        if isinstance(event, Click):
            row = self.truth.ads.row_of[event.ad_id]
            self._clicks[row] = self._clicks.get(row, 0) + 1

    def choose(self, user: int, now_ms: int, blocked: set[int], slots: int) -> Choice:
        """Draw the slots one after the other."""
        group = int(self.truth.users.group[user])
        allowed, weights = self.groups.rows(group), self._group_weights(group, now_ms)
        keep = np.ones(len(allowed), dtype=np.bool_)
        keep[places_in(allowed, blocked)] = False
        allowed, weights = allowed[keep], weights[keep]
        u = uniform(self.truth.config.seed, "logging policy", user, now_ms, np.arange(slots))
        places, propensities = draw_slate(weights, u[: min(slots, len(weights))])
        flat = np.full(len(places), PRIOR_PCTR)
        return Choice([int(r) for r in allowed[places]], propensities, len(allowed), flat, flat)

    def _group_weights(self, group: int, now_ms: int) -> F64:
        if now_ms // 10_000 != self._second or self._of is not self.truth.ads:
            self._second, self._of, self._weights = now_ms // 10_000, self.truth.ads, {}
        if group not in self._weights:
            rows = self.groups.rows(group)
            clicks = counted(self._clicks, len(self.truth.ads))[rows] + 1.0
            popular = (1 - self._uniform_share) * clicks / max(clicks.sum(), 1.0)
            self._weights[group] = popular + self._uniform_share / max(len(rows), 1)
        return self._weights[group]


def places_in(ordered: I64, some: set[int]) -> I64:
    """Return where the elements of `some` are in an ascending array, without those that are not in it."""
    wanted = np.fromiter(some, np.int64, len(some))
    place = np.searchsorted(ordered, wanted)
    inside = place < len(ordered)
    place, wanted = place[inside], wanted[inside]
    return place[ordered[place] == wanted]


def draw_slate(weights: F64, u: F64) -> tuple[list[int], list[float]]:
    """Return places drawn without replacement by `weights`, one per number of `u`, and their propensities."""
    places, propensities = np.empty(len(u), np.int64), np.empty(len(u))
    draw_without_replacement(weights, u, places, propensities)
    return places.tolist(), propensities.tolist()
