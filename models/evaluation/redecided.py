r"""The value of another policy from decisions that were logged with propensities, decided again.

For each labelled slot there is what the logging policy's chance of the ad was and what the evaluation
policy's is, both given the context and **the slots before as they were shown**. What is sound with
propensities of that kind:

``first``: the first slot has no slots before it, so w = pi_e(a_0 | x) / pi_b(a_0 | x) estimates the
evaluation policy's value in the first slot, by IPS, SNIPS, DM and DR.

``slate``: the cumulative product w_s = prod_{j <= s} pi_e(a_j | x, a_<j) / pi_b(a_j | x, a_<j) estimates the
value of an impression in any slot under the cascade assumption, that a click depends on the slots up to
its own alone (McInerney et al., KDD'20, "reward interaction"). Its weights grow with the slots.

What is not: dividing conditional propensities slot by slot without the product would value slates that
start as the logging policy's. And the contexts are those of the log: this is the value of one decision
after the other policy's past, not of the past that the evaluation policy would have made.

The evaluation policy must not share the logging policy's random numbers (both are seeded by the decision's
id). So it is greedy, or Plackett-Luce with its whole distribution; a Thompson draw is not evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.domain.decision import Decision, Outcome
from models.domain.ids import key64

from .draws import F64
from .offpolicy import BanditData
from .outcomes import split_labels
from .reward_models import AdMeans


@dataclass
class Rows:
    """Rows of off-policy estimators, collected one by one."""

    reward: list[float] = field(default_factory=list)
    propensity: list[float] = field(default_factory=list)
    target: list[float] = field(default_factory=list)
    user: list[int] = field(default_factory=list)
    q_logged: list[float] = field(default_factory=list)
    v_target: list[float] = field(default_factory=list)

    def data(self) -> BanditData:
        """Return the rows as estimators take them."""
        modelled = len(self.q_logged) == len(self.reward)
        return BanditData(
            _column(self.reward),
            _column(self.propensity),
            np.minimum(_column(self.target), 1.0),
            np.array(self.user, np.int64),
            _column(self.q_logged) if modelled else None,
            _column(self.v_target) if modelled else None,
        )


def _column(values: list[float]) -> F64:
    return np.array(values, np.float64)


class Chance:
    """What the evaluation policy would do in one slot: the logged ad's chance, and its expected reward."""

    __slots__ = ("logged", "value")

    def __init__(self, logged: float, value: float) -> None:
        self.logged, self.value = logged, value


class Redecided:
    """Collects labelled slots with the chances of both policies.

    Parameters
    ----------
    outcomes
        Of the logged decisions, in any order.

    """

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        rows, self.censored = split_labels(outcomes)
        self.means = AdMeans.of(row for row in rows if row.slot == 0)
        self.first, self.slate = Rows(), Rows()
        self.decisions = 0
        self._labelled: dict[str, dict[int, Outcome]] = {}
        for row in rows:
            self._labelled.setdefault(row.decision_id, {})[row.slot] = row

    def wants(self, decision_id: str) -> bool:
        """Tell whether a decision has a label."""
        return decision_id in self._labelled

    def take(self, decision: Decision, chances: Sequence[Chance]) -> None:
        """Take a logged decision and what the evaluation policy would do in its slots, while it goes on."""
        self.decisions += 1
        found, user = self._labelled[decision.decision_id], key64(decision.user_id) >> 1
        logged = target = 1.0
        for slot in decision.ads:
            chance = chances[slot.slot] if slot.slot < len(chances) else None
            logged, target = logged * slot.propensity, target * (chance.logged if chance else 0.0)
            if (row := found.get(slot.slot)) is None:
                continue
            reward = float(row.kind == "click")
            if slot.slot == 0 and chance is not None:
                q = self.means.value(decision.user_id, slot.ad_id)
                _append(self.first, reward, logged, target, user)
                self.first.q_logged.append(q)
                self.first.v_target.append(chance.value)
            _append(self.slate, reward, logged, target, user)


def _append(rows: Rows, reward: float, propensity: float, target: float, user: int) -> None:
    rows.reward.append(reward)
    rows.propensity.append(propensity)
    rows.target.append(target)
    rows.user.append(user)


def distribution_value(
    chances: F64,
    rows: NDArray[np.int32],
    ad_ids: Mapping[int, str] | Sequence[str],
    means: AdMeans,
    user_id: str,
) -> float:
    """Return the reward model's value of a distribution `[K]` over ads (rows of a catalogue, -1 for none)."""
    at = np.flatnonzero(chances > 0)
    return float(sum(chances[k] * means.value(user_id, ad_ids[int(rows[k])]) for k in at.tolist()))
