"""Which rule, if any, keeps a candidate out of a slate; candidates are eligible ads that were retrieved.

Kernels write the code of the first rule that applies beside each candidate: `OPEN`, or 1 + the place of its
name in `CANDIDATE_REASONS`. So a decision can count its rules, and why-not can name one.

Legend: B decisions, K candidates, R reasons.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

I64 = NDArray[np.int64]
Codes = NDArray[np.int8]

CANDIDATE_REASONS = (
    "reserve",
    "placement_floor",
    "floor",
    "worthless",
    "campaign_limit",
    "separation",
    "diversity",
)
"""Why a candidate is kept out, by the auction first, then by the ads in the slots before.

``reserve`` and ``placement_floor``: worth less than a thousand impressions must bring; ``floor``: a bid below
the ad's own least price (such ads are refused on arrival); ``worthless``: a bid of 0. ``diversity`` rules out
only where it leaves nothing of the rank value.
"""

OPEN = 0
RESERVE, PLACEMENT_FLOOR, FLOOR, WORTHLESS, CAMPAIGN_LIMIT, SEPARATION, DIVERSITY = range(1, 8)


def reason_of(code: int) -> str:
    """Return the name of a code, empty for `OPEN`."""
    return CANDIDATE_REASONS[code - 1] if code else ""


def counts_by_name(counts: Sequence[int]) -> dict[str, int]:
    """Return the counts `[R]` of one decision by name, without the zeros."""
    return {name: n for name, n in zip(CANDIDATE_REASONS, counts, strict=True) if n}


@njit(cache=True)
def count_codes(codes: Codes) -> I64:
    """Return how many candidates each rule keeps out `[B, R]`, from their codes `[B, K]`."""
    counts = np.zeros((codes.shape[0], len(CANDIDATE_REASONS)), np.int64)
    for b in range(codes.shape[0]):
        for k in range(codes.shape[1]):
            if codes[b, k] > 0:
                counts[b, codes[b, k] - 1] += 1
    return counts
