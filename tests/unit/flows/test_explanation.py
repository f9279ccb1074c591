"""A decision explained: sums, flips, and what is said of them."""

import math

import msgspec
import pytest
from support.shards import Bench, LogBuilder, bodies, run

from flows.commands.explain import overtaking, sum_of
from flows.explanation import explained, flip, logit_of
from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.domain.policy import Exploration, Policy

GREEDY = Exploration(thompson_nu=0.0, randomized_share=0.0)


def decided(*bids, bid_type="cpc", **policy):
    log = LogBuilder()
    log.add(events.PolicyChange, policy=Policy(**{"exploration": GREEDY, **policy}))
    ads = tuple(
        Ad(ad_id=f"a{n}", campaign_id=f"c{n}", bid_micros=b, bid_type=bid_type) for n, b in enumerate(bids)
    )
    log.add(events.AdUpsert, ads=ads)
    log.add(events.Adjustments, version=1, ads={"a0": (0.4, 0.1)}, bias=(-0.2, 0.1))
    log.request()
    return bodies(run(Bench().shard(), log.records), Decision)[-1]


def test_the_parts_add_up_to_the_click_probability():
    told = explained(decided(900, 800))
    for slot in told["slots"]:
        assert 1 / (1 + math.exp(-slot["logit"])) == pytest.approx(slot["pctr"], rel=1e-12)
        assert sum(slot["parts"].values()) == pytest.approx(slot["logit"])
    assert f"base {told['slots'][0]['parts']['base']:+.3f}" in sum_of(told["slots"][0])


def test_the_first_slot_has_nothing_to_overtake():
    assert explained(decided(900, 800))["slots"][0]["to_overtake"] is None


def test_the_bid_that_is_named_overtakes_and_a_smaller_one_does_not():
    below = explained(decided(9_000_000, 8_000_000))["slots"][1]
    needed = below["to_overtake"]["bid_micros"]
    order = {"over": (needed + 9, "a1"), "under": (needed - 9, "a0")}
    for bid, first in order.values():
        assert decided(9_000_000, bid).ads[0].ad_id == first


def test_the_logit_that_is_named_is_that_of_the_probability_needed():
    slots = decided(9_000_000, 8_000_000).ads
    told = flip(slots[1], slots[0])
    p = 1 / (1 + math.exp(-(logit_of(slots[1].parts) + told["logit"])))
    assert p == pytest.approx(told["pctr"])
    assert p / slots[1].pctr == pytest.approx(told["factor"])


def test_no_click_probability_helps_a_bid_per_impression():
    slots = decided(900, 800, bid_type="cpm").ads
    told = flip(slots[1], slots[0])
    assert told["pctr"] is None
    assert told["bid_micros"] == 900
    assert "a bid of 900 micros (x 1.125)" in overtaking(
        explained(decided(900, 800, bid_type="cpm"))["slots"][1]
    )


def test_a_probability_above_one_is_not_offered():
    slots = decided(900_000_000, 10).ads
    told = flip(slots[1], slots[0])
    assert told["pctr"] is None
    assert told["factor"] > 1e6


def test_a_draw_that_put_an_ad_first_counts_as_drawn():
    slots = decided(9_000_000, 8_000_000).ads
    lucky = msgspec.structs.replace(slots[0], parts=msgspec.structs.replace(slots[0].parts, exploration=0.5))
    assert flip(slots[1], lucky)["factor"] > flip(slots[1], slots[0])["factor"]


def test_an_ad_that_ranks_higher_by_value_is_said_to_stand_lower_by_draw_or_rule():
    slots = decided(9_000_000, 8_000_000).ads
    told = {**explained(decided(9_000_000, 8_000_000))["slots"][1], "to_overtake": flip(slots[0], slots[1])}
    assert "ranks higher by value" in overtaking(told)


def test_an_ad_worth_nothing_has_no_way_up():
    slots = decided(9_000_000, 8_000_000).ads
    told = flip(msgspec.structs.replace(slots[1], ecpm_micros=0), slots[0])
    assert set(told.values()) == {None, "a0"}


def test_a_stay_is_told_where_the_decision_tells_it():
    plain = decided(900, 800)
    replace = msgspec.structs.replace
    told = replace(plain, ads=tuple(replace(slot, expected_dwell_ms=5000.0) for slot in plain.ads))
    assert [slot["expected_dwell_ms"] for slot in explained(plain)["slots"]] == [None, None]
    assert [slot["expected_dwell_ms"] for slot in explained(told)["slots"]] == [5000.0, 5000.0]
