"""Rows of norm one, which every content encoder ends with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

SILENCE = 1e-6
"""A vector of a smaller norm says nothing."""


def normalised(rows: F32) -> F32:
    """Return rows `[A, F]` divided by their norms; zero and non-finite rows become zero."""
    rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0)
    norms = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return (rows / np.where(norms > SILENCE, norms, np.inf)).astype(np.float32)
