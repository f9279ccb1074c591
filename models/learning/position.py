"""Position bias: the log examination of each slot, read off every impression and click.

An examination model (Richardson et al., WWW '07): P(click | slot s) = e_s * pctr with e_0 = 1, and pctr that
of an ad in the first slot. Slots hold the ads by rank value, so slots are compared among ads that looked
alike: impressions are counted by slot and by bin of the logged logit, and the counts are fitted by

    clicks[s, b] ~ Poisson(e_s * rate_b * shown[s, b])

with e and rate in turn (iterative proportional fitting; for two slots the estimator of Mantel and Haenszel
'59). A rate per bin takes any error of the model's own, so none of it passes for a slot's.

A trained model brings what its log told of slots: counts by strata of its own (`models.scorer.slots`), more
bins to this fit. Those count for `_MOST_BEFORE` clicks at most, since strata know less of single users than
the logged logits do: of a simulated log that pctr had decided, later slots came out 3 to 4 % too low.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_SLOTS = 20
_BINS = 24
_LOWEST, _PER_LOGIT = -7.0, 3.0
_PRIOR_CLICKS = 10.0
"""Clicks that an examination of 1 is worth before any is seen."""
_MOST_BEFORE = 20_000.0
_ROUNDS = 30
_TIME_CONSTANT_S = 6 * 3600.0
_FADE_EVERY_MS = 1000
_LEAST = -8.0


def examination_of(log_examination: Sequence[float], slot: int) -> float:
    """Return log e of a slot; the last known one repeats, 0 where none is known."""
    return log_examination[min(slot, len(log_examination) - 1)] if log_examination else 0.0


def examination_shift(logit: float, log_e: float) -> float:
    """Return what turns the logit of an examined click into that of a click: logit(e * sigmoid(z)) - z.

    That is log e - log(1 + (1 - e) exp(z)): close to log e where clicks are rare, and log e itself for e > 1.
    """
    if log_e >= 0.0:
        return log_e
    return log_e - math.log1p(-math.expm1(log_e) * math.exp(min(max(logit, -30.0), 30.0)))


class PositionBias:
    """Fading counts by slot and bin of the logit, ``shown`` and ``clicks`` `[S, B]`, and what they tell."""

    def __init__(self, least_labels: int = 1000) -> None:
        self.labels = 0
        self._least_labels = least_labels
        self._last_ms: int | None = None
        self._shown = np.zeros((_SLOTS, _BINS))
        self._clicks = np.zeros((_SLOTS, _BINS))
        self._before: tuple[F64, F64] | None = None

    def begin(self, shown: F64, clicks: F64) -> bool:
        """Take in a log's impressions and clicks `[S, B]`; False where it has none, or one came before."""
        if self._before is not None or not shown.any():
            return False
        share = min(_MOST_BEFORE / max(float(clicks.sum()), 1.0), 1.0)
        self._before = _fitting(share * shown), _fitting(share * clicks)
        return True

    def learn(self, slot: int, logit: float, label: float, time_ms: int) -> None:
        """Count one labelled impression; ``logit`` is the logged one, for the first slot."""
        self.labels += 1
        self._fade(time_ms)
        self._shown[_cell(slot, logit)] += 1.0
        self._clicks[_cell(slot, logit)] += label

    def correct(self, slot: int, logit: float) -> None:
        """Count the click of an impression that was, or will be, learned as unanswered."""
        self._clicks[_cell(slot, logit)] += 1.0

    def logits(self) -> tuple[float, ...]:
        """Return log e of slots 0.., none above 0; empty until enough labels have been seen."""
        shown, clicks = self._counts()
        if self.labels < self._least_labels and shown.sum() < self._least_labels:
            return ()
        slots = int(np.flatnonzero(shown.any(axis=1)).max(initial=0)) + 1
        examination = fit_examination(shown[:slots], clicks[:slots])
        return tuple(round(min(max(math.log(e), _LEAST), 0.0), 3) for e in examination.tolist())

    def _counts(self) -> tuple[F64, F64]:
        """Return all impressions and clicks `[S, B]`, those of the log before in bins of their own."""
        if self._before is None:
            return self._shown, self._clicks
        shown, clicks = self._before
        return np.hstack((self._shown, shown)), np.hstack((self._clicks, clicks))

    def _fade(self, time_ms: int) -> None:
        if self._last_ms is None:
            self._last_ms = time_ms
        elapsed_ms = time_ms - self._last_ms
        if elapsed_ms >= _FADE_EVERY_MS:
            factor = math.exp(-elapsed_ms / (1000.0 * _TIME_CONSTANT_S))
            self._shown *= factor
            self._clicks *= factor
            for counts in self._before or ():
                counts *= factor
            self._last_ms = time_ms

    def values(self) -> list[Any]:
        """Return the state as plain values."""
        before = [counts.tolist() for counts in self._before or ()]
        return [self.labels, self._last_ms, self._shown.tolist(), self._clicks.tolist(), before]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        self.labels, self._last_ms, shown, clicks, before = values
        self._shown, self._clicks = np.array(shown), np.array(clicks)
        self._before = (np.array(before[0]), np.array(before[1])) if before else None


def fit_examination(shown: F64, clicks: F64) -> F64:
    """Return the examination `[S]` of slots, that of the first one 1, from counts `[S, B]`."""
    examination = np.ones(len(shown))
    for _ in range(_ROUNDS):
        rate = clicks.sum(axis=0) / np.maximum(examination @ shown, 1e-9)
        found = (clicks.sum(axis=1) + _PRIOR_CLICKS) / (shown @ rate + _PRIOR_CLICKS)
        examination = found / found[0]
    return examination


def _fitting(counts: F64) -> F64:
    """Return a table of as many slots as are told apart here; the last one has all later ones."""
    found = np.zeros((_SLOTS, counts.shape[1]))
    found[: len(counts)] = counts[:_SLOTS]
    found[-1] += counts[_SLOTS:].sum(axis=0)
    return found


def _cell(slot: int, logit: float) -> tuple[int, int]:
    place = int((min(max(logit, -20.0), 20.0) - _LOWEST) * _PER_LOGIT)
    return min(slot, _SLOTS - 1), min(max(place, 0), _BINS - 1)
