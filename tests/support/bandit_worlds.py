"""Logs of the simulated world with exact propensities, and what another policy would truly have earned.

One world gives many logs: each is what a disjoint group of its users did, so the logs are independent draws
from one population of users, whose value under the evaluation policy is known from the world's truth.
"""

from dataclasses import dataclass

import numpy as np

from models.domain.events import Click
from models.domain.policy import Policy
from models.evaluation.draws import normal
from models.evaluation.logbook import Logbook
from models.evaluation.logging_policy import LoggingPolicy
from models.evaluation.loop import Delivered
from models.evaluation.offpolicy import BanditData
from models.evaluation.reward_models import item_means
from models.evaluation.world import World
from models.evaluation.world_config import Drift, Inventory, Sizes, Traffic, WorldConfig

SETTLE_S = 60
"""Time after the last request in which its click may still come."""
BATCH = 512


def world_config(seed, users=2000, ads=120, per_s=400):
    """A world with drift, a shift every 30 s and targeting; users come back about as often as they like."""
    return WorldConfig(
        seed=seed,
        sizes=Sizes(users=users, ads=ads),
        traffic=Traffic(requests_per_s=per_s, views_per_s=0),
        inventory=Inventory(burst_every_s=0, targeted_share=0.3),
        drift=Drift(shift_every_s=30),
    )


class Recording(LoggingPolicy):
    """The logging policy; keeps for each request what it did and what the evaluation policy would have done.

    The evaluation policy draws from a softmax over the very candidates that the logging policy had, with a
    preference of each segment for each ad: different from the logging policy's in every context.
    """

    def __init__(self, truth, sharpness):
        super().__init__(truth, Policy(slots=1, no_repeat_s=0, caps=()))
        self.rows = []
        segments, ads = truth.config.sizes.segments, len(truth.ads)
        cells = normal(truth.config.seed, "preference", np.arange(segments)[:, None], np.arange(ads))
        self._weight = np.exp(sharpness * cells)

    def choose(self, user, now_ms, blocked, slots):
        chosen = super().choose(user, now_ms, blocked, slots)
        allowed = self.groups.rows(int(self.truth.users.group[user]))
        allowed = allowed[~np.isin(allowed, list(blocked))]
        target = np.zeros(len(self.truth.ads))
        target[allowed] = self._weight[self.truth.users.segment[user], allowed]
        target /= target.sum()
        self.rows.append((user, now_ms, chosen.rows[0], chosen.propensities[0], target))
        return chosen


@dataclass
class LoggedWorld:
    """All logged requests of a world `[N]`, to be cut into logs."""

    user: np.ndarray
    action: np.ndarray
    propensity: np.ndarray
    target: np.ndarray
    """`[N, A]` the evaluation policy."""
    reward: np.ndarray
    expected: np.ndarray
    """`[N]` true click probability under the evaluation policy."""

    @property
    def value(self):
        """True value of the evaluation policy over the population of users."""
        return float(self.expected.mean())

    def log(self, number, logs):
        """Return log `number` of `logs`: the requests of one group of users, as estimators take them."""
        rows = np.flatnonzero(self.user % logs == number)
        action, user = self.action[rows], self.user[rows]
        q = item_means(action, self.reward[rows], user // logs, self.target.shape[1])
        every = np.arange(len(rows))
        return BanditData(
            self.reward[rows], self.propensity[rows], self.target[rows, action], user,
            q_logged=q[every, action], v_target=(self.target[rows] * q).sum(axis=1),
        )  # fmt: skip


def logged_world(config, seconds, sharpness=0.7):
    """Run the loop under the logging policy for so long and return what happened."""
    world, logbook = World(config), Logbook(1)
    policy = Recording(world.state, sharpness)
    place, clicked = {}, set()
    end_ms = config.start_ms + seconds * 1000
    for until in range(config.start_ms + 500, end_ms + SETTLE_S * 1000 + 1, 500):
        happened = world.step(until)
        clicked.update(e.decision_id for e in happened if isinstance(e, Click))
        if until <= end_ms:
            batch = [Delivered(record, event) for event in happened for record in logbook.append(event)]
            before = len(policy.rows)
            decisions = policy.decide_batch(batch)
            place.update((d.decision_id, before + i) for i, d in enumerate(decisions))
            world.react(decisions)
    return _told(world, policy, [place[d] for d in clicked])


def _told(world, policy, clicked):
    user, now_ms, action, propensity, target = (np.array(column) for column in zip(*policy.rows, strict=True))
    reward = np.zeros(len(user))
    reward[clicked] = 1.0
    examined = world.config.reactions.visible[0] * world.config.reactions.examination[0]
    true = [
        world.state.all_ads(user[i : i + BATCH], now_ms[i : i + BATCH])[0] for i in range(0, len(user), BATCH)
    ]
    expected = examined * (target * np.concatenate(true)).sum(axis=1)
    return LoggedWorld(user, action, propensity, target, reward, expected)
