"""Test-then-train evaluation: each prediction is judged by the label that came after it, in time order.

Labels come late (`label_time_s`); they judge the prediction made at `time_s`, before any learning from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .calibration import auc, expected_calibration_error, log_loss, normalised_entropy
from .draws import F64


@dataclass(frozen=True, eq=False)
class Labelled:
    """Predictions with their labels, all `[N]`; `slices` names groups of rows by a column of labels."""

    time_s: F64
    label_time_s: F64
    predicted: F64
    label: F64
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def where(self, rows: NDArray[np.bool_]) -> Labelled:
        """Return these rows alone."""
        parts = {name: column[rows] for name, column in self.slices.items()}
        return Labelled(
            self.time_s[rows], self.label_time_s[rows], self.predicted[rows], self.label[rows], parts
        )


@dataclass(frozen=True)
class Scores:
    """How good the predictions of some rows were."""

    rows: int
    ctr: float
    log_loss: float
    normalised_entropy: float
    ece: float
    auc: float


def scores(data: Labelled) -> Scores:
    """Return the scores of all rows."""
    p, y = data.predicted, data.label
    return Scores(
        rows=len(y),
        ctr=float(y.mean()) if len(y) else float("nan"),
        log_loss=log_loss(p, y),
        normalised_entropy=normalised_entropy(p, y),
        ece=expected_calibration_error(p, y),
        auc=auc(p, y),
    )


def scores_by_slice(data: Labelled, name: str) -> dict[str, Scores]:
    """Return the scores per value of a slice (``new_ad``, ``segment``, ...), sorted by value.

    Raises
    ------
    KeyError
        The data have no such slice.

    """
    column = data.slices[name]
    return {str(value): scores(data.where(column == value)) for value in np.unique(column)}


@dataclass(frozen=True, eq=False)
class Curve:
    """Scores over time: window `i` holds the predictions made in ``start_s[i] .. + window_s``."""

    start_s: F64
    scores: tuple[Scores, ...]


def curve(data: Labelled, window_s: float) -> Curve:
    """Return the scores of consecutive windows of prediction time, windows without rows left out.

    By label time the first window would hold clicks alone and the last one none: clicks are known sooner.
    """
    if not len(data.label):
        return Curve(np.zeros(0), ())
    window = np.floor((data.time_s - data.time_s.min()) / window_s).astype(np.int64)
    held = np.unique(window)
    starts = data.time_s.min() + held * window_s
    return Curve(starts, tuple(scores(data.where(window == w)) for w in held.tolist()))
