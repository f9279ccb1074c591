"""Policies side by side: the oracle is best, random is worst, and what comes out has the stated shape."""

import json
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.errors import SettingError
from models.domain.events import Hide, Impression
from models.domain.policy import Cap, Policy
from models.evaluation.draws import choice
from models.evaluation.ledger import AD_FIELDS, BINS, Ledger, calibration_bin
from models.evaluation.logbook import Logbook
from models.evaluation.logging_policy import LoggingPolicy, draw_slate, places_in
from models.evaluation.loop import Delivered, Rules
from models.evaluation.oracle import OraclePolicy, PopularityPolicy, RandomPolicy
from models.evaluation.simulate import BASELINES, judged_run, run_policies, run_policy
from models.evaluation.simulation_report import simulation_report
from models.evaluation.world import World
from models.evaluation.world_config import Drift, Inventory, Sizes, Tastes, Traffic, WorldConfig

SMALL = WorldConfig(
    sizes=Sizes(users=40, ads=60),
    traffic=Traffic(requests_per_s=20, views_per_s=5),
    inventory=Inventory(burst_every_s=5, targeted_share=0.3),
    drift=Drift(shift_every_s=8),
)


@pytest.fixture(scope="module")
def comparison():
    policies = {name: BASELINES[name] for name in ("random", "popularity", "frozen_oracle")}
    return run_policies(SMALL, policies, 20, seeds=(0, 1), tick_ms=500)


def decide(world, policy, until_ms):
    batch = [Delivered(r, e) for e in world.step(until_ms) for r in Logbook(1).append(e)]
    return policy.decide_batch(batch)


def test_nothing_beats_the_oracle_and_random_is_far_behind(comparison):
    regret = {name: p["regret"]["value"] for name, p in simulation_report(comparison)["policies"].items()}
    assert regret["oracle"] == 0
    assert regret["random"] > 0.5
    assert 0 < regret["frozen_oracle"] < regret["random"]
    assert regret["popularity"] > 0


def test_the_report_is_json_with_a_value_and_an_interval_for_each_figure(comparison):
    report = json.loads(json.dumps(simulation_report(comparison), allow_nan=False))
    assert report["seeds"] == [0, 1]
    assert report["shifts_s"] == [8, 16]
    for policy in report["policies"].values():
        for figure in ("ctr", "cvr", "regret", "revenue_micros"):
            assert policy[figure]["low"] <= policy[figure]["value"] <= policy[figure]["high"]
        assert len(policy["regret_curve"]) == 2
        assert len(policy["regret_in_place_low"]) == len(policy["regret_in_place_curve"]) == 2
        assert policy["regret_in_place"]["value"] >= -1e-12
        assert (
            set(policy["recovery_s"]) == set(policy["recovery_against_oracle_s"]) == {"value", "low", "high"}
        )
        assert policy["recovery"]["cuts"] == 0


def test_expected_click_rates_stay_near_the_counted_ones(comparison):
    for policy in simulation_report(comparison)["policies"].values():
        assert policy["ctr"]["value"] == pytest.approx(policy["observed_ctr"]["value"], abs=0.03)


def test_the_oracle_is_calibrated_because_it_knows(comparison):
    policies = simulation_report(comparison)["policies"]
    assert comparison.ledgers["oracle"][0].calibration_error() == pytest.approx(0, abs=1e-12)
    assert comparison.ledgers["random"][0].calibration_error() > 0.003
    assert set(policies) == {"random", "popularity", "frozen_oracle", "oracle"}


def test_a_simulation_without_seeds_or_time_is_refused():
    for seconds, seeds in ((0, (1,)), (5, ())):
        with pytest.raises(SettingError, match="at least one seed"):
            run_policies(SMALL, {}, seconds, seeds=seeds)


def test_a_run_repeats_to_the_last_bit():
    ledgers = [run_policy(SMALL, BASELINES["popularity"], 4).ledger for _ in range(2)]
    assert ledgers[0].totals() == ledgers[1].totals()


def test_baselines_show_eligible_ads_only():
    world = World(SMALL)
    world.state.ads = world.state.ads.without(np.arange(0, 60, 2))
    ads, users = world.state.ads, world.state.users
    for policy in (RandomPolicy(world.state), OraclePolicy(world.state), LoggingPolicy(world.state)):
        decisions = decide(World(SMALL), policy, SMALL.start_ms + 1000)
        assert decisions
        for decision in decisions:
            rows = [ads.row_of[slot.ad_id] for slot in decision.ads]
            assert len(set(rows)) == len(rows) == 5
            assert ads.active[rows].all()
            assert ads.allowed[rows, users.group[users.row_of[decision.user_id]]].all()


def test_targeting_expressions_say_what_the_world_allows():
    world = World(SMALL)
    state = world.state
    targeted = [row for row, ad in enumerate(state.ads.ads) if ad.targeting]
    assert targeted
    for row in targeted:
        for user in range(40):
            context = state.users.contexts[user]
            names = {"country": context.country, "device": context.device}
            allowed = eval(state.ads.ads[row].targeting, {}, names)
            assert allowed == state.ads.allowed[row, state.users.group[user]]


def impression(row, at_s):
    return Impression(id=f"{row}-{at_s}", event_time=at_s * 1000, user_id="u", ad_id=f"ad-{row:06d}")


def test_an_ad_is_not_repeated_within_the_policys_gap():
    rules = Rules(World(SMALL).state, Policy(no_repeat_s=60))
    rules.observe(impression(3, 100))
    assert rules.blocked("u", 159_000) == {3}
    assert rules.blocked("u", 160_000) == set()
    assert rules.blocked("other", 101_000) == set()


def test_an_ad_is_capped_per_user_and_window():
    rules = Rules(World(SMALL).state, Policy(no_repeat_s=0, caps=(Cap(impressions=2, window_s=600),)))
    for at in (10, 20):
        rules.observe(impression(5, at))
    assert rules.blocked("u", 30_000) == {5}
    assert rules.blocked("u", 611_000) == set()


def test_a_hidden_ad_never_comes_back():
    rules = Rules(World(SMALL).state)
    rules.observe(Hide(id="h", event_time=0, user_id="u", ad_id="ad-000007"))
    assert 7 in rules.blocked("u", 10**12)


def test_a_slate_holds_at_most_so_many_ads_of_a_campaign():
    state = World(SMALL).state
    rows = Rules(state, Policy(max_per_campaign=2)).fill(range(60), {0}, 5)
    assert rows == [1, 2, 5, 6, 10]
    assert np.bincount(state.ads.campaign[rows]).max() == 2


def test_slate_propensities_are_exact_given_the_slots_before():
    weights = np.array([0.5, 0.3, 0.2])
    places, propensities = draw_slate(weights, np.array([0.6, 0.1, 0.9]))
    assert places == [1, 0, 2]
    assert propensities == pytest.approx([0.3, 0.5 / 0.7, 1.0])


@given(st.lists(st.floats(0.01, 10), min_size=6, max_size=40), st.lists(st.floats(0, 0.999), max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_slate_is_what_cumulative_sums_of_what_is_left_say(weights, draws):
    left, places, propensities = np.array(weights), [], []
    for u in draws:
        cdf = np.cumsum(left)
        place = int(choice(cdf, np.array([u]))[0])
        places.append(place)
        propensities.append(float(left[place] / cdf[-1]))
        left[place] = 0.0
    assert draw_slate(np.array(weights), np.array(draws)) == (places, propensities)


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 60)))
@settings(max_examples=50, deadline=None)
def test_places_are_found_of_what_is_there(have, wanted):
    ordered = np.array(sorted(have), dtype=np.int64)
    found = places_in(ordered, wanted)
    assert sorted(ordered[found].tolist()) == sorted(have & wanted)


def test_slates_are_drawn_as_often_as_their_propensities_say():
    weights, rng = np.array([0.5, 0.3, 0.2]), np.random.default_rng(0)
    drawn = [draw_slate(weights, rng.random(2)) for _ in range(20_000)]
    share = np.mean([places == [1, 0] for places, _ in drawn])
    assert share == pytest.approx(0.3 * 0.5 / 0.7, abs=0.01)


def test_logged_propensities_support_off_policy_evaluation():
    """Under uniform logging, E[1/propensity of slot 0] is the number of candidates."""
    world = World(msgspec.structs.replace(SMALL, inventory=Inventory(targeted_share=0, burst_every_s=0)))
    decisions = decide(world, LoggingPolicy(world.state), SMALL.start_ms + 20_000)
    inverse = [1 / d.ads[0].propensity / d.candidates for d in decisions]
    assert np.mean(inverse) == pytest.approx(1, abs=0.03)
    assert all(d.slate_propensity == pytest.approx(np.prod([s.propensity for s in d.ads])) for d in decisions)


def test_the_ledger_keeps_one_row_per_second_whatever_the_traffic():
    world = run_policy(SMALL, BASELINES["random"], 6)
    assert len(world.ledger.by_second) <= 6
    assert world.ledger.totals()["decisions"] == sum(world.ledger.series("decisions", 0, 6))
    assert world.ledger.by_ad[:, 0].sum() == pytest.approx(world.ledger.totals()["expected_impressions"])


def test_the_books_by_ad_add_up_to_those_by_second():
    ledger = run_policy(SMALL, BASELINES["oracle"], 6).ledger
    by_ad = dict(zip(AD_FIELDS, ledger.by_ad.sum(axis=0).tolist(), strict=True))
    assert by_ad["clicks"] == pytest.approx(ledger.totals()["expected_clicks"])
    assert by_ad["value_micros"] == pytest.approx(ledger.totals()["value_micros"])
    assert by_ad["charged_micros"] == pytest.approx(by_ad["value_micros"]), "a baseline charges its bids"


def test_an_empty_ledger_answers_with_zeros_and_an_unknown_calibration():
    ledger = Ledger()
    assert set(ledger.totals().values()) == {0.0}
    assert np.isnan(ledger.calibration_error())
    assert ledger.series("clicks", 0, 3).tolist() == [0, 0, 0]


def test_calibration_bins_cover_all_probabilities_in_order():
    bins = calibration_bin(np.geomspace(1e-6, 1, 500))
    assert (bins.min(), bins.max()) == (0, BINS - 1)
    assert (np.diff(bins) >= 0).all()


@pytest.mark.slow
def test_vowpal_wabbit_learns_in_the_loop():
    pytest.importorskip("vowpalwabbit", reason="needs the extra `bench`")
    sizes, traffic = Sizes(users=500, ads=200), Traffic(requests_per_s=100, views_per_s=0)
    config = WorldConfig(sizes=sizes, traffic=traffic, drift=Drift(shift_every_s=0))
    ledgers = {n: run_policy(config, BASELINES[n], 60, tick_ms=500).ledger for n in ("vw", "random")}
    ours, random = (ledgers[name].totals(30, 60)["value_micros"] for name in ("vw", "random"))
    assert ours > 1.3 * random


def test_a_missing_vowpal_wabbit_is_named_with_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "vowpalwabbit", None)
    with pytest.raises(SettingError, match="bench"):
        BASELINES["vw"](World(SMALL))


CROWDED = WorldConfig(
    sizes=Sizes(users=40, ads=600, ads_per_campaign=200),
    tastes=Tastes(campaign_sd=3.0),
    traffic=Traffic(requests_per_s=10, views_per_s=0),
    inventory=Inventory(burst_every_s=0, targeted_share=0.0),
)
"""Three campaigns, the ads of the best of which stand first in every ranking."""


@pytest.mark.parametrize("policy", [OraclePolicy, PopularityPolicy])
def test_slates_are_full_though_the_first_hundreds_of_ads_are_of_one_campaign(policy):
    ledger = run_policy(CROWDED, lambda world: policy(world.state), 4).ledger
    totals = ledger.totals()
    assert totals["slots"] == 5 * totals["decisions"] > 0


@pytest.mark.parametrize("policy", [OraclePolicy, PopularityPolicy, RandomPolicy])
def test_users_whom_no_ad_may_be_shown_get_none(policy):
    world = World(WorldConfig(sizes=Sizes(users=5, ads=3)))
    world.state.ads = world.state.ads.without(np.arange(3))
    choice = policy(world.state).choose(0, world.now_ms, set(), 3)
    assert (list(choice.rows), choice.candidates) == ([], 0)


def test_the_oracle_shows_the_best_slate_of_all_that_it_may():
    state = World(CROWDED).state
    oracle, now = OraclePolicy(state), CROWDED.start_ms
    for user in range(40):
        blocked = set(range(0, 600, 7))
        (ranked,) = state.best_ads(np.array([user]), np.array([now]), [600])
        assert oracle.choose(user, now, blocked, 5).rows == oracle.rules.fill(ranked.tolist(), blocked, 5)


def test_a_ranking_is_asked_for_more_until_there_are_no_more_candidates():
    rules, asked = Rules(World(CROWDED).state), []

    def ranking(count):
        asked.append(count)
        return range(count)

    assert rules.fill_from(ranking, set(), 5, 600) == [0, 1, 200, 201, 400]
    assert asked == [40, 80, 160, 320, 600]
    assert rules.fill_from(ranking, set(), 5, 150) == [0, 1]


class Twice:
    """Counts what a policy decides, however often it is asked."""

    def __init__(self, policy):
        self.policy, self.events, self.ids, self.decided = policy, 0, set(), []

    def recall(self, decisions):
        self.policy.recall(decisions)

    def decide_batch(self, batch):
        self.events += len(batch)
        self.ids |= {event.id for _, event in batch}
        made = self.policy.decide_batch(batch)
        self.decided += made
        return made


@pytest.mark.parametrize("policy", [RandomPolicy, PopularityPolicy, OraclePolicy])
def test_events_that_come_twice_change_no_baseline_and_no_judgement(policy):
    told, watched = [], []
    for share in (0.0, 0.5):
        traffic = Traffic(requests_per_s=20, views_per_s=5, duplicate_share=share)

        def make(world):
            watched.append(Twice(policy(world.state)))
            return watched[-1]

        world, referee = judged_run(msgspec.structs.replace(SMALL, traffic=traffic), make, 8)
        told.append((world.ledger.totals(), *(x.tolist() for x in referee.series(0, 8))))
    once, twice = watched
    assert once.events == len(once.ids) and twice.events > 1.3 * len(twice.ids)
    assert len({d.request_id for d in twice.decided}) == len(twice.decided)
    assert told[0] == told[1]
