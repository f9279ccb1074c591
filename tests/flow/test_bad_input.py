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
    "a model nobody has": (click(type="model", model_hash="0" * 32), "unknown_model"),
    "a catalogue nobody has": (click(type="catalogue", artifact="0" * 32), "unknown_artifact"),
    "a name that is no hash": (click(type="catalogue", artifact="../../etc/passwd"), "unknown_artifact"),
    "no hash for a model": (click(type="model", model_hash="../model"), "unknown_model"),
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
