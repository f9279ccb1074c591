"""Ads and policies that a schema lets pass and a decision could not live with."""

import math

import pytest

from models.domain.catalogue import Ad, Creative
from models.domain.errors import BadRecord, SettingError
from models.domain.policy import Cap, Exploration, Placement, Policy
from models.policy.validation import check_ad, check_budgets, check_policy, usable_ads


def ad(ad_id="a", campaign_id="c", **fields):
    return Ad(ad_id=ad_id, campaign_id=campaign_id, **fields)


def test_an_ordinary_ad_passes():
    check_ad(
        ad(targeting='country == "de"', start_time=1, end_time=2, daily_budget_micros=10**9, vector=(0.5,))
    )


@pytest.mark.parametrize(
    ("reason", "fields", "hint"),
    [
        ("bad_targeting", {"targeting": "city == 'Graz'"}, "one of country"),
        ("bad_schedule", {"start_time": 5, "end_time": 5}, "after start_time=5"),
        ("bad_schedule", {"start_time": 5, "end_time": 4}, "swap or correct"),
        ("bad_bid", {"bid_micros": 10**12 + 1}, "a million micros are one unit"),
        ("bad_bid", {"bid_micros": 5, "floor_micros": 6}, "lower floor or raise bid"),
        ("bad_bid", {"quality": math.inf}, "send 1.0"),
        ("bad_budget", {"bid_micros": 10, "daily_budget_micros": 9}, "at least one charge at the bid, 10"),
        ("bad_budget", {"bid_micros": 10, "lifetime_budget_micros": 0}, "raise the budget"),
        ("bad_budget", {"bid_type": "cpm", "bid_micros": 9_001, "daily_budget_micros": 9}, "10 micros"),
        ("bad_window", {"click_through_s": 91 * 86_400}, "at most 7776000 s (90 days)"),
        ("bad_window", {"view_through_s": 91 * 86_400}, "view_through_s of ad"),
        ("bad_vector", {"vector": (1.0, math.nan)}, "at 1"),
        ("bad_vector", {"vector": (math.inf,)}, "a finite number"),
        ("bad_creatives", {"creatives": (Creative(creative_id="x"), Creative(creative_id="x"))}, "'x' twice"),
        (
            "bad_creatives",
            {"title": "Shoes", "creatives": (Creative(creative_id="x", headline="{titel}"),)},
            "creative 'x' of ad 'a': got 'unknown slot {titel} in its headline', expected slots among title",
        ),
        (
            "bad_creatives",
            {"creatives": (Creative(creative_id="x", headline="{title}", review="pending"),)},
            "which its ad leaves empty",
        ),
        (
            "bad_creatives",
            {"creatives": (Creative(creative_id="x", image_url="https://e/\x01"),)},
            "image_url of creative 'x' of ad 'a': got '\\x01', expected no control characters",
        ),
        (
            "bad_creatives",
            {"title": "\x00", "creatives": (Creative(creative_id="x", headline="{title}"),)},
            "also from the ad's texts",
        ),
        ("bad_labels", {"labels": tuple(f"separate:{n}" for n in range(5))}, "at most 4"),
    ],
)
def test_an_impossible_ad_is_refused_with_its_reason_and_a_fix(reason, fields, hint):
    with pytest.raises(BadRecord) as refused:
        check_ad(ad(**fields))
    assert refused.value.reason == reason
    assert hint in str(refused.value)
    assert "Fix: " in str(refused.value)


def test_a_line_break_in_a_creative_and_what_a_url_encodes_pass():
    check_ad(
        ad(
            title="a\x01b",
            creatives=(Creative(creative_id="x", headline="Sale\n\tnow", image_url="https://e/{title}"),),
        )
    )


def test_the_budgets_of_a_campaign_agree_within_a_record():
    check_budgets([ad("a", daily_budget_micros=5), ad("b", daily_budget_micros=5), ad("c", "other")])
    with pytest.raises(BadRecord, match="campaign 'c' in ads 'a' and 'b'") as refused:
        check_budgets([ad("a", daily_budget_micros=5), ad("b", daily_budget_micros=6)])
    assert refused.value.reason == "conflicting_budget"


def test_one_bad_ad_does_not_cost_the_others_of_its_record():
    good, bad = usable_ads(
        [
            ad("a", daily_budget_micros=10**9),
            ad("b", targeting="nonsense ("),
            ad("c"),
            ad("d", daily_budget_micros=10**9),
            ad("e", "other"),
        ]
    )
    assert [found.ad_id for found in good] == ["a", "d", "e"]
    assert [(ad_id, error.reason) for ad_id, error in bad] == [
        ("b", "bad_targeting"),
        ("c", "conflicting_budget"),
    ]


def test_the_default_policy_passes():
    check_policy(Policy())


@pytest.mark.parametrize(
    ("policy", "hint"),
    [
        (Policy(caps=(Cap(impressions=5000),)), "at most the 4096 impressions kept per user"),
        (Policy(slots=10, candidates=9), "at least slots=10"),
        (Policy(reserve_micros=10**16), "check the unit"),
        (
            Policy(placements=(Placement(placement_id="p", floor_micros=10**16),)),
            "placement 'p' floor_micros",
        ),
        (Policy(placements=(Placement(placement_id="p"),) * 2), "'p' twice"),
        (Policy(candidates=6, placements=(Placement(placement_id="p", slots=7),)), "at most candidates=6"),
        (Policy(diversity=math.nan), "policy diversity"),
        (Policy(exploration=Exploration(temperature=math.inf)), "policy exploration.temperature"),
    ],
)
def test_a_policy_that_cannot_be_carried_out_is_refused(policy, hint):
    with pytest.raises(SettingError) as refused:
        check_policy(policy)
    assert hint in str(refused.value)
