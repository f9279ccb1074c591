"""Whether ads are shown as they deserve: exposure against merit, by ad, category or advertiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.scorer.metrics import mean_ranks

from .draws import F64


@dataclass(frozen=True)
class GroupExposure:
    """One group's share of impressions, of merit and of what there is; `ratio` 1 is proportional."""

    group: str
    exposure_share: float
    merit_share: float
    inventory_share: float

    @property
    def ratio(self) -> float:
        """Exposure share per merit share; nan without merit."""
        return self.exposure_share / self.merit_share if self.merit_share else float("nan")


def exposure_by_group(
    groups: Sequence[str], exposure: F64, merit: F64, inventory: F64 | None = None
) -> list[GroupExposure]:
    """Return the shares per group, by name; all `[A]`, per ad, say, and not negative; inventory: 1 each."""
    names, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    there = np.ones(len(place)) if inventory is None else inventory
    sums = [np.bincount(place, weights=x, minlength=len(names)) for x in (exposure, merit, there)]
    shares = [s / max(float(s.sum()), 1e-300) for s in sums]
    rows = zip(names.tolist(), *(s.tolist() for s in shares), strict=True)
    return [GroupExposure(*row) for row in rows]


def exposure_merit_correlation(exposure: F64, merit: F64) -> float:
    """Return Spearman's correlation of exposure with merit (ranks: exposure is heavy-tailed).

    0 where one of them does not vary or there are fewer than two ads.
    """
    if len(exposure) < 2:
        return 0.0
    a, b = mean_ranks(exposure), mean_ranks(merit)
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread else 0.0


def gini(exposure: F64) -> float:
    """Return the Gini coefficient of exposure over ads: 0 all equal, towards 1 a single ad has all."""
    x = np.sort(exposure)
    n, total = len(x), float(x.sum())
    if n == 0 or total == 0:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ x / (n * total))
