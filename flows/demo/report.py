"""The demo's HTML report: what was learned, what was decided and how good it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.decide.shard import Shard
from models.domain.decision import Decision
from models.evaluation.bootstrap import Interval
from models.evaluation.calibration import Reliability
from models.evaluation.ledger import Ledger
from models.evaluation.regret import regret_curve
from models.evaluation.report import render_report, score_bars
from models.evaluation.report_data import PolicyRow, ReportData, UserMap

from .bridge import Traffic
from .screen import rates

_MAP_USERS = 300

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def policy_rows(ledgers: Mapping[str, Ledger]) -> list[PolicyRow]:
    """Return the table's lines; one run has no interval over seeds."""
    best = rates(ledgers["oracle"].totals())[2]
    rows = []
    for name, ledger in ledgers.items():
        ctr, cvr, value = rates(ledger.totals())
        revenue = ledger.totals()["value_micros"] / 1e6
        rows.append(PolicyRow(name, _exact(ctr), _exact(cvr), _exact(revenue), _exact(1 - value / best)))
    return rows


def _exact(value: float) -> Interval:
    return Interval(value, value, value)


def calibration_of(ledger: Ledger) -> Reliability:
    """Return predicted against true pctr of the slots that were decided."""
    cells = ledger.reliability()
    cells = cells[cells[:, 0] > 0]
    return Reliability(cells[:, 1] / cells[:, 0], cells[:, 2] / cells[:, 0], cells[:, 0])


def map_of(shard: Shard) -> UserMap | None:
    """Return the users of a shard and the ads of its catalogue in the model's space."""
    rows = np.array([row for _, row in list(shard.rows.items())[-_MAP_USERS:]], np.int64)
    view = shard.view
    index = view.scorer.index(view.catalogue)
    if not len(rows) or not index.vectors.shape[1]:
        return None
    width = index.vectors.shape[1]
    now = np.full(len(rows), shard.watermark.time_ms)
    users = view.scorer.encode(shard.profiles.history, rows, now)[:, :width].astype(np.float64)
    return UserMap(users, index.vectors.astype(np.float64), [ad.category for ad in view.catalogue.ads])


def curves_of(ledgers: Mapping[str, Ledger], seconds: int) -> dict[str, Curve]:
    """Return each policy's regret over time, in bins of five seconds."""
    oracle = [ledgers["oracle"].series("value_micros", 0, seconds)]
    curves: dict[str, Curve] = {}
    for name, ledger in ledgers.items():
        if name != "oracle":
            regret = regret_curve([ledger.series("value_micros", 0, seconds)], oracle, 5)
            curves[name] = (np.arange(len(regret), dtype=np.float64) * 5.0, regret)
    return curves


def write_report(
    path: Path,
    summary: Mapping[str, str],
    training: Mapping[str, Curve],
    ledgers: Mapping[str, Ledger],
    traffic: Traffic,
    decisions: Sequence[Decision],
    shard: Shard,
    seconds: int,
) -> None:
    """Write the report as one self-contained HTML file."""
    ranked = decisions[-1] if decisions else None
    data = ReportData(
        title="Impulse demo",
        summary=summary,
        learning=training,
        regret=curves_of(ledgers, seconds),
        policies=policy_rows(ledgers),
        ranked_user=ranked.user_id if ranked else "",
        ranked=score_bars(ranked) if ranked else (),
        user_map=map_of(shard),
        calibration=calibration_of(ledgers["impulse"]),
        latency_ms=np.array(traffic.latencies_ms),
        decisions=decisions,
        notes=(
            "A simulated world: its lift says nothing of yours. All policies met the same users.",
            "CTR, CVR and value are expectations under the world's truth: no noise of single clicks.",
            "One run: the intervals of the table are points. `impulse simulate` repeats it over seeds.",
            "The embedded broker is librdkafka's mock cluster; no guarantee is derived from it.",
        ),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_report(data))
