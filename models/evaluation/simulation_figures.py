"""The figures of one policy in one world, each with its standard error over that world's users.

A rate is a ratio of two sums over users. A total is what a decision earns, a ratio too, times the number of
decisions: how much is asked for is the world's (`Traffic`), whoever its users are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from .bootstrap import Interval
from .intervals import AMOUNT, SHARE, Estimate, Link, interval_of, ratio_of_sums
from .ledger import Ledger


class Estimator(Protocol):
    """Finds a figure in the books of one world."""

    def __call__(self, ledger: Ledger) -> Estimate:
        """Return the figure; its value is nan where there is nothing to measure."""
        ...


class Figure(NamedTuple):
    """A figure and the scale that its interval is set out on."""

    of: Estimator
    link: Link

    def over(self, ledgers: Sequence[Ledger]) -> Interval:
        """Return the figure's mean over worlds with its interval."""
        return interval_of([self.of(ledger) for ledger in ledgers], self.link)


def rate(ledger: Ledger, top: str, bottom: str) -> Estimate:
    """Return the ratio of two fields' sums, nan where the lower one is 0."""
    return ratio_of_sums(ledger.of_users(top), ledger.of_users(bottom))


def total(ledger: Ledger, field: str) -> Estimate:
    """Return a field's sum."""
    decisions = float(ledger.of_users("decisions").sum())
    per_decision = rate(ledger, field, "decisions")
    return Estimate(float(ledger.of_users(field).sum()), decisions * per_decision.error, per_decision.freedom)


def against(ledger: Ledger, oracle: Ledger, field: str) -> Estimate:
    """Return a field's sum per sum of the oracle's run in the same world, user beside the same user."""
    return ratio_of_sums(ledger.of_users(field), oracle.of_users(field))


def _share(top: str, bottom: str) -> Figure:
    return Figure(partial(rate, top=top, bottom=bottom), SHARE)


def _sum(field: str) -> Figure:
    return Figure(partial(total, field=field), AMOUNT)


FIGURES: dict[str, Figure] = {
    "ctr": _share("expected_clicks", "expected_impressions"),
    "cvr": _share("expected_conversions", "expected_clicks"),
    "revenue_micros": _sum("revenue_micros"),
    "value_micros": _sum("value_micros"),
    "charged_micros": _sum("charged_micros"),
    "value_per_spend": Figure(partial(rate, top="value_micros", bottom="paid_micros"), AMOUNT),
    "observed_ctr": _share("clicks", "impressions"),
    "new_ad_impression_share": _share("new_impressions", "expected_impressions"),
    "new_ad_ctr": _share("new_clicks", "new_impressions"),
}
"""Figures of a policy. CTR and CVR are expected ones, in truth; revenue is what the counted events pay at
the ads' bids, value the same in expectation, both as far as budgets reach; charged what the decisions' own
prices came to, spend what is not waived of it. The baselines charge the bid, the product the price of its
auction: value per spend compares policies of one kind only."""
