"""The HTML report: one self-contained page with tables and inline plots, for light and dark screens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import msgspec
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from models.domain.decision import Decision, Slot

from . import charts, plots
from .bootstrap import Interval
from .report_data import PolicyRow, ReportData, ScoreBar


def render_report(data: ReportData) -> str:
    """Return the report as one HTML page; equal data give equal bytes."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = percent
    environment.filters["money"] = money
    source = resources.files("models.evaluation").joinpath("templates/report.html.j2").read_text("utf-8")
    page = environment.from_string(source)
    samples = [_sample(decision) for decision in data.decisions]
    drawn = [
        (chart, Markup(_own_ids(f"chart{i}", charts.draw(chart)))) for i, chart in enumerate(data.charts)
    ]
    return page.render(
        data=data, figures=_figures(data), charts=drawn, samples=samples, best=best_row(data.policies)
    )


def score_bars(decision: Decision) -> list[ScoreBar]:
    """Return a decision's slots as bars of a ranked list."""
    return [ScoreBar(f"{slot.slot + 1}. {slot.ad_id}", _parts(slot)) for slot in decision.ads]


def percent(interval: Interval, digits: int = 2) -> str:
    """Return a share and its half-width, where it is known, in per cent; "-" for no share."""
    if np.isnan(interval.value):
        return "-"
    half = 50 * (interval.high - interval.low)
    value = f"{100 * interval.value:.{digits}f} %"
    return f"{value} ± {half:.{digits}f}" if half > 0 else value


def money(interval: Interval) -> str:
    """Return an amount with thin spaces between thousands, and its half-width, where known; "-" for none."""
    if np.isnan(interval.value):
        return "-"
    half = (interval.high - interval.low) / 2
    value = f"{interval.value:,.0f}".replace(",", "\u2009")
    return f"{value} ± {half:,.0f}".replace(",", "\u2009") if half > 0 else value


def best_row(rows: Sequence[PolicyRow]) -> str:
    """Return the name of the policy with the least regret that is no oracle, "" without rows."""
    own = [row for row in rows if "oracle" not in row.name and np.isfinite(row.regret.value)]
    return min(own, key=lambda row: row.regret.value).name if own else ""


def _figures(data: ReportData) -> dict[str, Markup]:
    made: dict[str, str] = {}
    if data.learning:
        made["learning"] = plots.lines_svg(data.learning, x="training step", y="loss")
    if data.regret:
        made["regret"] = plots.lines_svg(data.regret, x="seconds", y="regret", marks=data.shifts)
    if data.ranked:
        made["ranked"] = plots.score_bars_svg(data.ranked)
    if data.user_map is not None:
        made["map"] = plots.map_svg(data.user_map)
    if data.calibration is not None:
        curve = data.calibration
        made["calibration"] = plots.calibration_svg(curve.predicted, curve.observed, curve.count)
    if data.latency_ms is not None:
        made["latency"] = plots.latency_svg(data.latency_ms)
    return {name: Markup(_own_ids(name, svg)) for name, svg in made.items()}


def _own_ids(name: str, svg: str) -> str:
    """Keep the ids of one plot apart from those of the others on the page."""
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)


def _parts(slot: Slot) -> dict[str, float]:
    parts: dict[str, float] = msgspec.to_builtins(slot.parts)
    return {name: value for name, value in parts.items() if value}


def _sample(decision: Decision) -> dict[str, Any]:
    slots = [{"slot": slot, "parts": _parts(slot)} for slot in decision.ads]
    kept_out = sorted(decision.filtered.items(), key=lambda item: -item[1])
    return {"decision": decision, "slots": slots, "kept_out": kept_out}
