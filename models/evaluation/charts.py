"""Charts of the report that any run can fill: curves with bands, values with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .plots import INK, PALETTE, svg_of
from .report_data import Dots, Lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "impulse": "#4c78d8", "static": "#e4793c", "river_lr": "#3aa676", "river_adpredictor": "#b457b8",
    "vw": "#c9a227", "popularity": "#5bb5c9", "random": "#8a8f98", "oracle": "#d1495b",
}  # fmt: skip
"""The policies of the simulator keep their colours from chart to chart."""


def colours(names: list[str]) -> dict[str, str]:
    """Return a colour per name: its own, or the next of the palette that nobody has."""
    free = iter([c for c in PALETTE if c not in {COLOURS.get(name) for name in names}] * len(names))
    return {name: COLOURS.get(name) or next(free, PALETTE[0]) for name in names}


def draw(chart: Lines | Dots) -> str:
    """Return a chart as an SVG element; the same chart gives the same bytes."""
    if isinstance(chart, Lines):
        return svg_of(_lines, chart, width=10.0, height=3.6)
    return svg_of(_dots, chart, width=6.0, height=1.0 + 0.34 * max(len(chart.values), 2))


def _lines(axes: Axes, chart: Lines) -> None:
    colour = colours(list(chart.curves))
    for name, (low, high) in chart.bands.items():
        axes.fill_between(chart.curves[name][0], low, high, color=colour[name], alpha=0.15, linewidth=0)
    for name, (xs, ys) in chart.curves.items():
        axes.plot(xs, ys, label=name, color=colour[name], marker="o" if len(xs) < 2 else "", markersize=4)
    for mark in chart.marks:
        axes.axvline(mark, color=INK, alpha=0.35, linestyle="--", linewidth=1)
    if chart.level is not None:
        axes.axhline(chart.level, color=INK, alpha=0.5, linewidth=1)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    axes.margins(x=0.01)
    if chart.curves:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)


def _dots(axes: Axes, chart: Dots) -> None:
    colour = colours(list(chart.values))
    for place, (name, found) in enumerate(chart.values.items()):
        if not np.isfinite(found.value):
            continue
        if np.isfinite(found.low) and np.isfinite(found.high):
            axes.plot([found.low, found.high], [place, place], color=colour[name], linewidth=3, alpha=0.45)
        axes.plot([found.value], [place], "o", color=colour[name], markersize=6)
    if chart.level is not None:
        axes.axvline(chart.level, color=INK, alpha=0.5, linestyle="--", linewidth=1, label=chart.level_name)
    if chart.level is not None and chart.level_name:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=9, borderaxespad=0)
    axes.set_yticks(range(len(chart.values)), list(chart.values))
    axes.set_ylim(max(len(chart.values), 1) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(chart.x)
    if chart.percent:
        from matplotlib.ticker import PercentFormatter

        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
