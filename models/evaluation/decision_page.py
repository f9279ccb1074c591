"""The HTML report of decisions and what followed: curves in time, slices, exposure, propensities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.domain.decision import Decision

from .calibration import Reliability
from .report import render_report
from .report_data import Lines, ReportData, Table

SCORES = {
    "rows": "labels", "ctr": "CTR", "normalised_entropy": "normalised entropy", "ece": "ECE", "auc": "AUC",
    "log_loss": "log loss",
}  # fmt: skip
_GROUPS = 20


def decision_page(
    figures: Mapping[str, Any], calibration: Reliability | None, samples: Sequence[Decision]
) -> str:
    """Return the page of the figures of `impulse evaluate decisions`; what is absent is left out."""
    judged = "click" in figures
    return render_report(
        ReportData(
            title="Decisions and what followed",
            summary=_summary(figures),
            charts=_curves(figures["curve"]) if judged else [],
            calibration=calibration,
            tables=[*(_slices(figures) if judged else []), *_exposure(figures), *_propensities(figures)],
            decisions=samples,
            notes=_notes(figures),
        )
    )


def _summary(figures: Mapping[str, Any]) -> dict[str, str]:
    counts = {name: f"{figures[name]:,}" for name in ("decisions", "outcomes")}
    click = figures.get("click", {})
    told = {SCORES[name]: number(click[name]) for name in SCORES if click.get(name) is not None}
    if figures.get("note") and click.get("ece") is not None:
        told |= {f"{SCORES[name]}, slot 0": number(figures["first_slot"][name]) for name in ("ctr", "ece")}
    return counts | told


def number(value: object) -> str:
    """Return a figure for a cell: four digits, "-" for what is not defined."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return (
        f"{value:,.4g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else f"{value}"
    )


def _curves(curve: Sequence[Mapping[str, Any]]) -> list[Lines]:
    """Return two charts in time: what is best at one or a half, and click rate with calibration error."""
    start = curve[0]["start_s"] if curve else 0.0
    at = np.array([point["start_s"] - start for point in curve], dtype=np.float64)

    def series(name: str) -> tuple[Any, Any]:
        values = [np.nan if point[name] is None else point[name] for point in curve]
        return at, np.array(values, dtype=np.float64)

    skill = {SCORES[name]: series(name) for name in ("normalised_entropy", "auc")}
    rates = {SCORES[name]: series(name) for name in ("ctr", "ece")}
    x = "seconds since the first decision"
    return [
        Lines(
            "How good the predictions were", "Below 1, normalised entropy beats the constant click rate; AUC "
            "is exact within each window of decision time.", x, "", skill, level=1.0,
        ),
        Lines("Click rate and calibration error", "By window of decision time.", x, "", rates, level=0.0),
    ]  # fmt: skip


def _slices(figures: Mapping[str, Any]) -> list[Table]:
    return [
        Table(
            f"Predictions by {name.replace('_', ' ')}",
            "Each slice by itself; AUC is within it.",
            [name.replace("_", " "), *SCORES.values()],
            [[value or "(none)", *(number(found[key]) for key in SCORES)] for value, found in slices.items()],
        )
        for name, slices in figures["slices"].items()
        if slices
    ]


def _exposure(figures: Mapping[str, Any]) -> list[Table]:
    found = figures.get("exposure")
    if not found:
        return []
    text = (
        f"{found['ads_shown']:,} ads were shown; over {found['over']} ({found['ads']:,}): rank correlation "
        f"of exposure with merit {number(found['correlation_with_merit'])}, Gini {number(found['gini'])}. "
        "Ratio 1: shown as merited. "
    )
    of_users = "A segment's merit is its clicks. Ratio above 1: shown more ads than it clicks on. "
    return [
        _shares(found["by"], found["groups"], text, "of ads shown"),
        _shares("segment", found["segments"], of_users, "of users"),
    ]


def largest(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the groups that are shown most, at most 20."""
    return sorted(groups, key=lambda group: -group["exposure_share"])[:_GROUPS]


def _shares(by: str, groups: Sequence[Mapping[str, Any]], text: str, inventory: str) -> Table:
    """Return the largest groups' shares of impressions, of merit and of what there is."""
    shares = ("exposure_share", "merit_share", "inventory_share")
    rows = [
        [group["group"] or "(none)", *(f"{100 * group[key]:.2f} %" for key in shares), number(group["ratio"])]
        for group in largest(groups)
    ]
    more = f"The {_GROUPS} largest of {len(groups)} groups." if len(groups) > _GROUPS else ""
    return Table(
        f"Exposure by {by}", text + more, [by, "of impressions", "of merit", inventory, "ratio"], rows
    )


def _propensities(figures: Mapping[str, Any]) -> list[Table]:
    found = figures.get("propensities")
    if not found:
        return []
    names = list(dict.fromkeys(name for sanity in found.values() for name in sanity))
    rows = [[policy, *(number(sanity.get(name)) for name in names)] for policy, sanity in found.items()]
    text = (
        "Bad: outside (0, 1], or a slate whose propensity is not its slots' product. Inverse per candidate "
        "is near 1 where propensities are right and every candidate can be sold."
    )
    return [Table("Propensities", text, ["policy", *(name.replace("_", " ") for name in names)], rows)]


def _notes(figures: Mapping[str, Any]) -> list[str]:
    late = figures.get("late_clicks", 0)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in figures.get("kinds", {}).items())
    notes = ["Every prediction was made before its label was known (test, then train)."]
    if repeats := figures.get("repeats", 0):
        notes.append(f"{repeats:,} decisions and outcomes came again, and count once.")
    if late:
        notes.append(
            f"{late:,} clicks came after their impression had counted as unanswered; counted, not judged."
        )
    if censored := figures.get("censored_labels", 0):
        notes.append(
            f"{censored:,} labels at the end of the log are left out: clicks were known there before it was "
            "known who would not click."
        )
    if note := figures.get("note", ""):
        notes.append(f"{note[0].upper()}{note[1:]}.")
    if refusal := figures.get("refusal", ""):
        notes.append(f"No predictions are judged: {refusal}.")
    return [*notes, f"Outcomes: {kinds}."] if kinds else notes
