"""Raw topics become the log: mapped, keyed by user, what cannot be mapped kept with its reason."""

from __future__ import annotations

import json

import pytest
from support.flow_runs import MemoryLog, MemorySink, reason, run_flow

from connectors.codec import EventCodec
from connectors.mapping import parse_mappings
from flows.ingest import flow, ingest, step_name
from flows.settings import Settings
from models.domain.errors import SettingError
from models.domain.log import LogRecord

MAPPINGS = parse_mappings("""
[[topics]]
topic = "shop.clicks"
type = "name"
types = { product_view = "view", add_to_cart = "click" }
ignore = ["heartbeat"]
time = { field = "ts", format = "epoch_s" }
fields = { user_id = "who", ad_id = "what" }

[[topics]]
topic = "app.pages"
kind = "request"
fields = { user_id = "user.id" }
""")


def raw(topic: str, partition: int, values: list) -> list[LogRecord]:
    data = [v if isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    return [LogRecord(topic, partition, n, 1_700_000_000_000 + n, b"k%d" % n, v) for n, v in enumerate(data)]


def cart(n: int, name: str = "add_to_cart") -> dict:
    return {"name": name, "ts": 1_700_000_000 + n, "who": f"u{n % 5}", "what": n}


def run(clicks, pages, workers=1, batch=512) -> MemorySink:
    sink = MemorySink()
    sources = {"shop.clicks": MemoryLog(clicks, batch), "app.pages": MemoryLog(pages, batch)}
    run_flow(ingest(sources, MAPPINGS, sink), workers)
    return sink


PAGES = raw("app.pages", 0, [{"user": {"id": "p"}}])


def test_raw_records_become_events_keyed_by_user():
    sink = run(raw("shop.clicks", 0, [cart(3)]), PAGES)
    found = {output.key: json.loads(output.value) for output in sink.stream("events")}
    assert found[b"u3"] | {"id": ""} == {
        "type": "click",
        "id": "",
        "event_time": 1_700_000_003_000,
        "user_id": "u3",
        "ad_id": "3",
        "decision_id": None,
    }
    assert found[b"p"]["type"] == "request"


def test_everything_that_comes_out_is_what_the_log_takes():
    codec = EventCodec()
    for output in run(raw("shop.clicks", 0, [cart(n) for n in range(50)]), PAGES).stream("events"):
        event = codec.decode(LogRecord("ads.events.v1", 0, 0, 0, output.key, output.value))
        assert output.key == event.user_id.encode()


def test_what_cannot_be_mapped_keeps_its_bytes_and_its_reason_and_the_flow_goes_on():
    bad = [b'{"name": "add', b"", cart(1) | {"who": None}, cart(2, "scroll"), cart(3) | {"ts": "NaN"}]
    sink = run(raw("shop.clicks", 0, [*bad, cart(4)]), PAGES)
    letters = sink.stream("dead_letters")
    assert [reason(letter) for letter in letters] == [
        "not_json", "empty", "bad_value", "unknown_type", "bad_value",
    ]  # fmt: skip
    assert letters[0].value == bad[0]
    assert letters[0].key == b"k0"
    assert dict(letters[0].headers)["dead-letter-source-topic"] == b"shop.clicks"
    assert len(sink.stream("events")) == 2


def test_what_the_mapping_ignores_leaves_no_trace():
    sink = run(raw("shop.clicks", 0, [cart(1, "heartbeat")]), PAGES)
    assert len(sink.outputs) == 1


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (2, 7)])
def test_workers_and_batches_change_nothing_within_a_partition(workers, batch):
    clicks = [
        *raw("shop.clicks", 0, [cart(n) for n in range(40)]),
        *raw("shop.clicks", 1, [cart(n) for n in range(9)]),
    ]
    assert of_users(run(clicks, PAGES, workers, batch)) == of_users(run(clicks, PAGES))


def of_users(sink: MemorySink) -> dict:
    """Return the events that each raw partition gave each user, in order."""
    found: dict = {}
    for output in sink.stream("events"):
        event = json.loads(output.value)
        found.setdefault((event["id"].rpartition("-")[0], output.key), []).append(event["id"])
    return found


def test_topics_give_steps_of_different_names_without_dots():
    names = [step_name(topic) for topic in ("a.b", "a_b", "a-b", "ab")]
    assert len(set(names)) == 4
    assert not any("." in name for name in names)


@pytest.mark.parametrize("topic", ["ads.events.v1", "ads.events.v1.dlq"])
def test_a_topic_that_is_written_is_no_raw_topic_for_its_records_would_come_back(topic):
    mappings = parse_mappings(f'[[topics]]\ntopic = "{topic}"\nkind = "request"\nfields.user_id = "u"\n')
    with pytest.raises(SettingError, match=rf"raw topic of the mapping: got '?{topic}'?, .*Fix: "):
        flow(Settings(), mappings)
