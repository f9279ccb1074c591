"""kill -9 of `impulse run`: no request stays unanswered, and nothing is said twice."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bytewax.recovery import init_db_dir
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from support.flow_runs import MemoryLog, MemorySink, run_flow
from support.kafka_io import read_all
from support.processes import Processes, free_addresses
from support.topics import NewTopics, Topics

from connectors.messages import to_record
from flows.personalize import personalize
from flows.service import Service
from flows.settings import Settings

pytestmark = pytest.mark.timeout(300)

PARTITIONS = 4
USERS = 30
STREAMS = ("EVENTS", "DECISIONS", "OUTCOMES", "INTERESTS", "DEAD_LETTERS")


class Run:
    """Topics of one test, and the flow on them as processes."""

    def __init__(self, topics: Topics, folder: Path) -> None:
        self.config, self.topics, self.recovery = topics.config, topics.names, folder / "recovery"
        self.processes = Processes(folder, topics.environment(folder))
        self.requests = 0

    def ads(self) -> None:
        ads = [{"ad_id": f"a{n}", "campaign_id": f"c{n % 3}"} for n in range(20)]
        self._write((p, None, event("ad_upsert", ads=ads, id="ads")) for p in range(PARTITIONS))

    def traffic(self, requests: int) -> None:
        """Write requests, each with a click of the same user before it."""
        numbers = range(self.requests, self.requests + requests)
        self.requests += requests
        for n in numbers:
            user = f"u{n % USERS}"
            seen = event("click", id=f"c{n}", user_id=user, ad_id=f"a{n % 20}")
            self._write((-1, user.encode(), e) for e in (seen, event("request", id=f"r{n}", user_id=user)))

    def _write(self, records: Iterator[tuple[int, bytes | None, bytes]]) -> None:
        producer = self.producer()
        for partition, key, value in records:
            producer.produce(self.topics["EVENTS"], value, key, partition)
        producer.poll(0)

    def producer(self) -> Producer:
        if not hasattr(self, "_producer"):
            self._producer = Producer(self.config.producer())
        return self._producer

    def decided(self) -> int:
        """Return how many records the decisions topic holds."""
        self.producer().flush(30)
        topic = self.topics["DECISIONS"]
        consumer = Consumer(self.config.consumer("test-watcher"))
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), 15)[1] for p in range(PARTITIONS)]
        consumer.close()
        return sum(ends)

    def read(self, stream: str) -> list[Message]:
        return read_all(self.config, self.topics[stream])

    def answered(self) -> bool:
        """Say whether every request has a decision."""
        if self.decided() < self.requests:
            return False
        found = {json.loads(m.value())["request_id"] for m in self.read("DECISIONS")}
        return found == {f"r{n}" for n in range(self.requests)}


def event(kind: str, **fields: object) -> bytes:
    now_ms = int(time.time() * 1000)
    return json.dumps({"type": kind, "event_time": now_ms - 1000} | fields).encode()


@pytest.fixture
def run(new_topics: NewTopics, tmp_path: Path) -> Iterator[Run]:
    run = Run(new_topics(dict.fromkeys(STREAMS, PARTITIONS)), tmp_path)
    yield run
    run.processes.close()


def first_of_each(messages: list[Message]) -> dict[str, bytes]:
    """Return the first decision of each id; later ones must be the same bytes."""
    found: dict[str, bytes] = {}
    for message in messages:
        decision_id = json.loads(message.value())["decision_id"]
        assert found.setdefault(decision_id, message.value()) == message.value(), (
            "said otherwise the second time"
        )
    return found


def undisturbed(run: Run, folder: Path) -> MemorySink:
    """Return what a flow that nothing interrupts says of the same log, in memory."""
    sink = MemorySink()
    log = [to_record(message) for message in run.read("EVENTS")]
    service = Service.of(Settings(artifacts=folder / "undisturbed"))
    run_flow(personalize(MemoryLog(log), sink, service))
    return sink


def decisions_of(sink: MemorySink) -> dict[str, bytes]:
    return {json.loads(o.value)["decision_id"]: o.value for o in sink.stream("decisions") if o.value}


def test_killed_again_and_again_it_says_everything_once_as_if_nothing_had_happened(run, tmp_path):
    run.ads()
    for kill in range(2):
        flow = run.processes.impulse("run")
        run.traffic(150)
        goal = run.decided() + 60 + 20 * kill
        flow.wait_until(lambda goal=goal: run.decided() >= goal)
        flow.end(signal.SIGKILL)
        run.traffic(50)
    flow = run.processes.impulse("run")
    run.traffic(50)
    flow.wait_until(run.answered)
    assert flow.end() == 0
    expected = undisturbed(run, tmp_path)
    for topic, stream in (("DECISIONS", "decisions"), ("OUTCOMES", "outcomes"), ("INTERESTS", "interests")):
        told = Counter((m.key(), m.value()) for m in run.read(topic))
        assert told == Counter((o.key, o.value) for o in expected.stream(stream)), stream
    assert run.read("DEAD_LETTERS") == []


@pytest.mark.slow
def test_stopped_by_sigterm_it_says_nothing_twice(run):
    run.ads()
    for _ in range(2):
        flow = run.processes.impulse("run")
        run.traffic(40)
        flow.wait_until(run.answered)
        assert flow.end() == 0
    assert run.decided() == run.requests


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_killed_it_goes_on_with_another_number_of_processes(run, tmp_path, first, then):
    run.recovery.mkdir()
    init_db_dir(run.recovery, 2)
    run.ads()
    for size in (first, then):
        addresses = free_addresses(size)
        cluster = [run.processes.bytewax(*cluster_arguments(run, n, addresses, size)) for n in range(size)]
        run.traffic(100)
        goal = run.requests - 40
        cluster[0].wait_until(lambda goal=goal: run.decided() >= goal)
        if size == then:
            cluster[0].wait_until(run.answered)
        for process in cluster:
            process.end(signal.SIGKILL)
        run.traffic(50 if size == first else 0)
    assert first_of_each(run.read("DECISIONS")) == decisions_of(undisturbed(run, tmp_path))


def cluster_arguments(run: Run, number: int, addresses: str, size: int) -> list[str]:
    cluster = ["-i", str(number), "-a", addresses] if size > 1 else []
    return ["flows.personalize", "-r", str(run.recovery), "-s", "1", "-b", "0", *cluster]
