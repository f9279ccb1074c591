"""Pacing against hindsight: value per spend, and overspend with reports a minute late.

    python tests/benchmarks/bench_pacing.py [--json] [--quick]

The market of `tests/unit/policy/auction_market.py`: days of second-price auctions with a daily wave of
traffic and of prices, charges on clicks, outcomes 60 s late. `capacity` is what the campaign could spend a
day over its budget; hindsight is the best choice of auctions for the whole budget. Three days are told
apart: the first of the platform (no traffic plan), a later one, and a new campaign's first day on a platform
whose traffic is known.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "policy"))

from auction_market import Market, run

from models.policy.pacing import PacingSettings

CAPACITIES = (2, 4, 10, 50)


def measured(capacity: float, seeds: range) -> list[dict[str, Any]]:
    """Return the rows of one capacity."""
    shares: dict[str, list[float]] = {"first day": [], "third day": [], "new campaign, known traffic": []}
    overspend: list[float] = []
    for seed in seeds:
        market = Market.open(days=3, per_minute=40, seed=seed)
        budget = int(market.free_spend_per_day() / capacity)
        all_days = run(market, budget, PacingSettings())
        late = run(market, budget, PacingSettings(), first_day=2)
        days = (("first day", all_days, 0), ("third day", all_days, 2), (list(shares)[-1], late, 2))
        for name, result, day in days:
            per_spend = result.value[day] / result.expected_spend[day]
            shares[name].append(per_spend / (market.hindsight(day, budget) / budget))
        overspend.append(float(max(all_days.charged.max(), late.charged.max()) / budget - 1))
    return [
        {
            "what": f"value per spend, capacity {capacity}",
            "how": name,
            "ratio": round(float(np.mean(found)), 3),
            "least": round(min(found), 3),
            "overspend": round(max(overspend), 4),
        }
        for name, found in shares.items()
    ]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one seed")
    options = parser.parse_args()
    seeds = range(1, 2) if options.quick else range(1, 9)
    rows = [row for capacity in CAPACITIES for row in measured(capacity, seeds)]
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        least, over = f"least {row['least']:.3f}", f"overspend at most {row['overspend']:+.2%}"
        print(f"{row['what']:<32} {row['how']:<28} {row['ratio']:.3f} of hindsight ({least}), {over}")


if __name__ == "__main__":
    main()
