"""What the pacer is told of an outcome: its charge, and what its impression foretells of later ones."""

import pytest
from support.outcomes import MINUTE, outcome
from support.shards import Bench, LogBuilder, bodies, run

from models.decide.pacing import bill_of, paced
from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Outcome
from models.learning.event_clock import EventClock
from models.policy.pacing import Pacer
from models.policy.under_way import CLICKS, CONVERSIONS, Bill

PRICED = {"pctr": 0.2, "pcvr": 0.5, "price_micros": 1000}


def test_an_impression_foretells_the_click_or_the_conversion_that_its_bid_pays_for():
    assert bill_of(outcome("impression", bid_type="cpc", **PRICED)) == Bill(CLICKS, 200.0)
    assert bill_of(outcome("impression", bid_type="cpa", **PRICED)) == Bill(CONVERSIONS, 100.0)


def test_an_impression_that_is_paid_itself_foretells_nothing():
    assert bill_of(outcome("impression", bid_type="cpm", charge_micros=1, **PRICED)) is None


@pytest.mark.parametrize(("kind", "by"), [("click", CLICKS), ("conversion", CONVERSIONS)])
def test_a_charge_tells_how_long_after_its_decision_it_came(kind, by):
    told = outcome(kind, 90, charge_micros=1000)
    late = outcome(kind, 90, charge_micros=1000, decision_time=told.event_time - 5_000)
    assert bill_of(late) == Bill(by, waited_ms=5_000)


def test_impressions_alone_slow_a_campaign_down_before_anything_is_charged():
    pacer = Pacer()
    pacer.follow([Ad(ad_id="a", campaign_id="c", daily_budget_micros=144_000)])
    (said,) = paced(pacer, [outcome("impression", bid_type="cpc", **PRICED)])
    assert said.multipliers["c"] > 0.0
    assert pacer.account("c").spent == 0


def charged(price_micros, impressions=1000):
    """Return what each of so many impressions is charged at a price per thousand."""
    log = LogBuilder()
    log.ads(1, bid_type="cpm", bid_micros=price_micros, floor_micros=price_micros)
    for n in range(impressions):
        decision = log.request(f"u{n}", after_s=0.0)
        log.add(events.Impression, user_id=f"u{n}", ad_id="a0", decision_id=decision, after_s=0.0)
    return [o.charge_micros for o in bodies(run(Bench().shard(), log.records), Outcome)]


@pytest.mark.parametrize("price", [400, 1500])
def test_impressions_together_pay_what_a_thousand_cost_though_each_pays_whole_micros(price):
    charges, least = charged(price), price // 1000
    assert set(charges) == {least, least + 1}
    assert sum(charges) == pytest.approx(price, abs=3 * (1000 * 0.25) ** 0.5)


def test_an_impression_pays_a_thousandth_where_that_is_whole():
    assert set(charged(500_000, impressions=20)) == {500}


def test_a_replay_charges_the_same_impressions():
    assert charged(400, impressions=50) == charged(400, impressions=50)


@pytest.mark.parametrize("kind", ["no_click", "dwell", "swipe", "hide"])
def test_outcomes_that_charge_nothing_move_the_pacers_clock_and_reopen_what_was_stopped(kind):
    """While a campaign is stopped, what follows its last impressions may be all there is."""
    pacer = Pacer()
    pacer.follow([Ad(ad_id="a", campaign_id="c", daily_budget_micros=10_000)])
    for n in range(40):
        paced(pacer, [outcome("impression", n, bid_type="cpc", **PRICED)])
    assert pacer.account("c").exhausted
    (said,) = paced(pacer, [outcome(kind, 3600, price_micros=1000)])
    assert said.exhausted == ()


def test_an_outcome_whose_time_is_not_believed_moves_no_clock():
    pacer, clock = Pacer(), EventClock()
    for at_s in (0, 86_400 * 300):
        paced(pacer, [outcome("no_click", at_s)], clock)
    pacer.follow([Ad(ad_id="a", campaign_id="c", daily_budget_micros=1)])
    (said,) = paced(pacer, [outcome("click", 1, charge_micros=1)], clock)
    assert said.event_time == MINUTE + 1000
