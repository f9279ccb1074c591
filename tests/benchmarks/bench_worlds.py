"""Whether impulse is ahead in worlds that nobody chose: their difficulty is drawn at random.

    python tests/benchmarks/bench_worlds.py [--worlds N] [--json] [--quick]

Sizes, tastes, drift, shifts, new ads, traffic, position bias and delays are drawn wide around the default
world, from tastes that never move to ones that are drawn anew every minute, and from 15 requests a second to
150. World n is the same on every machine. In each of them the policies read the same past and run as
`impulse simulate` runs them; the regret of each is against the oracle's run, ``ratio`` impulse's over
static's, and what follows is of impulse / static.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from flows.simulated import Models, makers
from models.evaluation.simulate import run_policies
from models.evaluation.simulation_report import simulation_report
from models.evaluation.world_config import WorldConfig

POLICIES = ("popularity", "static", "impulse")
SIZES: dict[str, tuple[float, float]] = {"users": (300, 10_000), "ads": (40, 6000)}
TASTES: dict[str, tuple[float, float]] = {
    "base_logit": (-5, -2), "segment_sd": (0.1, 1.2), "user_sd": (0, 0.9), "ad_sd": (0, 0.9),
    "campaign_sd": (0, 0.6), "topic_focus": (0.5, 1), "intent_boost": (0, 1), "mood_sd": (0, 0.8),
    "noise_sd": (0, 0.5),
}  # fmt: skip
INVENTORY: dict[str, tuple[float, float]] = {
    "burst_share": (0.01, 0.2), "withdraw_share": (0, 0.2), "targeted_share": (0, 0.6), "cpa_share": (0, 0.4),
    "cpm_share": (0, 0.4), "bid_sd": (0.05, 1), "quality_sd": (0, 0.3), "text_noise": (0, 1),
}  # fmt: skip
EXAMINATIONS = (
    [1.0, 0.8, 0.65, 0.55, 0.45],
    [1.0, 1.0, 1.0, 1.0, 1.0],
    [1.0, 0.5, 0.3, 0.2, 0.12],
    [1.0, 0.9, 0.8, 0.7, 0.6],
)

Row = dict[str, Any]


def drawn(number: int) -> WorldConfig:
    """Return the world of a number."""
    rng = random.Random(number)

    def each(ranges: dict[str, tuple[float, float]]) -> dict[str, float]:
        return {name: rng.uniform(*ends) for name, ends in ranges.items()}

    def scaled(low: float, high: float) -> float:
        return float(low * (high / low) ** rng.random())

    sections = {
        "seed": number,
        "sizes": {name: int(scaled(*ends)) for name, ends in SIZES.items()}
        | {
            "ads_per_campaign": rng.choice([1, 2, 5, 20, 50]),
            "campaigns_per_advertiser": rng.choice([1, 4, 10]),
        }
        | {"segments": rng.choice([1, 2, 4, 8, 16, 64]), "categories": rng.choice([2, 6, 12, 24, 64])},
        "tastes": each(TASTES),
        "drift": {name: rng.choice([0, 300, 1200]) for name in ("segment_s", "user_s", "ad_s", "campaign_s")}
        | {"shift_every_s": rng.choice([0, 60, 100, 150])}
        | each({"shift_segment_share": (0.1, 1), "shift_user_share": (0, 0.6)}),
        "inventory": each(INVENTORY) | {"burst_every_s": rng.choice([0, 20, 60, 100])},
        "traffic": {"requests_per_s": scaled(15, 150), "views_per_s": rng.choice([0, 20, 75, 150])}
        | {"activity_sd": rng.uniform(0.1, 1.5), "duplicate_share": rng.choice([0, 0.05, 0.3])},
        "reactions": {"examination": rng.choice(EXAMINATIONS), "click_after_s": scaled(0.5, 30)}
        | {"hide": rng.choice([0, 0.002, 0.05]), "report_delay_s": rng.choice([0, 0, 5, 30])}
        | {"accidental_click": rng.uniform(0, 0.01)},
    }
    return msgspec.convert(sections, WorldConfig)


def figures(number: int, seconds: int, minutes: float, history_s: float) -> Row:
    """Run the policies in one world and return its line."""
    config = drawn(number)
    with tempfile.TemporaryDirectory() as folder:
        models = Models(Path(folder), minutes, history_s)
        run = run_policies(
            config, makers(POLICIES, models), seconds, seeds=[config.seed], past_of=models.past
        )
    found = simulation_report(run)["policies"]
    regret = {name: found[name]["regret"]["value"] for name in POLICIES}
    beside = {
        name: [found[of][name]["value"] for of in POLICIES[:0:-1]] for name in ("regret_in_place", "ece")
    }
    return {
        "what": f"world {number}, {config.sizes.ads} ads, {config.traffic.requests_per_s:.0f} requests/s",
        "how": f"{seconds} s",
        "ratio": round(regret["impulse"] / regret["static"], 3),
        **{name: round(value, 3) for name, value in regret.items()},
        **{name: " / ".join(f"{value:.4f}" for value in values) for name, values in beside.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="one world, one minute")
    parser.add_argument("--worlds", type=int, default=2, help="how many worlds")
    options = parser.parse_args()
    size = (60, 0.3, 120.0) if options.quick else (240, 1.5, 600.0)
    rows = []
    for number in range(1 if options.quick else options.worlds):
        rows.append(figures(number, *size))
        print(rows[-1], file=sys.stderr)
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
