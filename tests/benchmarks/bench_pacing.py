"""Pacing against hindsight: value per spend, and overspend with reports a minute late.

    python tests/benchmarks/bench_pacing.py [--json] [--quick]

The market of `tests/unit/policy/auction_market.py`: days of second-price auctions with a daily wave of
traffic and of prices, charges on clicks, outcomes 60 s late. `capacity` is what the campaign could spend a
day over its budget; hindsight is the best choice of auctions for the whole budget. Three days are told
apart: the first of the platform (no traffic plan), a later one, and a new campaign's first day on a platform
whose traffic is known. Seeds begin their days at eight places of the wave, and a first day is also measured
with three waves of traffic, as a shop's has.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "policy"))

from auction_market import Market, Result, one_wave, run, three_waves
from numpy.typing import NDArray

from models.policy.pacing_settings import PacingSettings

CAPACITIES = (2, 4, 10, 50)
FAST = (200, 1440)
DAYS = ("first day", "third day", "new campaign, known traffic")
UNEVEN = "first day, three waves"
EVERY = 8


def measured(capacity: float, seeds: range) -> list[dict[str, Any]]:
    """Return the rows of one capacity."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in (*DAYS, UNEVEN)}
    overspend: list[float] = []
    for seed in seeds:
        begins = (seed - 1) / EVERY
        market = Market.open(days=3, per_minute=40, seed=seed, traffic=one_wave(begins))
        budget = int(market.free_spend_per_day() / capacity)
        all_days = run(market, budget, PacingSettings())
        late = run(market, budget, PacingSettings(), first_day=2)
        for name, result, day in zip(DAYS, (all_days, all_days, late), (0, 2, 2), strict=True):
            found[name].append(_shares(market, budget, result, day))
        uneven = Market.open(days=1, per_minute=40, seed=seed, traffic=three_waves(begins))
        found[UNEVEN].append(_first_day(uneven, capacity))
        overspend.append(float(max(all_days.charged.max(), late.charged.max()) / budget - 1))
    return [_row(capacity, name, np.array(shares), max(overspend)) for name, shares in found.items()]


def _first_day(market: Market, capacity: float) -> tuple[float, float, float]:
    budget = int(market.free_spend_per_day() / capacity)
    return _shares(market, budget, run(market, budget, PacingSettings()), 0)


def _shares(market: Market, budget: int, result: Result, day: int) -> tuple[float, float, float]:
    """Return value per spend and value at the same spend over hindsight's, and charged over the budget."""
    value, spend = float(result.value[day]), float(result.expected_spend[day])
    per_spend = value / spend / (market.hindsight(day, budget) / budget)
    return per_spend, value / market.hindsight(day, spend), float(result.charged[day] / budget)


def _row(capacity: float, name: str, shares: NDArray[np.float64], overspend: float) -> dict[str, Any]:
    per_spend, same_spend, charged = shares.mean(axis=0).round(3).tolist()
    return {
        "what": f"value per spend, capacity {capacity}",
        "how": name,
        "ratio": per_spend,
        "least": round(float(shares[:, 0].min()), 3),
        "same_spend": same_spend,
        "charged": charged,
        "overspend": round(overspend, 4),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one seed")
    options = parser.parse_args()
    seeds = range(1, 2) if options.quick else range(1, EVERY + 1)
    rows = [row for capacity in (*CAPACITIES, *FAST) for row in measured(capacity, seeds)]
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        figures = f"{row['ratio']:.3f} of hindsight (least {row['least']:.3f})"
        beside = f"at the same spend {row['same_spend']:.3f}, charged {row['charged']:.3f} of the budget"
        over = f"overspend at most {row['overspend']:+.2%}"
        print(f"{row['what']:<32} {row['how']:<28} {figures}, {beside}, {over}")


if __name__ == "__main__":
    main()
