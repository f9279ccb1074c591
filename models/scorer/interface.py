"""What the decision core asks of a scorer, on batches of arrays.

Legend: B users in the batch, U users in a shard's table, L events kept per user, D model width,
A ads, K candidates, S bias rows. All arrays are C-contiguous. A row's results depend on that row
alone, to the last bit, whatever else is in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import Catalogue

from .features import NO_TIME
from .leanings import LeaningTable
from .segments import SegmentTable

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class HistoryTable:
    """Recent events of the users of one shard, each row a ring: event n stands at ``n % L``.

    ``count[u]`` events were ever appended for row u; ``generation[u]`` changes when the row is given
    to another user, so that a cache keyed by (table, row) can tell.
    """

    ad_key: U64
    """`[U, L]` stable key of the ad or item (models.domain.ids.key64)."""
    category_key: U64
    """`[U, L]` stable key of its category at the time, NO_KEY where unknown."""
    kind: NDArray[np.uint8]
    """`[U, L]` index into models.domain.events.KINDS."""
    dwell_ms: I32
    """`[U, L]` dwell of a ``dwell`` event, else 0."""
    time_ms: I64
    """`[U, L]` event time."""
    count: I64
    """`[U]` events ever appended."""
    generation: I64
    """`[U]` which occupant of the row this is."""

    @classmethod
    def empty(cls, users: int, length: int) -> HistoryTable:
        """Return a table of `users` rows that hold no events."""
        shape = (users, length)
        return cls(
            ad_key=np.zeros(shape, np.uint64),
            category_key=np.zeros(shape, np.uint64),
            kind=np.zeros(shape, np.uint8),
            dwell_ms=np.zeros(shape, np.int32),
            time_ms=np.zeros(shape, np.int64),
            count=np.zeros(users, np.int64),
            generation=np.zeros(users, np.int64),
        )

    def last_ms(self, rows: I64) -> I64:
        """Return the time of each row's last event `[B]`, NO_TIME where there is none."""
        count = self.count[rows]
        last = self.time_ms[rows, (count - 1) % self.time_ms.shape[1]]
        return np.where(count > 0, last, NO_TIME)


class AdIndex(Protocol):
    """A catalogue as one scorer sees it: ad vectors, biases and whatever else it precomputes."""

    catalogue_version: str
    vectors: F32
    """`[A, D]`"""
    bias: F32
    """`[A]` log-popularity bias of each ad."""
    conversion: F32
    """`[A]` logit of a click's conversion, for users to whom the ad is likely to be shown."""


class Scorer(Protocol):
    """A model in service. Implementations keep only caches that can be rebuilt bit-exactly."""

    model_hash: str
    history_length: int
    """L that `encode` needs for an exact rebuild."""
    segments: SegmentTable
    """What the model adds to click logits by the request's segment; it is no part of `rank`."""
    leanings: LeaningTable
    """What the model adds by users' views; it is no part of `rank` either."""
    conversion_slope: float
    """How much of what the model adds to a click logit by segment and views holds for the conversion, too,"""
    adjustment_slope: float
    """and how much of what is learned later of segments, users and categories."""

    def index(self, catalogue: Catalogue, previous: Any = None) -> Any:
        """Return the AdIndex of a catalogue, reusing the rows of ``previous`` that did not change."""
        ...

    def encode(self, history: HistoryTable, rows: I64, times: I64) -> F32:
        """Return the users' vectors `[B, D]` after all events in their rings, for requests at ``times``."""
        ...

    def retrieve(
        self, users: F32, ads: Any, bias: F32, bias_row: I64, eligible: U64, k: int
    ) -> tuple[I32, F32]:
        """Return the exact top ``k`` of ``q.v + index bias + bias[bias_row]`` among eligible ads.

        The query q is the user's vector or, by what impressions have told, a mix of it and everyone's.

        Parameters
        ----------
        users
            `[B, D]`
        bias
            `[S, A]` additive bias, one row per situation; ``bias_row`` `[B]` picks one.
        eligible
            `[B, ceil(A / 64)]` bitset, bit ``a % 64`` of word ``a // 64``.

        Returns
        -------
        tuple
            rows of ads `[B, K]` (best first, ties by lower row, -1 where fewer are eligible) and their
            scores `[B, K]`.

        """
        ...

    def rank(
        self, history: HistoryTable, rows: I64, users: F32, ads: Any, candidates: I32
    ) -> tuple[F32, F32]:
        """Return the logits of click given impression and of conversion given click, each `[B, K]`.

        ``candidates`` `[B, K]` are rows of the catalogue, -1 for none (its logits are -inf). ``users`` is
        what `encode` returned for the same rows.
        """
        ...

    def dwell_ms(self, history: HistoryTable, rows: I64, users: F32, ads: Any, candidates: I32) -> F64 | None:
        """Return how many ms users are expected to stay after a click `[B, K]`, 0 for no candidate.

        None where the model does not tell. ``users`` is what `encode` returned for the same rows.
        """
        ...
