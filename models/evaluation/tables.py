"""One table and one plot of ranking results, models and baselines side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .cold import AMONG
from .ranking import COMPARED

COLUMNS = ("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@10", "mrr", "coverage@10")

LABELS = {
    "first_stage": "Impulse, first stage",
    "without_graph": "Impulse, first stage without the item graph",
    "without_time": "Impulse, not told the target's time",
    "sasrec": "SASRec-style",
    "sasrec_with_graph": "SASRec-style with the item graph",
}
"""What baselines are called in tables, where that is not their name."""

NAME, TOLD_TIME = "Impulse", "Impulse, told the target's time"
NOT_SIGNIFICANT = "n.s."


def model_name(report: Mapping[str, Any]) -> str:
    """Return what the model is called: one that is told when the target came is not to be mistaken."""
    return TOLD_TIME if report.get("target_time") else NAME


def ranking_rows(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (name, figures) of a report of `ranking.report`, baselines first, best NDCG@10 last."""
    others = [(LABELS.get(name, name), figures) for name, figures in report["baselines"].items()]
    rows = [*others, (model_name(report), report)]
    return sorted(rows, key=lambda row: float(row[1]["ndcg@10"]))


def ranking_table(report: Mapping[str, Any]) -> str:
    """Return `ranking_cells` as a Markdown table."""
    head, *rows = ranking_cells(report)
    return _told(report, [head, ["---"] * len(head), *rows])


def ranking_cells(report: Mapping[str, Any]) -> list[list[str]]:
    """Return a table, head first: figures with standard errors, the model's lead over each row, minutes.

    The lead is the mean of the users' differences with its paired error, and `n.s.` where it is less than two
    of them.
    """
    lines = [["", *COLUMNS, *(f"{NAME} - row, {name}" for name in COMPARED), "CPU min"]]
    for name, figures in ranking_rows(report):
        minutes = figures.get("cpu_minutes")
        spent = "" if minutes is None else f"{minutes:.1f}"
        leads = (_lead(figures.get("difference"), column) for column in COMPARED)
        lines.append([name, *(_cell(figures, column) for column in COLUMNS), *leads, spent])
    return lines


def _lead(difference: Mapping[str, Any] | None, column: str) -> str:
    if difference is None:
        return ""
    told = f"{difference[column]:+.4f} ± {difference['standard_errors'][column]:.4f}"
    return told if difference["significant"][column] else f"{told} {NOT_SIGNIFICANT}"


def cold_table(report: Mapping[str, Any]) -> str:
    """Return a Markdown table of a report of `flows.cold`: one line per encoder, errors beside figures."""
    columns = [(among, name) for among in AMONG for name in ("hr@10", "ndcg@10", "auc")]
    head = ["", *(f"{among} {name}" for among, name in columns)]
    lines = [head, ["---"] * len(head)]
    for label, row in report["rows"].items():
        lines.append([label, *(_cell(row[among], name, digits=3) for among, name in columns)])
    return _told(report, lines)


def _told(report: Mapping[str, Any], lines: list[list[str]]) -> str:
    about = f"{report['users']} users, {report['items']} items; {report['protocol']}"
    return f"{about}{data_note(report, '; ')}.\n\n{_markdown(lines)}"


def data_note(report: Mapping[str, Any], before: str = "") -> str:
    """Return in words what data a model is judged on, where they are not those it was trained on; else ""."""
    if report.get("same_data", True):
        return ""
    if report["same_data"] is None:
        return before + "the model does not say what data it was trained on"
    known = f"the model knows {report['known_items']} of the items"
    return f"{before}not the data that the model was trained on, {known}; it may have seen the targets"


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def breakdown_table(report: Mapping[str, Any], by: str) -> str:
    """Return `breakdown_cells` as a Markdown table."""
    head, *rows = breakdown_cells(report, by)
    return _markdown([head, ["---"] * len(head), *rows])


def breakdown_cells(report: Mapping[str, Any], by: str) -> list[list[str]]:
    """Return a table of NDCG@10 per range of ``by_history_length`` or ``by_target_training_count``.

    Ranges without users are left out; small ranges are noisy, so their users are counted and standard errors
    stand beside the figures.
    """
    lines = [
        ["", *(_range(row) for row in report[by])],
        ["users", *(str(row["users"]) for row in report[by])],
    ]
    for name, figures in ranking_rows(report):
        lines.append([name, *(_cell(row, "ndcg@10", digits=3) for row in figures[by])])
    return lines


def plot_ranking(report: Mapping[str, Any], file: Path) -> None:
    """Draw HR@10 and NDCG@10 as bars with two standard errors; the suffix of ``file`` names the format."""
    from matplotlib.figure import Figure

    rows = ranking_rows(report)
    figure = Figure(figsize=(8, 0.5 * len(rows) + 1.5), layout="constrained")
    for axis, column in zip(figure.subplots(1, 2, sharey=True), ("hr@10", "ndcg@10"), strict=True):
        values = [figures[column] for _, figures in rows]
        errors = [2 * figures["standard_errors"][column] for _, figures in rows]
        colours = ["#d1495b" if name == model_name(report) else "#8d99ae" for name, _ in rows]
        axis.barh([name for name, _ in rows], values, xerr=errors, color=colours, capsize=3)
        axis.set_title(column)
        axis.spines[["top", "right"]].set_visible(False)
    title = f"{report['users']} users, {report['items']} items; bars: two standard errors"
    figure.suptitle(title, fontsize=9)
    figure.savefig(file)


def _cell(figures: Mapping[str, Any], column: str, digits: int = 4) -> str:
    error = figures["standard_errors"].get(column)
    value = f"{figures[column]:.{digits}f}"
    return value if error is None else f"{value} ± {error:.{digits}f}"


def _range(row: Mapping[str, Any]) -> str:
    low, high = row["from"], row["to"]
    if high is None:
        return f"{low}+"
    return str(low) if low == high else f"{low}-{high}"
