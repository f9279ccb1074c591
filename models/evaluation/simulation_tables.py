"""The tables of a simulation's report: recovery, new ads, and what else there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .bootstrap import Interval
from .report import percent
from .report_data import Table

Policies = Mapping[str, Mapping[str, Any]]


def interval(found: Mapping[str, float | None], scale: float = 1.0) -> Interval:
    """Return a figure of the JSON as an interval, scaled; what is null becomes nan."""
    values = (found[key] for key in ("value", "low", "high"))
    return Interval(*(float("nan") if value is None else scale * value for value in values))


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"


def _span(found: Mapping[str, float | None], scale: float = 1.0, digits: int = 0) -> str:
    if found["value"] is None:
        return "-"
    if found["low"] is None:
        return f"{scale * found['value']:.{digits}f}"
    low, high = (
        "inf" if found[end] is None else f"{scale * (found[end] or 0):.{digits}f}" for end in ("low", "high")
    )
    return f"{scale * found['value']:.{digits}f} [{low}, {high}]"


def _share(found: Mapping[str, float | None]) -> str:
    return percent(interval(found), 1)


def recovery_table(report: Mapping[str, Any], policies: Policies) -> Table:
    """Return the table of how each policy took the shifts of interests."""
    rows = []
    for name, found in policies.items():
        about = found["recovery"]
        jump = "-" if about["level"] is None else f"{100 * about['level']:.1f} % + {100 * about['jump']:.1f}"
        half = "-" if about["says"].startswith("no ") else _seconds(about["half_s"])
        shown = about["says"] or f"{_span(found['recovery_s'])} s"
        other = _span(found["recovery_against_oracle_s"])
        rows.append([name, jump, half, shown, other, str(about["cuts"])])
    return Table(
        "Recovery after a shift",
        f"Rule: {report['recovery_rule']}.",
        [
            "policy", "level + jump", "half made good", "recovered after", "against the oracle",
            "shifts x seeds",
        ],
        rows,
    )  # fmt: skip


def new_ads_table(policies: Policies) -> Table:
    """Return the table of what became of ads that came during the run."""
    rows = []
    for name, found in policies.items():
        new = found["new_ads"]
        shares = (
            new["impression_share"],
            new["inventory_share"],
            new["value_of_oracles"],
            new["tried_share"],
        )
        rows.append([name, *(_share(each) for each in shares), _seconds(new["tried_after_s"]["value"])])
    return Table(
        "Life of new ads",
        "An ad is new for 120 s. Inventory: what showing every ad alike would give. Value: against what the "
        "oracle's new ads earn. Tried: 20 impressions by the end, of ads that came 60 s before it.",
        ["policy", "impressions", "inventory", "value of the oracle's", "tried", "median until tried"], rows,
    )  # fmt: skip


def more_table(policies: Policies) -> Table:
    """Return the table of regret in place, calibration and money."""
    rows = [
        [
            name, _share(found["regret_in_place"]), _share(found["clicks_share_of_oracle"]),
            _span(found["ece"], 1000, 2),
            percent(interval(found["observed_ctr"])), f"{found['value_micros']['value'] / 1e6:,.0f}",
            f"{found['charged_micros']['value'] / 1e6:,.0f}", f"{found['impressions_per_s']:,.0f}",
        ]
        for name, found in policies.items()
    ]  # fmt: skip
    return Table(
        "More figures",
        "ECE of all slots against the true click rate, after the warm-up. Value: expected, at the bids.",
        [
            "policy", "regret in place", "clicks of the oracle's", "ECE, e-3", "counted CTR", "value",
            "charged", "impressions/s",
        ],
        rows,
    )  # fmt: skip
