"""Baselines of the closed loop: random, popularity, the oracle that knows the truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from models.domain.decision import Decision
from models.domain.events import Click, Impression, Request
from models.domain.log import LogRecord
from models.domain.policy import Policy
from models.state.seen import SeenIds

from .draws import F64, uniform
from .loop import KNOWN_IDS, Delivered, Groups, Rules, make_decision
from .truth import Truth

PRIOR_PCTR = 0.05
"""What a baseline that predicts nothing logs as pctr and pcvr."""
_RANKED = 256
"""Ads that popularity ranks for a class of users at once; more where the rules keep out so many."""


class Choice(NamedTuple):
    """The ads for a request, slot 0 first, with what is logged about them; `candidates` were looked at."""

    rows: list[int]
    propensities: list[float]
    candidates: int
    pctr: Sequence[float] | F64
    pcvr: Sequence[float] | F64


class Baseline:
    """Shared by the baselines: sees every event, answers every request in order."""

    name = ""

    def __init__(self, truth: Truth, policy: Policy | None = None) -> None:
        self.truth = truth
        self.rules = Rules(truth, policy)
        self.groups = Groups(truth)
        self._seen = SeenIds(KNOWN_IDS)

    def decide_batch(self, batch: Sequence[Delivered]) -> list[Decision]:
        """Take in a batch of events and return the decisions for its requests."""
        new = (one for one in batch if self._seen.first_time(one.event.id))
        return [made for record, event in new if (made := self._take(record, event))]

    def recall(self, decisions: Sequence[Decision]) -> None:
        """Take no note of another policy's decisions; the feedback says enough."""

    def _take(self, record: LogRecord, event: object) -> Decision | None:
        if isinstance(event, Request):
            return self.decide(record, event)
        self.observe(event)
        return None

    def observe(self, event: object) -> None:
        """Learn from an event that is no request."""
        self.rules.observe(event)  # type: ignore[arg-type]

    def decide(self, record: LogRecord, request: Request) -> Decision:
        """Return the decision for one request."""
        user = self.truth.users.row_of[request.user_id]
        blocked = self.rules.blocked(request.user_id, request.event_time)
        slots = request.slots or self.rules.policy.slots
        chosen = self.choose(user, request.event_time, blocked, slots)
        return make_decision(
            self.truth, record, request, chosen.rows, policy=self.name,
            propensities=chosen.propensities, candidates=chosen.candidates,
            pctr=chosen.pctr, pcvr=chosen.pcvr,
        )  # fmt: skip

    def choose(self, user: int, now_ms: int, blocked: set[int], slots: int) -> Choice:
        """Return the ads for one request, given the rows that may not be shown."""
        raise NotImplementedError

    def _known(self, rows: list[int], candidates: int, pctr: F64, pcvr: F64) -> Choice:
        return Choice(rows, [1.0] * len(rows), candidates, pctr, pcvr)


class RandomPolicy(Baseline):
    """Any eligible ads, uniformly, without repetition."""

    name = "random"

    def choose(self, user: int, now_ms: int, blocked: set[int], slots: int) -> Choice:
        """Draw distinct rows; propensity 1 / (ads left), up to the rare rows that rules keep out."""
        allowed = self.groups.rows(int(self.truth.users.group[user]))
        draws = uniform(self.truth.config.seed, "random policy", user, now_ms, np.arange(8 * slots + 32))
        order = dict.fromkeys(
            allowed[(draws * len(allowed)).astype(np.int64)].tolist() if len(allowed) else []
        )
        rows = self.rules.fill(order, blocked, slots)
        n = max(len(allowed) - len(blocked), len(rows))
        flat = np.full(len(rows), PRIOR_PCTR)
        return Choice(rows, [1 / (n - i) for i in range(len(rows))], n, flat, flat)


class PopularityPolicy(Baseline):
    """The ads with most clicks so far, the same for everyone; ranks anew every second."""

    name = "popularity"

    def __init__(self, truth: Truth, policy: Policy | None = None) -> None:
        super().__init__(truth, policy)
        self._clicks: dict[int, int] = {}
        self._shown: dict[int, int] = {}
        self._ranked: dict[int, list[int]] = {}
        self._second = -1

    def observe(self, event: object) -> None:
        """Count clicks and impressions."""
        super().observe(event)
        if isinstance(event, Click | Impression):
            counts = self._clicks if isinstance(event, Click) else self._shown
            row = self.truth.ads.row_of[event.ad_id]
            counts[row] = counts.get(row, 0) + 1

    def choose(self, user: int, now_ms: int, blocked: set[int], slots: int) -> Choice:
        """Fill the slots from the ranked ads."""
        if now_ms // 1000 != self._second:
            self._second, self._ranked = now_ms // 1000, {}
        group = int(self.truth.users.group[user])
        candidates = len(self.groups.rows(group))
        rows = self.rules.fill_from(partial(self._first, group), blocked, slots, candidates)
        pctr = np.array([(self._clicks.get(r, 0) + 1) / (self._shown.get(r, 0) + 20) for r in rows])
        return self._known(rows, candidates, pctr, np.full(len(rows), PRIOR_PCTR))

    def _first(self, group: int, count: int) -> list[int]:
        """Return the first `count` ads of this second, or more."""
        if group not in self._ranked or len(self._ranked[group]) < count:
            self._ranked[group] = self._rank(group, max(count, _RANKED))
        return self._ranked[group]

    def _rank(self, group: int, count: int) -> list[int]:
        """Return the first of the clicked ads, most clicks first, then of a seeded shuffle of the rest."""
        allowed = self.groups.rows(group)
        clicks = counted(self._clicks, len(self.truth.ads))[allowed]
        luck = uniform(self.truth.config.seed, "popularity luck", allowed)
        order = np.argsort(-(clicks + luck), kind="stable")[:count]
        return [int(r) for r in allowed[order]]


class OraclePolicy(Baseline):
    """Shows what is truly worth most at the bids: the bound that regret is measured against.

    With `at_ms` it knows the truth of that moment and goes by it for ever: the best that a scorer which is
    never updated could be, were it right when it was trained.
    """

    name = "oracle"

    def __init__(self, truth: Truth, policy: Policy | None = None, at_ms: int | None = None) -> None:
        super().__init__(truth, policy)
        self.believed = truth
        self.at_ms = at_ms
        if at_ms is not None:
            self.name = "frozen_oracle"

    def choose(self, user: int, now_ms: int, blocked: set[int], slots: int) -> Choice:
        """Rank all eligible ads by true value per impression."""
        who, when = np.array([user]), np.array([now_ms if self.at_ms is None else self.at_ms])
        candidates = len(self.groups.rows(int(self.truth.users.group[user])))

        def ranking(count: int) -> list[int]:
            return [int(row) for row in self.believed.best_ads(who, when, [count])[0]]

        rows = self.rules.fill_from(ranking, blocked, slots, candidates)
        ads = np.array(rows, dtype=np.int64)
        pctr, pcvr = self.believed.pairs(np.repeat(who, len(rows)), ads, np.repeat(when, len(rows)))
        return self._known(rows, candidates, pctr, pcvr)


def counted(of: dict[int, int], ads: int) -> F64:
    """Return the counts of all rows `[ads]`."""
    counts = np.zeros(ads)
    counts[np.fromiter(of.keys(), np.int64, len(of))] = np.fromiter(of.values(), np.float64, len(of))
    return counts
