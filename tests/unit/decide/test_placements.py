"""Placements: slots, floors and blocked categories of their own; every rule counted and named."""

import pytest
from support.markets import ad, fate, market, rivals
from support.shards import Bench, LogBuilder, bodies, run

from models.domain import events
from models.domain.decision import Decision
from models.domain.log import Rejected
from models.domain.policy import Placement, Policy


def decided(log):
    return bodies(run(Bench().shard(), log.records), Decision)


def placed(**fields):
    return (Placement(placement_id="side", **fields),)


@pytest.mark.parametrize(
    ("placement", "asked", "slots"), [("side", None, 2), ("side", 4, 4), ("top", None, 3), ("top", 1, 1)]
)
def test_the_slots_are_those_of_the_request_or_the_placement_or_the_policy(placement, asked, slots):
    log = market(*rivals(6), slots=3, placements=placed(slots=2))
    log.request(placement_id=placement, slots=asked)
    (decision,) = decided(log)
    assert len(decision.ads) == slots


def test_a_placement_sells_nothing_below_its_floor_and_the_last_ad_pays_it():
    log = market(*rivals(4), reserve_micros=1000, placements=placed(floor_micros=2002))
    log.request("u", placement_id="side")
    log.request("v")
    side, usual = decided(log)
    assert [(slot.ad_id, slot.price_micros) for slot in side.ads] == [("r3", 2002), ("r2", 2002)]
    assert side.filtered == {"placement_floor": 2}
    assert [slot.price_micros for slot in usual.ads] == [2002, 2001, 2000, 1000]
    assert usual.filtered == {}


def test_the_larger_of_reserve_and_floor_holds():
    log = market(*rivals(3), reserve_micros=2001, placements=placed(floor_micros=5))
    log.request(placement_id="side")
    (decision,) = decided(log)
    assert decision.filtered == {"reserve": 1}
    assert decision.ads[-1].price_micros == 2001


def test_the_floor_of_a_placement_is_for_a_thousand_impressions_whatever_the_ad_pays_for():
    log = market(ad(bid_type="cpc", bid_micros=1_000_000), placements=placed(floor_micros=10_000_000))
    log.request(placement_id="side")
    (slot,) = decided(log)[0].ads
    assert 1000 * slot.pctr * slot.price_micros == pytest.approx(10_000_000, rel=1e-5)


def test_what_a_placement_blocks_is_kept_out_there_alone():
    log = market(ad(category="guns"), *rivals(1), placements=placed(blocked_categories=("guns",)))
    log.request("u", placement_id="side")
    log.request("v")
    side, usual = decided(log)
    assert (len(side.ads), side.filtered) == (1, {"brand_safety": 1})
    assert len(usual.ads) == 2
    log.request("w", placement_id="side")
    (why,) = fate(log, "a").why
    assert why == ("brand_safety", "placement 'side' blocks guns")


@pytest.mark.parametrize(
    ("reserve", "floor", "reason", "detail"),
    [
        (0, 1500, "placement_floor", "the floor of placement 'side' is 1500"),
        (1200, 1500, "reserve", "the reserve is 1200"),
    ],
)
def test_an_ad_that_is_not_admitted_is_told_the_rule(reserve, floor, reason, detail):
    log = market(ad(), *rivals(1), reserve_micros=reserve, placements=placed(floor_micros=floor))
    log.request(placement_id="side")
    found = fate(log, "a")
    assert found.status == "not_admitted"
    assert found.why == ((reason, f"worth 1000 micros per thousand impressions, {detail}"),)


def test_the_rules_between_the_ads_of_a_slate_are_counted_and_named():
    top = ad("top", bid_micros=9000, campaign_id="same", labels=("separate:cars",), category="k")
    log = market(
        top,
        ad("limit", campaign_id="same"),
        ad("rival", labels=("separate:cars",)),
        ad("alike", category="k"),
        ad("free", bid_micros=5),
        max_per_campaign=1,
        diversity=1.0,
        slots=3,
    )
    log.request()
    (decision,) = decided(log)
    assert [slot.ad_id for slot in decision.ads] == ["top", "free"]
    assert decision.filtered == {"campaign_limit": 1, "separation": 1, "diversity": 1}
    for name, rule in (("limit", "campaign_limit"), ("rival", "separation"), ("alike", "diversity")):
        assert [contest.ruled_out for contest in fate(log, name).contests] == ["", rule, rule]


def test_what_the_last_slot_rules_out_kept_nobody_out():
    same = {"campaign_id": "same"}
    log = market(ad("x", bid_micros=9000, **same), ad(**same), max_per_campaign=1, slots=1)
    log.request()
    assert decided(log)[0].filtered == {}


def test_a_placement_named_twice_is_refused_and_the_policy_stays():
    log = LogBuilder()
    log.add(events.AdUpsert, ads=rivals(3))
    log.add(events.PolicyChange, policy=Policy(slots=2))
    log.add(events.PolicyChange, policy=Policy(slots=1, placements=placed() + placed(slots=1)))
    log.request(placement_id="side")
    emissions = run(Bench().shard(), log.records)
    (refused,) = bodies(emissions, Rejected)
    assert refused.error.reason == "bad_policy"
    assert len(bodies(emissions, Decision)[0].ads) == 2
