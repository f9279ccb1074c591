"""What DM and DR think an action is worth: mean rewards, cross-fitted by user and shrunk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from models.domain.decision import Outcome
from models.domain.ids import key64

from .draws import F64
from .offpolicy import I64

FOLDS = 2


@dataclass(frozen=True, eq=False)
class AdMeans:
    """A cross-fitted reward model: each ad's mean click rate over the users of the other fold.

    Means are shrunk to the overall one with the weight of ``prior`` impressions.
    """

    mean: tuple[float, ...]
    """Per fold."""
    sums: tuple[dict[str, tuple[float, float]], ...]
    """Per fold: clicks and impressions by ad."""
    prior: float = 20.0

    @classmethod
    def of(cls, rows: Iterable[Outcome]) -> AdMeans:
        """Return the means of labelled impressions."""
        sums: list[dict[str, tuple[float, float]]] = [{} for _ in range(FOLDS)]
        for row in rows:
            for fold in range(FOLDS):
                if fold != fold_of(row.user_id):
                    clicks, n = sums[fold].get(row.ad_id, (0.0, 0.0))
                    sums[fold][row.ad_id] = (clicks + (row.kind == "click"), n + 1.0)
        totals = [np.array(list(fold.values()) or [(0.0, 0.0)]).sum(axis=0) for fold in sums]
        return cls(tuple(float(t[0] / max(t[1], 1.0)) for t in totals), tuple(sums))

    def value(self, user_id: str, ad_id: str) -> float:
        """Return the predicted reward of an ad for a user, from other users alone."""
        fold = fold_of(user_id)
        clicks, n = self.sums[fold].get(ad_id, (0.0, 0.0))
        return (clicks + self.prior * self.mean[fold]) / (n + self.prior)


def fold_of(user_id: str) -> int:
    """Return a user's fold."""
    return (key64(user_id) >> 1) % FOLDS


def item_means(
    action: I64, reward: F64, user: I64, actions: int, *, folds: int = 2, prior: float = 20.0
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
