"""The HTML report of a ranking evaluation: the table, its plots, and for whom the model is good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from .bootstrap import Interval
from .report import render_report
from .report_data import Dots, ReportData, Table
from .tables import breakdown_cells, data_note, model_name, ranking_cells, ranking_rows

BREAKDOWNS = {
    "by_history_length": "by the length of the user's history",
    "by_target_training_count": "by how often the target was trained on",
}
_Z = float(norm.ppf(0.975))


def ranking_page(
    report: Mapping[str, Any], title: str, curve: Sequence[tuple[int, float, float]] = ()
) -> str:
    """Return the page of what `ranking.report` returned; ``curve`` holds the model's (step, loss, gain)."""
    steps = np.array(curve, np.float64).reshape(-1, 3)
    summary = {
        "users": f"{report['users']:,}",
        "items": f"{report['items']:,}",
        "protocol": report["protocol"],
    }
    if note := data_note(report):
        summary["data"] = note
    return render_report(
        ReportData(
            title,
            summary=summary,
            learning={"loss": (steps[:, 0], steps[:, 1])} if len(steps) else {},
            charts=[_dots(report, column) for column in ("hr@10", "ndcg@10")],
            tables=[_whole(report), *(_breakdown(report, by) for by in BREAKDOWNS)],
            notes=[
                "Errors are over users, one training each: another seed moves a row by about as much.",
                "A lead is the mean of the users' differences and its paired error; n.s.: under two.",
            ],
        )
    )


def _dots(report: Mapping[str, Any], column: str) -> Dots:
    values = {}
    for name, figures in reversed(ranking_rows(report)):
        half = _Z * figures["standard_errors"][column]
        values[name] = Interval(figures[column], figures[column] - half, figures[column] + half)
    return Dots(column.upper(), "Lines: 95 % intervals over users.", column.upper(), values)


def _whole(report: Mapping[str, Any]) -> Table:
    head, *rows = ranking_cells(report)
    return Table("All rows", "Best NDCG@10 last; ± one standard error.", head, rows, best=model_name(report))


def _breakdown(report: Mapping[str, Any], by: str) -> Table:
    head, *rows = breakdown_cells(report, by)
    return Table(
        f"NDCG@10 {BREAKDOWNS[by]}",
        "Small ranges are noisy: see their errors.",
        head,
        rows,
        best=model_name(report),
    )
