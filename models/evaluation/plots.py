"""The report's plots: matplotlib figures as inline SVG that take their ink from the page (light or dark)."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .draws import F64
from .report_data import ScoreBar, UserMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#4c78d8", "#e4793c", "#3aa676", "#b457b8", "#c9a227", "#5bb5c9", "#d1495b", "#8a8f98")
INK = "#123456"
"""A colour that no palette holds; it becomes ``currentColor`` in the SVG."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "impulse", "font.size": 10, "font.family": "sans-serif",
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "axes.titlecolor": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": INK, "grid.alpha": 0.15, "axes.grid": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "legend.frameon": False, "lines.linewidth": 1.8,
}  # fmt: skip


def _figure(width: float = 7.0, height: float = 3.4) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def svg_of(draw: Any, *args: Any, width: float = 7.0, height: float = 3.4) -> str:
    """Return what ``draw(axes, *args)`` draws as an SVG element; the same input gives the same bytes."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        figure, axes = _figure(width, height)
        draw(axes, *args)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'width="100%"', svg, count=1)


def lines_svg(curves: Mapping[str, tuple[F64, F64]], *, x: str, y: str, marks: Sequence[float] = ()) -> str:
    """Return named curves (x `[n]`, y `[n]`) with a dashed vertical line at each of `marks`."""

    def draw(axes: Axes) -> None:
        for colour, (name, (xs, ys)) in zip(PALETTE * 4, curves.items(), strict=False):
            axes.plot(xs, ys, label=name, color=colour)
        for mark in marks:
            axes.axvline(mark, color=INK, alpha=0.35, linestyle="--", linewidth=1)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if curves:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)

    return svg_of(draw)


def score_bars_svg(bars: Sequence[ScoreBar]) -> str:
    """Return a ranked list: one stacked bar per ad, a segment per additive part of its logit, best on top."""

    def draw(axes: Axes) -> None:
        names = list(dict.fromkeys(name for bar in bars for name in bar.parts))
        places = np.arange(len(bars))
        below, above = np.zeros(len(bars)), np.zeros(len(bars))
        for colour, name in zip(PALETTE * 4, names, strict=False):
            values = np.array([bar.parts.get(name, 0.0) for bar in bars])
            left = np.where(values >= 0, above, below)
            axes.barh(places, values, left=left, color=colour, label=name, height=0.7)
            above, below = above + np.maximum(values, 0), below + np.minimum(values, 0)
        axes.plot(above + below, places, "D", color=INK, markersize=4, label="sum")
        axes.set_yticks(places, [bar.label for bar in bars])
        axes.invert_yaxis()
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel("logit of a click, as the sum of its parts")
        if bars:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)

    return svg_of(draw, height=1.2 + 0.34 * len(bars))


def map_svg(points: UserMap) -> str:
    """Return users (dots) and ads (triangles, by category) on the two main axes of the scorer's space."""

    def draw(axes: Axes) -> None:
        users, ads = plane(points.users, points.ads)
        axes.scatter(users[:, 0], users[:, 1], s=10, color=INK, alpha=0.25, linewidths=0, label="users")
        names = list(dict.fromkeys(points.categories))
        for colour, name in zip(PALETTE * 8, names, strict=False):
            rows = ads[np.array(points.categories) == name]
            axes.scatter(
                rows[:, 0], rows[:, 1], s=22, marker="^", color=colour, alpha=0.8, linewidths=0, label=name
            )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, ncols=1 + len(names) // 14)

    return svg_of(draw, height=4.6)


def plane(users: F64, ads: F64) -> tuple[F64, F64]:
    """Return users `[U, 2]` and ads `[A, 2]` on the two leading principal axes of both together.

    Users and ads are each brought to unit root mean square length first, so neither dwarfs the other.
    """
    both = np.concatenate([_unit(users), _unit(ads)])
    both = both - both.mean(axis=0)
    _, _, axes = np.linalg.svd(both, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2].sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    flat = both @ axes.T
    return flat[: len(users)], flat[len(users) :]


def _unit(x: F64) -> F64:
    return x / max(float(np.sqrt((x**2).sum(axis=1).mean())), 1e-12) if len(x) else x


def calibration_svg(predicted: F64, observed: F64, count: F64) -> str:
    """Return the reliability curve on log axes; the size of a dot is its number of rows."""

    def draw(axes: Axes) -> None:
        held = (predicted > 0) & (observed > 0)
        p, y, n = predicted[held], observed[held], count[held]
        low, high = (min(p.min(), y.min()) / 1.3, max(p.max(), y.max()) * 1.3) if len(p) else (1e-3, 1.0)
        axes.plot([low, high], [low, high], color=INK, alpha=0.4, linestyle="--", linewidth=1)
        axes.plot(p, y, color=PALETTE[0], alpha=0.6)
        axes.scatter(p, y, s=10 + 90 * n / max(n.max(initial=1.0), 1.0), color=PALETTE[0])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("predicted CTR")
        axes.set_ylabel("observed CTR")

    return svg_of(draw, width=5.0, height=4.0)


def latency_svg(milliseconds: F64) -> str:
    """Return the histogram of decision latency with its median and 99th percentile."""

    def draw(axes: Axes) -> None:
        if not len(milliseconds):
            return
        low = max(float(milliseconds.min()), 1e-3)
        bins = np.geomspace(low, max(float(milliseconds.max()), low * 1.01), 50)
        axes.hist(np.maximum(milliseconds, low), bins=bins.tolist(), color=PALETTE[0])
        for percent, colour in ((50, PALETTE[2]), (99, PALETTE[1])):
            value = float(np.percentile(milliseconds, percent))
            axes.axvline(value, color=colour, label=f"p{percent} {value:.2g} ms")
        axes.set_xscale("log")
        axes.set_xlabel("milliseconds from event to decision")
        axes.set_ylabel("decisions")
        axes.legend()

    return svg_of(draw, height=2.8)
