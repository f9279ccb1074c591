"""The referee: the best slate of each decision, in the state that the policy itself has led to."""

import numpy as np
import pytest

from models.evaluation.oracle import OraclePolicy, PopularityPolicy, RandomPolicy
from models.evaluation.referee import JUDGED_CELLS, LEAST_SHARE, judged_share
from models.evaluation.regret import regret
from models.evaluation.simulate import BASELINES, judged_run, run_policies
from models.evaluation.simulation_report import simulation_report
from models.evaluation.world_config import Drift, Inventory, Sizes, Tastes, Traffic, WorldConfig

SECONDS = 30
WORN_OUT = WorldConfig(
    sizes=Sizes(users=25, ads=60),
    traffic=Traffic(requests_per_s=20, views_per_s=0),
    inventory=Inventory(burst_every_s=0, cpm_share=0.0),
    drift=Drift(shift_every_s=0),
)
"""Few users who see every ad as often as they may: the caps decide what is left to show."""


def judged(make, config=WORN_OUT, seconds=SECONDS):
    world, referee = judged_run(config, make, seconds)
    return world, referee.series(0, seconds)


def test_the_oracle_leaves_nothing_on_the_table():
    _, (value, bound) = judged(lambda world: OraclePolicy(world.state))
    np.testing.assert_allclose(value, bound, rtol=1e-9)
    assert bound.sum() > 0


@pytest.mark.parametrize("policy", [RandomPolicy, PopularityPolicy])
def test_no_policy_beats_the_best_slate_of_its_own_state(policy):
    _, (value, bound) = judged(lambda world: policy(world.state))
    assert (value <= bound * (1 + 1e-9)).all()
    assert regret(value, bound) > 0.05


def test_what_the_referee_sees_is_what_the_ledger_books():
    world, (value, _) = judged(lambda world: RandomPolicy(world.state))
    np.testing.assert_allclose(value, world.ledger.series("value_micros", 0, SECONDS), rtol=1e-9)


class Frugal(OraclePolicy):
    """Shows the worst of what is allowed for a while, then the best: a policy that saves good ads."""

    def choose(self, user, now_ms, blocked, slots):
        if now_ms - self.truth.config.start_ms > 0.6 * SECONDS * 1000:
            return super().choose(user, now_ms, blocked, slots)
        worst = self.truth.best_ads(np.array([user]), np.array([now_ms]), [1000])[0][::-1].tolist()
        return self._known(self.rules.fill(worst, blocked, slots), 60, *np.full((2, slots), 0.1))


def test_a_run_may_beat_the_oracles_late_but_never_its_own_bound():
    """Why two regrets are told: against the oracle's run, whoever saved the good ads looks better than it."""
    run = run_policies(WORN_OUT, {"frugal": lambda world: Frugal(world.state)}, SECONDS, seeds=(0,))
    ours, best = (run.series(name)[0][-8:].sum() for name in ("frugal", "oracle"))
    assert ours > best
    value, bound = (x[0][-8:] for x in run.judged("frugal"))
    assert 0 <= regret(value, bound) < 0.01
    told = simulation_report(run)["policies"]["frugal"]
    assert 0 < told["regret_in_place"]["value"] < 1


def test_large_catalogues_are_judged_in_a_sample():
    assert judged_share(1000) == 1
    assert judged_share(4 * JUDGED_CELLS) == pytest.approx(0.25)
    assert judged_share(10**7) == LEAST_SHARE


def test_a_sample_of_the_decisions_estimates_the_regret_of_all(monkeypatch):
    config = WorldConfig(sizes=Sizes(users=500, ads=60), traffic=Traffic(requests_per_s=60, views_per_s=0))
    _, every = judged(BASELINES["random"], config)
    monkeypatch.setattr("models.evaluation.referee.JUDGED_CELLS", 15)
    _, some = judged(BASELINES["random"], config)
    assert 0.15 < some[1].sum() / every[1].sum() < 0.35
    assert regret(*some) == pytest.approx(regret(*every), abs=0.05)


def test_the_bound_of_a_decision_is_a_full_slate_where_campaigns_are_large():
    crowded = WorldConfig(
        sizes=Sizes(users=25, ads=600, ads_per_campaign=200),
        tastes=Tastes(campaign_sd=3.0),
        traffic=Traffic(requests_per_s=10, views_per_s=0),
    )
    for policy in (RandomPolicy, OraclePolicy):
        _, (value, bound) = judged(lambda world, make=policy: make(world.state), crowded, 6)
        assert (value <= bound * (1 + 1e-9)).all() and bound.sum() > 0
