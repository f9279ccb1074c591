"""The life of ads that come while a policy runs: are they shown, how soon, and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .draws import F64
from .ledger import FIRST_IMPRESSIONS, Ledger

TRIED_S = 60.0
"""An ad that came this long before the end had its chance to be tried."""


@dataclass(frozen=True)
class NewAds:
    """How one run treated new ads; nan where none came.

    Both shares are over the seconds in which there were new ads; what is new: `ledger.NEW_AD_S`.
    """

    impression_share: float
    inventory_share: float
    """New ads per active ad, weighted by impressions: what showing all ads alike would give them."""
    value_of_oracles: float
    """Value that the new ads earned, per value that the oracle's new ads earned."""
    tried_share: float
    """Of ads that came `TRIED_S` before the end: those that had FIRST_IMPRESSIONS by the end."""
    tried_after_s: float
    """Median seconds from an ad's coming to FIRST_IMPRESSIONS impressions; infinite if half had not."""


def new_ads(ledger: Ledger, oracle: Ledger, start_s: float) -> NewAds:
    """Return the life of the new ads of a run; `oracle` is the oracle's ledger of the same world."""
    seconds = [s for s, share in ledger.new_inventory.items() if share > 0]
    wanted = ("expected_impressions", "new_impressions", "new_value_micros")
    every, new, value = (_sums(ledger, field, seconds) for field in wanted)
    inventory = np.array([ledger.new_inventory[s] for s in seconds])
    waits = _waits(ledger, start_s)
    return NewAds(
        _ratio(float(new.sum()), float(every.sum())),
        _ratio(float((inventory * every).sum()), float(every.sum())),
        _ratio(float(value.sum()), oracle.totals()["new_value_micros"]),
        float(np.isfinite(waits).mean()) if len(waits) else float("nan"),
        _median(waits),
    )


def _sums(ledger: Ledger, field: str, seconds: list[int]) -> F64:
    return np.array([ledger.series(field, s, s + 1)[0] for s in seconds])


def _waits(ledger: Ledger, start_s: float) -> F64:
    """Return seconds from coming to the first impressions `[new ads]`, infinite for those without."""
    end = max(ledger.by_second, default=0)
    came = (ledger.born_s > start_s) & (ledger.born_s <= end - TRIED_S)
    waits = (ledger.reached_s - ledger.born_s)[came]
    return np.where(np.isnan(waits), np.inf, np.maximum(waits, 0.0))


def _median(waits: F64) -> float:
    """Return the lower median, which is a wait that occurred."""
    return float(np.sort(waits)[(len(waits) - 1) // 2]) if len(waits) else float("nan")


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom else float("nan")


RULE = f"an ad counts as tried at {FIRST_IMPRESSIONS} expected impressions"
