"""The life of new ads in runs small enough to count by hand, and in a simulated world."""

import numpy as np
import pytest

from models.evaluation.ledger import FIRST_IMPRESSIONS, Ledger
from models.evaluation.new_ads import new_ads
from models.evaluation.simulate import BASELINES, run_policies, run_policy
from models.evaluation.simulation_report import simulation_report
from models.evaluation.world_config import Drift, Inventory, Sizes, Traffic, WorldConfig

WORLD = WorldConfig(
    sizes=Sizes(users=2000, ads=50),
    traffic=Traffic(requests_per_s=25, views_per_s=0),
    inventory=Inventory(burst_every_s=10, burst_share=0.2, withdraw_share=0.1),
    drift=Drift(shift_every_s=0),
)


@pytest.fixture(scope="module")
def runs():
    names = ("random", "oracle")
    return {name: run_policy(WORLD, BASELINES[name], 90, tick_ms=500).ledger for name in names}


def life(runs, name):
    return new_ads(runs[name], runs["oracle"], WORLD.start_s)


def test_showing_all_ads_alike_gives_new_ads_their_share_of_the_inventory(runs):
    random = life(runs, "random")
    assert random.impression_share == pytest.approx(random.inventory_share, abs=0.05)
    assert 0.3 < random.inventory_share < 0.8


def test_the_oracles_new_ads_earn_what_the_oracles_new_ads_earn(runs):
    assert life(runs, "oracle").value_of_oracles == pytest.approx(1)
    assert life(runs, "random").value_of_oracles < 0.8


def test_random_tries_every_new_ad_within_the_run(runs):
    random = life(runs, "random")
    assert random.tried_share > 0.9  # one may be withdrawn before
    assert 5 < random.tried_after_s < 60


def test_an_ad_is_tried_when_it_has_its_first_impressions(runs):
    ledger = runs["random"]
    had = ledger.by_ad[:, 0] >= FIRST_IMPRESSIONS
    np.testing.assert_array_equal(had, ~np.isnan(ledger.reached_s))
    assert (ledger.reached_s[had] >= ledger.born_s[had]).all()


def test_ads_of_the_first_catalogue_are_not_new_whenever_the_world_starts():
    late = WorldConfig(
        start_s=500, sizes=WORLD.sizes, traffic=WORLD.traffic, inventory=Inventory(burst_every_s=0)
    )
    ledger = run_policy(late, BASELINES["random"], 3).ledger
    assert set(ledger.new_inventory.values()) == {0.0}
    assert ledger.totals()["new_impressions"] == 0


def test_a_world_without_new_ads_says_nothing_of_them():
    found = new_ads(Ledger(), Ledger(), 0.0)
    assert np.isnan([found.impression_share, found.value_of_oracles, found.tried_after_s]).all()


def test_the_report_holds_the_life_of_new_ads_with_null_where_there_is_none():
    still = WorldConfig(sizes=WORLD.sizes, traffic=WORLD.traffic, inventory=Inventory(burst_every_s=0))
    told = simulation_report(run_policies(still, {}, 3, seeds=(0,)))["policies"]["oracle"]["new_ads"]
    assert told["impression_share"] == {"value": None, "low": None, "high": None}
