"""What the decisions of a partition depend on besides the user: policy, catalogue, weights, pacing, model."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from models.domain.catalogue import Catalogue
from models.domain.events import Pacing
from models.domain.policy import Policy
from models.learning.weights import WeightTable
from models.scorer.interface import Scorer


class PacingTable(msgspec.Struct, frozen=True):
    """The multipliers in force and the campaigns whose budget is spent."""

    version: int = 0
    multipliers: dict[str, float] = {}
    exhausted: tuple[str, ...] = ()

    def apply(self, change: Pacing) -> PacingTable:
        """Return the table after a change; a stale version changes nothing."""
        if change.version <= self.version:
            return self
        return PacingTable(change.version, self.multipliers | change.multipliers, change.exhausted)


@dataclass(frozen=True, eq=False)
class View:
    """Everything in force at one point of a partition's log; control records make new ones."""

    policy: Policy
    catalogue: Catalogue
    weights: WeightTable
    pacing: PacingTable
    scorer: Scorer
