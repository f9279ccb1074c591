"""The same source and sink against real Apache Kafka: security, absence, expiry, transactions, topics."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from support.kafka_io import produce, read_all

from connectors import consumer
from connectors.broadcast import Broadcaster
from connectors.client import KafkaConfig
from connectors.consumer import PartitionReader, ReadSettings, list_partitions
from connectors.kafka import KafkaLogSource, KafkaSink
from connectors.standing import OutputTopics
from connectors.topics import TopicSpec, create_topics, diff_topics, standard_topics
from models.domain.errors import LogError
from models.domain.events import ModelSwitch
from models.domain.log import LogRecord, Output

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(90)]

UNTIL_END = ReadSettings(until_end=True)


def numbered(count: int) -> list[bytes]:
    return [b"%d" % n for n in range(count)]


def copy_flow(source: KafkaLogSource, sink: KafkaSink, see=lambda batch: batch) -> Dataflow:
    def copied(r: LogRecord) -> tuple[str, list[Output]]:
        return str(r.partition), [Output("decisions", r.key, r.value, r.partition, r.offset)]

    flow = Dataflow("test")
    stream = op.flat_map_batch("see", op.input("in", flow, source), see)
    op.output("out", op.map("copy", stream, copied), sink)
    return flow


def read(config: KafkaConfig, topic: str) -> list[LogRecord]:
    out: list[LogRecord] = []
    flow = Dataflow("test")
    stream = op.input("in", flow, KafkaLogSource(config, topic, settings=UNTIL_END))
    op.output("out", stream, TestingSink(out))
    run_main(flow)
    return out


@pytest.mark.parametrize("security", ["PLAINTEXT", "SASL_SSL"])
def test_every_record_goes_through_once_in_plaintext_and_over_sasl_ssl(kafka, security):
    config = kafka.config if security == "PLAINTEXT" else kafka.secure
    if config is None:
        pytest.skip("IMPULSE_TEST_KAFKA names a plaintext listener only")
    source, target = kafka.new_topic(8), kafka.new_topic(4)
    produce(config, source, numbered(5000))
    run_main(
        copy_flow(
            KafkaLogSource(config, source, settings=UNTIL_END), KafkaSink(config, {"decisions": target})
        )
    )
    assert sorted(m.value() for m in read_all(config, target)) == sorted(numbered(5000))


def test_a_wrong_password_is_refused_and_shown_to_nobody(kafka, monkeypatch):
    if kafka.secure is None:
        pytest.skip("IMPULSE_TEST_KAFKA names a plaintext listener only")
    monkeypatch.setattr(consumer, "METADATA_TIMEOUT_S", 3.0)
    wrong = replace(kafka.secure, sasl_password="hunter2-hunter2")
    with pytest.raises(LogError, match=r"(?i)authentication failed.*Fix: ") as caught:
        list_partitions(wrong, "any")
    assert "hunter2" not in str(caught.value)


def test_a_broker_that_was_never_there_is_an_error_with_the_fix(monkeypatch):
    monkeypatch.setattr(consumer, "METADATA_TIMEOUT_S", 1.0)
    with pytest.raises(LogError, match=r"127.0.0.1:1 did not answer.*Fix: start the broker"):
        list_partitions(KafkaConfig("127.0.0.1:1"), "any")


def test_a_broker_that_is_killed_and_returns_costs_no_record(own_kafka):
    source, target = own_kafka.new_topic(4), own_kafka.new_topic(4)
    produce(own_kafka.config, source, numbered(20_000))
    log = KafkaLogSource(own_kafka.config, source)
    seen = 0

    def see(batch: list[LogRecord]) -> list[LogRecord]:
        nonlocal seen
        seen += len(batch)
        return batch

    def kill_and_return() -> None:
        wait_until(lambda: seen > 1000)
        own_kafka.kill()
        wait_until(lambda: log.stats()[0].broker_down)
        own_kafka.start()
        produce(own_kafka.config, source, numbered(21_000)[20_000:])
        wait_until(lambda: seen >= 21_000)
        log.stop.set()

    def wait_until(condition) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            if time.monotonic() > deadline:
                log.stop.set()
                raise TimeoutError(f"{seen} records seen")
            time.sleep(0.01)

    saboteur = threading.Thread(target=kill_and_return)
    saboteur.start()
    # no epoch may end meanwhile: its snapshot waits for the broker, and the reader would not be asked
    whole = timedelta(minutes=10)
    run_main(copy_flow(log, KafkaSink(own_kafka.config, {"decisions": target}), see), epoch_interval=whole)
    saboteur.join()
    assert {m.value() for m in read_all(own_kafka.config, target)} == set(numbered(21_000))
    assert log.stats()[0].client_errors > 0
    assert not log.stats()[0].broker_down


def test_where_outputs_end_is_told_again_after_the_broker_was_started_anew(own_kafka):
    """A client that has asked before goes on asking for the leaders of then."""
    topic = own_kafka.new_topic(2)
    outputs = OutputTopics(own_kafka.config, [topic])
    assert outputs.ends() == {topic: {0: 0, 1: 0}}
    own_kafka.kill()
    own_kafka.start()
    produce(own_kafka.config, topic, [b"one"])
    assert sum(outputs.ends()[topic].values()) == 1


def test_partitions_that_a_topic_gets_while_a_flow_runs_are_warned_of_once(kafka, monkeypatch, caplog):
    monkeypatch.setattr(consumer, "LOOK_EVERY_S", 0.0)
    topic = kafka.new_topic(2)
    some, every = (KafkaLogSource(kafka.config, topic, partitions=p) for p in ([0, 1], None))
    parts = [source.build_part("in", part, None) for source in (some, every) for part in source.list_parts()]
    admin = AdminClient(kafka.config.common())
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(15)
    deadline = time.monotonic() + 30
    while "got 3 partitions, expected 2" not in caplog.text and time.monotonic() < deadline:
        [part.next_batch() for part in parts]
    [part.next_batch() for part in parts * 3]
    assert caplog.text.count(f"topic {topic}: got 3 partitions, expected 2 as when this flow started") == 1


def delete_before(kafka, topic: str, offset: int) -> None:
    admin = AdminClient(kafka.config.common())
    for deleted in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        deleted.result(15)


def test_an_offset_that_expired_while_the_flow_was_down_refuses_to_start(kafka):
    topic = kafka.new_topic(1)
    produce(kafka.config, topic, numbered(100))
    delete_before(kafka, topic, 60)
    with pytest.raises(LogError, match=r"offset 59 is not in the log .*60 to 100.*Fix: "):
        PartitionReader(kafka.config, topic, {0: 59}, UNTIL_END)
    assert [r.offset for r in read(kafka.config, topic)] == list(range(60, 100))


def test_a_topic_that_was_made_anew_and_is_longer_by_now_refuses_to_go_on(kafka):
    topic = kafka.new_topic(1)
    produce(kafka.config, topic, numbered(10))
    part = KafkaLogSource(kafka.config, topic).build_part("in", "00000", None)
    while part.snapshot()["offset"] < 10:
        part.next_batch()
    state = part.snapshot()
    part.close()
    admin = AdminClient(kafka.config.common())
    admin.delete_topics([topic])[topic].result(15)
    made_anew(kafka, topic)
    produce(kafka.config, topic, numbered(30))
    part = KafkaLogSource(kafka.config, topic).build_part("in", "00000", state)
    with pytest.raises(LogError, match=r"offset 10 is not in the log .*the topic was made anew. Fix: "):
        while True:
            part.next_batch()


def made_anew(kafka, topic: str) -> None:
    """Create a topic that was deleted a moment ago."""
    deadline = time.monotonic() + 30
    while not create_topics(kafka.config, [TopicSpec(topic, 1, {})]):
        assert time.monotonic() < deadline, "the deleted topic never went"
        time.sleep(0.2)
    PartitionReader(kafka.config, topic, {0: None}, ReadSettings())  # awaits its leader


def test_an_offset_that_expires_while_the_flow_reads_is_loud(kafka):
    topic = kafka.new_topic(1)
    produce(kafka.config, topic, [b"x" * 10_000] * 1000)
    slow = {"queued.max.messages.kbytes": 20, "queued.min.messages": 1, "fetch.message.max.bytes": 20_000}
    settings = replace(UNTIL_END, batch_size=1)
    reader = PartitionReader(replace(kafka.config, extra=slow), topic, {0: 0}, settings)
    while not reader.take(0):
        pass
    delete_before(kafka, topic, 990)
    with pytest.raises(LogError, match="is not in the log"):
        while not reader.finished(0):
            reader.take(0)
    reader.close(0)


def wait_for_markers(kafka, topic: str, stable: int) -> None:
    """Brokers write the markers of transactions after they have said that these are over."""
    reader = Consumer(kafka.config.consumer("test-markers") | {"isolation.level": "read_committed"})
    deadline = time.monotonic() + 30
    while reader.get_watermark_offsets(TopicPartition(topic, 0), 15)[1] < stable:
        assert time.monotonic() < deadline, "the markers never came"
        time.sleep(0.05)
    reader.close()


def test_aborted_transactions_are_not_read_and_their_markers_do_not_hold_up_the_end(kafka):
    topic = kafka.new_topic(1)
    producer = Producer(kafka.config.producer(delivery_timeout_s=30) | {"transactional.id": topic})
    producer.init_transactions(30)
    for value, keep in ((b"kept", True), (b"aborted", False)):
        producer.begin_transaction()
        producer.produce(topic, value, b"k")
        assert producer.flush(30) == 0, "an abort would take back what was not sent yet"
        producer.commit_transaction(30) if keep else producer.abort_transaction(30)
    wait_for_markers(kafka, topic, stable=4)
    assert [r.value for r in read(kafka.config, topic)] == [b"kept"]


def test_markers_of_transactions_are_no_lag_and_no_loss_when_all_has_expired(kafka):
    topic = kafka.new_topic(1)
    producer = Producer(kafka.config.producer(delivery_timeout_s=30) | {"transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"kept", b"k")
    producer.commit_transaction(30)
    wait_for_markers(kafka, topic, stable=2)
    reader = PartitionReader(kafka.config, topic, {0: None}, ReadSettings())
    deadline = time.monotonic() + 30
    while reader.next_offset(0) < 2:
        assert time.monotonic() < deadline, f"at {reader.next_offset(0)}"
        reader.take(0)
    assert reader.lag() == {0: 0}
    delete_before(kafka, topic, 2)
    resumed = PartitionReader(kafka.config, topic, {0: 2}, ReadSettings())
    assert [reader.close(0), resumed.close(0)] == [True, True]


def test_a_control_record_stands_in_every_partition(kafka):
    topic = kafka.new_topic(6)
    Broadcaster(kafka.config, topic).send([ModelSwitch(id="m1", event_time=1, model_hash="h")])
    assert sorted(r.partition for r in read(kafka.config, topic)) == [0, 1, 2, 3, 4, 5]


def test_the_brokers_clock_stamps_a_log_whose_producers_clock_runs_ahead(kafka):
    topic = kafka.new_topic(1, **{"message.timestamp.type": "LogAppendTime"})
    producer = Producer(kafka.config.producer())
    producer.produce(topic, b"1", b"k", timestamp=int((time.time() + 365 * 86_400) * 1000))
    producer.flush(15)
    assert abs(read(kafka.config, topic)[0].timestamp_ms - time.time() * 1000) < 60_000


def test_standard_topics_are_created_once_and_then_differ_in_nothing(kafka):
    prefix = kafka.new_topic(1)
    specs = [replace(spec, name=f"{prefix}.{i}", replication=1) for i, spec in enumerate(standard_topics(3))]
    assert [d.got for d in diff_topics(kafka.config, specs)] == [None] * len(specs)
    assert create_topics(kafka.config, specs) == [spec.name for spec in specs]
    assert create_topics(kafka.config, specs) == []
    assert diff_topics(kafka.config, specs) == []


def test_a_topic_that_exists_otherwise_is_left_alone_and_reported(kafka):
    topic = kafka.new_topic(2, **{"cleanup.policy": "compact"})
    spec = TopicSpec(topic, 4, {"cleanup.policy": "delete"})
    assert create_topics(kafka.config, [spec]) == []
    found = diff_topics(kafka.config, [spec])
    assert [(d.what, d.got, d.expected) for d in found] == [
        ("partitions", "2", "4"),
        ("cleanup.policy", "compact", "delete"),
    ]


def test_a_topic_that_the_cluster_refuses_is_an_error_with_the_fix(kafka):
    with pytest.raises(LogError, match=r"was not created: .*Fix: let this user create"):
        create_topics(kafka.config, [TopicSpec("no spaces allowed", 1)])


@pytest.mark.parametrize(("kind", "warnings"), [("LogAppendTime", 0), ("CreateTime", 1)])
def test_the_brokers_time_is_told_from_producers_time(kafka, caplog, kind, warnings):
    topic = kafka.new_topic(1, **{"message.timestamp.type": kind})
    produce(kafka.config, topic, [b"x"])
    flow = Dataflow("test")
    settings = replace(UNTIL_END, stamped=True)
    op.output(
        "out", op.input("in", flow, KafkaLogSource(kafka.config, topic, settings=settings)), TestingSink([])
    )
    run_main(flow)
    assert caplog.text.count("carry their producers' time") == warnings
