r"""What a campaign's decisions will still cost: the spend that the pacer has not been told of yet.

Two parts. **Owed**: impressions that were reported and may still be billed, by a click or a conversion, each
with its expected price `due` (``pctr * price`` or ``pctr * pcvr * price``). With exponential delays of mean
tau (delayed feedback, Chapelle '14) what is owed is the sum of ``due * exp(-age / tau)``, which fades without
a list; tau is the mean wait of the charges so far, one for clicks and one for conversions. What matured is
set against what was billed, so predictions that are too high by half are taken for half.

**Unseen**: decisions of the last ``delay_s`` whose impressions were not reported. They cost what the last
``delay_s`` of reports cost: a sum that fades with that time constant, divided by the part of it that the
time since the first report can have filled. So a campaign that just began counts with its rate, not with
the little that came so far.

Predictions foretell a click's price at its impression, so both parts are far steadier than charges; where
nothing is foretold (bids per impression, outcomes without a price) charges stand in for it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

_PRIOR_EVENTS = 10.0
"""Charges that the ratio of billed to matured is believed to be 1 with."""
_PRIOR_WAITS_MS = (60_000.0, 3_600_000.0)
"""How long a click and a conversion are taken to come after their decision before any did."""
_PRIOR_WAITS = 3.0
_MOST_WAITS = 300.0
_LEAST_PART = 1.0 / 12.0
"""Least part of the delay that the first reports are taken to cover."""
CLICKS, CONVERSIONS = range(2)


class Bill(NamedTuple):
    """How an outcome stands to what was foretold.

    ``by`` is CLICKS or CONVERSIONS, ``due_micros`` what an impression is expected to be billed later,
    ``waited_ms`` how long after its decision a charge came.
    """

    by: int
    due_micros: float = 0.0
    waited_ms: int = 0


class Owed(msgspec.Struct):
    """What impressions that were reported will be billed, by one kind of event."""

    prior_ms: float
    pending: float = 0.0
    """Foretold and not matured as of ``at_ms``."""
    at_ms: int = 0
    matured: float = 0.0
    billed: float = 0.0
    waited_ms: float = 0.0
    waits: float = 0.0

    def foretell(self, due_micros: float, time_ms: int) -> None:
        """Count an impression's expected charge; of one that is told late, a part has matured."""
        self.mature(time_ms)
        left = due_micros * math.exp(-max(self.at_ms - time_ms, 0) / self._tau_ms())
        self.pending += left
        self.matured += due_micros - left

    def bill(self, charge_micros: int, waited_ms: int) -> None:
        """Count a charge that was foretold, and how long it took."""
        self.billed += charge_micros
        if self.waits >= _MOST_WAITS:
            self.waits, self.waited_ms = self.waits / 2.0, self.waited_ms / 2.0
        self.waits += 1.0
        self.waited_ms += max(waited_ms, 0)

    def mature(self, now_ms: int) -> None:
        """Move on to this time, if it is later."""
        if now_ms > self.at_ms:
            left = self.pending * math.exp(-(now_ms - self.at_ms) / self._tau_ms())
            self.matured += self.pending - left
            self.pending, self.at_ms = left, now_ms

    def factor(self, top_price: int) -> float:
        """Return what a foretold micro was billed so far; near 1 before there were charges."""
        prior = _PRIOR_EVENTS * top_price
        return (self.billed + prior) / (self.matured + prior) if prior else 1.0

    def forget_half(self) -> None:
        """Let half of what was learned of the predictions go, at the end of a day."""
        self.matured, self.billed = self.matured / 2.0, self.billed / 2.0

    def _tau_ms(self) -> float:
        return max((self.waited_ms + _PRIOR_WAITS * self.prior_ms) / (self.waits + _PRIOR_WAITS), 1.0)


class UnderWay(msgspec.Struct):
    """The spend under way of one campaign; ``delay_ms`` is given with each call and never changes."""

    owed: tuple[Owed, ...] = msgspec.field(default_factory=lambda: tuple(map(Owed, _PRIOR_WAITS_MS)))
    flow: float = 0.0
    """Costs told, fading with the reporting delay, as of ``at_ms``."""
    at_ms: int = 0
    first_ms: int = -1
    """When the first cost was, since the campaign last began to spend."""
    largest: float = 0.0
    """Largest single cost."""
    held: float = 0.0
    """The most that was unseen while the campaign was stopped,"""
    held_mu: float = 0.0
    """and its multiplier when it was stopped."""
    top_price: int = 0
    """Largest single charge."""

    def tell(self, charge_micros: int, time_ms: int, bill: Bill | None, delay_ms: float) -> float:
        """Take an outcome in and return what it says of the spend: the cost it foretells, or its charge."""
        self.top_price = max(self.top_price, charge_micros)
        cost = float(charge_micros) if bill is None else self._foretold(charge_micros, time_ms, bill)
        if cost > 0.0:
            self.fade(time_ms, delay_ms)
            self.flow += cost * math.exp(-max(self.at_ms - time_ms, 0) / delay_ms)
            self.largest = max(self.largest, cost)
            self.first_ms = time_ms if self.first_ms < 0 else min(self.first_ms, time_ms)
        return cost

    def _foretold(self, charge_micros: int, time_ms: int, bill: Bill) -> float:
        owed = self.owed[bill.by]
        if bill.due_micros > 0.0:
            owed.foretell(bill.due_micros, time_ms)
        elif not owed.matured and not owed.pending:
            return float(charge_micros)
        if charge_micros:
            owed.bill(charge_micros, bill.waited_ms)
        return bill.due_micros * owed.factor(self.top_price)

    def fade(self, now_ms: int, delay_ms: float) -> None:
        """Move on to this time, if it is later."""
        for owed in self.owed:
            owed.mature(now_ms)
        if now_ms > self.at_ms:
            self.flow *= math.exp(-(now_ms - self.at_ms) / delay_ms)
            self.at_ms = now_ms

    def owed_micros(self) -> float:
        """Return what reported impressions will still be billed, as of the last `fade`."""
        return sum(owed.pending * owed.factor(self.top_price) for owed in self.owed)

    def unseen_micros(self, mu: float, delay_ms: float) -> float:
        """Return what decisions cost that nothing was reported of; one cost alone says nothing of a rate.

        Bids that sank by half since a stop are taken to cost half as much at the least: they win less too.
        """
        held = self.held * min((1.0 + self.held_mu) / (1.0 + mu), 1.0)
        if self.first_ms < 0:
            return held
        part = max((self.at_ms - self.first_ms) / delay_ms, _LEAST_PART)
        return max(held, (self.flow - self.largest) / -math.expm1(-part))

    def stop(self, mu: float) -> None:
        """Note the multiplier that a campaign was stopped at."""
        self.held_mu = mu

    def hold(self, delay_ms: float) -> None:
        """Keep the unseen spend at its most: a stopped campaign would open again at the rate it had."""
        self.held = self.unseen_micros(self.held_mu, delay_ms)

    def begin(self) -> None:
        """Begin a day after a stop: nothing is unseen any more."""
        self.flow, self.first_ms, self.held = 0.0, -1, 0.0

    def margin(self, mu: float, deviations: float, delay_ms: float) -> float:
        """Return the spend under way, with so many deviations of a compound Poisson sum of its prices."""
        expected = self.owed_micros() + self.unseen_micros(mu, delay_ms)
        return expected + deviations * math.sqrt(max(expected, 0.0) * self.top_price)
