"""User x category adjustments, learned in the user's own shard on every label.

The other half of the adjustments is learned elsewhere (`learner`); each side takes the other's part
as its offset. A user holds weights for at most C categories, the one idle longest making way for a
new one. Every row is updated in the order of its labels and no other row's, so the results are the
same to the bit whatever the batch.

Legend: U users in the shard, C category slots, B rows of a batch, K candidates, N labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.ids import NO_KEY

from .priors import DEFAULT_PRIORS, Priors

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]

_NO_KEY = np.uint64(NO_KEY)
_LOGIT_LIMIT = 30.0
_MEAN_LIMIT = 6.0


@dataclass(frozen=True, eq=False)
class UserCategoryTable:
    """Weights of one shard's users; a slot whose key is NO_KEY is free. Plain arrays, to be persisted."""

    category_key: U64
    """`[U, C]` stable key of the category."""
    mean: F32
    """`[U, C]` logits, as of ``time_ms``."""
    variance: F32
    """`[U, C]` squared logits, as of ``time_ms``."""
    time_ms: I64
    """`[U, C]` event time of the last update."""
    priors: Priors = field(default=DEFAULT_PRIORS)

    @classmethod
    def empty(cls, users: int, slots: int = 8, priors: Priors = DEFAULT_PRIORS) -> UserCategoryTable:
        """Return a table for ``users`` rows of ``slots`` categories each, all at the prior."""
        shape = (users, slots)
        return cls(
            category_key=np.zeros(shape, np.uint64),
            mean=np.zeros(shape, np.float32),
            variance=np.zeros(shape, np.float32),
            time_ms=np.zeros(shape, np.int64),
            priors=priors,
        )

    def clear(self, rows: I64) -> None:
        """Forget these rows (a row given to another user, or an erasure)."""
        for column in (self.category_key, self.mean, self.variance, self.time_ms):
            column[rows] = 0

    def read(self, rows: I64, category_key: U64, time_ms: I64) -> tuple[F64, F64]:
        """Return mean and variance of each candidate's category for each user, decayed to now.

        Parameters
        ----------
        rows
            `[B]` rows of the table.
        category_key
            `[B, K]` key of the candidates' categories; NO_KEY reads as mean 0 and variance 0.
        time_ms
            `[B]` event time; a time before the last update reads as no time passed.

        Returns
        -------
        tuple
            mean and variance, float64 `[B, K]`; an unknown category has mean 0 and the prior variance.

        """
        constant = self.priors.user_time_constant_s * 1000.0
        return _read(*self._columns, rows, category_key, time_ms, self.priors.user_category, constant)

    def learn(
        self, rows: I64, category_key: U64, offset: F64, label: F64, time_ms: I64, weight: F64 | None = None
    ) -> int:
        """Update the table in place by N labels in order; return how many were refused.

        ``offset`` `[N]` is the rest of the click logit (base and all other parts), ``label`` `[N]` lies in
        0..1. A label with a non-finite offset, label or weight, with a label out of range, a weight that
        is not positive, or no category changes nothing and is counted. See `correct` for late clicks.
        """
        weight = np.ones(len(rows)) if weight is None else weight
        constant = self.priors.user_time_constant_s * 1000.0
        prior = self.priors.user_category
        return _learn(self._columns, rows, category_key, offset, label, time_ms, weight, prior, constant)

    def correct(self, rows: I64, category_key: U64, change: F64, age_ms: I64) -> int:
        """Undo labels learned wrongly: ``change`` `[N]` is the right label less the one learned.

        A late click after a ``no_click`` has change +1. The information of the first update stays (it
        knew the curvature, not the label), so only the mean moves: by ``v * change * exp(-age/T)``, exact
        to first order for one weight. Returns how many were refused (unknown category, bad number).
        """
        constant = self.priors.user_time_constant_s * 1000.0
        return _correct(self._columns, rows, category_key, change, age_ms, constant)

    def answer(self, rows: I64, category_key: U64, clicked: Flags, offset: F64, time_ms: I64) -> int:
        """Learn N impressions and clicks in order: an impression's 0, and its click's correction by +1.

        ``time_ms`` `[N]` is the time of an impression, and of a click (``clicked``) how long after the
        decision it came; a click has no ``offset``. Returns how many `learn` and `correct` refused.
        """
        constant = self.priors.user_time_constant_s * 1000.0
        prior = self.priors.user_category
        return _answer(self._columns, rows, category_key, clicked, offset, time_ms, prior, constant)

    @property
    def _columns(self) -> _Columns:
        return _Columns(self.category_key, self.mean, self.variance, self.time_ms)


@njit(cache=True)
def _find(category_key: U64, row: int, key: np.uint64) -> int:
    for c in range(category_key.shape[1]):
        if category_key[row, c] == key:
            return c
    return -1


@njit(cache=True)
def _decayed(
    mean: float, variance: float, elapsed_ms: float, prior: float, constant: float
) -> tuple[float, float]:
    fade = math.exp(-max(elapsed_ms, 0.0) / constant)
    return mean * fade, prior + (variance - prior) * fade * fade


@njit(cache=True)
def _read(
    table_key: U64,
    table_mean: F32,
    table_variance: F32,
    table_time: I64,
    rows: I64,
    category_key: U64,
    time_ms: I64,
    prior: float,
    constant: float,
) -> tuple[F64, F64]:
    mean = np.zeros(category_key.shape)
    variance = np.zeros(category_key.shape)
    for b in range(category_key.shape[0]):
        row = rows[b]
        for k in range(category_key.shape[1]):
            if category_key[b, k] == _NO_KEY:
                continue
            c = _find(table_key, row, category_key[b, k])
            if c < 0:
                variance[b, k] = prior
                continue
            elapsed = float(time_ms[b] - table_time[row, c])
            mean[b, k], variance[b, k] = _decayed(
                float(table_mean[row, c]), float(table_variance[row, c]), elapsed, prior, constant
            )
    return mean, variance


@njit(cache=True)
def _slot_for(
    table_key: U64, table_mean: F32, table_variance: F32, table_time: I64, row: int, key: np.uint64
) -> tuple[int, bool]:
    """Return the slot of this category and whether it is new: a free one, or the one idle longest."""
    c = _find(table_key, row, key)
    if c >= 0:
        return c, False
    c = _find(table_key, row, _NO_KEY)
    if c < 0:
        c = 0
        for other in range(1, table_key.shape[1]):
            if table_time[row, other] < table_time[row, c]:
                c = other
    table_key[row, c] = key
    return c, True


@njit(cache=True)
def _usable(offset: float, label: float, weight: float) -> bool:
    return math.isfinite(offset) and 0.0 <= label <= 1.0 and 0.0 < weight < math.inf


class _Columns(NamedTuple):
    """The table's arrays, for kernels."""

    key: U64
    mean: F32
    variance: F32
    time: I64


@njit(cache=True)
def _learn_one(
    table: _Columns, row: int, key: np.uint64, offset: float, label: float, time: int, weight: float,
    prior: float, constant: float,
) -> bool:  # fmt: skip
    """Update one user's weight by one label; return False where the label is refused."""
    if key == _NO_KEY or not _usable(offset, label, weight):
        return False
    c, new = _slot_for(table.key, table.mean, table.variance, table.time, row, key)
    if new:
        m, v = 0.0, prior
        table.time[row, c] = time
    else:
        elapsed = float(time - table.time[row, c])
        m, v = _decayed(float(table.mean[row, c]), float(table.variance[row, c]), elapsed, prior, constant)
        table.time[row, c] = max(table.time[row, c], time)
    p = 1.0 / (1.0 + math.exp(-min(max(offset + m, -_LOGIT_LIMIT), _LOGIT_LIMIT)))
    h = weight * p * (1.0 - p)
    gain = v / (1.0 + h * v)
    m += gain * weight * (label - p)
    table.mean[row, c] = min(max(m, -_MEAN_LIMIT), _MEAN_LIMIT)
    table.variance[row, c] = gain
    return True


@njit(cache=True)
def _correct_one(
    table: _Columns, row: int, key: np.uint64, change: float, age_ms: int, constant: float
) -> bool:
    """Move one user's weight by a corrected label; return False where the correction is refused."""
    c = _find(table.key, row, key) if key != _NO_KEY else -1
    if c < 0 or not math.isfinite(change):
        return False
    step = float(table.variance[row, c]) * change * math.exp(-max(float(age_ms), 0.0) / constant)
    moved = float(table.mean[row, c]) + step
    table.mean[row, c] = min(max(moved, -_MEAN_LIMIT), _MEAN_LIMIT)
    return True


@njit(cache=True)
def _learn(
    table: _Columns, rows: I64, category_key: U64, offset: F64, label: F64, time_ms: I64, weight: F64,
    prior: float, constant: float,
) -> int:  # fmt: skip
    refused = 0
    for n in range(rows.shape[0]):
        refused += not _learn_one(
            table, rows[n], category_key[n], offset[n], label[n], time_ms[n], weight[n], prior, constant
        )
    return refused


@njit(cache=True)
def _correct(table: _Columns, rows: I64, category_key: U64, change: F64, age_ms: I64, constant: float) -> int:
    refused = 0
    for n in range(rows.shape[0]):
        refused += not _correct_one(table, rows[n], category_key[n], change[n], age_ms[n], constant)
    return refused


@njit(cache=True)
def _answer(
    table: _Columns, rows: I64, category_key: U64, clicked: Flags, offset: F64, time_ms: I64, prior: float,
    constant: float,
) -> int:  # fmt: skip
    refused = 0
    for n in range(rows.shape[0]):
        if clicked[n]:
            done = _correct_one(table, rows[n], category_key[n], 1.0, time_ms[n], constant)
        else:
            done = _learn_one(
                table, rows[n], category_key[n], offset[n], 0.0, time_ms[n], 1.0, prior, constant
            )
        refused += not done
    return refused
