"""What DM and DR think an action is worth: mean rewards, cross-fitted by user and shrunk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from models.domain.decision import Outcome
from models.domain.ids import key64

from .draws import F64
from .offpolicy import I64

FOLDS = 2
PRIOR = 20.0
"""Impressions (rows) at the overall rate that each mean is shrunk with."""

_Key = TypeVar("_Key", int, str)


class _Means(NamedTuple):
    """The overall click rate that one fold goes by, and the ratios of slots and ads to it."""

    overall: float
    slot: dict[int, float]
    ad: dict[str, float]


@dataclass(frozen=True, eq=False)
class AdMeans:
    """A cross-fitted reward model of an ad in a slot: overall click rate x slot's ratio x ad's ratio.

    All are of the users of the other folds. A slot's ratio is its clicks over those that the overall rate
    lets expect, an ad's its clicks over those that the slots of its impressions let expect, each shrunk to 1
    with the weight of PRIOR impressions at the overall rate. Where there is one slot alone, this is an ad's
    mean rate, shrunk to the overall one. That an ad gains as much in every slot is assumed: where it does
    not, DR has more variance and no bias.
    """

    folds: tuple[_Means, ...]

    @classmethod
    def of(cls, rows: Iterable[Outcome]) -> AdMeans:
        """Return the means of labelled impressions."""
        placed = [(fold_of(row.user_id), row) for row in rows]
        return cls(tuple(_means([row for at, row in placed if at != fold]) for fold in range(FOLDS)))

    def values(self, user_id: str, ad_ids: Sequence[str], slot: int) -> F64:
        """Return the predicted rewards of ads for a user in a slot, from other users alone."""
        means = self.folds[fold_of(user_id)]
        usual = means.overall * means.slot.get(slot, 1.0)
        return np.minimum(usual * np.array([means.ad.get(ad_id, 1.0) for ad_id in ad_ids]), 1.0)


def _means(rows: Sequence[Outcome]) -> _Means:
    clicks = [float(row.kind == "click") for row in rows]
    overall = sum(clicks) / max(len(clicks), 1)
    slot = _ratios([row.slot for row in rows], clicks, [overall] * len(rows), PRIOR * overall)
    expected = [overall * slot[row.slot] for row in rows]
    return _Means(overall, slot, _ratios([row.ad_id for row in rows], clicks, expected, PRIOR * overall))


def _ratios(
    keys: Sequence[_Key], clicks: Sequence[float], expected: Sequence[float], weight: float
) -> dict[_Key, float]:
    """Return clicks over expected clicks by key, shrunk to 1 by `weight` of both; 1 where both are 0."""
    sums: dict[_Key, tuple[float, float]] = {}
    for key, clicked, usual in zip(keys, clicks, expected, strict=True):
        n, of = sums.get(key, (weight, weight))
        sums[key] = (n + clicked, of + usual)
    return {key: n / of if of else 1.0 for key, (n, of) in sums.items()}


def fold_of(user_id: str) -> int:
    """Return a user's fold."""
    return (key64(user_id) >> 1) % FOLDS


def item_means(
    action: I64, reward: F64, user: I64, actions: int, *, folds: int = FOLDS, prior: float = PRIOR
) -> F64:
    """Return a cross-fitted reward model q `[N, actions]`: each action's mean reward in the other folds.

    Means are shrunk to the overall mean with the weight of `prior` rows. Folds are by user, so no row's
    own reward is in its prediction and DR stays unbiased.
    """
    fold = user % folds
    q = np.empty((len(action), actions))
    for f in range(folds):
        rest = fold != f
        mean = float(reward[rest].mean()) if rest.any() else 0.0
        n = np.bincount(action[rest], minlength=actions)
        clicks = np.bincount(action[rest], weights=reward[rest], minlength=actions)
        q[fold == f] = (clicks + prior * mean) / (n + prior)
    return q
