"""The books of a campaign: what it may spend, what it pays, and what is waived.

No advertiser pays more than the budget: of a charge that goes over what is left, the rest is **waived** and
counted. So the cap is hard for what is paid, and `waived` says how much was delivered beyond it. A charge
that comes late is one of its own day: it is paid from what that day left.
"""

from __future__ import annotations

import math

import msgspec

from .slow_start import FAR_OFF
from .under_way import UnderWay
from .validation import MAX_WINDOW_S

DAY_MS = 86_400_000
KEPT_DAYS = 1000 * MAX_WINDOW_S // DAY_MS + 2
"""Days back to which charges are paid: as far as an ad's attribution window and a day's lateness reach."""


class Account(msgspec.Struct):
    """What the pacer keeps of one campaign, money in micros."""

    daily: int | None = None
    lifetime: int | None = None
    end_ms: int | None = None
    gone: bool = False
    """The catalogue holds it no more: neither paced nor stopped, but what comes late has its budgets."""
    day_limit: int | None = None
    """The last daily budget that was in force today; it stands for the day though it be taken away."""
    spent_day: int = 0
    """Paid for today."""
    spent: int = 0
    """Paid in all."""
    waived: int = 0
    """Charged beyond the budgets and not paid, in all."""
    left_of: dict[int, int] = {}
    """What late charges may still take of earlier UTC days' budgets, for days that were charged."""
    minute_cost: float = 0.0
    """What this minute's outcomes cost or foretell."""
    under_way: UnderWay = msgspec.field(default_factory=UnderWay)
    mu: float = 0.0
    starts: bool = False
    """It has a budget and has not spent fast enough yet to say what multiplier holds it."""
    start_ms: int = 0
    """When the first of its ads may be shown, while it starts."""
    day_budget: int | None = None
    """Budget of the current day; None when the campaign is not paced."""
    exhausted: bool = False
    announced_mu: float = 0.0
    announced_waived: int = 0
    last_ms: int = 0
    """When it was last heard of: an outcome, or its budgets again; 0 before the first outcome."""

    def has_budget(self) -> bool:
        """Return whether the campaign's spend is bounded at all."""
        return self.daily is not None or self.lifetime is not None

    def is_steered(self) -> bool:
        """Return whether the campaign is shown by a budget: it has one, and the catalogue holds it."""
        return self.has_budget() and not self.gone

    def is_idle(self, now_ms: int) -> bool:
        """Return whether the campaign may be forgotten: not steered, or silent for longer than charges come.

        One that was never heard of may still begin.
        """
        return not self.is_steered() or 0 < self.last_ms < now_ms - KEPT_DAYS * DAY_MS

    def left(self) -> float:
        """Return what may still be spent now."""
        daily = math.inf if self.daily is None else self.daily - self.spent_day
        return min(daily, self.left_of_lifetime())

    def left_of_lifetime(self) -> float:
        """Return what may still be spent on this and all later days."""
        return math.inf if self.lifetime is None else self.lifetime - self.spent

    def has_ended(self) -> bool:
        """Return whether no later day can bring the campaign back."""
        return self.left_of_lifetime() <= 0

    def pay(self, charge_micros: int, day: int, today: int) -> None:
        """Enter a charge of today or of an earlier UTC day, as far as the budgets allow; waive the rest."""
        room = self.left() if day == today else min(self._left_of(day, today), self.left_of_lifetime())
        paid = int(min(charge_micros, max(room, 0)))
        self.spent += paid
        self.waived += charge_micros - paid
        if day == today:
            self.spent_day += paid
        elif paid and (day in self.left_of or self.daily is not None):
            self.left_of[day] = int(self._left_of(day, today)) - paid

    def _left_of(self, day: int, today: int) -> float:
        """Return what an earlier day left of its budget: one of today's size where nothing was charged."""
        if self.daily is None:
            return self.left_of.get(day, math.inf)
        return self.left_of.get(day, self.daily if today - day <= KEPT_DAYS else 0)

    def start_day(self, now_ms: int, days: int = 1) -> None:
        """Begin the day of ``now_ms``, so many days after the last one."""
        today = now_ms // DAY_MS
        limit = self.day_limit if self.daily is None else self.daily
        if self.spent_day and limit is not None:
            self.left_of[today - days] = limit - self.spent_day
        self.left_of = {day: left for day, left in self.left_of.items() if today - day <= KEPT_DAYS}
        self.spent_day, self.day_limit = 0, None
        self.plan_day(now_ms)
        for owed in self.under_way.owed:
            owed.forget_half()
        if self.exhausted:
            self.under_way.begin()

    def plan_day(self, now_ms: int) -> None:
        """Take what the day of ``now_ms`` should spend; a campaign that is not paced is not slowed either."""
        if self.daily is not None:
            self.day_limit = self.daily
        self.day_budget = None if self.gone else self.budget_of_day(now_ms)
        if self.day_budget is None:
            self.mu, self.starts = 0.0, False

    def budget_of_day(self, now_ms: int) -> int | None:
        """Return what the campaign should spend in the day of ``now_ms``."""
        if self.lifetime is None or self.end_ms is None:
            return self.daily
        days = max(-(-self.end_ms // DAY_MS) - now_ms // DAY_MS, 1)
        share = max(self.lifetime - self.spent + self.spent_day, 0) // days
        return share if self.daily is None else min(self.daily, share)

    def start(self, mu: float) -> None:
        """Hold a campaign back that got its first budget, until it is said from when on its bids rise."""
        self.mu, self.starts, self.start_ms = mu, mu > 0.0, FAR_OFF

    def target(self, share_of_rest: float) -> float:
        """Return what a minute should cost that brings this share of what is left of the day's traffic."""
        return max(self.still_to_spend() + self.minute_cost, 0.0) * share_of_rest

    def still_to_spend(self) -> float:
        """Return what of the day's budget is neither spent nor owed."""
        return (self.day_budget or 0) - self.spent_day - self.under_way.owed_micros()
