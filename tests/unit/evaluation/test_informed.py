"""Who knows the users and has to learn the ads stands between the oracle and those who know nothing."""

import msgspec
import numpy as np
import pytest

from models.evaluation.informed import InformedPolicy
from models.evaluation.logbook import Logbook
from models.evaluation.loop import Delivered
from models.evaluation.oracle import OraclePolicy
from models.evaluation.simulate import BASELINES, judged_run
from models.evaluation.world import World
from models.evaluation.world_config import Drift, Inventory, Reactions, Sizes, Tastes, Traffic, WorldConfig

WORLD = WorldConfig(
    sizes=Sizes(users=1000, ads=100),
    tastes=Tastes(ad_sd=1.0, noise_sd=0.0),
    traffic=Traffic(requests_per_s=100, views_per_s=5),
    inventory=Inventory(burst_every_s=20, targeted_share=0.3, cpa_share=0.0),
    drift=Drift(shift_every_s=15, ad_s=0, campaign_s=0),
)
ALIKE = msgspec.structs.replace(
    WORLD,
    tastes=Tastes(ad_sd=0.0, campaign_sd=0.0, noise_sd=0.0),
    reactions=Reactions(cvr_sd=0.0),
    inventory=Inventory(burst_every_s=0),
)


def lost(make, seconds, config=WORLD):
    """Return the regret in place of the first and of the last third of a run."""
    _, referee = judged_run(config, make, seconds)
    value, best = referee.series(0, seconds)
    third = seconds // 3
    return [1 - value[part].sum() / best[part].sum() for part in (slice(0, third), slice(-third, None))]


def first_slates(policy, config):
    world = World(config)
    batch = [Delivered(r, e) for e in world.step(config.start_ms + 1000) for r in Logbook(1).append(e)]
    return [
        [slot.ad_id for slot in decision.ads] for decision in policy(World(config).state).decide_batch(batch)
    ]


def test_where_all_ads_are_alike_there_is_nothing_to_learn():
    assert first_slates(InformedPolicy, ALIKE) == first_slates(OraclePolicy, ALIKE)


def test_before_any_feedback_it_does_not_know_the_ads():
    assert first_slates(InformedPolicy, WORLD) != first_slates(OraclePolicy, WORLD)


def test_it_learns_the_ads_and_comes_close_to_the_oracle():
    early, late = lost(BASELINES["informed"], 60)
    assert late < 0.5 * early
    assert late < 0.5 * lost(BASELINES["popularity"], 60)[1]


def test_it_learns_which_campaigns_convert():
    config = msgspec.structs.replace(
        WORLD,
        tastes=Tastes(base_logit=-1.0, ad_sd=0.0, campaign_sd=0.0, noise_sd=0.0),
        reactions=Reactions(cvr_sd=1.0, conversion_delay_s=5.0),
        inventory=Inventory(burst_every_s=0, cpa_share=1.0, cpm_share=0.0),
    )
    early, late = lost(BASELINES["informed"], 60, config)
    assert late < 0.6 * early


def test_a_conversion_that_is_still_to_come_is_not_missed():
    policy = InformedPolicy(World(WORLD).state)
    ads, now_ms = policy.truth.ads, WORLD.start_ms + 100_000
    policy._clicks = policy._clicks._replace(
        time_ms=np.array([now_ms - 1000, now_ms - 1000 - round(1000 * ads.delay_s[1]), 0]),
        ad=np.array([0, 1, 2]),
        pcvr=np.full(3, 0.1),
    )
    assert policy._due(now_ms)[:4] == pytest.approx([0.0, 0.1 * (1 - np.exp(-1)), 0.1, 0.0], abs=1e-4)
