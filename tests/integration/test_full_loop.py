"""The product's own processes on Apache Kafka: the whole loop, and when they refuse to start."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from prometheus_client.parser import text_string_to_metric_families
from support.kafka_io import read_all
from support.processes import Process, Processes, free_port
from support.small_models import random_model

from connectors.client import KafkaConfig
from models.domain.ids import decision_id

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

STREAMS = ("events", "decisions", "outcomes", "interests", "dead_letters", "rollups")
PARTITIONS = 2


class Loop:
    """Topics with names of their own, and commands that know them."""

    def __init__(self, config: KafkaConfig, folder: Path) -> None:
        self.config = config
        prefix = f"test.{uuid.uuid4().hex[:8]}"
        self.topics = {stream: f"{prefix}.{stream}.v1" for stream in STREAMS}
        settings = {f"IMPULSE_TOPICS__{stream.upper()}": name for stream, name in self.topics.items()}
        settings |= {f"IMPULSE_KAFKA__{name}": value for name, value in reached(config).items()}
        settings |= {"IMPULSE_TOPICS__PARTITIONS": str(PARTITIONS), "IMPULSE_TOPICS__REPLICATION": "1"}
        settings |= {
            "IMPULSE_ARTIFACTS": str(folder / "artifacts"),
            "IMPULSE_RECOVERY": str(folder / "recovery"),
        }
        settings |= {"IMPULSE_EPOCH_MS": "500", "IMPULSE_ROLLUP_LATENESS_S": "0"}
        self.processes = Processes(folder, settings)
        self._producer = Producer(config.producer())
        self.sent = 0

    def create_topics(self) -> None:
        topics = self.processes.impulse("topics", "--create", "--json")
        assert topics.wait() == 0, topics.said

    def ads(self) -> None:
        ads = [{"ad_id": f"a{n}", "campaign_id": "c"} for n in range(5)]
        for partition in range(PARTITIONS):
            self._write(partition, None, type="ad_upsert", id="ads", ads=ads)

    def request(self, user: str = "u") -> None:
        self.send(type="request", id=f"r{self.sent}", user_id=user)
        self.sent += 1

    def send(self, *, user_id: str, **fields: object) -> None:
        self._write(-1, user_id.encode(), user_id=user_id, **fields)

    def _write(self, partition: int, key: bytes | None, **fields: object) -> None:
        value = json.dumps({"event_time": int(time.time() * 1000) - 100} | fields).encode()
        self._producer.produce(self.topics["events"], value, key, partition)
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(60) == 0

    def read(self, stream: str) -> list[dict]:
        return [json.loads(message.value()) for message in read_all(self.config, self.topics[stream])]


def reached(config: KafkaConfig) -> dict[str, str]:
    """Return the settings of the Kafka section that reach this cluster."""
    names = ("bootstrap_servers", "security_protocol", "sasl_mechanism", "sasl_username", "sasl_password")
    values = {name.upper(): getattr(config, name) for name in (*names, "ssl_ca_location")}
    return {name: value for name, value in values.items() if value}


@pytest.fixture
def loop(kafka, tmp_path: Path) -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def loop(config: KafkaConfig) -> Loop:
        made.append(Loop(config, tmp_path))
        return made[-1]

    yield loop
    for one in made:
        one.processes.close()


def answered(loop: Loop) -> bool:
    return {d["request_id"] for d in loop.read("decisions")} == {f"r{n}" for n in range(loop.sent)}


@pytest.mark.parametrize("security", ["PLAINTEXT", pytest.param("SASL_SSL", marks=pytest.mark.slow)])
def test_events_become_decisions_outcomes_and_adjustments_that_the_next_decision_uses(kafka, loop, security):
    config = kafka.config if security == "PLAINTEXT" else kafka.secure
    if config is None:
        pytest.skip("IMPULSE_TEST_KAFKA names a plaintext listener only")
    loop = loop(config)
    loop.create_topics()
    ports = {"run": free_port(), "learn": free_port()}
    run, learn = (loop.processes.impulse(n, IMPULSE_METRICS_PORT=str(port)) for n, port in ports.items())
    loop.ads()
    loop.request()
    loop.flush()
    run.wait_until(lambda: answered(loop))
    (first,) = ten_lines(config, loop.topics["decisions"])
    assert first["adjustments_version"] == 0
    world = World(loop)
    run.wait_until(world.has_been_heard)
    assert any(event["type"] == "adjustments" for event in loop.read("events"))
    run.wait_until(lambda: len(loop.read("outcomes")) == 2 * len(world.clicked))
    assert {(o["decision_id"], o["slot"]) for o in loop.read("outcomes")} == world.clicked
    assert loop.read("dead_letters") == []
    run.wait_until(lambda: told(ports["run"], "impulse_lag_records") == 0.0)
    assert told(ports["run"], "impulse_decisions_total") == len(loop.read("decisions"))
    assert told(ports["learn"], "impulse_outcomes_total") >= len(world.clicked)
    assert (run.end(), learn.end()) == (0, 0)


def told(port: int, name: str) -> float:
    """Return the sum of a metric's samples over its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
        return sum(s.value for family in families for s in family.samples if s.name == name)


class World:
    """Users who click whatever they are shown."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.clicked: set[tuple[str, int]] = set()

    def has_been_heard(self) -> bool:
        """Click on what came, ask for more; say whether some decision has used what was learned."""
        decisions = self._loop.read("decisions")
        for decision in decisions:
            for slot in decision["ads"]:
                self._click(decision, slot)
        if any(decision["adjustments_version"] > 0 for decision in decisions):
            self._loop.flush()
            return True
        self._loop.request(f"u{len(decisions)}")
        self._loop.flush()
        time.sleep(0.2)  # event time has to pass for the learner to speak
        return False

    def _click(self, decision: dict, slot: dict) -> None:
        shown = (decision["decision_id"], slot["slot"])
        if shown in self.clicked:
            return
        self.clicked.add(shown)
        fields = {"user_id": decision["user_id"], "ad_id": slot["ad_id"], "decision_id": shown[0]}
        for kind in ("impression", "click"):
            self._loop.send(type=kind, id=f"{kind}-{shown[0]}-{shown[1]}", **fields)


def ten_lines(config: KafkaConfig, topic: str) -> list[dict]:
    """Read a decision as a customer would, in ten lines."""
    consumer = Consumer({**config.common(), "group.id": "me", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    decisions: list[dict] = []
    while not decisions:
        message = consumer.poll(10)
        if message is not None and message.error() is None:
            decisions.append(json.loads(message.value()))
    consumer.close()
    return decisions


@pytest.mark.slow
def test_topics_are_created_as_specified_and_then_nothing_differs(kafka, loop):
    loop = loop(kafka.config)
    missing = loop.processes.impulse("topics", "--json")
    assert missing.wait() == 1
    assert "impulse topics --create" in missing.said
    loop.create_topics()
    again = loop.processes.impulse("topics", "--json")
    assert again.wait() == 0, again.said
    assert json.loads(again.said.splitlines()[-1]) == {"created": [], "differences": []}


@pytest.mark.parametrize(
    "command", ["run", *(pytest.param(c, marks=pytest.mark.slow) for c in ("learn", "rollup"))]
)
def test_a_missing_topic_refuses_to_start_and_names_the_fix(kafka, loop, command):
    refused(
        loop(kafka.config).processes.impulse(command), "does not exist. Fix: run `impulse topics --create`"
    )


def refused(process: Process, message: str) -> None:
    assert process.wait() == 2, process.said
    assert message in process.said
    assert "Traceback" not in process.said


def test_a_model_with_one_flipped_byte_refuses_to_start(kafka, loop, tmp_path):
    loop = loop(kafka.config)
    loop.create_topics()
    folder = tmp_path / "model"
    random_model(folder, ["a", "b"])
    (weights,) = folder.glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    refused(loop.processes.impulse("run", IMPULSE_MODEL=str(folder)), "Fix: ")


@pytest.mark.slow
def test_a_broker_that_goes_away_and_returns_costs_nothing(own_kafka, loop):
    loop = loop(replace(own_kafka.config))
    loop.create_topics()
    run = loop.processes.impulse("run")
    loop.ads()
    for n in range(50):
        loop.request(f"u{n % 7}")
    loop.flush()
    run.wait_until(lambda: answered(loop))
    for _ in range(2):
        for n in range(30):
            loop.request(f"u{n % 7}")
        own_kafka.kill()
        for n in range(30):
            loop.request(f"u{n % 7}")
        time.sleep(2)  # the time that the broker is away
        own_kafka.start()
        loop.flush()
        run.wait_until(lambda: answered(loop))
    assert run.end() == 0
    assert len(loop.read("decisions")) == loop.sent


@pytest.mark.slow
def test_rollup_and_ingest_run_beside_the_flow(kafka, loop, tmp_path):
    loop = loop(kafka.config)
    loop.create_topics()
    raw = kafka.new_topic(1)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(
        f'[[topics]]\ntopic = "{raw}"\ntype = "what"\ntypes = {{ page = "request", tap = "click" }}\n'
        'fields = { user_id = "who", ad_id = "on", decision_id = "of" }\n'
    )
    run = loop.processes.impulse("run")
    ingest = loop.processes.impulse("ingest", "--mapping", str(mapping))
    rollup = loop.processes.impulse("rollup")
    loop.ads()
    loop.flush()
    producer = Producer(kafka.config.producer())
    producer.produce(raw, b'{"what":"page","who":"u"}')
    producer.produce(raw, b'{"what":"scroll"}')
    assert producer.flush(30) == 0
    ingest.wait_until(lambda: len(loop.read("decisions")) == 1)
    (decision,) = loop.read("decisions")
    assert decision["request_id"] == decision_id(raw, 0, 0)
    tap = {"what": "tap", "who": "u", "on": decision["ads"][0]["ad_id"], "of": decision["decision_id"]}
    producer.produce(raw, json.dumps(tap).encode())
    assert producer.flush(30) == 0
    run.wait_until(lambda: len(loop.read("outcomes")) == 2)
    letters = read_all(kafka.config, loop.topics["dead_letters"])
    assert [dict(m.headers())["dead-letter-reason"] for m in letters] == [b"unknown_type"]
    assert [process.end() for process in (run, ingest, rollup)] == [0, 0, 0]
