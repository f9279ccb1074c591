"""Off-policy estimates as JSON takes them: values with their support and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .bootstrap import Interval
from .offpolicy import METHODS, BanditData, Estimate, estimate, on_policy, support


def estimates(
    data: BanditData, methods: Sequence[str] = tuple(METHODS), *, replicates: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Return on-policy value, support and estimates with verdicts as JSON-ready values."""
    if not len(data.reward):
        return {"rows": 0, "refusal": "no labelled rows"}
    about, logged = support(data), on_policy(data, replicates=replicates, seed=seed)
    found = {m: estimate(data, m, replicates=replicates, seed=seed) for m in methods}
    return {
        "rows": about.rows,
        "users": about.users,
        "clicks": int(data.reward.sum()),
        "effective_rows": about.effective,
        "max_weight": about.max_weight,
        "mean_weight": about.mean_weight,
        "mean_weight_error": about.weight_error if math.isfinite(about.weight_error) else None,
        "thin_rows": about.thin,
        "refusal": about.refusal,
        "logged": told_interval(logged),
        "estimates": {name: _told(each, logged) for name, each in found.items()},
    }


def _told(found: Estimate, logged: Interval) -> dict[str, Any]:
    return {**told_interval(found.interval), "verdict": _verdict(found, logged)}


def told_interval(found: Interval) -> dict[str, float | None]:
    """Return an interval as JSON-ready values; what is not known is None."""
    ends = {"value": found.value, "low": found.low, "high": found.high}
    return {name: value if math.isfinite(value) else None for name, value in ends.items()}


def _verdict(found: Estimate, logged: Interval) -> str:
    """Return what may be concluded; nothing from DM alone, whose interval ignores the model's own bias."""
    if not found.verdict or found.method == "dm":
        return "none"
    if found.interval.low > logged.high:
        return "better"
    return "worse" if found.interval.high < logged.low else "no difference shown"
