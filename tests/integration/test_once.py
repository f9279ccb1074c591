"""The Kafka sink with a recovery store, between crashes: every output stands in its topic once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from bytewax.outputs import StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from support.kafka_io import read_all

from connectors import standing
from connectors.client import KafkaConfig
from connectors.kafka import KafkaSink
from models.domain.errors import LogError
from models.domain.log import Output

PARTS = ("000", "001")


class Run:
    """One process between two crashes: the parts of a sink, resumed from what a snapshot noted."""

    def __init__(self, sink: KafkaSink, states: dict[str, object]) -> None:
        self._parts: dict[str, StatefulSinkPartition] = {
            name: sink.build_part("out", name, states.get(name)) for name in PARTS
        }

    def write(self, numbers: range, part: str = "000") -> None:
        self._parts[part].write_batch([[output(n) for n in numbers]])

    def snapshot(self, *parts: str) -> dict[str, object]:
        return {part: self._parts[part].snapshot() for part in parts or PARTS}

    def crash(self) -> None:
        """Let what was written arrive; nothing of it was noted."""
        for part in self._parts.values():
            part.close()


def output(n: int) -> Output:
    return Output("decisions", b"u%d" % (n % 7), b"%d" % n, n % 3, n // 3)


@pytest.fixture
def topic(embedded_topic: Callable[[int], str]) -> str:
    return embedded_topic(4)


@pytest.fixture
def start(embedded_broker, topic, tmp_path):
    def start(states: dict[str, object] | None = None, **settings: object) -> Run:
        topics = {"decisions": topic}
        sink = KafkaSink(KafkaConfig(embedded_broker.bootstrap), topics, store=tmp_path, **settings)
        return Run(sink, states or {})

    return start


@pytest.fixture
def written(embedded_broker, topic):
    """Count how often each number stands in the topic."""
    return lambda: Counter(int(m.value()) for m in read_all(KafkaConfig(embedded_broker.bootstrap), topic))


def once(*numbers: int) -> Counter[int]:
    return Counter(range(*numbers))


def test_what_was_written_after_the_snapshot_is_not_written_again(start, written):
    run = start()
    run.write(range(50))
    states = run.snapshot()
    run.write(range(50, 90))
    run.crash()
    run = start(states)
    run.write(range(50, 120))
    run.snapshot()
    assert written() == once(120)


def test_a_flow_that_dies_before_its_first_snapshot_does_not_say_it_twice(start, written):
    for numbers in (range(30), range(40)):
        run = start()
        run.write(numbers)
        run.crash()
    assert written() == once(40)


def test_what_stood_before_the_store_was_made_is_no_matter(start, written, tmp_path):
    run = start()
    run.write(range(30))
    run.crash()
    (tmp_path / "outputs.json").unlink()
    run = start()
    run.write(range(30))
    run.crash()
    assert written() == once(30) + once(30)


def test_a_crash_while_it_catches_up_with_an_earlier_one_changes_nothing(start, written):
    run = start()
    run.write(range(10))
    states = run.snapshot()
    run.write(range(10, 90))
    run.crash()
    run = start(states)
    run.write(range(10, 40))
    states = run.snapshot()
    run.write(range(40, 60))
    run.crash()
    run = start(states)
    run.write(range(40, 100))
    run.snapshot()
    assert written() == once(100)


@pytest.mark.parametrize(("quiet", "busy"), [PARTS, PARTS[::-1]])
def test_a_part_that_had_nothing_to_write_may_keep_an_older_snapshot(start, written, caplog, quiet, busy):
    run = start()
    run.write(range(10), quiet)
    run.write(range(10, 20), busy)
    states = run.snapshot()
    run.write(range(20, 40), busy)
    states |= run.snapshot(busy)
    run.write(range(40, 50), quiet)
    run.crash()
    run = start(states)
    run.write(range(40, 60), quiet)
    run.snapshot()
    assert written() == once(60)
    assert "not decided again" not in caplog.text, "it goes on from the newer one"


def test_the_same_output_twice_stands_twice(start, written):
    run = start()
    run.write(range(3))
    run.write(range(3))
    run.crash()
    run = start()
    for _ in range(3):
        run.write(range(3))
    run.snapshot()
    assert written() == once(3) + once(3) + once(3)


def test_what_another_process_writes_is_left_to_it(start, written):
    """Partitions 0 and 1 of the log are ours, 2 is another process's."""
    run = start(partitions=[0, 1])
    states = run.snapshot()
    run.write(range(12))
    run.crash()
    run = start(states, partitions=[0, 1])
    run.write(range(12))
    run.snapshot()
    assert written() == once(12) + Counter(n for n in range(12) if n % 3 == 2)


def test_what_is_decided_otherwise_stands_beside_it_and_is_told(start, written, caplog):
    run = start()
    run.write(range(6))
    run.crash()
    run = start()
    run.write(range(6, 12))
    run.snapshot()
    assert written() == once(12)
    assert "6 outputs from before a crash were not decided again" in caplog.text


def test_a_state_of_another_release_is_refused(start):
    with pytest.raises(LogError, match="version 1"):
        start({"000": {"version": 2}})


def test_a_note_that_cannot_be_read_is_refused(start, tmp_path: Path):
    (tmp_path / "outputs.json").write_text("{")
    with pytest.raises(LogError, match="restore it from a copy"):
        start()


def refusing(monkeypatch, code: int, clients: int) -> list[object]:
    """Let so many of the next clients that ask where topics end get an error; return who has asked."""
    asking: list[object] = []
    answered = AdminClient.list_offsets

    def list_offsets(client: object, *args: object, **options: object) -> object:
        if client not in asking:
            asking.append(client)
        if client in asking[:clients]:
            raise KafkaException(KafkaError(code))
        return answered(client, *args, **options)

    monkeypatch.setattr(AdminClient, "list_offsets", list_offsets)
    monkeypatch.setattr(standing, "ASK_AGAIN_S", 0.0)
    return asking


@pytest.mark.parametrize("code", [KafkaError.FENCED_LEADER_EPOCH, KafkaError._TIMED_OUT])
def test_a_partition_that_gets_another_leader_ends_no_flow(start, written, monkeypatch, caplog, code):
    """A client that has asked once goes on asking the leader that it knows."""
    run = start()
    run.write(range(10))
    refusing(monkeypatch, code, clients=2)
    run.snapshot()
    assert written() == once(10)
    assert caplog.text.count("Asking again") == 2


def test_a_topic_that_may_not_be_asked_ends_a_flow_at_once(start, monkeypatch):
    run = start()
    run.write(range(10))
    asking = refusing(monkeypatch, KafkaError.TOPIC_AUTHORIZATION_FAILED, clients=2)
    with pytest.raises(LogError, match="Fix"):
        run.snapshot()
    assert len(asking) == 1
