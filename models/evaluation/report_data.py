"""What the HTML report is made from: plain values, so that any run can fill it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from models.domain.decision import Decision

from .bootstrap import Interval
from .calibration import Reliability
from .draws import F64


@dataclass(frozen=True)
class ScoreBar:
    """One ad of a ranked list with the additive parts of its click logit."""

    label: str
    parts: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class UserMap:
    """Vectors of users `[U, D]` and ads `[A, D]` in the scorer's space, and each ad's category."""

    users: F64
    ads: F64
    categories: Sequence[str]


@dataclass(frozen=True)
class PolicyRow:
    """A policy's line in the table.

    `revenue` is in the account's currency, `regret` a share of the oracle's value.
    """

    name: str
    ctr: Interval
    cvr: Interval
    revenue: Interval
    regret: Interval


@dataclass(frozen=True)
class Table:
    """A table of ready-made cells; the first column is text, the others are aligned as numbers."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: str = ""
    """First cell of the row to bring out."""


@dataclass(frozen=True, eq=False)
class Lines:
    """Named curves (x `[n]`, y `[n]`), some with a band (low `[n]`, high `[n]`), and marked places."""

    title: str
    text: str
    x: str
    y: str
    curves: Mapping[str, tuple[F64, F64]]
    bands: Mapping[str, tuple[F64, F64]] = field(default_factory=dict)
    marks: Sequence[float] = ()
    level: float | None = None
    """A horizontal line: the bar to meet, or zero."""


@dataclass(frozen=True)
class Dots:
    """Named values with their intervals, one line each, top to bottom."""

    title: str
    text: str
    x: str
    values: Mapping[str, Interval]
    level: float | None = None
    """A vertical line to compare with."""
    level_name: str = ""
    percent: bool = False


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything that the report can show; what is empty or None is left out.

    Attributes
    ----------
    title, summary
        Heading, and name/value pairs under it (events/s, decisions/s, seed, model hash, ...).
    learning
        Training curves by name: steps `[n]` and loss or metric `[n]`.
    regret
        Regret curves by policy: seconds `[n]` and regret `[n]`; `shifts` are marked in them.
    ranked
        A user's ranked list; `ranked_user` says whose.
    decisions
        Samples, shown with their parts and the count of each filter.
    tables, charts
        Whatever else a run has to show, in this order: charts first.
    notes
        What the reader should know of how the figures came about.

    """

    title: str
    summary: Mapping[str, str] = field(default_factory=dict)
    learning: Mapping[str, tuple[F64, F64]] = field(default_factory=dict)
    regret: Mapping[str, tuple[F64, F64]] = field(default_factory=dict)
    shifts: Sequence[float] = ()
    policies: Sequence[PolicyRow] = ()
    ranked_user: str = ""
    ranked: Sequence[ScoreBar] = ()
    user_map: UserMap | None = None
    calibration: Reliability | None = None
    latency_ms: F64 | None = None
    decisions: Sequence[Decision] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Lines | Dots] = ()
    notes: Sequence[str] = ()
