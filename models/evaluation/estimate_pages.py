"""The HTML reports of an off-policy evaluation and of an A/B test: estimates with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .bootstrap import Interval
from .decision_page import number
from .report import render_report
from .report_data import Dots, ReportData, Table

_SLATES = (
    "slate: every slot, weighted by the chances of the slots up to it. It has no DM, which would need the "
    "slates that the policy would have made."
)


def estimates_page(figures: Mapping[str, Any], title: str) -> str:
    """Return the page of an off-policy evaluation: one block of estimates, or one per kind of row."""
    blocks = _blocks(figures)
    return render_report(
        ReportData(
            title,
            summary={
                k: number(v) for k, v in figures.items() if isinstance(v, str | int | float) and v != ""
            },
            charts=[_estimates(name, found) for name, found in blocks.items()],
            tables=[_support(blocks)] if blocks else [],
            notes=[
                "DM is biased by its model, and its interval does not know; no verdict is given from it.",
                "Intervals: 95 %, bootstrapped by user and studentised.",
                *([_SLATES] if "slate" in blocks else []),
                *(f"{name}: no verdict, {refusal}." for name, refusal in _refusals(figures).items()),
            ],
        )
    )


def _blocks(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the parts that hold estimates, by name."""
    if "estimates" in figures:
        return {"policy": figures}
    return {
        name: found for name, found in figures.items() if isinstance(found, dict) and "estimates" in found
    }


def _refusals(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return why there is no verdict, by the name of the part; those without a labelled row say so, too."""
    parts = {"policy": figures, **{name: found for name, found in figures.items() if isinstance(found, dict)}}
    return {name: found["refusal"] for name, found in parts.items() if found.get("refusal")}


def _interval(found: Mapping[str, float | None]) -> Interval:
    return Interval(*(math.nan if (end := found[key]) is None else end for key in ("value", "low", "high")))


def _estimates(name: str, found: Mapping[str, Any]) -> Dots:
    values = {"as logged": _interval(found["logged"])}
    values |= {method.upper(): _interval(each) for method, each in found["estimates"].items()}
    if "against" in found:
        values["its own log"] = _interval(found["against"])
    return Dots(
        f"Estimated click rate ({name})",
        f"{found['rows']:,} rows of {found['users']:,} users, {found['effective_rows']:,.0f} effective.",
        "clicks per row", values, level=found["logged"]["value"], level_name="as logged", percent=True,
    )  # fmt: skip


def _support(blocks: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [
        [f"{name} {method.upper()}", *(number(each[key]) for key in ("value", "low", "high", "verdict"))]
        + [number(found[key]) for key in ("effective_rows", "max_weight", "mean_weight")]
        for name, found in blocks.items()
        for method, each in found["estimates"].items()
    ]
    return Table(
        "Estimates and support", "A verdict needs ten users, 500 effective rows and 1 % of all, a mean "
        "weight near 1, and at most 1 % of the choices thinly supported.",
        ["estimate", "value", "low", "high", "verdict", "effective rows", "largest weight", "mean weight"],
        rows,
    )  # fmt: skip


_COMPARED = (
    "control", "treatment", "difference", "low", "high", "p_value", "variance_cut", "sample_ratio_p",
)  # fmt: skip


def experiment_page(figures: Mapping[str, Any], title: str) -> str:
    """Return the page of an A/B test: the relative difference of each metric, and the table behind it."""
    found = [
        (metric, each) for metric, told in figures["metrics"].items() for each in told["against_control"]
    ]
    sound = [(metric, each) for metric, each in found if "refusal" not in each]
    lifts = {
        f"{metric}, arm {each['arm']}": _relative(each) for metric, each in sound if each["control"]
    }  # fmt: skip
    rows = [
        [f"{metric}, arm {each['arm']}", *(number(each.get(key)) for key in _COMPARED), _verdict(each)]
        for metric, each in found
    ]
    return render_report(
        ReportData(
            title,
            summary={k: number(v) for k, v in figures.items() if isinstance(v, str | int)},
            charts=[_lift_chart(lifts)] if lifts else [],
            tables=[
                Table(
                    "Metrics", "By the delta method over users, variance cut by CUPED where there is a past.",
                    ["metric", *(key.replace("_", " ") for key in _COMPARED), "verdict"], rows,
                )
            ],
            notes=["A sample-ratio p below .001 voids the test: the arms are not what was asked for."],
        )
    )  # fmt: skip


def _verdict(found: Mapping[str, Any]) -> str:
    return f"none: {found['refusal']}" if "refusal" in found else str(found["verdict"])


def _lift_chart(lifts: Mapping[str, Interval]) -> Dots:
    return Dots(
        "Lift over the control", "Relative difference; lines: 95 % intervals.", "lift", lifts,
        level=0.0, level_name="no difference", percent=True,
    )  # fmt: skip


def _relative(found: Mapping[str, float]) -> Interval:
    base = found["control"]
    return Interval(found["difference"] / base, found["low"] / base, found["high"] / base)
