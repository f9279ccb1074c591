"""Logged slates of a small world in which a click depends on the slots up to its own, and the truth of it.

Users like ads in general more or less, one of two kinds tires them the more often it stands above, and they
may stop scrolling. Both policies draw ads without replacement by weights of their own in each context.

Legend: N decisions, S slots, A ads.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from support.markets import ad
from support.outcomes import outcome

from models.domain.decision import Decision, Parts, Slot
from models.evaluation.offpolicy import BanditData
from models.evaluation.redecided import Chance, Redecided, distribution_value

SLOTS, ADS, CONTEXTS = 3, 6, 4
SEEN, EXAMINED, TIRED = np.array([1.0, 0.9, 0.8]), np.array([1.0, 0.7, 0.5]), 0.6
KIND = np.arange(ADS) % 2
CATALOGUE = [ad(f"a{n}") for n in range(ADS)]
_DRAWN = np.random.default_rng(7)
RATE = _DRAWN.uniform(0.05, 0.5, (CONTEXTS, ADS))
BEHAVE, TARGET = (_DRAWN.dirichlet(np.full(ADS, 4.0), CONTEXTS) for _ in range(2))


def decision(number, propensities, user="u", ads=None):
    """Return a decision as off-policy evaluation looks at it."""
    names = ads or [f"a{s}" for s in range(len(propensities))]
    slots = tuple(
        Slot(
            slot=s, ad_id=names[s], campaign_id="c", creative_id="", category="", pctr=0.1, pcvr=0.1,
            bid_type="cpc", bid_micros=1, price_micros=1, ecpm_micros=1, pacing=0.0, propensity=p,
            parts=Parts(base=0.0),
        )
        for s, p in enumerate(propensities)
    )  # fmt: skip
    return Decision(
        decision_id=f"d{number}", trigger="request", request_id="r", user_id=user, placement_id="",
        segment="", event_time=0, ingest_time=0, ads=slots, candidates=9, filtered={}, activity={},
        behavior_policy="b",
        slate_propensity=float(np.prod(propensities)), model_hash="", catalogue_version="",
        adjustments_version=0, pacing_version=0, policy_version=0, rung="full",
    )  # fmt: skip


def chances(weights, taken):
    """Return the chance `[N, A]` of each ad to be drawn next."""
    left = np.where(taken, 0.0, weights)
    return left / left.sum(axis=1, keepdims=True)


def click_rates(context, taken, slot):
    """Return the click rate `[N, A]` of each ad in a slot below those that are taken."""
    above = np.stack([taken[:, kind == KIND].sum(axis=1) for kind in (0, 1)], axis=1)[:, KIND]
    return EXAMINED[slot] * RATE[context] * TIRED**above


def true_value():
    """Return the evaluation policy's clicks per impression, over all slates that it may show."""
    clicks, context = 0.0, np.arange(CONTEXTS)
    for slate in permutations(range(ADS), SLOTS):
        chance, taken = np.ones(CONTEXTS), np.zeros((CONTEXTS, ADS), bool)
        expected = np.zeros(CONTEXTS)
        for slot, shown in enumerate(slate):
            chance = chance * chances(TARGET, taken)[:, shown]
            expected += SEEN[slot] * click_rates(context, taken, slot)[:, shown]
            taken[:, shown] = True
        clicks += float((chance * expected).mean())
    return clicks / SEEN.sum()


@dataclass
class SlateLog:
    """Slates that the logging policy showed; all `[N, S]` but for `user` `[N]` and `distribution`."""

    user: np.ndarray
    shown: np.ndarray
    logged: np.ndarray
    """The chance of the ad given the slots before."""
    target: np.ndarray
    """What the chance of the ad was in the evaluation policy, given the slots before."""
    distribution: np.ndarray
    """`[N, S, A]` what the evaluation policy would draw, given the slots before as they were shown."""
    rate: np.ndarray
    """True click rate of the ad shown."""
    value: np.ndarray
    """True click rate of what the evaluation policy would draw."""
    seen: np.ndarray
    click: np.ndarray

    @classmethod
    def of(cls, seed, users=300, each=4, target=TARGET):
        """Draw a log of new users in which each comes back so often."""
        rng, n = np.random.default_rng(seed), users * each
        user, context = np.repeat(np.arange(users), each), rng.integers(0, CONTEXTS, n)
        liking, every = rng.uniform(0.5, 1.5, users)[user, None], np.arange(n)
        taken, slots = np.zeros((n, ADS), bool), []
        for slot in range(SLOTS):
            behave, would = chances(BEHAVE[context], taken), chances(target[context], taken)
            shown = (behave.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, ADS - 1)
            rates = liking * click_rates(context, taken, slot)
            chosen = (each_of[every, shown] for each_of in (behave, would))
            slots.append((shown, *chosen, would, rates[every, shown], (would * rates).sum(axis=1)))
            taken[every, shown] = True
        columns = [np.stack(column, axis=1) for column in zip(*slots, strict=True)]
        seen, click = rng.random((n, 1)) < SEEN, rng.random((n, SLOTS)) < columns[4]
        return cls(user, *columns, seen, click)

    def data(self, model=1.0):
        """Return the rows with the truth, so many times, for a reward model."""
        weight = np.cumprod(self.target / self.logged, axis=1)
        before = np.concatenate([np.ones((len(weight), 1)), weight[:, :-1]], axis=1)
        user = np.repeat(self.user[:, None], SLOTS, axis=1)
        rows = (
            self.click.astype(float), self.logged.cumprod(axis=1), self.target.cumprod(axis=1), user,
            model * self.rate, model * self.value, before,
        )  # fmt: skip
        return BanditData(*(column[self.seen] for column in rows))

    def redecided(self):
        """Return the rows as the product collects them from decisions and outcomes, with its reward model."""
        found = Redecided(self._outcomes())
        for n, user in enumerate(self.user.tolist()):
            names = [f"a{k}" for k in self.shown[n]]
            found.take(decision(n, self.logged[n].tolist(), f"u{user}", names), self._chances(n, found.means))
        return found

    def _chances(self, n, means):
        user, every = f"u{self.user[n]}", np.arange(ADS, dtype=np.int32)
        return [
            Chance(logged, distribution_value(would, every, CATALOGUE, means, user, slot))
            for slot, (logged, would) in enumerate(zip(self.target[n], self.distribution[n], strict=True))
        ]

    def _outcomes(self):
        kinds = np.where(self.click, "click", "no_click").tolist()
        return [
            outcome(
                kinds[n][s],
                decision_id=f"d{n}",
                slot=s,
                ad_id=f"a{self.shown[n, s]}",
                user_id=f"u{self.user[n]}",
            )
            for n, s in np.argwhere(self.seen).tolist()
        ]
