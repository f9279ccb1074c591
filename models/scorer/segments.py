"""What a model knows of segments: a logit per segment and category beside the network.

The network reads what a user did; the segment comes with the request, and tells most of users of whom little
else is known. The table is counted before training (`rates.click_rates`), shrunk: a random effect per cell,
as in GLMix (Zhang et al., KDD '16). The network then learns what is left.

Legend: S segments, C rows of categories (`features.category_bucket`), A ads, B decisions, K candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.errors import ArtifactError
from models.domain.ids import label_key

from .weights import tensor

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

SEGMENT_KEYS, SEGMENT_LOGITS = "segment_keys", "segment_logits"


@dataclass(frozen=True, eq=False)
class SegmentTable:
    """Logits by segment and category; ``keys`` `[S]` ascending, ``logits`` `[S + 1, C]`.

    The last row, for segments that the log did not hold, is zeros.
    """

    keys: U64
    logits: F32

    def __post_init__(self) -> None:
        shape = self.logits.shape
        right = self.keys.dtype == np.uint64 and self.logits.dtype == np.float32
        ascending = self.keys.ndim == 1 and bool((self.keys[1:] > self.keys[:-1]).all())
        fits = len(shape) == 2 and shape[0] == len(self.keys) + 1
        if not (right and ascending and fits) or self.logits[-1].any():
            raise ArtifactError.expected(
                "segment table", got=f"{len(self.keys)} keys, logits {shape} {self.logits.dtype}",
                expected="float32 [S + 1, C] for S ascending keys, last row 0", fix="train the model again",
            )  # fmt: skip

    def row(self, segment: str) -> int:
        """Return the row of a segment, S where it is unknown."""
        key = np.uint64(label_key(segment))
        place = int(np.searchsorted(self.keys, key))
        known = place < len(self.keys) and self.keys[place] == key
        return place if known else len(self.keys)

    def rows(self, segments: Sequence[str]) -> I64:
        """Return the row `[B]` of each segment."""
        return np.fromiter((self.row(segment) for segment in segments), np.int64, count=len(segments))


def no_segments(categories: int = 2) -> SegmentTable:
    """Return the table of a model that knows no segment."""
    return SegmentTable(np.zeros(0, np.uint64), np.zeros((1, categories), np.float32))


def stored_segments(tensors: Mapping[str, NDArray[Any]], segments: int, categories: int) -> SegmentTable:
    """Return the table among a model's tensors; ArtifactError where it does not fit the model."""
    keys = tensors.get(SEGMENT_KEYS, np.zeros(0, np.uint64))
    if len(keys) != segments:
        raise ArtifactError.expected(
            f"model tensor {SEGMENT_KEYS}", got=f"{len(keys)} keys", expected=f"those of {segments} segments",
            fix="train the model again",
        )  # fmt: skip
    if not segments:
        return no_segments(categories)
    return SegmentTable(
        keys, np.ascontiguousarray(tensor(tensors, SEGMENT_LOGITS, (segments + 1, categories)))
    )


@njit(cache=True)
def add_segments(
    click: F32, conversion: F32, candidates: I32, logits: F32, slope: float, row: I64, category: I64
) -> None:
    """Add what the segments in ``row`` `[B]` say of the candidates' categories to logits `[B, K]`.

    Conversions take ``slope`` times what clicks do.
    """
    for b in range(candidates.shape[0]):
        for k in range(candidates.shape[1]):
            if candidates[b, k] >= 0:
                told = logits[row[b], category[candidates[b, k]]]
                click[b, k] += told
                conversion[b, k] += np.float32(slope) * told
