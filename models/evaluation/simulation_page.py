"""The HTML report of a simulation, made from the very JSON that `impulse simulate --json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .draws import F64
from .report import render_report
from .report_data import Dots, Lines, PolicyRow, ReportData
from .simulation_tables import Policies, interval, more_table, new_ads_table, recovery_table


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
            tables=[recovery_table(report, judged), new_ads_table(policies), more_table(policies)],
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
        "led to, per 10 s; bands: 95 % intervals over worlds. Dashed: interests shift.",
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
        "Expected clicks over the whole run; lines: 95 % intervals.",
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


def _notes(report: Mapping[str, Any]) -> list[str]:
    return [
        "A simulated world: a lift in it says nothing of yours. All policies met the same users.",
        f"Regrets: {report['regrets']}",
        *report["notes"],
        "CTR, CVR and value are expectations under the world's truth; revenue is what counted events pay.",
        report["intervals"],
        f"Calibration counts from second {report['ece_from_s']} on.",
    ]
