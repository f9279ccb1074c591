"""What the decisions of a partition depend on besides the user: policy, catalogue, weights, pacing, model."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from models.domain.catalogue import Catalogue
from models.domain.events import Pacing, is_stale
from models.domain.policy import Policy
from models.learning.weights import WeightTable
from models.scorer.interface import Scorer

DAY_MS = 86_400_000


class PacingTable(msgspec.Struct, frozen=True):
    """The multipliers in force above 0 and the campaigns whose budget is spent.

    ``exhausted`` holds up to the end of the UTC day ``day`` (in days since the epoch), and for its part
    ``lifetime_exhausted`` after it: so a day begins by its first event, though nobody is left to be shown
    whose outcomes would tell the pacer of it.
    """

    version: int = 0
    multipliers: dict[str, float] = {}
    exhausted: tuple[str, ...] = ()
    lifetime_exhausted: tuple[str, ...] = ()
    day: int = 0
    coming: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """``exhausted`` and ``lifetime_exhausted`` as far as the pieces of an unfinished record have told."""

    def apply(self, change: Pacing) -> PacingTable:
        """Return the table after a change; a stale version changes nothing."""
        if is_stale(change, self.version):
            return self
        day = change.event_time // DAY_MS
        multipliers = ({} if change.reset else self.multipliers) | change.multipliers
        for campaign_id in [name for name, mu in change.multipliers.items() if mu == 0.0]:
            del multipliers[campaign_id]
        told, told_for_good = self.coming if change.more else ((), ())
        told, told_for_good = (*told, *change.exhausted), (*told_for_good, *change.lifetime_exhausted)
        if not change.unfinished:
            return PacingTable(change.version, multipliers, told, told_for_good, day)
        held = self.exhausted if day == self.day else self.lifetime_exhausted
        return PacingTable(
            change.version,
            multipliers,
            (*held, *change.exhausted),
            (*self.lifetime_exhausted, *change.lifetime_exhausted),
            day,
            (told, told_for_good),
        )


@dataclass(frozen=True, eq=False)
class View:
    """Everything in force at one point of a partition's log; control records make new ones."""

    policy: Policy
    catalogue: Catalogue
    weights: WeightTable
    pacing: PacingTable
    scorer: Scorer
