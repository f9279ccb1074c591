r"""Random effects in click rates: how much better or worse a group is than others, as far as clicks tell.

A logistic mixed model. A row was shown n times and clicked k times; it belongs to a fine group of each
factor (an ad), which lies in a coarse one (its campaign)::

    logit P(click) = offset + level + sum over factors (coarse effect + fine effect),

effects are Gaussian with mean 0. Penalised quasi-likelihood (Breslow & Clayton, JASA '93): the effects are
the most likely ones, found factor by factor by Newton steps in which a coarse effect and its fine ones move
together; a variance is the mean square of its effects plus what is left unknown of them (EM).

Legend: I rows, F fine groups of a factor, G coarse ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LEAST_VARIANCE, MOST_VARIANCE = 1e-3, 2.0
"""Bounds of what the data may say of the variance of effects."""
_FIRST_VARIANCE = 0.1
_SWEEPS = 25
_LARGEST_STEP = 1.0
_LEAST_CLICKS = 0.5


class Factor(NamedTuple):
    """Groups of rows: the fine group `[I]` of each row, and the coarse one `[F]` of each fine group."""

    fine: I64
    coarse: I64

    @classmethod
    def flat(cls, fine: I64, count: int) -> Factor:
        """Return a factor of ``count`` groups that are all of one kind."""
        return cls(fine, np.zeros(count, np.int64))


class Effects(NamedTuple):
    """What was found; ``fine`` `[F]` and ``coarse`` `[G]` are log odds, a pair per factor."""

    level: float
    fine: list[F64]
    coarse: list[F64]

    def whole(self, number: int, factor: Factor) -> F64:
        """Return fine and coarse effect of a factor's fine groups `[F]`, taken together."""
        return self.fine[number] + self.coarse[number][factor.coarse]


def fit_effects(offset: F64, clicks: F64, shown: F64, factors: Sequence[Factor]) -> Effects:
    """Return the effects of all groups; of one that was never shown nothing is known, so it is 0.

    ``offset``, ``clicks`` and ``shown`` are `[I]`. Where nobody clicked, or everybody did, all effects are 0.
    """
    blocks = [_Block(factor) for factor in factors]
    level = _first_level(offset, clicks, shown)
    if _LEAST_CLICKS < clicks.sum() < shown.sum():
        told = offset.copy()
        for _ in range(_SWEEPS):
            for block in blocks:
                told += block.learn(clicks, shown, expit(level + told))
            p = expit(level + told)
            slack = max(float((shown * p * (1 - p)).sum()), _LEAST_CLICKS)
            level += float(np.clip((clicks - shown * p).sum() / slack, -_LARGEST_STEP, _LARGEST_STEP))
    return Effects(level, [block.fine for block in blocks], [block.coarse for block in blocks])


def _first_level(offset: F64, clicks: F64, shown: F64) -> float:
    """Return the level at which about as many clicks are to be expected as there were."""
    many = max(float(shown.sum()), 1.0)
    rate = float(np.clip(clicks.sum(), _LEAST_CLICKS, many) / (many + _LEAST_CLICKS))
    return float(logit(rate)) - float((offset * shown).sum()) / many


class _Block:
    """The effects of one factor as they are believed, and their variances."""

    def __init__(self, factor: Factor) -> None:
        self._of, self._in = factor
        self.fine = np.zeros(len(self._in))
        self.coarse = np.zeros(int(self._in.max(initial=0)) + 1)
        self._fine_variance = self._coarse_variance = _FIRST_VARIANCE

    def learn(self, clicks: F64, shown: F64, p: F64) -> F64:
        """Move the effects by a Newton step from where rows click with ``p`` `[I]`; return these `[I]`."""
        v, w = self._fine_variance, self._coarse_variance
        surplus = _sums(self._of, clicks - shown * p, len(self.fine))  # [F]
        told = _sums(self._of, shown * p * (1 - p), len(self.fine))  # [F], information
        precision: F64 = told + 1 / v
        gradient = surplus - self.fine / v
        of_coarse = 1 / w + self._sum(told / (1 + told * v))  # [G], after the fine effects have given way
        coarse = _held((self._sum(surplus - told / precision * gradient) - self.coarse / w) / of_coarse)
        fine = _held((gradient - told * coarse[self._in]) / precision)
        self.coarse, self.fine = self.coarse + coarse, self.fine + fine
        self._weigh(told, precision, of_coarse)
        step: F64 = (fine + coarse[self._in])[self._of]
        return step

    def _weigh(self, told: F64, precision: F64, of_coarse: F64) -> None:
        """Learn the variances from the groups that were shown; see the module."""
        seen = told > 0
        met = self._sum(seen.astype(np.float64)) > 0
        unknown = 1 / precision + (told / precision) ** 2 / of_coarse[self._in]
        self._fine_variance = _variance(self.fine[seen] ** 2 + unknown[seen])
        self._coarse_variance = _variance(self.coarse[met] ** 2 + 1 / of_coarse[met])

    def _sum(self, of_fine: F64) -> F64:
        return _sums(self._in, of_fine, len(self.coarse))


def _sums(group: I64, values: F64, groups: int) -> F64:
    return np.bincount(group, values, groups).astype(np.float64)


def _held(step: F64) -> F64:
    return np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)


def _variance(squares: F64) -> float:
    return min(max(float(squares.mean()) if len(squares) else 0.0, LEAST_VARIANCE), MOST_VARIANCE)
