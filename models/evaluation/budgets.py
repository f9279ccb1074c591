"""Daily budgets in the simulated world: what campaigns are charged, and whose ads must stop.

Every policy of the loop obeys them. The product's core paces and stops by its own outcomes and prices; the
baselines, the oracle among them, stop a campaign once the charges at its bids have reached the budget of
the UTC day, which is all that serving greedily can do. Clicks that come after the stop are charged, so
everybody overspends by what is under way; what goes over a budget is waived, and told.

Nobody pays for what is waived, so it is worth nothing: a decision's value counts as far as one charge at the
bid is covered by what the decisions before it, with all that still follows them, have left of the day's
budget. That goes for all policies, whatever their prices are.

Everybody's budgets are whole at the world's first moment: what happened in the past that all policies have
read was another policy's, and the product's shards do not know its decisions.
"""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np

from models.domain.catalogue import BID_TYPES
from models.domain.events import Click, Conversion, Impression

from .draws import F64
from .inventory import AdTable
from .population import I64
from .truth import Truth

DAY_MS = 86_400_000

_BILLED: dict[type, tuple[str, float]] = {
    Impression: ("cpm", 1e-3),
    Click: ("cpc", 1.0),
    Conversion: ("cpa", 1.0),
}

Spend = dict[tuple[int, int], float]
"""Micros by (UTC day, campaign)."""


def daily_budgets(ads: AdTable) -> dict[int, int]:
    """Return the daily budget in micros of each campaign that has one; the last ad's counts."""
    return {
        int(campaign): ad.daily_budget_micros
        for campaign, ad in zip(ads.campaign.tolist(), ads.ads, strict=True)
        if ad.daily_budget_micros is not None
    }


class Limited:
    """The campaigns that have a daily budget, found anew when the catalogue changes."""

    def __init__(self) -> None:
        self._of: AdTable | None = None
        self._budgets: dict[int, int] = {}
        self._rows: dict[int, I64] = {}

    def budgets(self, ads: AdTable) -> dict[int, int]:
        """Return the daily budget in micros of each campaign that has one."""
        if self._of is not ads:
            self._of, self._budgets = ads, daily_budgets(ads)
            self._rows = {c: np.flatnonzero(ads.campaign == c) for c in self._budgets}
        return self._budgets

    def spent(self, ads: AdTable, books: Spend, day: int) -> set[int]:
        """Return the rows of the ads whose campaign's charges have reached the budget of a day."""
        of = self.budgets(ads)
        campaigns = (c for (d, c), spent in books.items() if d == day and spent >= of.get(c, np.inf))
        return {row for campaign in campaigns for row in self._rows[campaign].tolist()}


class Budgets:
    """Keeps the baselines to the budgets; fed with every event. Free where no campaign has one."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._campaigns = Limited()
        self._limited = truth.config.inventory.budget_share > 0
        self._delay_ms = round(truth.config.reactions.report_delay_s * 1000)
        self._unreported: deque[tuple[int, int, float]] = deque()
        self._spent: Spend = defaultdict(float)

    def observe(self, event: object) -> None:
        """Charge an event that followed a decision to its campaign, at the bid, once it is reported."""
        if not self._limited or type(event) not in _BILLED:
            return
        assert isinstance(event, Impression | Click | Conversion)
        if event.event_time < self._truth.config.start_ms:
            return
        row = self._truth.ads.row_of.get(event.ad_id)
        billed, share = _BILLED[type(event)]
        if row is None or event.decision_id is None or BID_TYPES[self._truth.ads.bid_type[row]] != billed:
            return
        campaign, bid = int(self._truth.ads.campaign[row]), float(self._truth.ads.bid_micros[row])
        self._unreported.append((event.event_time, campaign, share * bid))

    def exhausted(self, now_ms: int) -> set[int]:
        """Return the rows of the ads whose campaign has spent its budget of this day."""
        if not self._limited:
            return set()
        self._report(now_ms - self._delay_ms)
        return self._campaigns.spent(self._truth.ads, self._spent, now_ms // DAY_MS)

    def _report(self, until_ms: int) -> None:
        while self._unreported and self._unreported[0][0] <= until_ms:
            time_ms, campaign, micros = self._unreported.popleft()
            self._spent[time_ms // DAY_MS, campaign] += micros


def add_spend(
    books: Spend, budgets: dict[int, int], ads: AdTable, rows: I64, time_ms: I64, charged: F64
) -> F64:
    """Add what ads `[N]` were charged for decisions at these times to the books, one after the other.

    Returns
    -------
    F64
        `[N]` what was left of the budget before each charge, infinite for campaigns without one.

    """
    left = np.full(len(rows), np.inf)
    keys = zip((time_ms // DAY_MS).tolist(), ads.campaign[rows].tolist(), strict=True)
    for i, (key, micros) in enumerate(zip(keys, charged.tolist(), strict=True)):
        if key[1] in budgets:
            left[i] = budgets[key[1]] - books.get(key, 0.0)
        if micros:
            books[key] = books.get(key, 0.0) + micros
    return left


def overspend(books: Spend, budgets: dict[int, int]) -> float:
    """Return the largest share by which a campaign's day went over its budget; 0 where none did."""
    shares = (spent / budgets[c] - 1.0 for (_, c), spent in books.items() if c in budgets)
    return max(0.0, max(shares, default=0.0))


def waived_micros(books: Spend, budgets: dict[int, int]) -> float:
    """Return what all campaigns were charged beyond their budgets of a day: nobody pays it."""
    return sum(max(spent - budgets[c], 0.0) for (_, c), spent in books.items() if c in budgets)
