"""Learning that is led astray by poisoned feedback is rolled back through the log, and recovers."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from support.shards import Bench, LogBuilder, bodies

from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision, Outcome
from models.domain.policy import Exploration, Policy
from models.learning.learner import Learner
from models.learning.settings import LearnerSettings
from models.scorer.popularity import PopularityScorer

ADS = tuple(Ad(ad_id=f"a{n}", campaign_id=f"c{n}", category="k") for n in range(6))
POLICY = Policy(caps=(), no_repeat_s=0, slots=1, exploration=Exploration(randomized_share=1.0))


class Loop:
    """A shard and a learner that hear each other; users answer by the rate of the ad that they are shown."""

    def __init__(self) -> None:
        self.shard, self.log = Bench(PopularityScorer(base_logit=-1.5)).shard(), LogBuilder()
        self.learner = Learner(LearnerSettings(guard_window=20_000, guard_least_labels=500))
        self.rng = np.random.default_rng(0)
        self.told: list[events.Adjustments] = []
        self.decided: list[Decision] = []
        self.log.add(events.PolicyChange, policy=POLICY)
        self.log.add(events.AdUpsert, ads=ADS)
        self.emit(0)

    def emit(self, start: int) -> list:
        return [e.body for e in self.shard.process(self.log.records[start:])]

    def turn(self, hides: dict[str, float], users: int = 50) -> None:
        start = len(self.log.records)
        for n in range(users):
            self.log.request(f"u{self.rng.integers(400)}-{n}", after_s=0.01)
        made = [body for body in self.emit(start) if isinstance(body, Decision)]
        self.decided += made
        start = len(self.log.records)
        for decision in made:
            (slot,) = decision.ads
            about = {"user_id": decision.user_id, "ad_id": slot.ad_id, "decision_id": decision.decision_id}
            self.log.add(events.Impression, after_s=0.01, slot=0, **about)
            if self.rng.random() < RATES[slot.ad_id]:
                self.log.add(events.Click, after_s=0.005, **about)
            if self.rng.random() < hides.get(slot.ad_id, 0.0):
                self.log.add(events.Hide, after_s=0.005, **about)
        told = self.learner.learn(
            [body for body in self.emit(start) if isinstance(body, Outcome)]
        ).adjustments
        start = len(self.log.records)
        for record in told:
            self.log.add(events.Adjustments, after_s=0.0, **msgspec.structs.asdict(record))
        self.emit(start)
        self.told += told

    def run(self, hides: dict[str, float], turns: int) -> None:
        for _ in range(turns):
            self.turn(hides)

    def run_until_reset(self, hides: dict[str, float], turns: int) -> None:
        for _ in range(turns):
            self.turn(hides)
            if any(record.reset for record in self.told):
                return

    def clicks_per_decision(self, last: int) -> float:
        return float(np.mean([RATES[d.ads[0].ad_id] for d in self.decided[-last:]]))


RATES = {"a0": 0.1, "a1": 0.1, "a2": 0.1, "a3": 0.18, "a4": 0.18, "a5": 0.4}
POISON = {"a3": 0.9, "a4": 0.9, "a5": 0.9}
"""A click farm hides the best ads wherever it sees them; what honest users click stays as it is."""


@pytest.fixture(scope="module")
def loop() -> Loop:
    """The poison goes on until a roll-back, and the farm gives up then."""
    loop = Loop()
    loop.run_until_reset(POISON, 300)
    loop.run({}, 100)
    return loop


def the_reset(loop: Loop) -> events.Adjustments:
    return next(record for record in loop.told if record.reset)


def test_the_poison_turns_the_learner_against_the_best_ads(loop):
    led = [d for d in loop.decided if d.adjustments_version < the_reset(loop).version][-1000:]
    assert np.mean([d.ads[0].ad_id in POISON for d in led]) < 0.3
    by_chance = np.mean(list(RATES.values()))
    assert np.mean([RATES[d.ads[0].ad_id] for d in led]) < 0.9 * by_chance


def test_the_adjusted_model_loses_by_its_choices_alone_and_a_record_rolls_it_back_and_says_why(loop):
    """What it shows it predicts well, so its log-loss is as good as the frozen model's."""
    reset = the_reset(loop)
    assert reset.reason.startswith("clicks: clicks 0.1") and "log-loss" in reset.reason
    assert not (reset.ads or reset.campaigns or reset.segment_categories or reset.bias)


def test_the_shard_decides_by_the_frozen_model_right_after_the_roll_back(loop):
    after = [d for d in loop.decided if d.adjustments_version == the_reset(loop).version]
    assert after
    for decision in after:
        (slot,) = decision.ads
        learned = msgspec.structs.replace(slot.parts, base=0.0, exploration=0.0)
        assert set(msgspec.structs.astuple(learned)) == {0.0}
        assert slot.frozen_propensity == pytest.approx(slot.propensity)


def test_it_recovers_and_finds_what_honest_users_like(loop):
    assert sum(record.reset for record in loop.told) == 1, "honest users cause no roll-back"
    report = loop.learner.guard_report()
    assert loop.clicks_per_decision(1000) > 1.5 * np.mean(list(RATES.values()))
    assert report.logloss_adjusted < report.logloss_frozen
    assert report.contest.decided and report.contest.low > 0.0, "its choices are known to earn more"


def test_a_roll_back_forgets_users_own_tastes_and_a_stale_one_nothing():
    shard, log = Bench().shard(), LogBuilder()
    log.add(events.PolicyChange, policy=Policy(caps=(), no_repeat_s=0))
    log.add(events.AdUpsert, ads=ADS[:1])
    for _ in range(20):
        decision_id = log.request("u")
        about = {"user_id": "u", "ad_id": "a0", "decision_id": decision_id}
        log.add(events.Impression, slot=0, **about)
        log.add(events.Click, after_s=100, **about)
    log.add(events.Adjustments, version=5, bias=(0.1, 0.01))
    log.add(events.Adjustments, version=4, reset=True)
    log.request("u")
    log.add(events.Adjustments, version=6, reset=True)
    log.request("u", after_s=200)
    kept, gone = (d for d in bodies(shard.process(log.records), Decision)[-2:])
    assert kept.ads[0].parts.user_category > 0.0
    assert gone.ads[0].parts.user_category == 0.0 and gone.adjustments_version == 6
