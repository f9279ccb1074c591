"""What became of an ad in a decision, held to the decision itself."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from support.markets import ad, fate, market, rivals, watched
from support.shards import START, Bench, bodies, logs, run

from flows.commands.explain import summary
from models.decide.explain import fate_of, worth_of
from models.decide.slate_trace import Slate, follow, greedy, plackett_luce
from models.domain import events
from models.domain.catalogue import Creative
from models.domain.decision import Decision
from models.domain.policy import Exploration

RANDOM = Exploration(randomized_share=1.0)


@settings(max_examples=25, deadline=None)
@given(logs())
def test_the_traced_slots_are_those_of_the_decision(records):
    traced = {}

    def look(asked):
        traced[asked.job.decision_id] = Slate.of(asked, asked.scored(asked.eligible())).ads

    for decision in watched(records, look):
        assert traced[decision.decision_id] == [slot.ad_id for slot in decision.ads]


@settings(max_examples=15, deadline=None)
@given(logs())
def test_what_an_ad_alone_is_worth_is_what_its_slot_says_to_the_last_bit(records):
    worths = {}

    def look(asked):
        for row, each in enumerate(asked.compiled.view.catalogue.ads):
            worths[asked.job.decision_id, each.ad_id] = worth_of(asked, row)

    for decision in watched(records, look):
        for slot in decision.ads:
            worth = worths[decision.decision_id, slot.ad_id]
            assert (worth.pcvr, worth.ecpm_micros) == (slot.pcvr, slot.ecpm_micros)
            if not slot.creative_id:  # an ad is worth its best creative, a slot says what it shows
                assert worth.pctr == slot.pctr
            assert worth.parts.base == slot.parts.base
            assert worth.parts.user_category == slot.parts.user_category


def test_watching_changes_no_decision_and_recorded_decisions_are_followed():
    log = market(*rivals(8), exploration=RANDOM)
    for _ in range(5):
        log.request()
    made = bodies(run(Bench().shard(), log.records), Decision)
    assert watched(log.records, lambda _: None) == made
    marked = {d.decision_id: d for d in made[:3]}
    assert watched(log.records, lambda _: None, marked)[:3] == made[:3]


def test_an_ad_that_the_catalogue_does_not_hold_is_unknown():
    log = market(ad())
    log.request()
    assert fate(log, "b").status == "unknown"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"targeting": 'country == "de"'}, "targeting"),
        ({"end_time": START}, "schedule"),
        ({"placements": ("side",)}, "placement"),
        ({"creatives": (Creative(creative_id="x", review="pending"),)}, "creative_review"),
        ({"category": "guns"}, "brand_safety"),
    ],
)
def test_the_rule_that_keeps_an_ad_out_is_named(fields, reason):
    log = market(ad(**fields), *rivals(1), blocked_categories=("guns",))
    log.request()
    found = fate(log, "a")
    assert found.status == "kept_out"
    assert [why.reason for why in found.why] == [reason]
    assert found.worth is not None


def test_every_rule_that_applies_is_named_the_users_own_too():
    log = market(ad(targeting='country == "de"'))
    log.add(events.Impression, user_id="u", ad_id="a")
    log.add(events.Hide, user_id="u", ad_id="a")
    log.request()
    assert [why.reason for why in fate(log, "a").why] == ["targeting", "hidden", "no_repeat"]


def test_an_eligible_ad_that_retrieval_leaves_out_says_its_place():
    log = market(ad(), *rivals(4), candidates=2, slots=2)
    log.request()
    found = fate(log, "a")
    assert found.status == "not_retrieved"
    assert (found.retrieval.place, found.retrieval.of, found.retrieval.kept) == (5, 5, 2)


def test_an_ad_below_the_reserve_is_not_admitted():
    log = market(ad(), *rivals(1), reserve_micros=1500)
    log.request()
    found = fate(log, "a")
    assert found.status == "not_admitted"
    assert (found.worth.value_micros, found.worth.reserve_micros) == (1000, 1500)


def test_an_ad_that_pacing_holds_below_the_reserve_says_so():
    log = market(ad(bid_micros=2000), *rivals(1), reserve_micros=1500)
    log.add(events.Pacing, version=1, multipliers={"c-a": 1.0})
    log.request()
    found = fate(log, "a")
    held_back = "worth 1000 micros per thousand impressions (held back to 1/2.00), the reserve is 1500"
    assert (found.status, found.why[0].detail) == ("not_admitted", held_back)


def test_an_ad_that_lost_its_slots_says_to_whom_and_by_how_much():
    log = market(ad(), *rivals(3), slots=2)
    log.request()
    found = fate(log, "a")
    assert found.status == "outranked"
    assert [contest.winner for contest in found.contests] == ["r2", "r1"]
    assert found.ranking.place == 4
    assert np.exp(found.contests[1].winner_value - found.contests[1].own_value) == pytest.approx(2.001)


def test_the_bid_that_is_said_to_be_needed_wins_and_less_does_not():
    log = market(ad(), *rivals(3), slots=2)
    log.request()
    needed = fate(log, "a").bid_needed_micros
    for bid, status in ((needed, "shown"), (needed - 5, "outranked")):
        again = market(ad(bid_micros=bid), *rivals(3), slots=2)
        again.request()
        assert fate(again, "a").status == status


def test_a_slot_closed_by_a_rule_of_the_slate_is_marked():
    same = {"campaign_id": "same"}
    ads = ad("x", bid_micros=9000, **same), ad(**same), ad("y", bid_micros=8)
    log = market(*ads, max_per_campaign=1, slots=2)
    log.request()
    found = fate(log, "a")
    assert [(c.winner, c.ruled_out) for c in found.contests] == [("x", ""), ("y", "campaign_limit")]
    assert found.bid_needed_micros == pytest.approx(9000, abs=2)


@pytest.mark.parametrize(
    ("shared", "rule"),
    [({"labels": ("separate:cars",)}, "separation"), ({"campaign_id": "same"}, "campaign_limit")],
)
def test_slots_that_stay_empty_name_the_rule_that_closed_them(shared, rule):
    same = ad("b", bid_micros=2000, **shared), ad("a", bid_micros=1900, **shared)
    log = market(*same, slots=3, diversity=0.0, max_per_campaign=1)
    log.request()
    found = fate(log, "a")
    assert [(c.winner, c.ruled_out) for c in found.contests] == [("b", ""), ("", rule), ("", rule)]
    assert f"closed to it: slot 1 by {rule}, slot 2 by {rule}; a bid of 2,001 micros" in summary(found)
    again = market(same[0], ad("a", bid_micros=2001, **shared), slots=3, diversity=0.0, max_per_campaign=1)
    again.request()
    assert fate(again, "a").status == "shown"


def test_in_the_randomised_bucket_an_empty_slot_goes_to_nobody():
    cars = [ad(name, labels=("separate:cars",)) for name in "abcd"]
    log = market(*cars, slots=2, exploration=RANDOM)
    log.request()
    (lost, *_) = (each for each in (fate(log, name) for name in "abcd") if each.status == "outranked")
    assert [(c.ruled_out, c.chance) for c in lost.contests] == [("", 0.25), ("separation", 0.0)]


def test_an_ad_that_was_shown_says_where():
    log = market(ad(bid_micros=9000), *rivals(3))
    log.request()
    found = fate(log, "a")
    assert (found.status, found.slot, found.contests) == ("shown", 0, ())


def test_in_the_randomised_bucket_the_chance_of_each_slot_is_told_and_no_bid():
    log = market(ad(), *rivals(3), slots=2, exploration=RANDOM)
    for _ in range(12):
        log.request(after_s=100)
    lost = []
    watched(log.records, lambda asked: lost.append(fate_of(asked, "a")))
    lost = [each for each in lost if each.status == "outranked"]
    assert lost
    assert all(each.bid_needed_micros is None and 0 < each.contests[0].chance < 1 for each in lost)


def test_following_the_policy_that_decided_gives_the_logged_propensities():
    log = market(*rivals(9), slots=4, exploration=RANDOM)
    ids = [log.request(user_id=f"u{n}") for n in range(6)]
    made = {d.decision_id: d for d in bodies(run(Bench().shard(), log.records), Decision)}
    again = {}

    def look(asked):
        shown = [slot.ad_id for slot in made[asked.job.decision_id].ads]
        again[asked.job.decision_id] = [f.logged for f in follow(asked, shown, randomized=True)]

    watched(log.records, look, made)
    for id_ in ids:
        assert again[id_] == pytest.approx([slot.propensity for slot in made[id_].ads], rel=1e-12)


def test_following_greedily_gives_the_best_ad_and_ends_where_an_ad_is_no_candidate():
    log = market(*rivals(3))
    log.request()
    found = []
    watched(log.records, lambda asked: found.append(follow(asked, ["r2", "gone", "r1"], randomized=False)))
    assert [each.logged for each in found[0]] == [1.0, 0.0]
    assert found[0][1].chances.sum() == 1.0


def test_distributions_leave_out_what_may_not_be_taken_and_sum_to_one():
    left = np.array([0.0, -np.inf, 1.0, 1.0])
    assert greedy(left).tolist() == [0, 0, 1, 0]
    mixed = plackett_luce(left, 0.5, 0.1)
    assert mixed.sum() == pytest.approx(1.0)
    assert mixed[1] == 0
    assert mixed[2] / mixed[3] == pytest.approx(1.0)
    assert plackett_luce(np.full(2, -np.inf), 0.5, 0.1).tolist() == [0, 0]
    assert greedy(np.full(2, -np.inf)).tolist() == [0, 0]


def test_calibration_is_a_part_of_its_own_and_the_parts_still_add_up(bench, log):
    log.ads(2)
    log.add(events.Adjustments, version=1, ads={"a0": (1.5, 0.1)}, calibration=(0.8, -3.0))
    log.request()
    (decision,) = bodies(run(bench.shard(), log.records), Decision)
    for slot in decision.ads:
        before = slot.parts.base + slot.parts.ad
        assert slot.parts.calibration == pytest.approx(-0.2 * (before + 3.0), abs=1e-12)
        assert slot.pctr == pytest.approx(1 / (1 + math.exp(-before - slot.parts.calibration)), rel=1e-12)
