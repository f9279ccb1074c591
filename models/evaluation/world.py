"""The simulated world: users who ask, look, click and buy, and ads that come and go, on a clock of its own.

It is pure and seeded: `step` returns what happens up to a time, `react` takes what was decided and lets
it have consequences in later steps, `truth` says what no system can know. The same seed gives the same
users, requests and views whatever is decided, so policies are compared on equal terms.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import lru_cache
from itertools import count

import numpy as np

from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.domain.events import Event

from . import behaviour, traffic
from .draws import F64
from .inventory import AdTable, make_ads
from .ledger import Ledger
from .population import Users, make_users
from .truth import Truth
from .world_config import WorldConfig


@lru_cache(maxsize=1)
def _first_state(config: WorldConfig) -> tuple[Users, AdTable]:
    """Return users and first catalogue; nobody changes them in place, so worlds of one config share them."""
    return make_users(config), make_ads(config, 0, config.sizes.ads, config.start_s)


class World:
    """A world at a moment; `now_ms` is the time up to which it has been stepped.

    Parameters
    ----------
    config
        Its seed, sizes and difficulty; two worlds of one config behave the same for ever.

    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.state = Truth(config, *_first_state(config))
        self.ledger = Ledger()
        self.now_ms = config.start_ms
        self._next_second = int(np.floor(config.start_s))
        self._shelf = traffic.Shelf(self.state.ads)
        self._pending: list[tuple[int, str, int, Event]] = []
        self._numbers = count()
        self._push(traffic.upserts(self.state.ads, np.arange(len(self.state.ads)), self.now_ms, "catalogue"))

    def catalogue(self) -> list[Ad]:
        """Return the ads that are active now."""
        return list(self.state.ads.ads[self.state.ads.active])

    def step(self, until_ms: int) -> list[Event]:
        """Return what happens before `until_ms` and has not been returned yet, in order of (time, id).

        The first step begins with the catalogue as `AdUpsert` records.
        """
        while self._second_start() < until_ms:
            self._begin_second()
        due = []
        while self._pending and self._pending[0][0] < until_ms:
            due.append(heapq.heappop(self._pending)[3])
        self.now_ms = max(self.now_ms, until_ms)
        return due

    def react(self, decisions: Sequence[Decision]) -> None:
        """Let these decisions be seen: what users do about them comes out of later steps.

        Give each decision once. Users and ads that this world does not hold are left out.
        """
        what = behaviour.shown(self.state, decisions)
        did = behaviour.answer(self.state, what)
        when = behaviour.delays(self.state, what, self.now_ms)
        self._push(behaviour.events(self.state, decisions, what, did, when))
        self.ledger.add(self.state, decisions, what, did)

    def truth(self, user_id: str, ad_ids: Sequence[str], time_ms: int) -> tuple[F64, F64]:
        """Return pctr (of an examined impression) and pcvr (of a click) of a user and ads `[n]` at a time.

        Raises
        ------
        KeyError
            The world holds no such user or ad.

        """
        ad = np.array([self.state.ads.row_of[a] for a in ad_ids], dtype=np.int64)
        user = np.full(len(ad), self.state.users.row_of[user_id], dtype=np.int64)
        return self.state.pairs(user, ad, np.full(len(ad), time_ms, dtype=np.int64))

    def _second_start(self) -> int:
        return self.config.epoch_ms + self._next_second * 1000

    def _begin_second(self) -> None:
        second = self._next_second
        self._next_second += 1
        burst = traffic.burst_number(self.config, second)
        if burst:
            self._burst(burst, second)
        happened = traffic.requests(self.state, second) + traffic.views(self.state, self._shelf, second)
        self._push([event for event in happened if event[0] >= self.now_ms])

    def _burst(self, burst: int, second: int) -> None:
        """Bring new ads and withdraw old ones at the start of a second."""
        table, time_ms = self.state.ads, self.config.epoch_ms + second * 1000
        gone = traffic.withdrawals(self.config, table, burst)
        new = round(self.config.sizes.ads * self.config.inventory.burst_share)
        grown = table.without(gone)
        if new:
            grown = grown.joined(make_ads(self.config, len(table), new, float(second)))
        self.state.ads = grown
        self._shelf = traffic.Shelf(grown)
        self._push(traffic.upserts(grown, np.arange(len(table), len(grown)), time_ms, f"burst-{burst}"))
        self._push(traffic.withdraw_record(table, gone, time_ms, f"withdraw-{burst}"))

    def _push(self, happened: Sequence[traffic.Timed]) -> None:
        for time_ms, name, event in happened:
            heapq.heappush(self._pending, (time_ms, name, next(self._numbers), event))
