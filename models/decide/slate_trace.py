"""How the slots of one decision were filled, or would be by another policy: what each pick saw.

`Slate.of` fills slots as `slates.fill` does and keeps the rank values before each pick; a test holds the
two to each other.

Legend: K candidates, S slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.learning.exploration import pick
from models.learning.hashing import normal_quantile, uniform
from models.policy.diversity import close, favor_new, wants_new_ad
from models.scorer.interface import I32

from .asked import Asked
from .decider import Scored
from .slates import is_new

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Where an ad stands in an order: ``place`` counts from 1; the first ``kept`` go on."""

    place: int
    of: int
    kept: int


@dataclass(frozen=True)
class Contest:
    """One slot as an ad saw it; values are log rank values with the draw of the exploration in.

    ``ruled_out`` says that a rule between the ads of a slate had closed the slot to the ad. In the
    randomised bucket ``chance`` is the probability with which the slot goes to it.
    """

    slot: int
    winner: str
    winner_value: float
    own_value: float
    ruled_out: bool
    chance: float | None = None


@dataclass(frozen=True, eq=False)
class Slate:
    """The slots of one decision as they were filled, with the rank values that each was filled by."""

    asked: Asked
    scored: Scored
    column: list[int]
    """`[S]` the candidate in each slot, -1 for none."""
    left: F64
    """`[S, K]` log rank values as they stood before each slot."""
    shift: F64
    """`[S]` what the draw added to the winner's."""

    @classmethod
    def of(cls, asked: Asked, scored: Scored) -> Slate:
        """Fill the slots as `slates.fill` does, and keep what each pick saw."""
        compiled, offers = asked.compiled, scored.offers
        exploration, rules, facets = compiled.view.policy.exploration, compiled.slate_rules, compiled.facets
        seed, randomized = np.array([asked.seed]), np.array([asked.randomized])
        left, column = offers.log_rank.copy(), np.full((1, asked.slots), -1, np.int64)
        seen, shift = np.empty((asked.slots, left.shape[1])), np.zeros(asked.slots)
        for slot in range(asked.slots):
            if slot == asked.slots - 1:
                _owed_to_new(asked, scored, left, column)
            seen[slot] = left[0]
            picks = pick(left, offers.deviation, offers.keys, seed, slot, randomized, exploration)
            column[:, slot], shift[slot] = picks.column, picks.log_shift[0]
            close(left, scored.rows, column, slot, facets, rules, randomized)
        return cls(asked, scored, column[0].tolist(), seen, shift)

    @property
    def ads(self) -> list[str]:
        """The ads in the slots."""
        ads = self.asked.compiled.view.catalogue.ads
        return [ads[int(self.scored.rows[0, k])].ad_id for k in self.column if k >= 0]

    def place(self, k: int) -> Place:
        """Return where candidate k stands by rank value."""
        ranks = self.scored.offers.log_rank[0]
        return Place(int((ranks > ranks[k]).sum()) + 1, int((self.scored.rows >= 0).sum()), len(self.column))

    def contest(self, k: int, slot: int) -> Contest:
        """Return one filled slot as candidate k saw it."""
        winner, before = self.column[slot], self.left[slot]
        ruled_out = not before[k] > -np.inf
        exploration = self.asked.compiled.view.policy.exploration
        chance = None
        if self.asked.randomized:
            chance = float(plackett_luce(before, exploration.temperature, exploration.uniform_mix)[k])
        return Contest(
            slot=slot,
            winner=self.asked.compiled.view.catalogue.ads[int(self.scored.rows[0, winner])].ad_id,
            winner_value=float(before[winner] + self.shift[slot]),
            own_value=0.0 if ruled_out else float(before[k] + self._draw(k, slot)),
            ruled_out=ruled_out,
            chance=chance,
        )

    def _draw(self, k: int, slot: int) -> float:
        """Return what the Thompson draw added to candidate k's log rank value for a slot."""
        deviation = float(self.scored.offers.deviation[0, k])
        if self.asked.randomized or deviation <= 0:
            return 0.0
        key = self.scored.offers.keys[0, k]
        return float(deviation * normal_quantile(uniform(self.asked.seed, key, np.uint64(slot))))


def _owed_to_new(asked: Asked, scored: Scored, left: F64, column: NDArray[np.int64]) -> None:
    """Leave only new ads for the last slot where the policy owes it to one, in place."""
    compiled = asked.compiled
    policy = compiled.view.policy
    if policy.new_ad_share == 0 or asked.randomized:
        return
    owed = wants_new_ad(np.array([asked.seed]), policy.new_ad_share)
    variance = compiled.weights.ad[:, 1][scored.rows]
    new = is_new(scored.offers.pctr, variance, policy, compiled.weights.priors.ad)
    favor_new(left, new, column, owed)


def plackett_luce(log_rank: F64, temperature: float, uniform_mix: float) -> F64:
    """Return the probability `[K]` that each candidate is drawn next (see `models.learning.exploration`)."""
    left = log_rank > -np.inf
    if not left.any():
        return np.zeros(len(log_rank))
    scaled = np.where(left, log_rank - log_rank[left].max(), -np.inf) / temperature
    soft = np.exp(scaled)
    mixed: F64 = np.where(left, uniform_mix / left.sum(), 0.0) + (1.0 - uniform_mix) * soft / soft.sum()
    return mixed


def greedy(log_rank: F64) -> F64:
    """Return the distribution `[K]` of taking the best candidate; ties go to the first."""
    chosen = np.zeros(len(log_rank))
    if (log_rank > -np.inf).any():
        chosen[int(np.argmax(log_rank))] = 1.0
    return chosen


class Followed(NamedTuple):
    """What a policy would have done for one slot, given the ads that were shown before it."""

    rows: I32
    """`[K]` rows of the catalogue, -1 for none."""
    chances: F64
    """`[K]` the probability of each."""
    logged: float
    """The probability of the ad that was shown."""


def follow(asked: Asked, shown: Sequence[str], *, randomized: bool) -> list[Followed]:
    """Return what the policy of a view would have done for each slot of a slate that another one filled.

    The slots before each are taken as they were shown, so the product of ``logged`` is the probability of
    the whole slate. It ends at the first ad that is no candidate here: its probability is 0.

    Parameters
    ----------
    shown
        The ads of the slate.
    randomized
        Plackett-Luce with the view's temperature and uniform share; else greedy, without draws.

    """
    compiled, scored = asked.compiled, asked.scored(asked.eligible())
    left, column = scored.offers.log_rank.copy(), np.full((1, len(shown)), -1, np.int64)
    out: list[Followed] = []
    for slot, ad_id in enumerate(shown):
        chances = _chances(asked, left[0], randomized)
        found = np.flatnonzero(scored.rows[0] == compiled.view.catalogue.row_of.get(ad_id, -2))
        out.append(Followed(scored.rows[0], chances, float(chances[found[0]]) if len(found) else 0.0))
        if len(found) == 0:
            break
        column[0, slot] = found[0]
        close(left, scored.rows, column, slot, compiled.facets, compiled.slate_rules, np.array([randomized]))
    return out


def _chances(asked: Asked, left: F64, randomized: bool) -> F64:
    exploration = asked.compiled.view.policy.exploration
    if randomized:
        return plackett_luce(left, exploration.temperature, exploration.uniform_mix)
    return greedy(left)
