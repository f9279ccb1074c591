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
from models.policy.diversity import board_of, close
from models.policy.new_ads import favor_new
from models.policy.standing import Codes, reason_of
from models.scorer.interface import I32

from .asked import Asked
from .decider import Scored

F64 = NDArray[np.float64]

NEW_AD = "new_ad_share"
"""The rule that closes the last slot of a decision that owes a new ad to all others."""


@dataclass(frozen=True)
class Place:
    """Where an ad stands in an order: ``place`` counts from 1; the first ``kept`` go on."""

    place: int
    of: int
    kept: int


@dataclass(frozen=True)
class Contest:
    """One slot as an ad saw it; values are log rank values with the draw of the exploration in.

    No ``winner``: the slot stayed empty, since a rule had closed it to every candidate that was left.
    ``ruled_out`` names the rule that had closed the slot to the ad: one of `standing.CANDIDATE_REASONS`, or
    `NEW_AD` where the slot was owed to a new one; empty for an open slot. In the randomised bucket
    ``chance`` is the probability with which the slot goes to it.
    """

    slot: int
    winner: str
    winner_value: float
    own_value: float
    ruled_out: str
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
    standing: Codes
    """`[S, K]` the rule that had closed each slot to each candidate (`models.policy.standing`)."""
    shift: F64
    """`[S]` what the draw added to the winner's."""

    @classmethod
    def of(cls, asked: Asked, scored: Scored) -> Slate:
        """Fill the slots as `slates.fill` does, and keep what each pick saw."""
        compiled, offers = asked.compiled, scored.offers
        exploration, rules, facets = compiled.view.policy.exploration, compiled.slate_rules, compiled.facets
        seed, randomized = np.array([asked.seed]), np.array([asked.randomized])
        board, column = board_of(offers.log_rank, offers.standing), np.full((1, asked.slots), -1, np.int64)
        shape = (asked.slots, board.log_rank.shape[1])
        seen, standing, shift = np.empty(shape), np.empty(shape, np.int8), np.zeros(asked.slots)
        for slot in range(asked.slots):
            if asked.owes_new and slot == asked.slots - 1:
                favor_new(board.log_rank[0], scored.is_new[0], column[0])
            seen[slot], standing[slot] = board.log_rank[0], board.standing[0]
            picks = pick(board.log_rank, offers.deviation, offers.keys, seed, slot, randomized, exploration)
            column[:, slot], shift[slot] = picks.column, picks.log_shift[0]
            close(board, scored.rows, column, slot, facets, rules, randomized)
        return cls(asked, scored, column[0].tolist(), seen, standing, shift)

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
        """Return one slot as candidate k saw it."""
        winner, before = self.column[slot], self.left[slot]
        row = int(self.scored.rows[0, winner]) if winner >= 0 else -1
        open_ = bool(before[k] > -np.inf)
        exploration = self.asked.compiled.view.policy.exploration
        chance = None
        if self.asked.randomized:
            chance = float(plackett_luce(before, exploration.temperature, exploration.uniform_mix)[k])
        return Contest(
            slot=slot,
            winner=self.asked.compiled.view.catalogue.ads[row].ad_id if row >= 0 else "",
            winner_value=float(before[winner] + self.shift[slot]) if row >= 0 else 0.0,
            own_value=float(before[k] + self._draw(k, slot)) if open_ else 0.0,
            ruled_out="" if open_ else reason_of(int(self.standing[slot, k])) or NEW_AD,
            chance=chance,
        )

    def _draw(self, k: int, slot: int) -> float:
        """Return what the Thompson draw added to candidate k's log rank value for a slot."""
        deviation = float(self.scored.offers.deviation[0, k])
        if self.asked.randomized or deviation <= 0:
            return 0.0
        key = self.scored.offers.keys[0, k]
        return float(deviation * normal_quantile(uniform(self.asked.seed, key, np.uint64(slot))))


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
    the whole slate. It ends at the first ad that is no candidate here: its probability is 0. A slot owed to a
    new ad goes to one, as in the decision.

    Parameters
    ----------
    shown
        The ads of the slate.
    randomized
        Plackett-Luce with the view's temperature and uniform share; else greedy, without draws.

    """
    compiled, scored = asked.compiled, asked.scored(asked.eligible())
    board, column = board_of(scored.offers.log_rank), np.full((1, len(shown)), -1, np.int64)
    out: list[Followed] = []
    for slot, ad_id in enumerate(shown):
        if not randomized and asked.owes_new and slot == asked.slots - 1:
            favor_new(board.log_rank[0], scored.is_new[0], column[0])
        chances = _chances(asked, board.log_rank[0], randomized)
        found = np.flatnonzero(scored.rows[0] == compiled.view.catalogue.row_of.get(ad_id, -2))
        out.append(Followed(scored.rows[0], chances, float(chances[found[0]]) if len(found) else 0.0))
        if len(found) == 0:
            break
        column[0, slot] = found[0]
        close(board, scored.rows, column, slot, compiled.facets, compiled.slate_rules, np.array([randomized]))
    return out


def _chances(asked: Asked, left: F64, randomized: bool) -> F64:
    exploration = asked.compiled.view.policy.exploration
    if randomized:
        return plackett_luce(left, exploration.temperature, exploration.uniform_mix)
    return greedy(left)
