"""The HTML report of a simulation, made from the very JSON that `impulse simulate --json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .bootstrap import Interval
from .draws import F64
from .report import percent, render_report
from .report_data import Dots, Lines, PolicyRow, ReportData, Table

Policies = Mapping[str, Mapping[str, Any]]


def simulation_page(report: Mapping[str, Any]) -> str:
    """Return the page of a report of `simulation_report`, charts first, then tables."""
    policies: Policies = report["policies"]
    judged = {name: found for name, found in policies.items() if name != "oracle"}
    return render_report(
        ReportData(
            title="Policies in a closed loop",
            summary=_summary(report),
            policies=[_row(name, found) for name, found in policies.items()],
            charts=_charts(report, judged),
            tables=[_recovery_table(report, judged), _new_ads_table(policies), _more_table(policies)],
            notes=_notes(report),
        )
    )


def brief(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report without its curves, for a screen."""
    curves = (
        "regret_curve", "regret_in_place_curve", "regret_in_place_low", "regret_in_place_high", "recovery",
        "calibration",
    )  # fmt: skip
    told = {
        name: {key: value for key, value in found.items() if key not in curves}
        for name, found in report["policies"].items()
    }
    return {**report, "policies": told}


def _summary(report: Mapping[str, Any]) -> dict[str, str]:
    shifts = len(report["shifts_s"])
    return {
        "users": f"{report['users']:,}",
        "ads": f"{report['ads']:,}",
        "seconds": f"{report['seconds']:,}",
        "worlds per policy": f"{len(report['seeds'])}",
        "interest shifts per world": f"{shifts}",
    }


def interval(found: Mapping[str, float | None], scale: float = 1.0) -> Interval:
    """Return a figure of the JSON as an interval, scaled; what is null becomes nan."""
    values = (found[key] for key in ("value", "low", "high"))
    return Interval(*(float("nan") if value is None else scale * value for value in values))


def _row(name: str, found: Mapping[str, Any]) -> PolicyRow:
    revenue = interval(found["revenue_micros"], 1e-6)
    return PolicyRow(name, interval(found["ctr"]), interval(found["cvr"]), revenue, interval(found["regret"]))


def _numbers(values: list[float | None]) -> F64:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _regret(report: Mapping[str, Any], policies: Policies) -> Lines:
    width = report["curve_bin_s"]
    curves, bands = {}, {}
    for name, found in policies.items():
        ys, low, high = (_numbers(found[f"regret_in_place_{end}"]) for end in ("curve", "low", "high"))
        curves[name] = ((np.arange(len(ys)) + 0.5) * width, ys)
        if np.isfinite(low).any():
            bands[name] = (np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0))
    return Lines(
        "Regret over time",
        "Share of the best slate's value that is lost, decision by decision in the state that the policy "
        "led to, per 10 s; bands: 95 % intervals over seeds. Dashed: interests shift.",
        "seconds", "regret", curves, bands, marks=report["shifts_s"], level=0.0,
    )  # fmt: skip


def _excess(report: Mapping[str, Any], policies: Policies) -> Lines:
    curves = {}
    for name, found in policies.items():
        ys = _numbers(found["recovery"]["excess"])
        if len(ys):
            curves[name] = (found["recovery"]["excess_from_s"] + np.arange(len(ys), dtype=np.float64), ys)
    return Lines(
        "After a shift",
        "Regret above its level of before the shift, trailing mean of 10 s, all shifts and seeds together.",
        "seconds after the shift", "excess regret", curves, level=0.0,
    )  # fmt: skip


def _charts(report: Mapping[str, Any], policies: Policies) -> list[Lines | Dots]:
    """Return the charts that have something to show: short runs have no curve after a shift."""
    curves = [_regret(report, policies), _excess(report, policies)]
    some = [chart for chart in curves if any(len(xs) > 1 for xs, _ in chart.curves.values())]
    calibration = _calibration(policies)
    return [*some, _dots(policies), *([calibration] if calibration.curves else [])]


def _dots(policies: Policies) -> Dots:
    return Dots(
        "Clicks, as a share of the oracle's",
        "Expected clicks over the whole run; lines: 95 % intervals over seeds.",
        "share of the oracle's clicks",
        {name: interval(found["clicks_share_of_oracle"]) for name, found in policies.items()},
        level=1.0, level_name="the oracle", percent=True,
    )  # fmt: skip


def _calibration(policies: Policies) -> Lines:
    curves = {}
    for name in [n for n in ("impulse", "static", "river_lr", "river_adpredictor") if n in policies]:
        cells = np.array(policies[name]["calibration"], dtype=np.float64).reshape(-1, 3)
        cells = cells[cells[:, 2] >= 0.002 * cells[:, 2].sum()]
        curves[name] = (cells[:, 0], cells[:, 1] - cells[:, 0])
    return Lines(
        "Calibration after the warm-up",
        "True minus predicted click rate of slots by what was predicted (bins with 0.2 % of the slots).",
        "predicted click rate", "true - predicted", curves, level=0.0,
    )  # fmt: skip


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"


def _span(found: Mapping[str, float | None], scale: float = 1.0, digits: int = 0) -> str:
    if found["value"] is None:
        return "-"
    low, high = (
        "inf" if found[end] is None else f"{scale * (found[end] or 0):.{digits}f}" for end in ("low", "high")
    )
    return f"{scale * found['value']:.{digits}f} [{low}, {high}]"


def _share(found: Mapping[str, float | None]) -> str:
    return "-" if found["value"] is None else percent(interval(found), 1)


def _recovery_table(report: Mapping[str, Any], policies: Policies) -> Table:
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


def _new_ads_table(policies: Policies) -> Table:
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


def _more_table(policies: Policies) -> Table:
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


def _notes(report: Mapping[str, Any]) -> list[str]:
    seeds = len(report["seeds"])
    return [
        "A simulated world: a lift in it says nothing of yours. All policies met the same users.",
        f"Regrets: {report['regrets']}",
        *report["notes"],
        "CTR, CVR and value are expectations under the world's truth; revenue is what counted events pay.",
        "One seed has no interval." if seeds == 1 else f"Intervals: Student's, over {seeds} seeds.",
        f"Calibration counts from second {report['ece_from_s']} on.",
    ]
