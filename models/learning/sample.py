"""From outcomes to examples: which features, which offset, which label."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from models.domain.decision import Outcome, Parts

from .creative_weights import creative_key, segment_creative_key
from .protocol import GROUPS, NO_FEATURE, Examples
from .vocabulary import Vocabulary
from .weights import segment_category_key

BIAS, AD, CAMPAIGN, SEGMENT_CATEGORY, CREATIVE, SEGMENT_CREATIVE = range(6)

KINDS = ("impression", "click", "no_click", "dwell", "swipe", "hide", "conversion")
MAX_AGE_MS = 30 * 86_400_000
MAX_SLOT = 255
MAX_LOGIT = 1e3
"""Part of a logit beyond which no sum of parts says anything: a probability is 0 or 1 from 40 on."""


def refusal(outcome: Outcome, now_ms: int | None) -> str:
    """Return why an outcome cannot be learned from, or an empty string.

    ``unknown_kind``, ``bad_slot``, ``bad_time`` (before 1970, before its decision by more than a minute's
    skew, or more than 30 days after it or behind the stream), ``not_finite`` and ``bad_logit`` (a part of
    the logit is no number, or beyond ±``MAX_LOGIT``).
    """
    if outcome.kind not in KINDS:
        return "unknown_kind"
    if not 0 <= outcome.slot <= MAX_SLOT:
        return "bad_slot"
    age = outcome.event_time - outcome.decision_time
    behind = 0 if now_ms is None else now_ms - outcome.event_time
    if outcome.event_time < 0 or not -60_000 <= age <= MAX_AGE_MS or behind > MAX_AGE_MS:
        return "bad_time"
    return "" if _is_usual(outcome.parts) else _what_is_wrong(outcome.parts)


def _is_usual(p: Parts) -> bool:
    """Say whether no part can be beyond ``MAX_LOGIT``, in one expression: it is asked of every outcome."""
    squares = p.base * p.base + p.bias * p.bias + p.ad * p.ad + p.campaign * p.campaign
    squares += p.segment_category * p.segment_category + p.user_category * p.user_category
    return squares + p.creative * p.creative + p.calibration * p.calibration <= MAX_LOGIT * MAX_LOGIT


def _what_is_wrong(p: Parts) -> str:
    parts = (p.base, p.bias, p.ad, p.campaign, p.segment_category, p.user_category, p.creative, p.calibration)
    if not all(map(math.isfinite, parts)):
        return "not_finite"
    return "bad_logit" if max(map(abs, parts)) > MAX_LOGIT else ""


def frozen_logit(outcome: Outcome) -> float:
    """Return the base model's logit alone."""
    return outcome.parts.base


def adjusted_logit(outcome: Outcome) -> float:
    """Return the logged logit with its adjustments and without its exploration."""
    p = outcome.parts
    return p.base + p.bias + p.ad + p.campaign + p.segment_category + p.user_category + p.creative


class Sampler:
    """Collects examples as rows and hands them out as one batch."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._rows: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def fresh(self, outcome: Outcome, offset: float, label: float) -> None:
        """Add a label with all its features."""
        self._rows.append((*self._features(outcome), offset, label, outcome.event_time, -1))

    def correct(self, outcome: Outcome, offset: float, change: float, age_ms: int) -> None:
        """Add a correction of a label learned ``age_ms`` ago with this offset."""
        features = self._features(outcome)
        self._rows.append((*features, offset, change, outcome.event_time, max(age_ms, 0)))

    def prefer(self, outcome: Outcome, offset: float, change: float) -> None:
        """Add a preference: it moves what the ad is, not the level of the rate."""
        _, *features = self._features(outcome)
        held = min(max(change, -1.0), 1.0)
        self._rows.append((NO_FEATURE, *features, offset, held, outcome.event_time, 0))

    def take(self) -> Examples:
        """Return what has been collected, and start anew."""
        rows, self._rows = self._rows, []
        width = len(GROUPS)
        columns = list(zip(*rows, strict=True)) if rows else [()] * (width + 4)
        return Examples(
            feature=np.array(columns[:width], np.int32).reshape(width, -1).T.copy(),
            offset=np.array(columns[width], np.float64),
            label=np.array(columns[width + 1], np.float64),
            time_ms=np.array(columns[width + 2], np.int64),
            weight=np.ones(len(rows)),
            age_ms=np.array(columns[width + 3], np.int64),
        )

    def _features(self, outcome: Outcome) -> tuple[int, int, int, int, int, int]:
        slot = self.vocabulary.slot
        return (
            slot(BIAS, ""),
            slot(AD, outcome.ad_id),
            slot(CAMPAIGN, outcome.campaign_id),
            slot(SEGMENT_CATEGORY, segment_category_key(outcome.segment, outcome.category)),
            *(self._creative(outcome) if outcome.creative_id else (NO_FEATURE, NO_FEATURE)),
        )

    def _creative(self, outcome: Outcome) -> tuple[int, int]:
        slot, key = self.vocabulary.slot, creative_key(outcome.ad_id, outcome.creative_id)
        return slot(CREATIVE, key), slot(SEGMENT_CREATIVE, segment_creative_key(outcome.segment, key))
