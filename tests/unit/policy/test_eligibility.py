"""Which ads may be shown, what keeps the others out, and that nothing depends on what is kept."""

import numpy as np
import pytest
from catalogues import ads as any_ad
from catalogues import catalogues, policies, situations
from hypothesis import given
from hypothesis import strategies as st

from models.domain.catalogue import Ad, Catalogue, Creative
from models.domain.events import Context
from models.domain.ids import key64
from models.domain.policy import Cap, Policy
from models.policy.bitsets import members, popcount
from models.policy.caps import blocked_keys, compile_caps
from models.policy.columns import keys_of
from models.policy.eligibility import REASONS, Rules, Situation
from models.policy.keys import rows_of
from models.policy.why_not import why_not
from models.state.shown import Impressions, Shown

PLAIN = Policy()
HERE = Situation("home", Context(country="de"), 1_000)
ALL_CAPS = Policy(
    caps=tuple(Cap(scope=s, impressions=2, window_s=60) for s in ("ad", "campaign", "advertiser"))
)


def rules_for(*ads, policy=PLAIN, withdrawn=()):
    return Rules.compile(Catalogue().upsert(ads).withdraw(withdrawn), policy)


def ad(ad_id="a", campaign_id="c", **fields):
    return Ad(ad_id=ad_id, campaign_id=campaign_id, **fields)


def seen(catalogue, rows, hidden=(), now_ms=1_000, policy=ALL_CAPS):
    """Return the blocked keys of one user who was shown, and hid, the ads of these rows."""
    shown = Shown(1)
    for row in rows:
        found = catalogue.ads[row]
        keys = [keys_of([name]) for name in (found.ad_id, found.campaign_id, found.advertiser_id)]
        times = (np.array([n]) for n in (now_ms - 1, 0, 0, -1))
        shown.append(Impressions(np.array([0]), *keys, *times, np.zeros(1, np.uint16)))
    for row in hidden:
        shown.hide(0, key64(catalogue.ads[row].ad_id))
    return blocked_keys(shown, np.array([0]), np.array([now_ms]), compile_caps(policy))


def test_an_ad_without_conditions_may_be_shown_anywhere():
    words, filtered = rules_for(ad()).eligible(HERE)
    assert members(words).tolist() == [0]
    assert filtered == {}


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("creative_review", {"creatives": (Creative(creative_id="x", review="pending"),)}),
        ("schedule", {"start_time": 1_001}),
        ("schedule", {"end_time": 1_000}),
        ("placement", {"placements": ("feed",)}),
        ("targeting", {"targeting": 'country == "at"'}),
        ("targeting", {"targeting": "this is no expression"}),
        ("brand_safety", {"category": "arms"}),
        ("brand_safety", {"labels": ("x", "arms")}),
        ("blocked_advertiser", {"advertiser_id": "evil"}),
        ("blocked_category", {"category": "games"}),
        ("blocked_category", {"labels": ("games",)}),
        ("budget", {"campaign_id": "spent"}),
    ],
)
def test_a_rule_keeps_its_ads_out_under_its_name(reason, fields):
    policy = Policy(blocked_categories=("arms",), blocked_advertisers=("evil",))
    situation = Situation(
        "home", Context(country="de", blocked_categories=("games",)), 1_000, frozenset({"spent"})
    )
    rules = rules_for(ad("ok"), ad(**{"ad_id": "out", "campaign_id": "c", **fields}), policy=policy)
    words, filtered = rules.eligible(situation)
    assert filtered == {reason: 1}
    assert members(words).tolist() == [0]
    assert [why.reason for why in why_not(rules, 1, situation)] == [reason]
    assert why_not(rules, 0, situation) == []


def test_a_withdrawn_ad_is_kept_out_and_comes_back_when_sent_again():
    rules = rules_for(ad(), withdrawn=("a",))
    assert rules.eligible(HERE)[1] == {"withdrawn": 1}
    again = Rules.compile(rules.catalogue.upsert([ad()]), rules.policy, rules)
    assert again.eligible(HERE)[1] == {}


def test_a_schedule_starts_at_its_start_and_ends_before_its_end():
    rules = rules_for(ad(start_time=10, end_time=20))
    shown = [t for t in range(5, 25) if members(rules.eligible(HERE._replace(event_time=t))[0]).size]
    assert shown == list(range(10, 20))


def test_an_ad_with_several_reasons_counts_once_under_the_first_and_names_all():
    rules = rules_for(ad(start_time=2_000, placements=("feed",)), withdrawn=("a",))
    assert rules.eligible(HERE)[1] == {"withdrawn": 1}
    whys = why_not(rules, 0, HERE)
    assert [why.reason for why in whys] == ["withdrawn", "schedule", "placement"]
    assert whys[1].detail == "starts at 2000, 1000 ms after the request"
    assert whys[2].detail == "'home' is not one of feed"


def test_why_not_names_the_condition_that_fails_and_what_it_read():
    rules = rules_for(ad(targeting='country == "de" and hour >= 8'))
    assert why_not(rules, 0, HERE)[0].detail == "hour >= 8 is false for hour = 0"


def test_the_users_own_caps_are_counted_after_all_other_rules():
    rules = rules_for(*(ad(f"a{n}", f"c{n}", advertiser_id=f"v{n // 3}") for n in range(6)))
    blocked = seen(rules.catalogue, rows=[0, 0, 1, 5], hidden=[3])
    words, filtered = rules.eligible(HERE, blocked)
    assert members(words).tolist() == [4]
    assert filtered == {"hidden": 1, "no_repeat": 3, "frequency_cap": 1}
    assert [w.reason for w in why_not(rules, 2, HERE, blocked)] == ["frequency_cap"]
    assert why_not(rules, 2, HERE, blocked)[0].detail == "the cap per advertiser is reached for v0"


def test_blocked_keys_of_ads_that_have_left_the_catalogue_block_nothing():
    other = Catalogue().upsert([ad("gone", "gone", advertiser_id="gone")])
    assert rules_for(ad()).eligible(HERE, seen(other, rows=[0, 0], hidden=[0]))[1] == {}


def test_an_empty_catalogue_answers_with_nothing():
    words, filtered = Rules.compile(Catalogue(), Policy()).eligible(HERE)
    assert members(words).size == 0
    assert filtered == {}


rows = st.lists(st.integers(0, 200), max_size=12)


def of(catalogue, picks):
    return [pick % len(catalogue) for pick in picks] if len(catalogue) else []


@given(catalogues, policies, situations, rows, rows, st.data())
def test_every_ad_is_eligible_or_filtered_under_the_first_of_its_reasons(
    catalogue, policy, situation, shown, hidden, data
):
    gone = (
        data.draw(st.lists(st.sampled_from([a.ad_id for a in catalogue.ads]), max_size=3))
        if len(catalogue)
        else []
    )
    catalogue = catalogue.withdraw(gone)
    rules = Rules.compile(catalogue, policy)
    blocked = seen(catalogue, of(catalogue, shown), of(catalogue, hidden), situation.event_time)
    words, filtered = rules.eligible(situation, blocked)
    whys = [[why.reason for why in why_not(rules, row, situation, blocked)] for row in range(len(catalogue))]
    firsts = [reasons[0] for reasons in whys if reasons]
    assert members(words).tolist() == [row for row, reasons in enumerate(whys) if not reasons]
    assert filtered == {name: firsts.count(name) for name in REASONS if name in firsts}
    assert popcount(words) + sum(filtered.values()) == len(catalogue)


@given(catalogues, policies, st.lists(situations, min_size=1, max_size=6))
def test_an_answer_depends_neither_on_the_batch_nor_on_what_was_asked_before(catalogue, policy, asked):
    rules = Rules.compile(catalogue, policy)
    batch = rules.eligible_batch(asked)
    for b, situation in enumerate(asked):
        words, filtered = Rules.compile(catalogue, policy).eligible(situation)
        assert batch.words[b].tobytes() == words.tobytes()
        assert batch.filtered(b) == filtered


@given(catalogues, policies, policies, st.lists(any_ad, max_size=5), situations, st.data())
def test_compiling_a_change_agrees_with_compiling_anew(
    catalogue, policy, later_policy, changed, situation, data
):
    before = Rules.compile(catalogue, policy)
    before.eligible(situation)
    later = catalogue.upsert(changed) if changed else catalogue
    if len(later) and data.draw(st.booleans()):
        later = later.withdraw([later.ads[0].ad_id])
    patched, anew = Rules.compile(later, later_policy, before), Rules.compile(later, later_policy)
    shown = of(later, range(0, 40, 7))
    blocked = seen(later, shown + shown, now_ms=situation.event_time)
    got, wanted = patched.eligible(situation, blocked), anew.eligible(situation, blocked)
    assert got[0].tobytes() == wanted[0].tobytes()
    assert got[1] == wanted[1]


@given(catalogues)
def test_every_campaign_finds_its_own_rows(catalogue):
    rules = Rules.compile(catalogue, Policy())
    for campaign in {a.campaign_id for a in catalogue.ads}:
        expected = [row for row, a in enumerate(catalogue.ads) if a.campaign_id == campaign]
        assert rows_of(rules.by_campaign, key64(campaign)).tolist() == expected
    assert rows_of(rules.by_campaign, key64("nobody")).tolist() == []


def test_texts_that_churn_do_not_pile_up_for_ever():
    rules = rules_for(ad())
    for n in range(30):
        renamed = [ad(f"a{i}", targeting=f'segment == "{n}-{i}"') for i in range(100)]
        rules = Rules.compile(rules.catalogue.upsert(renamed), rules.policy, rules)
    assert len(rules.targets.texts) < 1_600
    assert rules.eligible(HERE._replace(context=Context(segment="29-7")))[1] == {"targeting": 99}
