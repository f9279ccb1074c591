"""What recorded decisions and outcomes say of themselves: predictions, exposure, propensities.

Legend: N labelled impressions, D decisions.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from models.domain.decision import Decision, Outcome
from models.learning.exploration import is_randomized

from .fairness import GroupExposure, gini
from .outcomes import (
    NO_LABELS,
    ONLY_CLICKS,
    exposure_by_segment,
    exposure_fairness,
    labelled,
    labels,
    split_labels,
)
from .prequential import Labelled, Scores, curve, scores, scores_by_slice

SLICES = ("segment", "new_ad", "category", "slot")
THIN = 1e-4
"""Propensities below this hardly support an off-policy estimate."""
UNEXAMINED = (
    "how often each slot is looked at is not known (no adjustments in --log), and pctr is of one that is: "
    "later slots look foretold too high. The first slot alone is judged fairly"
)


def click_figures(
    outcomes: Sequence[Outcome], *, window_s: float = 60.0, examination: Sequence[float] = ()
) -> dict[str, Any]:
    """Return how good the click predictions were, in all, by slice and by window of decision time.

    Every prediction was made before its label was known, so these are prequential figures. Late clicks
    and censored labels (`models.evaluation.outcomes.split_labels`) are not judged, and are counted.

    Parameters
    ----------
    outcomes
        Of one run, in any order.
    window_s
        Length of the windows of the curve.
    examination
        See `labelled`; where it is not known, only the first slot's predictions are fairly judged.

    """
    data = labelled(outcomes, examination)
    windows = curve(data, window_s)
    censored = split_labels(outcomes).censored
    return {
        "labels": len(data.label),
        "censored_labels": censored,
        "refusal": "" if len(data.label) else ONLY_CLICKS if censored else NO_LABELS,
        "examination": list(examination) or None,
        "note": UNEXAMINED if not examination and (data.slices["slot"] != "0").any() else "",
        "late_clicks": sum(o.kind == "click" and o.late for o in outcomes),
        "mean_label_delay_s": _mean_delay(data),
        "click": _plain(scores(data)),
        "first_slot": _plain(scores(data.where(data.slices["slot"] == "0"))),
        "slices": {
            name: {value: _plain(found) for value, found in scores_by_slice(data, name).items()}
            for name in SLICES
        },
        "curve": [
            {"start_s": float(start), **_plain(found)}
            for start, found in zip(windows.start_s, windows.scores, strict=True)
        ],
    }


def _mean_delay(data: Labelled) -> float | None:
    return float((data.label_time_s - data.time_s).mean()) if len(data.label) else None


def _plain(found: Scores) -> dict[str, Any]:
    """Return scores as JSON-ready values: what is undefined (one class only) is None."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(found).items()
    }


def feedback_counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Return how many outcomes there are of each kind."""
    counts: dict[str, int] = defaultdict(int)
    for outcome in outcomes:
        counts[outcome.kind] += 1
    return dict(sorted(counts.items()))


def exposure_figures(
    outcomes: Sequence[Outcome], group_of: Mapping[str, str], catalogue: Collection[str] = ()
) -> dict[str, Any]:
    """Return how exposure follows merit over ads, and the shares of groups of ads and segments of users.

    Correlation and Gini coefficient are over all ads of ``catalogue``, those that were never shown too; over
    the ads shown alone where it is not known (``over`` says which).
    """
    shown = Counter(row.ad_id for row in labels(outcomes))
    unseen = len(set(catalogue) - set(shown))
    correlation, groups = exposure_fairness(outcomes, dict(group_of), unseen)
    return {
        "ads_shown": len(shown),
        "ads": len(shown) + unseen,
        "over": "all ads of the log" if catalogue else "ads shown",
        "correlation_with_merit": correlation if shown else None,
        "gini": gini(np.array([*shown.values(), *[0] * unseen], np.float64)) if shown else None,
        "groups": [_shares(group) for group in groups],
        "segments": [_shares(segment) for segment in exposure_by_segment(outcomes)],
    }


def _shares(group: GroupExposure) -> dict[str, Any]:
    return {**asdict(group), "ratio": _finite(group.ratio)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def propensity_figures(decisions: Iterable[Decision]) -> dict[str, Any]:
    """Return the sanity of logged propensities, per behaviour policy.

    ``bad`` counts slots outside (0, 1] and slates whose propensity is not the product of their slots'.
    ``least`` is of all slots; where it is 0, nothing is divided by it.
    Where every candidate has a chance, the mean of 1/propensity over first slots is the number of
    candidates that could be sold, so in the randomised bucket ``inverse_per_candidate`` is near 1 (with
    ``standard_error``): above it, propensities are logged too small; below it, too large, or some
    candidates could not be sold (below the reserve).
    """
    by_policy: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        by_policy[decision.behavior_policy].append(decision)
    return {name: _sanity(name, found) for name, found in sorted(by_policy.items())}


def _sanity(policy: str, decisions: Sequence[Decision]) -> dict[str, Any]:
    slots = np.array([slot.propensity for d in decisions for slot in d.ads])
    figures: dict[str, Any] = {
        "decisions": len(decisions),
        "bad": sum(_bad(d) for d in decisions),
        "least": float(slots.min()) if len(slots) else None,
        "thin_share": float((slots < THIN).mean()) if len(slots) else None,
        "certain_share": float((slots >= 1.0).mean()) if len(slots) else None,
    }
    if is_randomized(policy):
        chances = [d.ads[0].propensity * d.candidates for d in decisions if d.ads]
        ratios = np.array([1 / chance for chance in chances if chance > 0])
        figures["inverse_per_candidate"] = float(ratios.mean()) if len(ratios) else None
        figures["standard_error"] = (
            float(ratios.std(ddof=1) / np.sqrt(len(ratios))) if len(ratios) > 1 else None
        )
    return figures


def _bad(decision: Decision) -> bool:
    product = math.prod(slot.propensity for slot in decision.ads)
    inside = all(0 < slot.propensity <= 1 for slot in decision.ads)
    return not inside or not math.isclose(product, decision.slate_propensity, rel_tol=1e-9, abs_tol=1e-300)


def groups_of(decisions: Iterable[Decision]) -> dict[str, str]:
    """Return the campaign of each ad that was decided."""
    return {slot.ad_id: slot.campaign_id for decision in decisions for slot in decision.ads}
