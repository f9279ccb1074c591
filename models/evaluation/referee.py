"""What the best slate would have been worth where a policy stood: the bound of each single decision.

The oracle's own run is no bound in a small world: it shows a user their best ads first, the caps then keep
these from it, and a policy that found them later looks better than the oracle. Here each decision is set
against the best slate under the rules **in the state that the policy itself has led to**: the same user,
moment, catalogue, recent impressions and hidden ads. So a shift that opens fresh ads to the oracle
does not look like a fall of everybody else.

The best slate takes the ads by their value in the first slot. Ads paid by impression lose less further down,
so the best order of them all is worth .5 to 1.2 % more (default worlds of two seeds, 300 users each): the
bound is that close, and a policy could beat it by as much.

Ads of a campaign whose charges at the bids have reached its budget are worth nothing (`budgets`): not to the
policy that shows them, and the best slate does without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from models.domain.decision import Decision
from models.domain.events import Request
from models.state.seen import SeenIds

from .budgets import DAY_MS, Limited, Spend
from .draws import F64, uniform
from .ledger import user_rows
from .loop import KNOWN_IDS, Delivered, Groups, Rules, looked_at
from .population import I64, Bools
from .truth import Truth

JUDGED_CELLS = 20_000
"""With more ads than this, a share of `JUDGED_CELLS` / ads of the decisions is judged, drawn by hash."""
LEAST_SHARE = 0.05
_ROWS = 32


def judged_share(ads: int) -> float:
    """Return the share of decisions that are set against their best slate."""
    return min(1.0, max(JUDGED_CELLS / max(ads, 1), LEAST_SHARE))


class _Asked(NamedTuple):
    """A request, the rows that may not be shown, those among them whose budget is spent, and the decision."""

    request: Request
    blocked: set[int]
    spent: set[int]
    decision: Decision


class Referee:
    """Follows one policy's run and keeps the books of its decisions' best alternatives, by second.

    Parameters
    ----------
    at_bids
        The run's own books of charges at the bids; they fill as it goes on.

    """

    def __init__(self, truth: Truth, at_bids: Spend) -> None:
        self.truth = truth
        self._at_bids, self._limited = at_bids, Limited()
        self.rules, self.groups = Rules(truth), Groups(truth)
        self._seen = SeenIds(KNOWN_IDS)
        self.share = judged_share(len(truth.ads))
        self.by_second: dict[int, F64] = {}
        """`[2]` per second: true value of the judged decisions, and of the best slates in their place."""
        self.by_user: F64 = np.zeros((2, user_rows(truth)))
        """`[2, rows]`: the same over the whole run, by rows of users as in `Ledger.by_user`."""

    def follow(self, batch: Sequence[Delivered], decisions: Sequence[Decision]) -> None:
        """Take in a batch of events with the decisions that it called for."""
        made = {decision.request_id: decision for decision in decisions}
        asked: list[_Asked] = []
        for event in (event for _, event in batch if self._seen.first_time(event.id)):
            if not isinstance(event, Request):
                self.rules.observe(event)
            elif event.id in made and self._drawn(event):
                spent = self._limited.spent(self.truth.ads, self._at_bids, event.event_time // DAY_MS)
                blocked = self.rules.blocked(event.user_id, event.event_time) | spent
                asked.append(_Asked(event, blocked, spent, made[event.id]))
        for start in range(0, len(asked), _ROWS):
            self._judge(asked[start : start + _ROWS])

    def _drawn(self, request: Request) -> bool:
        if self.share >= 1:
            return True
        user = self.truth.users.row_of[request.user_id]
        return bool(uniform(self.truth.config.seed, "judged", user, request.event_time)[0] < self.share)

    def _judge(self, asked: Sequence[_Asked]) -> None:
        truth = self.truth
        user = np.array([truth.users.row_of[each.request.user_id] for each in asked])
        time_ms = np.array([each.request.event_time for each in asked])
        slates: list[list[int]] = [[], []]
        owner: list[list[int]] = [[], []]
        for i, (each, best) in enumerate(zip(asked, self._best(asked, user, time_ms), strict=True)):
            shown = [truth.ads.row_of[s.ad_id] for s in each.decision.ads if s.ad_id in truth.ads.row_of]
            for which, slate in enumerate((shown, best)):
                slates[which] += slate
                owner[which] += [i] * len(slate)
        for which in range(2):
            rows, whose = np.array(slates[which], np.int64), np.array(owner[which], np.int64)
            spent = [row in asked[i].spent for i, row in zip(owner[which], slates[which], strict=True)]
            self._add(which, user, time_ms, whose, rows, np.array(spent, np.bool_))

    def _best(self, asked: Sequence[_Asked], user: I64, time_ms: I64) -> list[list[int]]:
        """Return the best slate of each, all ranked together as far as is usually enough."""
        wanted = [each.request.slots or self.rules.policy.slots for each in asked]
        first = [looked_at(slots, each.blocked) for slots, each in zip(wanted, asked, strict=True)]
        tops = self.truth.best_ads(user, time_ms, first)

        def ranking(i: int, count: int) -> list[int]:
            one = slice(i, i + 1)
            top = tops[i] if count <= first[i] else self.truth.best_ads(user[one], time_ms[one], [count])[0]
            return [int(row) for row in top]

        candidates = [len(self.groups.rows(int(group))) for group in self.truth.users.group[user]]
        return [
            self.rules.fill_from(partial(ranking, i), each.blocked, wanted[i], candidates[i])
            for i, each in enumerate(asked)
        ]

    def _add(self, which: int, user: I64, time_ms: I64, owner: I64, rows: I64, spent: Bools) -> None:
        """Enter what ads are worth; `owner` `[n]` says whose slate each is in, slot after slot."""
        slot = np.arange(len(owner)) - np.searchsorted(owner, owner, side="left")
        reactions = self.truth.config.reactions
        visible, examined = (
            np.asarray(x)[np.minimum(slot, len(x) - 1)] for x in (reactions.visible, reactions.examination)
        )
        pctr, pcvr = self.truth.pairs(user[owner], rows, time_ms[owner])
        worth = visible * self.truth.value_micros(rows, examined * pctr, pcvr) * ~spent
        for second, value in zip(self.truth.second(time_ms[owner]).tolist(), worth.tolist(), strict=True):
            self.by_second.setdefault(second, np.zeros(2))[which] += value
        places = self.by_user.shape[1]
        self.by_user[which] += np.bincount(user[owner] % places, weights=worth, minlength=places)

    def series(self, from_s: int, to_s: int) -> tuple[F64, F64]:
        """Return value and best value per second `[to_s - from_s]` each, 0 where nothing was judged."""
        rows = np.array([self.by_second.get(s, np.zeros(2)) for s in range(from_s, to_s)]).reshape(-1, 2)
        return rows[:, 0], rows[:, 1]
