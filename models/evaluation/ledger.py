"""The simulator's books: what decisions were worth in truth, by second and by ad, and how well calibrated.

Expected figures take the true probabilities (no luck in them), counted ones what users did. Value is at
the ads' bids for every policy alike; ``charged`` at the prices that the decisions themselves named, ``paid``
what is not waived of it. Value and revenue that the budgets do not cover do not count (`budgets`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.domain.decision import Decision

from .behaviour import Answer, Shown
from .bootstrap import sums_by
from .budgets import Limited, Spend, add_spend
from .draws import F64
from .population import I64, Bools
from .truth import Truth

NEW_AD_S = 120.0
FIRST_IMPRESSIONS = 20
BINS = 25
USER_ROWS = 20_000
"""In a larger world users share rows of the books by user: so many are plenty for an interval."""

FIELDS = (
    "decisions", "slots", "impressions", "clicks", "conversions",
    "expected_impressions", "expected_clicks", "expected_conversions",
    "value_micros", "revenue_micros", "charged_micros", "paid_micros",
    "new_impressions", "new_clicks", "new_value_micros",
)  # fmt: skip
"""Sums per second. ``impressions``, ``clicks``, ``conversions`` as they happened, ``expected_`` in truth;
``value_micros`` expected and ``revenue_micros`` counted, both at bids; ``new_`` (expected) of ads that came
after the start and are younger than NEW_AD_S."""
AD_FIELDS = ("impressions", "clicks", "pctr", "value_micros", "charged_micros")
"""Expected sums per ad: impressions, clicks, true pctr over impressions, value at bids, charges at prices."""
_REVENUE, _CHARGED, _PAID = (FIELDS.index(f"{name}_micros") for name in ("revenue", "charged", "paid"))
_AT_BIDS = [FIELDS.index(f"{name}_micros") for name in ("value", "revenue", "new_value")]


class Ledger:
    """Books of one run. Bounded: one row per second, per ad and per user, whatever the traffic."""

    def __init__(self) -> None:
        self.by_second: dict[int, F64] = {}
        """`[FIELDS]` per second of decision."""
        self.by_user: F64 = np.zeros((0, len(FIELDS)))
        """`[min(U, USER_ROWS), FIELDS]` over the whole run, user u in row u mod USER_ROWS."""
        self.calibration: dict[int, F64] = {}
        """`[BINS, 3]` per second: slots, their predicted and their true pctr, by bin of the predicted."""
        self.spend: Spend = {}
        """What campaigns were charged by day, where some have budgets."""
        self.at_bids: Spend = {}
        """What they would have been charged at their bids."""
        self._limited = Limited()
        self.by_ad: F64 = np.zeros((0, len(AD_FIELDS)))
        """`[A, AD_FIELDS]` over the whole run, budgets left aside."""
        self.born_s: F64 = np.zeros(0)
        """`[A]` second of each ad's arrival."""
        self.reached_s: F64 = np.zeros(0)
        """`[A]` second in which an ad had FIRST_IMPRESSIONS expected impressions, nan before that."""
        self.new_inventory: dict[int, float] = {}
        """Share of the active ads that are new, per second of decision."""

    def add(self, truth: Truth, decisions: Sequence[Decision], what: Shown, did: Answer) -> None:
        """Enter a batch of decisions and what users did about them."""
        second = truth.second(what.time_ms)
        price = _slot_values(decisions, what, "price_micros")
        columns = _columns(truth, what, did, price)
        if truth.config.inventory.budget_share > 0:
            self._hold_to_budgets(truth, what, columns)
        _add_rows(self.by_second, second, columns)
        self._add_users(truth, what.user, columns)
        predicted = _slot_values(decisions, what, "pctr")
        cells = np.zeros((len(second), BINS, 3))
        cells[np.arange(len(second)), calibration_bin(predicted)] = np.stack(
            [np.ones_like(predicted), predicted, what.pctr], axis=1
        )
        _add_rows(self.calibration, second, cells)
        self._add_ads(truth, what, price)
        for s in np.unique(second).tolist():
            if s not in self.new_inventory:
                fresh = is_new(truth, slice(None), s) & truth.ads.active
                self.new_inventory[s] = float(fresh.sum() / max(truth.ads.active.sum(), 1))

    def _hold_to_budgets(self, truth: Truth, what: Shown, columns: F64) -> None:
        """Book the charges and take out of the columns what the budgets do not cover."""
        about = self._limited.budgets(truth.ads), truth.ads, what.ad, what.time_ms
        left = add_spend(self.spend, *about, columns[:, _CHARGED])
        columns[:, _PAID] = np.clip(columns[:, _CHARGED], 0.0, np.maximum(left, 0.0))
        left = add_spend(self.at_bids, *about, columns[:, _REVENUE])
        bid = truth.ads.bid_micros[what.ad] / np.where(truth.ads.bid_type[what.ad] == 0, 1000.0, 1.0)
        columns[:, _AT_BIDS] *= np.clip(left / bid, 0.0, 1.0)[:, None]

    def _add_users(self, truth: Truth, user: I64, columns: F64) -> None:
        if not len(self.by_user):
            self.by_user = np.zeros((user_rows(truth), len(FIELDS)))
        row = user % len(self.by_user)
        self.by_user[np.unique(row)] += sums_by(row, *columns.T)

    def _add_ads(self, truth: Truth, what: Shown, price: F64) -> None:
        count, known = len(truth.ads), len(self.by_ad)
        if count > known:
            self.by_ad = np.concatenate([self.by_ad, np.zeros((count - known, len(AD_FIELDS)))])
            self.reached_s = np.concatenate([self.reached_s, np.full(count - known, np.nan)])
            self.born_s = truth.ads.born_s
        value = truth.value_micros(what.ad, what.click_probability, what.pcvr)
        charged = value * price / truth.ads.bid_micros[what.ad]
        shares = [what.visible * of for of in (1.0, what.click_probability, what.pctr, value, charged)]
        ads, place = np.unique(what.ad, return_inverse=True)
        before = self.by_ad[ads, 0]
        for column, share in enumerate(shares):
            self.by_ad[ads, column] += np.bincount(place, weights=share, minlength=len(ads))
        crossed = (before < FIRST_IMPRESSIONS) & (self.by_ad[ads, 0] >= FIRST_IMPRESSIONS)
        self.reached_s[ads[crossed]] = (what.time_ms.max(initial=0) - truth.config.epoch_ms) / 1000

    def totals(self, from_s: float = -np.inf, to_s: float = np.inf) -> dict[str, float]:
        """Return the sums of every field over decisions made in seconds ``from_s <= s < to_s``."""
        rows = [row for second, row in self.by_second.items() if from_s <= second < to_s]
        sums = np.sum(rows, axis=0) if rows else np.zeros(len(FIELDS))
        return dict(zip(FIELDS, sums.tolist(), strict=True))

    def of_users(self, field: str) -> F64:
        """Return one field's sums per row of users `[min(U, USER_ROWS)]`; empty where nothing was decided."""
        return self.by_user[:, FIELDS.index(field)]

    def series(self, field: str, from_s: int, to_s: int) -> F64:
        """Return one field per second `[to_s - from_s]`, 0 where nothing was decided."""
        column, nothing = FIELDS.index(field), np.zeros(len(FIELDS))
        return np.array([self.by_second.get(s, nothing)[column] for s in range(from_s, to_s)])

    def calibration_error(self, from_s: float = -np.inf, to_s: float = np.inf) -> float:
        """Return the expected calibration error of the decisions' pctr against the true pctr.

        Over all slots, seen or not: sum over bins of |sum of predicted - sum of true| / slots, the pctr being
        that of an examined impression; nan where no slot was filled.
        """
        cells = self.reliability(from_s, to_s)
        slots = float(cells[:, 0].sum())
        return float(np.abs(cells[:, 1] - cells[:, 2]).sum()) / slots if slots else float("nan")

    def reliability(self, from_s: float = -np.inf, to_s: float = np.inf) -> F64:
        """Return `[BINS, 3]`: slots, sum of predicted and sum of true pctr, by bin of the predicted."""
        rows = [cells for second, cells in self.calibration.items() if from_s <= second < to_s]
        total: F64 = np.sum(rows, axis=0) if rows else np.zeros((BINS, 3))
        return total


def user_rows(truth: Truth) -> int:
    """Return how many rows the books by user have in this world."""
    return min(len(truth.users.ids), USER_ROWS)


def calibration_bin(p: F64) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the bin of each probability: BINS bins of equal width in log p from 1e-3 to 1."""
    place = (np.log10(np.clip(p, 1e-3, 1.0)) + 3) / 3 * BINS
    return np.clip(place.astype(np.int64), 0, BINS - 1)


def is_new(truth: Truth, rows: I64 | slice, second: I64 | int) -> Bools:
    """Return whether these ads came after the world's start and within NEW_AD_S before a second."""
    born = truth.ads.born_s[rows]
    return (second - born < NEW_AD_S) & (born > truth.config.start_s)


def _add_rows(
    books: dict[int, F64], second: np.ndarray[tuple[int, ...], np.dtype[np.int64]], rows: F64
) -> None:
    for s in np.unique(second).tolist():
        total = rows[second == s].sum(axis=0)
        books[s] = books[s] + total if s in books else total


def _slot_values(decisions: Sequence[Decision], what: Shown, name: str) -> F64:
    slots = [{slot.slot: getattr(slot, name) for slot in d.ads} for d in decisions]
    places = zip(what.decision.tolist(), what.slot.tolist(), strict=True)
    return np.array([slots[d][s] for d, s in places], dtype=np.float64)


def _columns(truth: Truth, what: Shown, did: Answer, price: F64) -> F64:
    """Return `[N, FIELDS]`, one row per shown slot."""
    ads, seen = truth.ads, what.visible
    value = truth.value_micros(what.ad, what.click_probability, what.pcvr)
    new = is_new(truth, what.ad, truth.second(what.time_ms))
    clicks = seen * what.click_probability
    kind, bid = ads.bid_type[what.ad], ads.bid_micros[what.ad]
    billed = np.where(kind == 0, did.impression / 1000, np.where(kind == 1, did.click, did.conversion))
    columns = (
        what.slot == 0, np.ones(len(seen)), did.impression, did.click, did.conversion,
        seen, clicks, clicks * what.pcvr,
        seen * value, billed * bid, billed * price, billed * price,
        seen * new, clicks * new, seen * value * new,
    )  # fmt: skip
    return np.stack([np.asarray(c, dtype=np.float64) for c in columns], axis=1)
