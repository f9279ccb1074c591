"""Elementwise arithmetic of the decision path, compiled so that a row's bits depend on that row alone.

Legend: B decisions, K candidates.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]

_LIMIT = 30.0


@njit(cache=True)
def sigmoid(logit: float) -> float:
    """Return 1 / (1 + exp(-logit)), the logit held within ±30."""
    return 1.0 / (1.0 + math.exp(-min(max(logit, -_LIMIT), _LIMIT)))


@njit(cache=True)
def probabilities(logits: F64) -> F64:
    """Return the sigmoid of every logit `[B, K]`; -inf stays a probability of 0."""
    out = np.zeros(logits.shape)
    for b in range(logits.shape[0]):
        for k in range(logits.shape[1]):
            if logits[b, k] > -np.inf:
                out[b, k] = sigmoid(logits[b, k])
    return out


@njit(cache=True)
def summed(base: F32, bias: float, ad: F64, campaign: F64, segment_category: F64, user_category: F64) -> F64:
    """Return the sum `[B, K]` of the parts of a click logit, in the order of `decision.Parts`."""
    out = np.empty(base.shape)
    for b in range(base.shape[0]):
        for k in range(base.shape[1]):
            total = float(base[b, k]) + bias
            total += ad[b, k]
            total += campaign[b, k]
            total += segment_category[b, k]
            total += user_category[b, k]
            out[b, k] = total
    return out


@njit(cache=True)
def gathered(values: U64, rows: I32) -> U64:
    """Return ``values[rows]`` `[B, K]`, 0 for rows of -1."""
    out = np.zeros(rows.shape, np.uint64)
    for b in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            if rows[b, k] >= 0:
                out[b, k] = values[rows[b, k]]
    return out
