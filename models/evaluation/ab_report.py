"""An A/B test from outcomes alone: arms by a hash of the user, metrics as ratios of sums per user."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from models.domain.decision import Outcome

from .draws import F64
from .experiments import Arm, Comparison, arm_of, compare
from .outcomes import labels, split_labels

METRICS = ("ctr", "cvr", "revenue", "value")
"""Clicks per labelled impression (`outcomes.split_labels`), conversions through a click per click, charged
micros per impression, advertisers' value in micros per impression."""

LEAST_USERS = 10
"""Of an arm: fewer tell nothing of how users spread, and the delta method needs many."""

Sums = dict[str, tuple[float, float]]
"""Numerator and denominator per user."""


def user_sums(outcomes: Iterable[Outcome], metric: str) -> Sums:
    """Return what one metric sums per user; users without exposure are not in it."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for outcome in labels(outcomes) if metric == "ctr" else outcomes:
        numerator, denominator = _shares(outcome, metric)
        if numerator or denominator:
            of = sums[outcome.user_id]
            of[0], of[1] = of[0] + numerator, of[1] + denominator
    return {user: (n, d) for user, (n, d) in sums.items() if d > 0}


def _shares(outcome: Outcome, metric: str) -> tuple[float, float]:
    kind = outcome.kind
    match metric:
        case "ctr":
            return float(kind == "click"), 1.0
        case "cvr":
            return float(kind == "conversion" and outcome.through != "view"), float(kind == "click")
        case "revenue":
            return float(outcome.charge_micros), float(kind == "impression")
        case _:
            return float(outcome.value_micros), float(kind == "impression")


def ab_report(
    outcomes: Sequence[Outcome], salt: str, shares: Sequence[float], *, since_ms: int = 0, level: float = 0.95
) -> dict[str, Any]:
    """Return every metric of every arm against arm 0.

    Parameters
    ----------
    outcomes
        Of all arms.
    salt, shares
        Of the assignment: `experiments.arm_of`.
    since_ms
        Start of the test by decision time; each user's metric before it is the covariate of CUPED.
    level
        Of the intervals.

    """
    during = [o for o in outcomes if o.decision_time >= since_ms]
    before = [o for o in outcomes if o.decision_time < since_ms]
    met = [0] * len(shares)
    for user in {o.user_id for o in during}:
        met[arm_of(user, salt, shares)] += 1
    return {
        "salt": salt,
        "shares": list(shares),
        "outcomes": len(during),
        "censored_labels": split_labels(during).censored,
        "covariate_outcomes": len(before),
        "users": met,
        "metrics": {
            metric: _metric(user_sums(during, metric), user_sums(before, metric), salt, shares, met, level)
            for metric in METRICS
        },
    }


def _metric(
    sums: Sums, past: Sums, salt: str, shares: Sequence[float], met: Sequence[int], level: float
) -> dict[str, Any]:
    """Return a metric of each arm; whether the split is sound is judged by all users ``met``.

    The users whom a metric has something of are no judge: who clicks at all is what a treatment changes.
    """
    users: list[list[str]] = [[] for _ in shares]
    for user in sums:
        users[arm_of(user, salt, shares)].append(user)
    arms = [_arm(names, sums, past) for names in users]
    told: dict[str, Any] = {"users": [len(names) for names in users], "against_control": []}
    for treatment in range(1, len(arms)):
        pair = (arms[0], arms[treatment])
        if any(len(arm.numerator) < LEAST_USERS for arm in pair):
            told["against_control"].append(
                {"arm": treatment, "refusal": f"an arm has fewer than {LEAST_USERS} users"}
            )
            continue
        split = (met[0], met[treatment])
        found = compare(*pair, (shares[0], shares[treatment]), level, split=split)
        told["against_control"].append({"arm": treatment, **_comparison(found)})
    return told


def _arm(users: Sequence[str], sums: Sums, past: Sums) -> Arm:
    numerator = np.array([sums[user][0] for user in users])
    denominator = np.array([sums[user][1] for user in users])
    return Arm(numerator, denominator, _covariate(users, past) if past else None)


def _covariate(users: Sequence[str], past: Sums) -> F64:
    """Return each user's earlier metric, the mean for users without a past."""
    totals = np.array(list(past.values())).sum(axis=0)
    mean = float(totals[0] / totals[1])
    return np.array([past[user][0] / past[user][1] if user in past else mean for user in users])


def _comparison(found: Comparison) -> dict[str, Any]:
    significant = found.low > 0 or found.high < 0
    verdict = "none: the arms' sizes do not fit the shares" if not found.sound else (
        ("better" if found.low > 0 else "worse") if significant else "no difference shown"
    )  # fmt: skip
    return {
        "control": found.control,
        "treatment": found.treatment,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "lift": found.lift if found.control else None,
        "p_value": found.p_value,
        "sample_ratio_p": found.sample_ratio_p,
        "variance_cut": found.variance_cut,
        "verdict": verdict,
    }
