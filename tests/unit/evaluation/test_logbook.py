"""Places in a log as Kafka gives them, and recorded logs made by the world."""

from collections import defaultdict

import msgspec
import pytest

from models.domain.events import AdUpsert, Event, Request
from models.evaluation.generate import generate_log
from models.evaluation.logbook import Logbook, murmur2, partition_of
from models.evaluation.world_config import Sizes, Traffic, WorldConfig

SMALL = WorldConfig(sizes=Sizes(users=50, ads=40), traffic=Traffic(requests_per_s=20, views_per_s=10))


@pytest.mark.parametrize(
    ("text", "signed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_gives_the_values_that_kafkas_own_tests_state(text, signed):
    assert murmur2(text.encode()) == signed % 2**32


def test_a_key_always_goes_to_the_same_partition():
    places = [partition_of(f"user-{i}".encode(), 8) for i in range(4000)]
    assert places == [partition_of(f"user-{i}".encode(), 8) for i in range(4000)]
    assert all(400 < places.count(p) < 600 for p in range(8))


def test_offsets_are_dense_and_users_keep_their_partition():
    offsets, home = defaultdict(int), {}
    for record in generate_log(SMALL, 5, partitions=3):
        assert record.offset == offsets[record.partition]
        offsets[record.partition] += 1
        if record.key:
            assert home.setdefault(record.key, record.partition) == record.partition
            assert record.partition == partition_of(record.key, 3)
    assert len(offsets) == 3


def test_control_records_stand_in_every_partition_and_the_catalogue_first():
    first = {}
    for record in generate_log(SMALL, 3, partitions=4):
        first.setdefault(record.partition, record.value)
    assert len(set(first.values())) == 1
    assert isinstance(msgspec.json.decode(first[0], type=Event), AdUpsert)


def test_ingest_times_follow_event_times_and_never_run_back():
    last = defaultdict(int)
    for record in generate_log(SMALL, 4, partitions=2):
        event = msgspec.json.decode(record.value, type=Event)
        assert record.timestamp_ms >= event.event_time
        assert record.timestamp_ms >= last[record.partition]
        last[record.partition] = record.timestamp_ms


def test_a_generated_log_is_the_same_every_time():
    assert list(generate_log(SMALL, 4)) == list(generate_log(SMALL, 4))


def test_decision_ids_of_the_log_are_places_of_its_requests():
    requests, named = set(), set()
    for record in generate_log(SMALL, 6, partitions=2):
        event = msgspec.json.decode(record.value, type=Event)
        if isinstance(event, Request):
            requests.add(f"{record.topic}-{record.partition}-{record.offset}")
        elif getattr(event, "decision_id", None):
            named.add(event.decision_id)
    assert named
    assert named <= requests


def test_a_share_of_events_comes_twice_where_the_world_says_so():
    twice = WorldConfig(
        sizes=SMALL.sizes, traffic=Traffic(requests_per_s=50, views_per_s=20, duplicate_share=0.2)
    )
    ids = [msgspec.json.decode(r.value)["id"] for r in generate_log(twice, 5, partitions=1)]
    assert 0.1 < 1 - len(set(ids)) / len(ids) < 0.25


def test_a_log_continues_from_any_second_of_the_world():
    early = msgspec.structs.replace(SMALL, start_s=-30)
    times = [r.timestamp_ms for r in generate_log(early, 2)]
    assert min(times) == early.epoch_ms - 30_000 + early.traffic.ingest_delay_ms


def test_a_logbook_of_one_partition_takes_everything():
    request = Request(id="r", event_time=5, user_id="u")
    assert [r.offset for _ in range(3) for r in Logbook(1).append(request)] == [0, 0, 0]
