"""Whatever comes in, nothing is lost: each record is answered, or a dead letter that says why."""

from __future__ import annotations

import json

import pytest
from support.flow_runs import MemoryLog, MemorySink, reason, run_flow
from support.raw_log import RawLog
from support.shards import START

from connectors.codec import MAX_BYTES
from flows.personalize import personalize

YEAR_MS = 365 * 86_400_000


@pytest.fixture
def log() -> RawLog:
    return RawLog()


@pytest.fixture
def run(service):
    def run(log: RawLog, batch: int = 512) -> MemorySink:
        sink = MemorySink()
        run_flow(personalize(MemoryLog(log.records, batch), sink, service()))
        return sink

    return run


def decisions(sink: MemorySink) -> list[dict]:
    return [json.loads(output.value) for output in sink.stream("decisions")]


def outcomes(sink: MemorySink) -> list[dict]:
    return [json.loads(output.value) for output in sink.stream("outcomes")]


def click(**fields) -> bytes:
    return json.dumps(
        {"type": "click", "id": "x", "event_time": START, "user_id": "u", "ad_id": "a1"} | fields
    ).encode()


def offer(**fields) -> bytes:
    return click(type="ad_upsert", ads=[{"ad_id": "z", "campaign_id": "z"} | fields])


def rule(**fields) -> bytes:
    return click(type="policy", policy=fields)


BAD = {
    "nothing": (None, "empty"),
    "empty": (b"", "empty"),
    "cut JSON": (click()[:-7], "not_json"),
    "no JSON": (b"\x00\xff\x80", "not_json"),
    "broken UTF-8": (click().replace(b'"u"', b'"\xc3"'), "not_json"),
    "NaN": (click(dwell_ms=float("nan")), "not_json"),
    "infinity": (click(event_time=float("inf")), "not_json"),
    "deep nesting": (b'{"type":"click","x":' + b"[" * 100_000, "not_json"),
    "an array": (b"[]", "bad_value"),
    "no type": (b"{}", "unknown_type"),
    "unknown type": (click(type="buy"), "unknown_type"),
    "a text for a number": (click(event_time="now"), "bad_value"),
    "a number for a text": (click(user_id=7), "bad_value"),
    "a fraction of a millisecond": (click(event_time=START + 0.5), "bad_value"),
    "a missing user": (click(user_id=None), "bad_value"),
    "an empty id": (click(id=""), "bad_value"),
    "a huge string": (click(user_id="u" * 100_000), "bad_value"),
    "a huge record": (click(note="x" * MAX_BYTES), "too_large"),
    "a huge number": (click(event_time=10**30), "bad_value"),
    "a time before 1970": (click(event_time=-1), "bad_value"),
    "a clock a year ahead": (click(event_time=START + YEAR_MS), "future"),
    "an ad without a campaign": (click(type="ad_upsert", ads=[{"ad_id": "a"}]), "bad_value"),
    "an ad with a bad rule": (
        click(type="ad_upsert", ads=[{"ad_id": "z", "campaign_id": "c", "targeting": "__import__('os')"}]),
        "bad_ad",
    ),
    "a bid below nothing": (offer(bid_micros=-1), "bad_value"),
    "a bid beyond all money": (offer(bid_micros=10**16), "bad_value"),
    "a bid a million times too high": (offer(bid_micros=10**13), "bad_ad"),
    "a budget below nothing": (offer(daily_budget_micros=-5), "bad_value"),
    "a budget that pays for no click": (offer(lifetime_budget_micros=0), "bad_ad"),
    "a budget that is no number": (offer(daily_budget_micros=float("nan")), "not_json"),
    "a conversion worth less than nothing": (click(type="conversion", value_micros=-1), "bad_value"),
    "a conversion worth NaN": (click(type="conversion", value_micros=float("nan")), "not_json"),
    "weights without a version": (click(type="adjustments"), "bad_value"),
    "a weight that is absurd": (click(type="adjustments", version=9, ads={"a1": [99.0, 0.1]}), "bad_value"),
    "a multiplier below nothing": (click(type="pacing", version=9, multipliers={"c": -1.0}), "bad_value"),
    "a model nobody has": (click(type="model", model_hash="0" * 32), "unknown_model"),
    "a catalogue nobody has": (click(type="catalogue", artifact="0" * 32), "unknown_artifact"),
    "a name that is no hash": (click(type="catalogue", artifact="../../etc/passwd"), "unknown_artifact"),
    "no hash for a model": (click(type="model", model_hash="../model"), "unknown_model"),
    "a bid type with a line's end": (offer(bid_type="cpc\n"), "bad_value"),
    "a review with a line's end": (
        offer(creatives=[{"creative_id": "q", "review": "approved\n"}]),
        "bad_value",
    ),
    "a schedule without end": (offer(end_time=10**20), "bad_value"),
    "a start after all time": (offer(start_time=2**63), "bad_value"),
    "a cap of no scope": (rule(caps=[{"scope": "ad\n"}]), "bad_value"),
    "a cap beyond all time": (rule(caps=[{"window_s": 2**60}]), "bad_value"),
    "more caps than anybody can count": (rule(caps=[{}] * 1000), "bad_value"),
    "no repeat in all time": (rule(no_repeat_s=2**62), "bad_value"),
    "ads that stay new for ever": (rule(new_ad_share=1.0, new_ad_s=2**62), "bad_value"),
    "a number of new ads' impressions that no float holds": (rule(new_ad_impressions=10**400), "bad_value"),
    "more ads of a campaign than there are numbers": (rule(max_per_campaign=2**63), "bad_value"),
    "a wait for clicks beyond all time": (rule(attribution={"no_click_after_s": 2**62}), "bad_value"),
    "a temperature of nothing": (rule(exploration={"temperature": 1e-320}), "bad_value"),
    "a policy's version beyond all numbers": (rule(version=2**70), "bad_value"),
    "weights of a version beyond all numbers": (click(type="adjustments", version=2**65), "bad_value"),
    "a weight of which nothing is known at all": (
        click(type="adjustments", version=9, ads={"a1": [0.0, 1e9]}),
        "bad_value",
    ),
    "a multiplier beyond all money": (click(type="pacing", version=9, multipliers={"c": 1e300}), "bad_value"),
    "pacing of a version beyond all numbers": (click(type="pacing", version=2**65), "bad_value"),
    "a policy that cannot be kept": (
        click(type="policy", policy={"caps": [{"impressions": 10**6}]}),
        "bad_policy",
    ),
}


@pytest.mark.parametrize(("value", "why"), BAD.values(), ids=BAD.keys())
def test_a_bad_record_is_a_dead_letter_and_the_next_request_is_answered(log, run, value, why):
    log.ads()
    bad = log.raw(value, b"the key")
    log.request()
    sink = run(log)
    (letter,) = sink.stream("dead_letters")
    headers = dict(letter.headers)
    assert reason(letter) == why
    assert headers["dead-letter-message"]
    assert (letter.source_partition, letter.source_offset) == (0, bad.offset)
    assert headers["dead-letter-source-offset"] == b"%d" % bad.offset
    if len(value or b"") < 900_000:
        assert (letter.key, letter.value) == (bad.key, bad.value)
    (decision,) = decisions(sink)
    assert len(decision["ads"]) == 5


@pytest.mark.parametrize("batch", [1, 7, 512])
def test_all_bad_records_at_once_are_each_answered_in_their_place(log, run, batch):
    log.ads()
    expected = {}
    for n, (value, why) in enumerate(BAD.values()):
        expected[log.raw(value and value.replace(b'"id": "x"', b'"id": "x%d"' % n)).offset] = why
        log.request(f"u{n}")
    sink = run(log, batch)
    assert {letter.source_offset: reason(letter) for letter in sink.stream("dead_letters")} == expected
    assert len(decisions(sink)) == len(BAD)


def test_an_empty_catalogue_gives_empty_decisions(log, run):
    log.request()
    log.event("click", user_id="u", ad_id="never heard of")
    log.request()
    found = decisions(run(log))
    assert [decision["ads"] for decision in found] == [[], []]
    assert [decision["candidates"] for decision in found] == [0, 0]


def test_a_user_without_history_gets_ads(log, run):
    log.ads()
    log.request("stranger")
    (decision,) = decisions(run(log))
    assert len(decision["ads"]) == 5


def test_events_on_unknown_ads_count_for_the_user_and_are_joined_with_nothing(log, run):
    log.ads()
    log.event("click", user_id="u", ad_id="unknown")
    log.event("impression", user_id="u", ad_id="unknown", decision_id="ads.events.v1-0-99")
    log.event("click", user_id="u", ad_id="a1", decision_id="nonsense")
    log.request()
    sink = run(log)
    (decision,) = decisions(sink)
    assert decision["activity"]["session"][:2] == [2.0, 1.0]
    assert outcomes(sink) == []
    assert sink.stream("dead_letters") == []


def test_feedback_on_another_users_decision_is_not_joined(log, run):
    log.ads(1)
    log.request("u")
    log.event("click", user_id="thief", ad_id="a0", decision_id="ads.events.v1-0-1")
    assert outcomes(run(log)) == []


def test_a_clock_a_year_ahead_makes_nobody_else_late(log, run):
    log.ads(1)
    log.event("view", user_id="fast", ad_id="a0", event_time=START + YEAR_MS)
    log.request("u")
    log.event("impression", user_id="u", ad_id="a0", decision_id="ads.events.v1-0-2")
    log.event("click", user_id="u", ad_id="a0", decision_id="ads.events.v1-0-2")
    sink = run(log)
    assert [(outcome["kind"], outcome["late"]) for outcome in outcomes(sink)] == [
        ("impression", False),
        ("click", False),
    ]


def test_duplicates_change_nothing(log, run):
    log.ads(1)
    for _ in range(3):
        log.request(id="r")
    for _ in range(3):
        log.event("impression", id="i", user_id="u", ad_id="a0", decision_id="ads.events.v1-0-1")
        log.event("click", id="c", user_id="u", ad_id="a0", decision_id="ads.events.v1-0-1")
    log.request(id="last")
    sink = run(log)
    assert [decision["request_id"] for decision in decisions(sink)] == ["r", "last"]
    assert [outcome["kind"] for outcome in outcomes(sink)] == ["impression", "click"]
    assert decisions(sink)[-1]["activity"]["session"][:2] == [1.0, 1.0]


def test_out_of_order_events_are_joined_and_counted(log, run):
    log.ads(1)
    log.request()
    seen = log.now
    log.event("click", user_id="u", ad_id="a0", decision_id="ads.events.v1-0-1", event_time=seen + 500)
    log.event("impression", user_id="u", ad_id="a0", decision_id="ads.events.v1-0-1", event_time=seen + 200)
    log.request(event_time=seen + 100)
    sink = run(log)
    assert [outcome["kind"] for outcome in outcomes(sink)] == ["impression", "click"]
    assert len(decisions(sink)) == 2


def test_a_catalogue_changed_mid_stream_holds_from_its_record_on_in_any_batch(log, run):
    log.ads(2)
    log.request("u")
    log.event("ad_upsert", ads=[{"ad_id": "new", "campaign_id": "n"}])
    log.event("ad_withdraw", ad_ids=["a0", "never there"])
    log.request("v")
    for batch in (1, 512):
        found = {d["user_id"]: {slot["ad_id"] for slot in d["ads"]} for d in decisions(run(log, batch))}
        assert found == {"u": {"a0", "a1"}, "v": {"a1", "new"}}


def test_fields_of_a_newer_producer_are_ignored(log, run):
    log.request(invented={"later": [1, 2]})
    assert len(decisions(run(log))) == 1


def about(user="u", ad="a0", offset=1) -> dict:
    return {"user_id": user, "ad_id": ad, "decision_id": f"ads.events.v1-0-{offset}"}


def test_a_conversion_before_its_click_counts_through_the_view_and_the_click_still_counts(log, run):
    log.ads(1)
    log.request()
    log.event("impression", **about())
    log.event("conversion", value_micros=7, **about())
    log.event("click", **about())
    found = [(outcome["kind"], outcome["through"]) for outcome in outcomes(run(log))]
    assert found == [("impression", ""), ("conversion", "view"), ("click", "")]


def test_a_conversion_dated_before_the_click_that_it_follows_in_the_log_is_not_the_clicks(log, run):
    log.ads(1)
    log.request()
    log.event("impression", **about())
    clicked = log.now + 1000
    log.event("click", **about())
    log.event("conversion", event_time=clicked - 500, **about())
    kinds = {outcome["kind"]: outcome["through"] for outcome in outcomes(run(log))}
    assert kinds["conversion"] == "view"


def test_a_conversion_of_an_ad_that_was_never_shown_is_attributed_to_nothing(log, run):
    log.ads(1)
    log.request()
    log.event("conversion", **about())
    log.event("conversion", **about(ad="other"))
    log.event("conversion", **about(offset=99))
    sink = run(log)
    assert outcomes(sink) == [] and sink.stream("dead_letters") == []


def test_a_campaign_withdrawn_mid_flight_is_shown_no_more_and_still_pays_for_its_clicks(log, run):
    log.event(
        "ad_upsert", ads=[{"ad_id": f"a{n}", "campaign_id": "c", "floor_micros": 1000} for n in range(2)]
    )
    log.request()
    log.event("impression", **about())
    log.event("ad_withdraw", ad_ids=["a0", "a1"])
    log.event("click", **about())
    log.event("conversion", **about())
    log.request("v")
    sink = run(log)
    charges = {outcome["kind"]: outcome["charge_micros"] for outcome in outcomes(sink)}
    assert charges["click"] > 0 and set(charges) == {"impression", "click", "conversion"}
    assert {decision["user_id"]: len(decision["ads"]) for decision in decisions(sink)} == {"u": 2, "v": 0}


def test_weights_and_pacing_of_an_older_version_that_arrive_late_change_nothing(log, run):
    log.ads(1)
    log.event("adjustments", version=7, ads={"a0": [1.0, 0.1]})
    log.event("pacing", version=7, multipliers={"c0": 0.5})
    log.event("adjustments", version=6, ads={"a0": [-5.0, 0.1]}, reset=True)
    log.event("pacing", version=6, multipliers={"c0": 50.0}, exhausted=["c0"])
    log.request()
    (decision,) = decisions(run(log))
    (slot,) = decision["ads"]
    assert (decision["adjustments_version"], decision["pacing_version"]) == (7, 7)
    assert (slot["parts"]["ad"], slot["pacing"]) == (1.0, 0.5)
