"""Going through a recorded log again to look at a decision."""

import msgspec
import pytest
from support.shards import START

from connectors.log_files import write_log
from flows.inspection import fate_in_log, replay_watched, watched
from flows.service import Service
from flows.settings import load_settings
from models.domain import events
from models.domain.catalogue import Ad
from models.domain.errors import LogError
from models.domain.log import LogRecord

TOPIC = "ads.events.v1"


@pytest.fixture
def service(tmp_path):
    return Service.of(load_settings(artifacts=tmp_path / "artifacts"))


@pytest.fixture
def log(tmp_path):
    """Two partitions with the same ads; a cut record and a user's events in partition 1."""
    ads = (Ad(ad_id="a", campaign_id="a"), Ad(ad_id="b", campaign_id="b", targeting='country == "de"'))
    about = {"user_id": "u"}
    told = [
        (0, events.AdUpsert(id="ads", event_time=START, ads=ads)),
        (1, events.AdUpsert(id="ads", event_time=START, ads=ads)),
        (1, None),
        (1, events.Request(id="r1", event_time=START + 1, **about)),
        (1, events.Hide(id="h", event_time=START + 2, ad_id="a", **about)),
        (0, events.Request(id="r2", event_time=START + 3, user_id="v")),
        (1, events.Request(id="r3", event_time=START + 9_000, **about)),
        (1, events.Request(id="r3", event_time=START + 9_000, **about)),
    ]
    records, offsets = [], [0, 0]
    for partition, event in told:
        value = b'{"type":' if event is None else msgspec.json.encode(event)
        records.append(LogRecord(TOPIC, partition, offsets[partition], START + 9, None, value))
        offsets[partition] += 1
    write_log(tmp_path / "log.jsonl", records)
    return tmp_path / "log.jsonl"


def test_an_ads_fate_is_that_of_the_moment_of_the_decision(log, service):
    assert fate_in_log(log, service, f"{TOPIC}-1-2", "a").status == "shown"
    later = fate_in_log(log, service, f"{TOPIC}-1-4", "a")
    assert [why.reason for why in later.why] == ["hidden"]


def test_another_partition_has_its_own_users(log, service):
    assert fate_in_log(log, service, f"{TOPIC}-0-1", "a").status == "shown"
    assert fate_in_log(log, service, f"{TOPIC}-0-1", "b").why[0].reason == "targeting"


@pytest.mark.parametrize(
    ("decision_id", "message"),
    [
        ("nonsense", "topic-partition-offset"),
        (f"{TOPIC}-1-99", "no such record"),
        (f"{TOPIC}-1-0", "no user's event"),
        (f"{TOPIC}-1-1", "no user's event"),
        (f"{TOPIC}-1-3", "no decision"),
        (f"{TOPIC}-1-5", "no decision"),
    ],
)
def test_an_id_that_names_no_decision_is_refused_with_the_reason(log, service, decision_id, message):
    with pytest.raises(LogError, match=message):
        fate_in_log(log, service, decision_id, "a")


def test_a_whole_log_is_taken_through_and_each_decision_is_looked_at_once(log, service):
    seen = []
    watch = watched(service, lambda view, profiles, job: seen.append(job.decision_id))
    replay_watched(log, service, watch, {TOPIC})
    assert sorted(seen) == [f"{TOPIC}-0-1", f"{TOPIC}-1-2", f"{TOPIC}-1-4"]
