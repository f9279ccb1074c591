"""What counts as shown for caps and repeats: each impression once, whoever told of it and whatever left."""

import pytest
from support.shards import bodies, run

from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.domain.policy import Cap, Policy, Triggers
from models.state.shown import PAGE

HOUR_S = 3600


def capped(scope: str, impressions: int = 1) -> Policy:
    return Policy(no_repeat_s=0, caps=(Cap(scope=scope, impressions=impressions, window_s=HOUR_S),))


def next_ads(bench, log) -> list[str]:
    """The ads of one more decision of the user's, when nothing unseen counts any more."""
    log.request(after_s=10)
    return [slot.ad_id for slot in bodies(run(bench.shard(), log.records), Decision)[-1].ads]


@pytest.mark.parametrize("policy", [capped("ad"), capped("campaign"), Policy(no_repeat_s=HOUR_S, caps=())])
def test_a_click_whose_impression_was_lost_counts_as_one(bench, log, policy):
    log.ads(2)
    log.add(events.PolicyChange, policy=policy)
    decision = log.request()
    log.add(events.Click, user_id="u", ad_id="a0", decision_id=decision)
    assert next_ads(bench, log) == ["a1"]


def test_the_decision_that_a_click_asks_for_counts_the_impression_that_it_implies(bench, log):
    log.ads(2)
    triggers = Triggers(after_click=True)
    log.add(events.PolicyChange, policy=Policy(no_repeat_s=HOUR_S, caps=(), unseen_s=0, triggers=triggers))
    decision = log.request()
    log.add(events.Click, user_id="u", ad_id="a0", decision_id=decision)
    (_, after) = bodies(run(bench.shard(), log.records), Decision)
    assert [slot.ad_id for slot in after.ads] == ["a1"]


@pytest.mark.parametrize("kinds", [(events.Click, events.Impression), (events.Impression, events.Click)])
def test_an_impression_and_its_click_count_once_in_either_order(bench, log, kinds):
    log.ads(1)
    log.add(events.PolicyChange, policy=capped("ad", impressions=2))
    decision = log.request()
    for kind in kinds:
        log.add(kind, user_id="u", ad_id="a0", decision_id=decision)
    assert next_ads(bench, log) == ["a0"]


@pytest.mark.parametrize("decision", [None, "ads.events.v1-0-99"])
def test_impressions_that_join_no_decision_count_each(bench, log, decision):
    log.ads(1)
    log.add(events.PolicyChange, policy=capped("ad", impressions=3))
    log.add(events.Impression, user_id="u", ad_id="a0", decision_id=log.request())
    for _ in range(2):
        log.add(events.Impression, user_id="u", ad_id="a0", decision_id=decision)
    assert next_ads(bench, log) == []


def test_an_impression_of_an_ad_that_left_in_flight_counts_for_its_campaign(bench, log):
    log.add(events.AdUpsert, ads=tuple(Ad(ad_id=f"a{n}", campaign_id="c") for n in range(2)))
    log.add(events.PolicyChange, policy=capped("campaign"))
    decision = log.request()
    catalogue = (Ad(ad_id="a1", campaign_id="c"), Ad(ad_id="b", campaign_id="d"))
    bench.resources.catalogues["new"] = catalogue
    log.add(events.CatalogueSnapshot, artifact="new")
    log.add(events.Impression, user_id="u", ad_id="a0", decision_id=decision)
    assert next_ads(bench, log) == ["b"]


def test_an_impression_dated_ahead_makes_nobody_forget_what_a_cap_still_counts(bench, log):
    log.ads(2)
    caps = (Cap(scope="ad", impressions=PAGE, window_s=HOUR_S),)
    log.add(events.PolicyChange, policy=Policy(no_repeat_s=0, caps=caps, future_s=3 * HOUR_S))
    for _ in range(PAGE):
        log.add(events.Impression, user_id="u", ad_id="a0")
    log.add(events.Impression, user_id="u", ad_id="a1", event_time=log.now + 2 * HOUR_S * 1000)
    assert next_ads(bench, log) == ["a1"]


def a_good_and_a_bad_ad(log) -> None:
    bids = (5_000_000, 10_000)
    log.add(
        events.AdUpsert,
        ads=tuple(Ad(ad_id=f"a{n}", campaign_id=f"c{n}", bid_micros=bid) for n, bid in enumerate(bids)),
    )


def answers(bench, log) -> list[list[str]]:
    """The ads of all decisions."""
    return [
        [slot.ad_id for slot in decision.ads]
        for decision in bodies(run(bench.shard(), log.records), Decision)
    ]


@pytest.mark.parametrize(("unseen_s", "second"), [(1, ["a1"]), (0, ["a0"])])
def test_two_placements_of_one_page_show_different_ads_though_neither_was_seen_yet(
    bench, log, unseen_s, second
):
    a_good_and_a_bad_ad(log)
    log.add(events.PolicyChange, policy=Policy(slots=1, unseen_s=unseen_s))
    for placement in ("top", "side"):
        log.request(after_s=0.2, placement_id=placement)
    assert answers(bench, log) == [["a0"], second]


def test_placements_that_ask_at_once_pass_no_cap_together(bench, log):
    log.add(events.AdUpsert, ads=tuple(Ad(ad_id=f"a{n}", campaign_id="c") for n in range(4)))
    caps = (Cap(scope="campaign", impressions=2, window_s=HOUR_S),)
    log.add(events.PolicyChange, policy=Policy(slots=1, caps=caps))
    for placement in ("top", "side", "foot", "end"):
        log.request(after_s=0.2, placement_id=placement)
    assert [len(ads) for ads in answers(bench, log)] == [1, 1, 0, 0]


def test_an_ad_that_nobody_saw_may_come_again_a_moment_later(bench, log):
    log.ads(1)
    for after_s, placement in ((1, "top"), (4.9, "side"), (0.1, "foot")):
        log.request(after_s=after_s, placement_id=placement)
    assert answers(bench, log) == [["a0"], [], ["a0"]]


def test_a_placement_that_asks_again_may_show_again_what_nobody_saw_there(bench, log):
    log.ads(1)
    for placement in ("top", "side", "top"):
        log.request(after_s=0.2, placement_id=placement)
    assert answers(bench, log) == [["a0"], [], ["a0"]]


def test_what_a_click_asked_for_keeps_no_ad_from_the_request_that_shows_it(bench, log):
    a_good_and_a_bad_ad(log)
    log.add(events.PolicyChange, policy=Policy(slots=1, triggers=Triggers(after_click=True)))
    log.add(events.Click, user_id="u", ad_id="a9")
    log.request(after_s=0.2)
    assert answers(bench, log) == [["a0"], ["a0"]]


def test_a_late_impression_lets_no_cap_be_passed_while_a_later_decision_is_still_unseen(bench, log):
    log.ads(1)
    caps = (Cap(impressions=2, window_s=HOUR_S),)
    log.add(events.PolicyChange, policy=Policy(no_repeat_s=0, unseen_s=5, caps=caps))
    first = log.request()
    log.request(after_s=6, placement_id="side")
    log.add(events.Impression, user_id="u", ad_id="a0", decision_id=first)
    log.request()
    assert answers(bench, log) == [["a0"], ["a0"], []]
