"""A log of outcomes as evaluation takes it: labelled predictions, ads' merit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models.domain.decision import Outcome

from .draws import F64
from .fairness import GroupExposure, exposure_by_group, exposure_merit_correlation
from .prequential import Labelled

NEW_AD_MS = 120_000
_NEVER = -1


NO_LABELS = "no labels: no impression has a click or its absence told"
ONLY_CLICKS = "only clicks are known: no impression has gone unanswered for the attribution window yet"


class Labels(NamedTuple):
    """The outcomes that label an impression, one each, by label time; ``censored`` are left out of them.

    A click is known at once, that there was none only after the attribution window: of the impressions at
    the end of a log the labels are clicks. They are censored.
    """

    rows: list[Outcome]
    censored: int


def labels(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the outcomes that label an impression, one each, by label time; see `split_labels`."""
    return split_labels(outcomes).rows


def split_labels(outcomes: Iterable[Outcome]) -> Labels:
    """Return the labels of the impressions that would have one whatever the user did; late clicks are none.

    Shards have clocks of their own, so each partition of the log is cut by itself, the longest wait for a
    click before its newest ``no_click``: the wait is the policy's, which may have changed.
    """
    rows: list[Outcome] = []
    shown: dict[tuple[str, int], int] = {}
    for o in outcomes:
        if o.kind == "impression":
            shown[_place(o)] = o.event_time
        elif o.kind in ("click", "no_click") and not o.late:
            rows.append(o)
    until_ms = _complete_until(rows, shown)
    kept = [o for o in rows if shown.get(_place(o), o.decision_time) <= until_ms.get(_partition(o), _NEVER)]
    return Labels(sorted(kept, key=lambda o: (o.event_time, o.event_id)), len(rows) - len(kept))


def _complete_until(rows: Sequence[Outcome], shown: Mapping[tuple[str, int], int]) -> dict[str, int]:
    """Return per partition the time up to which all impressions have their label.

    How long an impression waits is read off those that are known; where a partition has none, off decisions.
    """
    newest: dict[str, int] = {}
    wait: dict[str, int] = {}
    guess: dict[str, int] = {}
    for o in rows:
        if o.kind != "no_click":
            continue
        partition, at = _partition(o), shown.get(_place(o))
        newest[partition] = max(o.event_time, newest.get(partition, o.event_time))
        waits, since = (guess, o.decision_time) if at is None else (wait, at)
        waits[partition] = max(o.event_time - since, waits.get(partition, 0))
    return {partition: at - wait.get(partition, guess.get(partition, 0)) for partition, at in newest.items()}


def _place(outcome: Outcome) -> tuple[str, int]:
    return outcome.decision_id, outcome.slot


def _partition(outcome: Outcome) -> str:
    """Return the topic and partition of the log that an outcome's decision was made from."""
    return outcome.decision_id.rpartition("-")[0]


def labelled(outcomes: Iterable[Outcome], examination: Sequence[float] = ()) -> Labelled:
    """Return click predictions with labels, sliced by ``new_ad``, ``segment``, ``category``, ``slot``.

    Parameters
    ----------
    outcomes
        Of one run, in any order.
    examination
        How often an impression in each slot is looked at, beside the first slot; a decision's pctr is of one
        that is. Slots beyond it are looked at as its last one is; without it all count as examined.

    """
    rows = labels(outcomes)
    slices = {
        "new_ad": np.array(_new_ads(rows), dtype=str),
        "segment": np.array([o.segment for o in rows], dtype=str),
        "category": np.array([o.category for o in rows], dtype=str),
        "slot": np.array([str(o.slot) for o in rows], dtype=str),
    }
    return Labelled(
        time_s=np.array([o.decision_time / 1000 for o in rows], dtype=np.float64),
        label_time_s=np.array([o.event_time / 1000 for o in rows], dtype=np.float64),
        predicted=_predicted(rows, examination),
        label=_clicks(rows),
        slices=slices,
    )


def _predicted(rows: Sequence[Outcome], examination: Sequence[float]) -> F64:
    """Return each row's click probability in its slot, as `learning.position.examination_shift` has it.

    Where a slot is looked at more than the first, it is the odds that grow.
    """
    p = np.array([o.pctr for o in rows], dtype=np.float64)
    if not examination:
        return p
    last = len(examination) - 1
    seen = np.array([examination[min(o.slot, last)] for o in rows], dtype=np.float64)
    return np.where(seen <= 1.0, seen * p, seen * p / np.maximum(1.0 - p + seen * p, 1e-300))


def _clicks(rows: Sequence[Outcome]) -> F64:
    return np.array([o.kind == "click" for o in rows], dtype=np.float64)


def _new_ads(rows: Sequence[Outcome]) -> list[str]:
    """Return new or old per row: new for two minutes from the ad's first decision, unless at the start."""
    first: dict[str, int] = {}
    for o in rows:
        first[o.ad_id] = min(o.decision_time, first.get(o.ad_id, o.decision_time))
    start = min(first.values(), default=0)
    late = {ad_id for ad_id, at in first.items() if at >= start + NEW_AD_MS}
    new = (o.ad_id in late and o.decision_time < first[o.ad_id] + NEW_AD_MS for o in rows)
    return ["new" if yes else "old" for yes in new]


def exposure_fairness(
    outcomes: Iterable[Outcome], advertiser_of: dict[str, str], unseen: int = 0
) -> tuple[float, list[GroupExposure]]:
    """Return the rank correlation of exposure with merit over ads, and the shares per advertiser.

    Merit is an ad's click rate, shrunk to the overall one with the weight of 20 impressions. ``unseen`` ads
    that were never shown count in the correlation, with that rate; the shares are of ads shown.
    """
    rows = labels(outcomes)
    names, place = np.unique(np.array([o.ad_id for o in rows], dtype=str), return_inverse=True)
    shown = np.bincount(place, minlength=len(names)).astype(np.float64)
    clicked = np.bincount(place, weights=_clicks(rows), minlength=len(names))
    rate = float(clicked.sum() / max(shown.sum(), 1.0))
    merit = (clicked + 20 * rate) / (shown + 20)
    groups = [advertiser_of.get(name, "") for name in names.tolist()]
    correlation = exposure_merit_correlation(
        np.append(shown, np.zeros(unseen)), np.append(merit, np.full(unseen, rate))
    )
    return correlation, exposure_by_group(groups, shown, merit)


def exposure_by_segment(outcomes: Iterable[Outcome]) -> list[GroupExposure]:
    """Return each segment's share of impressions, of clicks (its merit) and of users, by name.

    A ratio above 1 is a segment that is shown more ads than it clicks on, against the others. A user counts
    with the segment of each of its impressions, in equal parts.
    """
    rows = labels(outcomes)
    users: dict[str, int] = Counter(o.user_id for o in rows)
    parts = np.array([1.0 / users[o.user_id] for o in rows], dtype=np.float64)
    segments = [o.segment for o in rows]
    return exposure_by_group(segments, np.ones(len(rows)), _clicks(rows), inventory=parts)
