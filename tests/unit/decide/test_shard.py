"""The decision core gives the same results, to the last bit, however the log is cut into batches."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shards import START, Bench, LogBuilder, bodies, logs, run

from models.decide.shard import ShardBounds
from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision, Outcome
from models.domain.errors import ArtifactError
from models.domain.log import Rejected
from models.domain.policy import Attribution, Cap, Policy, Triggers
from models.scorer.popularity import PopularityScorer

SMALL = ShardBounds(users=3, decisions=4, seen_ids=8)


@settings(max_examples=60, deadline=None)
@given(logs(), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_the_size_of_the_batches_changes_no_bit(records, sizes):
    one_by_one = run(Bench(bounds=SMALL).shard(), records, [1])
    assert run(Bench(bounds=SMALL).shard(), records, sizes) == one_by_one
    assert run(Bench(bounds=SMALL).shard(), records) == one_by_one


@settings(max_examples=40, deadline=None)
@given(logs(), st.integers(0, 40))
def test_a_snapshot_taken_anywhere_resumes_as_if_nothing_had_happened(records, cut):
    bench = Bench(bounds=SMALL)
    whole = bench.shard()
    expected = run(whole, records)
    first = bench.shard()
    before = run(first, records[:cut])
    resumed = bench.shard()
    resumed.load(first.dump())
    assert before + run(resumed, records[cut:]) == expected
    assert resumed.dump() == whole.dump()


def test_every_request_gets_a_decision_also_of_an_empty_catalogue(bench, log):
    log.request()
    (decision,) = bodies(run(bench.shard(), log.records), Decision)
    assert decision.ads == ()
    assert decision.decision_id == "ads.events.v1-0-0"


def test_a_decision_holds_as_many_ads_as_the_request_asks_for(bench, log):
    log.ads(9)
    log.request(slots=7)
    log.request("v")
    asked, default = bodies(run(bench.shard(), log.records), Decision)
    assert (len(asked.ads), len(default.ads)) == (7, Policy().slots)
    assert [slot.slot for slot in asked.ads] == list(range(7))


def test_a_repeated_event_counts_once(bench, log):
    log.ads()
    log.request(id="same")
    log.request(id="same")
    shard = bench.shard()
    assert len(bodies(run(shard, log.records), Decision)) == 1
    assert shard.counts["duplicate"] == 1


def test_an_event_dated_ahead_of_its_record_is_refused_and_does_not_move_the_clock(bench, log):
    log.add(events.View, user_id="u", ad_id="a", event_time=START + 365 * 86_400_000)
    log.add(events.View, user_id="u", ad_id="a")
    shard = bench.shard()
    (refused,) = bodies(run(shard, log.records), Rejected)
    assert refused.error.reason == "future"
    assert "Fix:" in str(refused.error)
    assert shard.watermark.time_ms == log.now


def test_a_late_event_is_counted_and_kept_out_of_the_windows(bench, log):
    log.request()
    log.add(events.Click, user_id="u", ad_id="a", event_time=log.now - 86_400_001 - 1000)
    log.request()
    shard = bench.shard()
    decisions = bodies(run(shard, log.records), Decision)
    assert shard.counts["late"] == 1
    assert decisions[-1].activity["session"][0] == 0


def test_an_ad_hidden_in_a_late_event_is_not_shown_again(bench, log):
    log.ads(2)
    hidden_at = log.now
    log.add(events.View, user_id="somebody", ad_id="a0", after_s=2 * DAY_S)
    log.add(events.Hide, user_id="u", ad_id="a0", event_time=hidden_at)
    log.request()
    shard = bench.shard()
    (decision,) = bodies(run(shard, log.records), Decision)
    assert shard.counts["late"] == 1
    assert [slot.ad_id for slot in decision.ads] == ["a1"]


@pytest.mark.parametrize(("cap_days", "shown"), [(7, []), (1, ["a0"])])
def test_caps_count_a_late_impression_by_its_own_time(bench, log, cap_days, shown):
    caps = (Cap(impressions=1, window_s=cap_days * DAY_S),)
    log.ads(1)
    log.add(events.PolicyChange, policy=Policy(no_repeat_s=0, caps=caps))
    decision = log.request()
    seen_at = log.now
    log.add(events.View, user_id="somebody", ad_id="a0", after_s=2 * DAY_S)
    log.add(events.Impression, user_id="u", ad_id="a0", decision_id=decision, event_time=seen_at)
    log.request()
    last = bodies(run(bench.shard(), log.records), Decision)[-1]
    assert [slot.ad_id for slot in last.ads] == shown
    assert last.activity["session"][1] == 0


def test_windows_count_what_the_user_did(bench, log):
    for _ in range(3):
        log.add(events.Click, user_id="u", ad_id="a")
    log.add(events.Dwell, user_id="u", ad_id="a", dwell_ms=2500)
    log.request(after_s=90)
    (decision,) = bodies(run(bench.shard(), log.records), Decision)
    assert decision.activity["1m"] == (0, 0, 0, 0)
    assert decision.activity["5m"] == (3, 0, 2.5, 0)
    assert decision.activity["session"] == (3, 0, 2.5, 0)


def test_a_click_triggers_a_decision_where_the_policy_says_so(bench, log):
    log.ads()
    log.add(events.PolicyChange, policy=Policy(version=2, triggers=Triggers(after_click=True, min_gap_s=10)))
    log.add(events.Click, user_id="u", ad_id="a0")
    log.add(events.Click, user_id="u", ad_id="a1")
    log.add(events.Click, user_id="u", ad_id="a1", after_s=10)
    decisions = bodies(run(bench.shard(), log.records), Decision)
    assert [(d.trigger, d.policy_version, d.request_id) for d in decisions] == [
        ("click", 2, "e0-2"),
        ("click", 2, "e0-4"),
    ]


def test_a_long_dwell_triggers_a_decision_and_a_short_one_does_not(bench, log):
    log.ads()
    log.add(events.PolicyChange, policy=Policy(triggers=Triggers(after_dwell_ms=5000)))
    log.add(events.Dwell, user_id="u", ad_id="a0", dwell_ms=4999)
    log.add(events.Dwell, user_id="u", ad_id="a0", dwell_ms=5000)
    (decision,) = bodies(run(bench.shard(), log.records), Decision)
    assert (decision.trigger, decision.request_id) == ("dwell", "e0-3")


def test_an_erased_user_starts_as_a_stranger(bench, log):
    log.ads()
    decision = log.request()
    log.add(events.Click, user_id="u", ad_id="a0", decision_id=decision)
    log.add(events.Erasure, user_id="u")
    log.request()
    log.add(events.Impression, user_id="u", ad_id="a0", decision_id=decision)
    shard = bench.shard()
    decisions = bodies(run(shard, log.records), Decision)
    assert decisions[-1].activity["session"] == (0, 0, 0, 0)
    assert shard.feedback.counts["unjoined"] == 1
    assert decisions[0].decision_id.encode() not in shard.dump()


def test_the_user_seen_longest_ago_makes_room_for_a_stranger(log):
    bench = Bench(bounds=ShardBounds(users=2))
    for user in ("a", "b", "a", "c"):
        log.add(events.View, user_id=user, ad_id="x")
    shard = bench.shard()
    run(shard, log.records)
    assert sorted(user for user, _ in shard.rows.items()) == ["a", "c"]
    assert shard.rows.forgotten == 1


def test_what_happens_to_an_ad_withdrawn_mid_flight_still_counts(bench, log):
    log.ads(1)
    decision = log.request()
    log.add(events.Impression, user_id="u", ad_id="a0", decision_id=decision)
    log.add(events.AdWithdraw, ad_ids=("a0",))
    log.add(events.Click, user_id="u", ad_id="a0", decision_id=decision)
    log.request()
    emissions = run(bench.shard(), log.records)
    assert [o.kind for o in bodies(emissions, Outcome)] == ["impression", "click"]
    assert bodies(emissions, Decision)[-1].filtered == {"withdrawn": 1}


def test_a_new_catalogue_holds_from_its_record_on(bench, log):
    log.ads(1)
    log.request()
    log.add(events.AdUpsert, ads=(bench_ad("b0"),))
    log.request("v")
    first, second = bodies(run(bench.shard(), log.records), Decision)
    assert [slot.ad_id for slot in first.ads] == ["a0"]
    assert {slot.ad_id for slot in second.ads} == {"a0", "b0"}
    assert first.catalogue_version != second.catalogue_version


def bench_ad(ad_id):
    return Ad(ad_id=ad_id, campaign_id="c")


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        (events.ModelSwitch, {"model_hash": "f" * 32}, "unknown_model"),
        (events.CatalogueSnapshot, {"artifact": "f" * 32}, "unknown_artifact"),
        (events.AdUpsert, {"ads": (None,)}, "bad_ad"),
    ],
)
def test_a_control_record_that_cannot_be_applied_is_refused_once_and_the_flow_goes_on(
    bench, log, kind, fields, reason
):
    if kind is events.AdUpsert:
        fields = {"ads": (Ad(ad_id="bad", campaign_id="c", targeting="import os"),)}
    log.add(kind, **fields)
    log.request()
    refused = [bodies(run(bench.shard(slice_=s), log.records), Rejected) for s in (0, 1)]
    assert [len(r) for r in refused] == [1, 0]
    assert refused[0][0].error.reason == reason


def test_good_ads_of_a_record_are_used_beside_bad_ones(bench, log):
    log.add(
        events.AdUpsert,
        ads=(Ad(ad_id="bad", campaign_id="c", targeting="nonsense("), Ad(ad_id="good", campaign_id="c")),
    )
    log.request()
    emissions = run(bench.shard(), log.records)
    assert [s.ad_id for s in bodies(emissions, Decision)[0].ads] == ["good"]
    assert "bad" in str(bodies(emissions, Rejected)[0].error)


def test_a_stale_version_of_the_weights_changes_nothing(bench, log):
    log.ads(1)
    log.add(events.Adjustments, version=5, ads={"a0": (1.0, 0.1)})
    log.add(events.Adjustments, version=4, ads={"a0": (9.0, 0.1)})
    log.request()
    (decision,) = bodies(run(bench.shard(), log.records), Decision)
    assert (decision.adjustments_version, decision.ads[0].parts.ad) == (5, 1.0)


def test_campaigns_out_of_budget_are_not_shown(bench, log):
    log.ads(2)
    log.add(events.Pacing, version=1, multipliers={"c1": 3.0}, exhausted=("c0",))
    log.request()
    (decision,) = bodies(run(bench.shard(), log.records), Decision)
    assert decision.filtered == {"budget": 1}
    assert [(s.ad_id, s.pacing) for s in decision.ads] == [("a1", 3.0)]


DAY_S = 86_400


def slots_after_midnight(bench, log, **pacing):
    """Return how many ads a request gets just before and just after the midnight that follows a record."""
    log.ads(2)
    log.add(events.Pacing, version=1, multipliers={"c0": 3.0}, exhausted=("c0", "c1"), **pacing)
    midnight = (log.now // (DAY_S * 1000) + 1) * DAY_S * 1000
    for at in (midnight - 1, midnight):
        log.now = at
        log.request(after_s=0)
    return [[slot.ad_id for slot in d.ads] for d in bodies(run(bench.shard(), log.records), Decision)]


def test_a_new_day_opens_all_daily_budgets_though_no_outcome_tells_the_pacer_of_it(bench, log):
    before, after = slots_after_midnight(bench, log)
    assert before == [] and set(after) == {"a0", "a1"}


def test_a_new_day_opens_no_lifetime_budget(bench, log):
    before, after = slots_after_midnight(bench, log, lifetime_exhausted=("c0",))
    assert (before, after) == ([], ["a1"])


def test_an_event_of_an_earlier_day_finds_the_campaigns_of_the_last_record_stopped(bench, log):
    log.ads(1)
    log.add(events.Pacing, version=1, exhausted=("c0",))
    log.request(event_time=log.now - DAY_S * 500)
    log.request(event_time=log.now - DAY_S * 1000 // 2)
    assert [d.ads for d in bodies(run(bench.shard(), log.records), Decision)] == [(), ()]


def test_the_day_of_a_stop_survives_a_snapshot(bench, log):
    log.ads(1)
    log.add(events.Pacing, version=1, exhausted=("c0",))
    shard, again = bench.shard(), bench.shard()
    run(shard, log.records)
    again.load(shard.dump())
    assert again.view.pacing == shard.view.pacing
    assert again.view.pacing.day == log.now // (DAY_S * 1000)


def test_a_click_logit_is_the_sum_of_its_parts(bench, log):
    log.ads(3, category="shoes")
    log.add(
        events.Adjustments, version=1, bias=(0.1, 0.1), ads={"a1": (0.4, 0.1)}, campaigns={"c2": (-0.2, 0.1)},
        segment_categories={"vip|shoes": (0.3, 0.1)},
    )  # fmt: skip
    log.request(context=events.Context(segment="vip"))
    (decision,) = bodies(run(bench.shard(), log.records), Decision)
    for slot in decision.ads:
        p = slot.parts
        total = p.base + p.bias + p.ad + p.campaign + p.segment_category + p.user_category
        assert slot.pctr == pytest.approx(1 / (1 + math.exp(-total)), rel=1e-12)
        assert p.segment_category == pytest.approx(0.3)


def test_what_is_learned_of_a_segment_holds_for_conversions_as_far_as_the_model_says():
    def pcvr_logit(slope):
        scorer, log = PopularityScorer(), LogBuilder()
        scorer.adjustment_slope = slope
        log.ads(1, category="shoes")
        log.add(events.Adjustments, version=1, segment_categories={"vip|shoes": (0.8, 0.1)})
        log.request(context=events.Context(segment="vip"))
        (decision,) = bodies(run(Bench(scorer).shard(), log.records), Decision)
        pcvr = decision.ads[0].pcvr
        return math.log(pcvr / (1 - pcvr))

    assert pcvr_logit(0.5) - pcvr_logit(0.0) == pytest.approx(0.5 * 0.8)


def test_clicks_teach_the_users_taste(bench, log):
    log.ads(2, category="shoes")
    for _ in range(3):
        decision = log.request()
        for ad in ("a0", "a1"):
            log.add(events.Click, user_id="u", ad_id=ad, decision_id=decision, after_s=200)
    log.request(after_s=4000)
    log.request("stranger")
    known, stranger = bodies(run(bench.shard(), log.records), Decision)[-2:]
    assert known.ads[0].parts.user_category > 0
    assert stranger.ads[0].parts.user_category == 0


def test_a_snapshot_of_another_place_is_refused(bench):
    with pytest.raises(ArtifactError, match="snapshot of a shard"):
        bench.shard(partition=1).load(bench.shard(partition=0).dump())


def test_a_damaged_snapshot_is_refused(bench):
    with pytest.raises(ArtifactError, match="snapshot"):
        bench.shard().load(b"\xc1")


def test_a_policy_that_cannot_be_kept_is_refused(bench, log):
    log.add(events.PolicyChange, policy=Policy(version=9, caps=(Cap(impressions=10_000),)))
    (refused,) = bodies(run(bench.shard(), log.records), Rejected)
    assert refused.error.reason == "bad_policy"


def test_no_cap_is_exceeded_for_a_user_who_sees_a_thousand_ads_an_hour():
    """Of 70 ads with 3 impressions an hour each, none is left after 210; the next hour brings them back."""
    bench, log, served = Bench(), LogBuilder(), Counter()
    log.ads(70)
    log.add(events.PolicyChange, policy=Policy(no_repeat_s=0, caps=(Cap(impressions=3, window_s=3600),)))
    shard, taken = bench.shard(), 0
    for turn in range(300):
        log.request()
        emissions = run(shard, log.records[taken:])
        taken = len(log.records)
        for slot in bodies(emissions, Decision)[0].ads:
            served[slot.ad_id] += 1
            log.add(events.Impression, user_id="u", ad_id=slot.ad_id, after_s=0.0)
        if turn == 30:
            dumped, shard = shard.dump(), bench.shard()
            shard.load(dumped)
    assert set(served.values()) == {3} and len(served) == 70
    log.request(after_s=3600.0)
    assert len(bodies(run(shard, log.records[taken:]), Decision)[0].ads) == 5


def test_unlabelled_impressions_become_negatives_in_event_time():
    log = LogBuilder()
    log.ads(1)
    log.add(events.PolicyChange, policy=Policy(attribution=Attribution(no_click_after_s=30)))
    decision = log.request()
    log.add(events.Impression, user_id="u", ad_id="a0", decision_id=decision)
    log.add(events.View, user_id="somebody", ad_id="a0", after_s=29)
    log.add(events.View, user_id="somebody", ad_id="a0", after_s=1)
    outcomes = bodies(run(Bench().shard(), log.records), Outcome)
    assert [(o.kind, o.event_time - START) for o in outcomes] == [("impression", 4000), ("no_click", 34000)]


@pytest.mark.parametrize(
    ("windows", "shown_s", "silent_s"),
    [
        (Attribution(no_click_after_s=60, click_through_s=300, view_through_s=0), 1, 600),
        (Attribution(no_click_after_s=60, click_through_s=300, view_through_s=0), 350, 20),
        (Attribution(no_click_after_s=600, click_through_s=300, view_through_s=0), 1, 400),
    ],
)
def test_an_impression_gets_its_label_however_late_it_came_and_however_long_nothing_follows(
    windows, shown_s, silent_s
):
    log = LogBuilder()
    log.ads(1)
    log.add(events.PolicyChange, policy=Policy(lateness_s=60, attribution=windows))
    decision = log.request()
    log.add(events.Impression, user_id="u", ad_id="a0", decision_id=decision, after_s=shown_s)
    for _ in range(3):
        log.add(events.View, user_id="somebody", ad_id="a0", after_s=silent_s)
    outcomes = bodies(run(Bench().shard(), log.records), Outcome)
    assert [outcome.kind for outcome in outcomes] == ["impression", "no_click"]
    assert outcomes[1].event_time - outcomes[0].event_time == windows.no_click_after_s * 1000


def test_a_look_on_the_users_own_account_is_no_feedback_that_joins_nothing(bench, log):
    log.ads(1)
    log.add(events.View, user_id="u", ad_id="a0")
    log.add(events.Click, user_id="u", ad_id="a0")
    shard = bench.shard()
    run(shard, log.records)
    assert shard.feedback.counts == {"unjoined": 1}
