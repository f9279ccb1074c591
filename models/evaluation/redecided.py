r"""The value of another policy from decisions that were logged with propensities, decided again.

For each labelled slot there is what the logging policy's chance of the ad was and what the evaluation
policy's is, both given the context and **the slots before as they were shown**. What is sound with
propensities of that kind:

``first``: the first slot has no slots before it, so w = pi_e(a_0 | x) / pi_b(a_0 | x) estimates the
evaluation policy's value in the first slot, by IPS, SNIPS, DM and DR.

``slate``: the cumulative product w_s = prod_{j <= s} pi_e(a_j | x, a_<j) / pi_b(a_j | x, a_<j) estimates the
value of an impression in any slot under the cascade assumption, that a click depends on the slots up to
its own alone (McInerney et al., KDD'20, "reward interaction"), by IPS, SNIPS and DR. Its weights grow with
the slots. DR takes w_(s-1) v_s + w_s (r_s - q_s), with a reward model's q_s of the ad shown and v_s of the
evaluation policy's distribution given the slots before (Kiyohara et al., WSDM'22): the choice in the slot
itself adds variance only as far as q_s is wrong. DM would need the slates that the evaluation policy makes.

What is not: dividing conditional propensities slot by slot without the product would value slates that
start as the logging policy's. And the contexts are those of the log: this is the value of one decision
after the other policy's past, not of the past that the evaluation policy would have made.

The evaluation policy must not share the logging policy's random numbers (both are seeded by the decision's
id). So it is greedy, or Plackett-Luce with its whole distribution; a Thompson draw is not evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.domain.catalogue import Ad
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
    weight_before: list[float] = field(default_factory=list)
    """Of slates only."""

    def add(
        self, reward: float, propensity: float, target: float, user: int, q_logged: float, v_target: float
    ) -> None:
        """Add a row; the weight of the slots before a slate's is added beside it."""
        self.reward.append(reward)
        self.propensity.append(propensity)
        self.target.append(target)
        self.user.append(user)
        self.q_logged.append(q_logged)
        self.v_target.append(v_target)

    def data(self) -> BanditData:
        """Return the rows as estimators take them."""
        return BanditData(
            _column(self.reward),
            _column(self.propensity),
            np.minimum(_column(self.target), 1.0),
            np.array(self.user, np.int64),
            *(
                _column(values) if len(values) == len(self.reward) else None
                for values in (self.q_logged, self.v_target, self.weight_before)
            ),
        )


def _column(values: list[float]) -> F64:
    return np.array(values, np.float64)


class Chance:
    """What the evaluation policy would do in one slot: the logged ad's chance, the reward expected of all."""

    __slots__ = ("logged", "value")

    def __init__(self, logged: float, value: float) -> None:
        self.logged, self.value = logged, value


_NONE = Chance(0.0, 0.0)
"""In the slots after an ad that the evaluation policy could not have shown."""


class Redecided:
    """Collects labelled slots with the chances of both policies.

    Parameters
    ----------
    outcomes
        Of the logged decisions, in any order.

    """

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        rows, self.censored = split_labels(outcomes)
        self.means = AdMeans.of(rows)
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
            chance = chances[slot.slot] if slot.slot < len(chances) else _NONE
            before = target / logged if logged > 0 else 0.0  # a row without a propensity is refused below
            logged, target = logged * slot.propensity, target * chance.logged
            if (row := found.get(slot.slot)) is None:
                continue
            q = float(self.means.values(decision.user_id, [slot.ad_id], slot.slot)[0])
            told = (float(row.kind == "click"), logged, target, user, q, chance.value)
            if slot.slot == 0:
                self.first.add(*told)
            self.slate.add(*told)
            self.slate.weight_before.append(before)


def distribution_value(
    chances: F64,
    rows: NDArray[np.int32],
    ads: Sequence[Ad],
    means: AdMeans,
    user_id: str,
    slot: int,
) -> float:
    """Return the reward model's value of a distribution `[K]` over `ads` (by rows, -1 for none) in a slot."""
    at = np.flatnonzero(chances > 0)
    return float(chances[at] @ means.values(user_id, [ads[row].ad_id for row in rows[at].tolist()], slot))
