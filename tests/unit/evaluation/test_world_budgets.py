"""A world with budgets: every policy runs in it and obeys them, and the report says what regret means."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from support.shards import Bench

from models.decide.shard import Place, Shard
from models.domain.events import Click, Conversion, Impression
from models.evaluation.budgets import Budgets, add_spend, daily_budgets, overspend, waived_micros
from models.evaluation.core_policy import CorePolicy
from models.evaluation.oracle import RandomPolicy
from models.evaluation.simulate import BASELINES, run_policies, run_policy
from models.evaluation.simulation_report import simulation_report
from models.evaluation.world import World
from models.evaluation.world_config import (
    Drift,
    Inventory,
    Reactions,
    Sizes,
    Tastes,
    Traffic,
    WorldConfig,
    parse_world,
)
from models.learning.learner import Learner
from models.policy.pacing import Pacer
from models.policy.pacing_settings import PacingSettings


def world_with(**inventory: object) -> WorldConfig:
    tight = {
        "budget_share": 1.0,
        "daily_budget_micros": 60_000_000,
        "burst_every_s": 0,
        "targeted_share": 0.0,
    }
    return WorldConfig(
        sizes=Sizes(users=200, ads=60, categories=6, segments=3),
        tastes=Tastes(base_logit=-1.5),
        traffic=Traffic(requests_per_s=40, views_per_s=4),
        inventory=Inventory(**{**tight, **inventory}),
        drift=Drift(shift_every_s=0),
    )


MIXED = world_with(cpa_share=0.3, cpm_share=0.3)
CLICKS = world_with(cpa_share=0.0, cpm_share=0.0)


def learning(world: World) -> CorePolicy:
    return CorePolicy(new_shard, learner=Learner(), pacer=Pacer())


def static(world: World) -> CorePolicy:
    return CorePolicy(new_shard, pacer=Pacer())


def new_shard(place: Place) -> Shard:
    return Bench().shard(place.partition, place.slice)


@pytest.fixture(scope="module")
def run():
    baselines = {name: BASELINES[name] for name in ("random", "popularity")}
    policies = {**baselines, "static": static, "impulse": learning}
    return run_policies(CLICKS, policies, 60, seeds=(0,), tick_ms=500)


def test_every_policy_stops_at_its_budgets_but_for_what_is_under_way(run):
    report = simulation_report(run)["policies"]
    budgets = sum(daily_budgets(World(CLICKS).state.ads).values())
    for name, ledgers in run.ledgers.items():
        assert report[name]["overspend"]["value"] < 0.6
        assert sum(ledgers[0].spend.values()) < 1.2 * budgets


def test_the_product_overspends_no_campaign_by_half_a_percent(run):
    assert simulation_report(run)["policies"]["impulse"]["overspend"]["value"] <= 0.005
    assert sum(run.ledgers["impulse"][0].spend.values()) > 0


def test_the_budgets_bind_the_oracle(run):
    (ledger,) = run.ledgers["oracle"]
    late, early = ledger.totals(CLICKS.start_s + 50), ledger.totals(to_s=CLICKS.start_s + 10)
    assert late["slots"] < 0.5 * early["slots"]


def test_the_report_says_plainly_what_regret_means_with_budgets(run):
    report = json.loads(json.dumps(simulation_report(run), allow_nan=False))
    assert "oracle is no upper bound" in report["notes"][0]


def test_without_budgets_there_is_nothing_to_say():
    free = parse_world("[sizes]\nusers = 20\nads = 20\n[traffic]\nrequests_per_s = 5")
    report = simulation_report(run_policies(free, {"random": BASELINES["random"]}, 2, seeds=(0,)))
    assert report["notes"] == [] and "overspend" not in report["policies"]["random"]


def budgets_and_ad(bid_type: str) -> tuple[World, Budgets, str]:
    world = World(MIXED)
    code = ("cpm", "cpc", "cpa").index(bid_type)
    row = int((world.state.ads.bid_type == code).nonzero()[0][0])
    return world, Budgets(world.state), world.state.ads.ads[row].ad_id


@pytest.mark.parametrize(("bid_type", "kind"), [("cpm", Impression), ("cpc", Click), ("cpa", Conversion)])
def test_a_campaign_pays_for_what_its_bid_is_for_and_all_its_ads_stop(bid_type, kind):
    world, budgets, ad_id = budgets_and_ad(bid_type)
    about = {"user_id": "u", "ad_id": ad_id, "decision_id": "d", "event_time": MIXED.start_ms}
    for n in range(100_000):
        budgets.observe(kind(id=f"{n}", **about))
        if stopped := budgets.exhausted(MIXED.start_ms):
            break
    campaigns = {int(world.state.ads.campaign[row]) for row in stopped}
    assert world.state.ads.row_of[ad_id] in stopped and len(campaigns) == 1
    assert budgets.exhausted(MIXED.start_ms + 86_400_000) == set(), "the next day is another budget"


@pytest.mark.parametrize("kind", [Impression, Conversion])
def test_other_events_cost_a_click_bid_nothing(kind):
    _, budgets, ad_id = budgets_and_ad("cpc")
    for n in range(200):
        about = {"user_id": "u", "ad_id": ad_id, "decision_id": "d", "event_time": MIXED.start_ms}
        budgets.observe(kind(id=f"{n}", **about))
    assert budgets.exhausted(MIXED.start_ms) == set()


def test_events_without_a_decision_and_of_unknown_ads_are_free():
    _, budgets, ad_id = budgets_and_ad("cpc")
    for n in range(500):
        budgets.observe(Click(id=f"{n}", user_id="u", ad_id=ad_id, event_time=MIXED.start_ms))
        budgets.observe(Click(id=f"x{n}", user_id="u", ad_id="?", decision_id="d", event_time=MIXED.start_ms))
    assert budgets.exhausted(MIXED.start_ms) == set()


def clicks_until_stop(budgets: Budgets, ad_id: str, time_ms: int, asked_ms: int) -> int:
    """Return how many clicks at a time stop a campaign, as it is seen at another time; at most 1000."""
    for n in range(1000):
        if budgets.exhausted(asked_ms):
            return n
        budgets.observe(Click(id=f"{n}", user_id="u", ad_id=ad_id, decision_id="d", event_time=time_ms))
    return 1000


def test_what_happened_before_the_worlds_first_moment_costs_no_budget():
    _, budgets, ad_id = budgets_and_ad("cpc")
    assert clicks_until_stop(budgets, ad_id, MIXED.start_ms - 1, MIXED.start_ms) == 1000
    assert clicks_until_stop(budgets, ad_id, MIXED.start_ms, MIXED.start_ms) < 1000


def test_charges_that_are_not_reported_yet_stop_nobody():
    slow = msgspec.structs.replace(MIXED, reactions=Reactions(report_delay_s=60))
    world = World(slow)
    row = int((world.state.ads.bid_type == 1).nonzero()[0][0])
    budgets, ad_id, start = Budgets(world.state), world.state.ads.ads[row].ad_id, slow.start_ms
    assert clicks_until_stop(budgets, ad_id, start, start + 59_999) == 1000
    assert len(budgets.exhausted(start + 60_000)) > 0


def test_outcomes_that_are_not_reported_yet_teach_and_pace_nothing():
    heard: dict[float, Pacer] = {}

    def of(delay_s: float) -> Pacer:
        def make(world: World) -> CorePolicy:
            heard[delay_s] = Pacer()
            return CorePolicy(new_shard, pacer=heard[delay_s], report_delay_s=delay_s)

        run_policy(CLICKS, make, 12)
        return heard[delay_s]

    at_once, later, never = of(0), of(4), of(60)
    spent = [sum(a.spent for a in pacer._state.accounts.values()) for pacer in (at_once, later, never)]
    assert spent[0] > spent[1] > spent[2] == 0


def test_a_campaign_that_comes_with_a_burst_is_held_to_its_budget_in_the_report():
    bursts = world_with(burst_every_s=2, burst_share=0.5, daily_budget_micros=1_000_000, cpa_share=0.0)
    run = run_policies(bursts, {"random": BASELINES["random"]}, 6, seeds=(0,))
    first = len(World(bursts).state.ads)
    (referee,), (ledger,) = run.referees["random"], run.ledgers["random"]
    late = daily_budgets(referee.truth.ads).keys() - set(World(bursts).state.ads.campaign.tolist())
    assert len(referee.truth.ads) > first and late
    over = {key: spent for key, spent in ledger.spend.items() if key[1] in late}
    assert over
    ledger.spend = dict.fromkeys(over, 1e9)
    assert simulation_report(run)["policies"]["random"]["overspend"]["value"] > 10


def test_what_goes_over_the_budgets_is_told_beside_the_worst_campaigns_share(run):
    for name, figures in simulation_report(run)["policies"].items():
        assert (figures["waived_micros"]["value"] > 0) == (figures["overspend"]["value"] > 0), name
        assert figures["value_per_spend"]["value"] > 0


def test_waived_is_what_all_campaigns_were_charged_beyond_their_days():
    assert waived_micros({(0, 1): 110.0, (1, 1): 90.0, (0, 2): 500.0, (0, 3): 70.0}, {1: 100, 3: 50}) == 30.0


def test_overspend_is_the_worst_campaigns_day():
    assert overspend({(0, 1): 110.0, (1, 1): 90.0, (0, 2): 500.0}, {1: 100}) == pytest.approx(0.1)
    assert overspend({(0, 1): 90.0}, {1: 100}) == 0.0


class Heedless(RandomPolicy):
    """Shows ads at random and goes on when their budgets are spent."""

    def __init__(self, truth):
        super().__init__(truth)
        self.rules._budgets._limited = False


@pytest.fixture(scope="module")
def heedless():
    return run_policies(
        world_with(cpa_share=0.0, cpm_share=0.0, daily_budget_micros=20_000_000),
        {"heedless": lambda world: Heedless(world.state), "random": BASELINES["random"]},
        40, seeds=(0,), tick_ms=500,
    )  # fmt: skip


def test_what_is_shown_when_all_budgets_are_spent_is_worth_nothing(heedless):
    (ledger,), (value,) = heedless.ledgers["heedless"], heedless.series("heedless")
    budgets = sum(daily_budgets(World(heedless.config).state.ads).values())
    assert ledger.series("slots", 0, 40)[-5:].min() > 0 and value[-5:].sum() == 0
    totals = ledger.totals()
    assert totals["charged_micros"] > 1.5 * budgets
    assert totals["revenue_micros"] == pytest.approx(budgets)
    assert totals["value_micros"] == pytest.approx(budgets, rel=0.1)


def test_going_on_beyond_the_budgets_makes_no_regret_less(heedless):
    told = simulation_report(heedless)["policies"]
    earned = {name: found["value_micros"]["value"] for name, found in told.items()}
    assert earned["heedless"] == pytest.approx(earned["random"], rel=0.08)
    assert told["heedless"]["regret"]["value"] > -0.08
    assert told["heedless"]["value_per_spend"]["value"] == pytest.approx(1, abs=0.1)


def test_the_best_slate_earns_nothing_from_spent_budgets_either(heedless):
    (value,), (bound,) = heedless.judged("heedless")
    assert (value <= bound * (1 + 1e-9)).all()
    assert bound[-5:].sum() == 0 < bound[:5].min()


def test_what_is_paid_is_what_is_charged_and_not_waived(heedless):
    for name, (ledger,) in heedless.ledgers.items():
        totals = ledger.totals()
        waived = simulation_report(heedless)["policies"][name]["waived_micros"]["value"]
        assert totals["charged_micros"] - totals["paid_micros"] == pytest.approx(waived)
        assert totals["paid_micros"] <= sum(daily_budgets(World(heedless.config).state.ads).values()) * 1.001


def test_what_is_left_of_a_budget_is_told_before_each_charge_of_its_day():
    world, books = World(MIXED), {}
    campaign = int(world.state.ads.campaign[0])
    rows, times = np.array([0, 0, 0, 59]), np.array([0, 0, 86_400_000, 0])
    left = add_spend(books, {campaign: 8}, world.state.ads, rows, times, np.array([5.0, 4.0, 1.0, 1.0]))
    assert left.tolist() == [8, 3, 8, np.inf]


def test_spend_is_booked_by_day_and_campaign():
    world, books = World(MIXED), {}
    rows, times = np.array([0, 0, 59]), np.array([0, 86_400_000, 0])
    add_spend(books, {}, world.state.ads, rows, times, np.array([5.0, 7.0, 0.0]))
    assert books == {(0, int(world.state.ads.campaign[0])): 5.0, (1, int(world.state.ads.campaign[0])): 7.0}


MIDNIGHT_AFTER_S = 12


@pytest.fixture(scope="module")
def night():
    """A world in which nobody looks at anything on their own and all budgets are spent before midnight."""
    day = world_with(cpa_share=0.0, cpm_share=0.0, daily_budget_micros=2_000_000)
    late = msgspec.structs.replace(
        day,
        epoch_ms=day.epoch_ms - MIDNIGHT_AFTER_S * 1000,
        tastes=Tastes(base_logit=0.0),
        traffic=Traffic(requests_per_s=20, views_per_s=0),
    )
    made: list[CorePolicy] = []

    def make(world: World) -> CorePolicy:
        pacer = Pacer(PacingSettings(first_mu=0.0))  # slow starts would outlast these seconds
        made.append(CorePolicy(new_shard, learner=Learner(), pacer=pacer))
        return made[0]

    return run_policy(late, make, 30).ledger, made[0]


def test_a_night_in_which_every_budget_is_spent_ends_at_midnight(night):
    slots = night[0].series("slots", 0, 30)
    assert slots[MIDNIGHT_AFTER_S - 3 : MIDNIGHT_AFTER_S].sum() == 0, "the night is dark"
    assert slots[MIDNIGHT_AFTER_S : MIDNIGHT_AFTER_S + 3].min() > 0


def test_the_pacer_hears_of_the_new_day_and_stops_for_it_too(night):
    ledger, core = night
    days = sorted({day for day, _ in ledger.spend})
    assert len(days) == 2
    assert ledger.series("slots", 0, 30)[-3:].sum() == 0
    assert {shard.view.pacing.day for shard in core.shards.values()} == {days[1]}
