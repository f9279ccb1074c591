"""What the best slate would have been worth where a policy stood: the bound of each single decision.

The oracle's own run is no bound in a small world: it shows a user their best ads first, the caps then keep
these from it, and a policy that found them later looks better than the oracle. Here each decision is set
against the best slate under the rules **in the state that the policy itself has led to**: the same user,
moment, catalogue, recent impressions and hidden ads. So a shift that opens fresh ads to the oracle
does not look like a fall of everybody else.

The best slate takes the ads by their value in the first slot. Ads paid by impression lose less further down,
so the best order of them all is worth .5 to 1.2 % more (default worlds of two seeds, 300 users each): the
bound is that close, and a policy could beat it by as much.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.domain.decision import Decision
from models.domain.events import Request

from .draws import F64, uniform
from .ledger import user_rows
from .loop import Delivered, Rules
from .population import I64
from .truth import Truth

JUDGED_CELLS = 20_000
"""With more ads than this, a share of `JUDGED_CELLS` / ads of the decisions is judged, drawn by hash."""
LEAST_SHARE = 0.05
_ROWS = 32


def judged_share(ads: int) -> float:
    """Return the share of decisions that are set against their best slate."""
    return min(1.0, max(JUDGED_CELLS / max(ads, 1), LEAST_SHARE))


class Referee:
    """Follows one policy's run and keeps the books of its decisions' best alternatives, by second."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.rules = Rules(truth)
        self.share = judged_share(len(truth.ads))
        self.by_second: dict[int, F64] = {}
        """`[2]` per second: true value of the judged decisions, and of the best slates in their place."""
        self.by_user: F64 = np.zeros((2, user_rows(truth)))
        """`[2, rows]`: the same over the whole run, by rows of users as in `Ledger.by_user`."""

    def follow(self, batch: Sequence[Delivered], decisions: Sequence[Decision]) -> None:
        """Take in a batch of events with the decisions that it called for."""
        made = {decision.request_id: decision for decision in decisions}
        asked: list[tuple[Request, set[int], Decision]] = []
        for _, event in batch:
            if not isinstance(event, Request):
                self.rules.observe(event)
            elif event.id in made and self._drawn(event):
                blocked = self.rules.blocked(event.user_id, event.event_time)
                asked.append((event, blocked, made[event.id]))
        for start in range(0, len(asked), _ROWS):
            self._judge(asked[start : start + _ROWS])

    def _drawn(self, request: Request) -> bool:
        if self.share >= 1:
            return True
        user = self.truth.users.row_of[request.user_id]
        return bool(uniform(self.truth.config.seed, "judged", user, request.event_time)[0] < self.share)

    def _judge(self, asked: Sequence[tuple[Request, set[int], Decision]]) -> None:
        truth = self.truth
        user = np.array([truth.users.row_of[request.user_id] for request, _, _ in asked])
        time_ms = np.array([request.event_time for request, _, _ in asked])
        wanted = [request.slots or self.rules.policy.slots for request, _, _ in asked]
        counts = [8 * slots + len(blocked) for slots, (_, blocked, _) in zip(wanted, asked, strict=True)]
        slates: list[list[int]] = [[], []]
        owner: list[list[int]] = [[], []]
        for i, top in enumerate(truth.best_ads(user, time_ms, counts)):
            _, blocked, decision = asked[i]
            shown = [truth.ads.row_of[s.ad_id] for s in decision.ads if s.ad_id in truth.ads.row_of]
            for which, rows in enumerate((shown, self.rules.fill(top.tolist(), blocked, wanted[i]))):
                slates[which] += rows
                owner[which] += [i] * len(rows)
        for which in range(2):
            self._add(
                which, user, time_ms, np.array(owner[which], np.int64), np.array(slates[which], np.int64)
            )

    def _add(self, which: int, user: I64, time_ms: I64, owner: I64, rows: I64) -> None:
        """Enter what ads are worth; `owner` `[n]` says whose slate each is in, slot after slot."""
        slot = np.arange(len(owner)) - np.searchsorted(owner, owner, side="left")
        reactions = self.truth.config.reactions
        visible, examined = (
            np.asarray(x)[np.minimum(slot, len(x) - 1)] for x in (reactions.visible, reactions.examination)
        )
        pctr, pcvr = self.truth.pairs(user[owner], rows, time_ms[owner])
        worth = visible * self.truth.value_micros(rows, examined * pctr, pcvr)
        for second, value in zip(self.truth.second(time_ms[owner]).tolist(), worth.tolist(), strict=True):
            self.by_second.setdefault(second, np.zeros(2))[which] += value
        places = self.by_user.shape[1]
        self.by_user[which] += np.bincount(user[owner] % places, weights=worth, minlength=places)

    def series(self, from_s: int, to_s: int) -> tuple[F64, F64]:
        """Return value and best value per second `[to_s - from_s]` each, 0 where nothing was judged."""
        rows = np.array([self.by_second.get(s, np.zeros(2)) for s in range(from_s, to_s)]).reshape(-1, 2)
        return rows[:, 0], rows[:, 1]
