"""What a log tells of the slots that ads stood in: impressions and clicks by slot, among ads that are alike.

Counts by slot alone would tell of the ads that stood there. So impressions are laid into strata of equal
expected rate, as counting has it (`rates`), and every stratum is counted by slot. A learner that has seen
nothing yet begins with these counts (`models.learning.position`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ArtifactError, ImpulseError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

STRATA = 16
MOST = 1000
"""Slots and strata that an artifact may bring at most."""


class SlotCounts(NamedTuple):
    """Impressions and clicks, both `[S, B]`: by slot, the first one first, and stratum."""

    shown: F64
    clicks: F64

    def manifest(self) -> dict[str, Any]:
        """Return the counts as a manifest holds them."""
        return {"shown": self.shown.tolist(), "clicks": self.clicks.tolist()}


def count_slots(slot: I64, rate: F64, shown: F64, clicks: F64) -> SlotCounts:
    """Count by slot and by stratum of the expected rate; strata hold about as many clicks each.

    All arguments are `[I]`: rows of impressions that are alike, ``rate`` that of their clicks in the first
    slot.
    """
    order = np.argsort(rate, kind="stable")
    below = np.cumsum(clicks[order]) / max(float(clicks.sum()), 1.0)
    stratum = np.empty(len(rate), np.int64)
    stratum[order] = np.minimum((below * STRATA).astype(np.int64), STRATA - 1)
    shape = (int(slot.max(initial=-1)) + 1, STRATA)
    place = slot * STRATA + stratum
    by_place = (np.bincount(place, counts, shape[0] * STRATA) for counts in (shown, clicks))
    return SlotCounts(*(counts.astype(np.float64).reshape(shape) for counts in by_place))


def stored_slots(manifest: Mapping[str, Any]) -> SlotCounts | None:
    """Return the counts that a model's manifest holds, None where its log told nothing of slots.

    Raises
    ------
    ArtifactError
        where they are no counts.

    """
    if (told := manifest.get("slots")) is None:
        return None
    try:
        found = SlotCounts(*(np.array(told[name], np.float64) for name in SlotCounts._fields))
    except (KeyError, TypeError, ValueError) as error:
        raise _no_counts(f"{type(error).__name__}: {error}") from error
    shown, clicks = found
    if shown.ndim != 2 or shown.shape != clicks.shape or max(shown.shape) > MOST:
        raise _no_counts(f"tables {shown.shape} and {clicks.shape}")
    if not (np.isfinite(shown).all() and (clicks >= 0).all() and (clicks <= shown).all()):
        raise _no_counts("numbers that count nothing")
    return found


def _no_counts(got: str) -> ImpulseError:
    return ArtifactError.expected(
        "slots of a model's manifest",
        got=got,
        expected="impressions and clicks by slot and stratum",
        fix="train the model again",
    )
