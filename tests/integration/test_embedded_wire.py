"""The wire, on librdkafka's mock cluster: that records go through, never that one may not be lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, cluster_main, run_main
from confluent_kafka import Consumer, KafkaError, TopicPartition
from support.kafka_io import produce, read_all

from connectors.broadcast import Broadcaster
from connectors.client import KafkaConfig
from connectors.consumer import PartitionReader, ReadSettings, list_partitions
from connectors.dead_letters import read_dead_letter, to_dead_letter
from connectors.embedded_broker import EmbeddedBroker
from connectors.kafka import KafkaLogSource, KafkaSink
from connectors.log_files import read_log
from connectors.producer import OutputWriter
from connectors.recorder import record
from flows.cli import purposeful
from models.domain.catalogue import Ad
from models.domain.errors import BadRecord, ImpulseError, LogError, SettingError
from models.domain.events import AdUpsert, AdWithdraw
from models.domain.log import LogRecord, Output

UNTIL_END = ReadSettings(until_end=True)


@pytest.fixture
def config(embedded_broker: EmbeddedBroker) -> KafkaConfig:
    return KafkaConfig(embedded_broker.bootstrap)


def numbered(count: int) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(count)]


def read_into(out: list, source: KafkaLogSource) -> Dataflow:
    flow = Dataflow("test")
    op.output("out", op.input("in", flow, source), TestingSink(out))
    return flow


def copy_flow(source: KafkaLogSource, sink: KafkaSink) -> Dataflow:
    def copied(r: LogRecord) -> tuple[str, list[Output]]:
        return str(r.partition), [Output("decisions", r.key, r.value, r.partition, r.offset)]

    flow = Dataflow("test")
    op.output("out", op.map("copy", op.input("in", flow, source), copied), sink)
    return flow


def one_worker(flow: Dataflow, **options: object) -> None:
    run_main(flow, **options)


def two_workers(flow: Dataflow, **options: object) -> None:
    cluster_main(flow, [], 0, worker_count_per_proc=2, **options)


on_one_and_two_workers = pytest.mark.parametrize("run", [one_worker, two_workers])


def test_the_broker_has_the_topics_and_partitions_asked_for():
    with EmbeddedBroker({"a.v1": 6, "b.v1": 1}) as broker:
        config = KafkaConfig(broker.bootstrap)
        assert list_partitions(config, "a.v1") == [0, 1, 2, 3, 4, 5]
        assert list_partitions(config, "b.v1") == [0]


def test_a_topic_is_created_once(embedded_broker, embedded_topic):
    topic = embedded_topic(2)
    with pytest.raises(LogError, match="exists already"):
        embedded_broker.create_topic(topic, 2)


def test_a_broker_that_does_not_run_says_how_to_start_it():
    with pytest.raises(LogError, match="Fix: use it as"):
        EmbeddedBroker().create_topic("t", 1)


@on_one_and_two_workers
def test_every_record_goes_through_the_flow_once_and_in_order(config, embedded_topic, run):
    source, target = embedded_topic(8), embedded_topic(4)
    produce(config, source, numbered(3000))
    run(
        copy_flow(
            KafkaLogSource(config, source, settings=UNTIL_END), KafkaSink(config, {"decisions": target})
        )
    )
    found = read_all(config, target)
    assert sorted(m.value() for m in found) == sorted(numbered(3000))
    by_key: dict[bytes, list[int]] = {}
    for message in found:
        by_key.setdefault(message.key(), []).append(int(message.value()[5:-1]))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


def test_what_one_poll_brought_reaches_the_next_step_as_one_batch(config, embedded_topic):
    topic, sizes = embedded_topic(16), []
    produce(config, topic, numbered(4000), keys=400)
    flow = Dataflow("test")
    log = KafkaLogSource(config, topic, settings=UNTIL_END)
    stream = op.input("in", flow, log)
    stream = op.flat_map_batch("look", stream, lambda batch: sizes.append(len(batch)) or [])
    op.output("out", stream, TestingSink([]))
    run_main(flow)
    assert sum(sizes) == log.stats()[0].records == 4000
    assert 400 < max(sizes) <= 512


def test_a_record_keeps_key_value_time_and_headers(config, embedded_topic):
    topic, out = embedded_topic(1), []
    writer = OutputWriter(config, {"decisions": topic})
    writer.write([Output("decisions", b"k", b"{}", 0, 0, headers=(("traceparent", b"00-ab"),))])
    writer.flush()
    before = time.time() * 1000
    run_main(read_into(out, KafkaLogSource(config, topic, settings=UNTIL_END)))
    (found,) = out
    assert found._replace(timestamp_ms=0) == LogRecord(
        topic, 0, 0, 0, b"k", b"{}", (("content-type", b"application/json"), ("traceparent", b"00-ab"))
    )
    assert abs(found.timestamp_ms - before) < 60_000


def test_a_source_of_some_partitions_reads_those(config, embedded_topic):
    topic, out = embedded_topic(6), []
    produce(config, topic, numbered(600))
    run_main(read_into(out, KafkaLogSource(config, topic, partitions=[4, 1], settings=UNTIL_END)))
    assert {r.partition for r in out} == {1, 4}


def test_latest_begins_at_the_end(config, embedded_topic):
    topic, out = embedded_topic(2), []
    produce(config, topic, numbered(10))
    run_main(
        read_into(out, KafkaLogSource(config, topic, settings=ReadSettings(until_end=True, start="latest")))
    )
    assert out == []


def test_a_missing_topic_refuses_to_start_and_names_the_fix(config):
    with pytest.raises(LogError, match=r"'none.v1' does not exist. Fix: run `impulse topics --create`"):
        KafkaLogSource(config, "none.v1").list_parts()


def test_a_missing_partition_refuses_to_start(config, embedded_topic):
    with pytest.raises(LogError, match=r"got \[9\], expected some of 0 to 1"):
        KafkaLogSource(config, embedded_topic(2), partitions=[0, 9]).list_parts()


@pytest.mark.parametrize("offset", [3, 400])
def test_an_offset_that_the_log_does_not_hold_is_loud(config, embedded_topic, offset):
    topic = embedded_topic(1)
    produce(config, topic, numbered(2))
    with pytest.raises(LogError, match=rf"offset {offset} is not in the log .*0 to 2.*Fix: restore"):
        PartitionReader(config, topic, {0: offset}, UNTIL_END)


def handed_out(part, count: int) -> list[int]:
    """Offsets of the next records of a source part."""
    offsets: list[int] = []
    while len(offsets) < count:
        offsets += [r.offset for r in part.next_batch()]
    return offsets


def test_a_partition_goes_on_behind_the_last_record_that_was_read(config, embedded_topic):
    topic = embedded_topic(1)
    produce(config, topic, numbered(3))
    part = KafkaLogSource(config, topic).build_part("in", "00000", None)
    assert handed_out(part, 3) == [0, 1, 2]
    state = part.snapshot()
    part.close()
    again = KafkaLogSource(config, topic).build_part("in", "00000", state)
    assert again.next_batch() == [] and again.snapshot() == state
    produce(config, topic, numbered(2))
    assert handed_out(again, 2) == [3, 4]
    again.close()


def test_a_partition_whose_last_record_is_another_one_now_is_loud(config, embedded_topic):
    topic = embedded_topic(1)
    produce(config, topic, numbered(9))
    part = KafkaLogSource(config, topic).build_part("in", "00000", {"version": 1, "offset": 4, "stamp": 1})
    with pytest.raises(
        LogError, match=r"offset 4 is not in the log \(the record before it is of .*anew. Fix: "
    ):
        while True:
            part.next_batch()


def test_a_recovery_state_without_the_time_of_the_last_record_goes_on(config, embedded_topic):
    topic = embedded_topic(1)
    produce(config, topic, numbered(9))
    part = KafkaLogSource(config, topic).build_part("in", "00000", {"version": 1, "offset": 4})
    assert handed_out(part, 5) == [4, 5, 6, 7, 8]
    part.close()


def test_a_recovery_state_of_another_version_is_refused(config, embedded_topic):
    source = KafkaLogSource(config, embedded_topic(1))
    with pytest.raises(LogError, match="version 1"):
        source.build_part("in", "00000", {"version": 7, "offset": 0})


def test_the_stop_flag_ends_a_flow_that_waits(config, embedded_topic):
    topic, out = embedded_topic(4), []
    produce(config, topic, numbered(100))
    source = KafkaLogSource(config, topic)

    def stop_after_all(r: LogRecord) -> LogRecord:
        out.append(r)
        if len(out) == 100:
            source.stop.set()
        return r

    flow = Dataflow("test")
    op.output("out", op.map("see", op.input("in", flow, source), stop_after_all), TestingSink([]))
    run_main(flow)
    assert len(out) == 100


@pytest.mark.parametrize(("first", "then"), [(one_worker, two_workers), (two_workers, one_worker)])
def test_a_flow_resumes_at_its_offsets_with_another_number_of_workers(
    config, embedded_topic, tmp_path, first: Callable, then: Callable
):
    topic, out = embedded_topic(8), []
    init_db_dir(tmp_path, 2)
    recovery = {
        "epoch_interval": timedelta(milliseconds=50),
        "recovery_config": RecoveryConfig(str(tmp_path), timedelta(0)),
    }
    produce(config, topic, numbered(500))
    first(read_into(out, KafkaLogSource(config, topic, settings=UNTIL_END)), **recovery)
    produce(config, topic, numbered(700)[500:])
    then(read_into(out, KafkaLogSource(config, topic, settings=UNTIL_END)), **recovery)
    assert sorted(r.value for r in out) == sorted(numbered(700))


def test_the_lag_is_what_has_not_been_handed_out(config, embedded_topic):
    topic = embedded_topic(2)
    produce(config, topic, numbered(300))
    reader = PartitionReader(config, topic, {0: None, 1: None}, UNTIL_END)
    assert sum(reader.lag().values()) == 300
    while not (reader.finished(0) and reader.finished(1)):
        reader.take(0), reader.take(1)
    assert reader.lag() == {0: 0, 1: 0}
    assert reader.stats.records == 300
    assert [reader.close(0), reader.close(1)] == [False, True]


def test_the_lag_may_be_asked_for_while_partitions_are_closed(config, embedded_topic):
    """Metrics are served from a thread of their own, up to the last moment of a flow."""
    reader = PartitionReader(config, embedded_topic(3), dict.fromkeys(range(3)), ReadSettings())
    closing = threading.Thread(target=lambda: [reader.close(partition) for partition in range(3)])
    heard = reader._last_heard_end

    def slowly_heard(partition: int) -> int:
        if not closing.is_alive():
            closing.start()
        closing.join(0.2)
        return heard(partition)

    reader._last_heard_end = slowly_heard
    assert reader.lag() == {0: 0, 1: 0, 2: 0}
    closing.join()
    assert reader.lag() == {}


def test_positions_are_committed_for_others_to_see(config, embedded_topic):
    topic, out = embedded_topic(2), []
    produce(config, topic, numbered(50))
    settings = ReadSettings(group_id=f"lag-of-{topic}", until_end=True)
    run_main(read_into(out, KafkaLogSource(config, topic, settings=settings)))
    watcher = Consumer(config.consumer(settings.group_id))
    committed = watcher.committed([TopicPartition(topic, p) for p in (0, 1)], timeout=10)
    watcher.close()
    assert sum(place.offset for place in committed) == 50


def test_an_output_goes_to_the_topic_of_its_stream_and_the_partition_it_names(config, embedded_topic):
    decisions, control = embedded_topic(4), embedded_topic(4)
    writer = OutputWriter(config, {"decisions": decisions, "control": control})
    writer.write([Output("decisions", b"k", b"1", 0, 0), Output("control", None, b"2", 0, 0, partition=3)])
    writer.flush()
    assert [m.value() for m in read_all(config, decisions)] == [b"1"]
    assert [(m.partition(), m.value()) for m in read_all(config, control)] == [(3, b"2")]


def test_outputs_do_not_wait_for_the_end_of_the_epoch(config, embedded_topic):
    source, target = embedded_topic(2), embedded_topic(1)
    produce(config, source, numbered(10))
    log, seen = KafkaLogSource(config, source), []

    def watch() -> None:
        deadline = time.monotonic() + 20
        while len(seen) < 10 and time.monotonic() < deadline:
            seen[:] = read_all(config, target)
        log.stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    run_main(copy_flow(log, KafkaSink(config, {"decisions": target})), epoch_interval=timedelta(hours=1))
    watcher.join()
    assert len(seen) == 10


def test_a_stream_without_a_topic_is_refused(config):
    with pytest.raises(SettingError, match=r"'rollups', expected one of .'decisions'."):
        OutputWriter(config, {"decisions": "t"}).write([Output("rollups", b"k", b"v", 0, 0)])


def test_a_delivery_that_fails_is_an_error_at_the_flush(config, embedded_topic):
    writer = OutputWriter(config, {"decisions": embedded_topic(2)}, delivery_timeout_s=2)
    writer.write([Output("decisions", b"k", b"v", 0, 0, partition=77)])
    with pytest.raises(LogError, match=r"1 outputs not delivered, .*\[77\]"):
        writer.flush()


def test_a_flow_whose_outputs_are_not_delivered_ends_with_the_reason(config, embedded_topic):
    """Bytewax closes all parts of a sink while the error of one passes: a second error aborts the process."""
    source, target = embedded_topic(4), embedded_topic(1)
    produce(config, source, numbered(100))
    flow = Dataflow("test")
    stream = op.input("in", flow, KafkaLogSource(config, source, settings=UNTIL_END))
    nowhere = op.map("nowhere", stream, lambda r: (str(r.partition), [Output("d", b"k", r.value, 0, 0, 77)]))
    op.output("out", nowhere, KafkaSink(config, {"d": target}, delivery_timeout_s=2))
    with pytest.raises((RuntimeError, LogError)) as caught:
        run_main(flow)
    known = purposeful(caught.value)
    assert isinstance(known, LogError) and target in str(known)


def test_a_flow_that_fails_ends_with_its_own_error_also_where_its_outputs_are_not_delivered(
    config, embedded_topic, caplog
):
    source, target = embedded_topic(1), embedded_topic(1)
    produce(config, source, numbered(2))

    def into_nowhere(record: LogRecord) -> tuple[str, list[Output]]:
        if record.offset == 1:
            raise ValueError("a fault of the flow's own")
        return str(record.partition), [Output("d", b"k", record.value, 0, 0, 77)]

    flow = Dataflow("test")
    one_by_one = ReadSettings(batch_size=1, until_end=True)
    stream = op.input("in", flow, KafkaLogSource(config, source, settings=one_by_one))
    sink = KafkaSink(config, {"d": target}, delivery_timeout_s=2)
    op.output("out", op.map("nowhere", stream, into_nowhere), sink)
    with pytest.raises(RuntimeError) as caught:
        run_main(flow)
    assert "a fault of the flow's own" in str(caught.getrepr(style="value"))
    assert "outputs not delivered" in caplog.text


def test_an_output_that_is_too_large_is_an_error(config, embedded_topic):
    with pytest.raises(LogError, match="too large"):
        OutputWriter(config, {"decisions": embedded_topic(1)}).write(
            [Output("decisions", b"k", b"x" * 2_000_000, 0, 0)]
        )


def test_more_outputs_than_the_producers_queue_holds_all_arrive(embedded_broker, embedded_topic):
    config = KafkaConfig(embedded_broker.bootstrap, extra={"queue.buffering.max.messages": 50})
    topic = embedded_topic(2)
    writer = OutputWriter(config, {"decisions": topic})
    writer.write([Output("decisions", b"%d" % n, b"v", 0, n) for n in range(500)])
    writer.flush()
    assert len(read_all(KafkaConfig(embedded_broker.bootstrap), topic)) == 500


def test_a_control_record_stands_in_every_partition_in_order(config, embedded_topic):
    topic = embedded_topic(5)
    records = [
        AdUpsert(id="1", event_time=1, ads=(Ad(ad_id="a", campaign_id="c"),)),
        AdWithdraw(id="2", event_time=2, ad_ids=("a",)),
    ]
    assert Broadcaster(config, topic).send(records) == 2
    found = read_all(config, topic)
    assert [m.partition() for m in found] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert len({m.value() for m in found[::2]}) == 1


def test_a_control_record_larger_than_topics_take_is_not_sent_nor_what_stands_before_it(
    config, embedded_topic
):
    topic = embedded_topic(1)
    ads = tuple(Ad(ad_id=f"{n}", campaign_id="c", text="x" * 4000) for n in range(230))
    small, large = (AdUpsert(id=f"{len(some)}", event_time=1, ads=some) for some in (ads[:1], ads))
    with pytest.raises(ImpulseError, match="send an artifact's hash"):
        Broadcaster(config, topic).send([small, large])
    assert read_all(config, topic) == []


def test_a_dead_letter_comes_back_from_its_topic(config, embedded_topic):
    topic, out = embedded_topic(1), []
    refused = LogRecord("ads.events.v1", 3, 17, 0, b"u", b"\xff", (("h", b"1"),))
    writer = OutputWriter(config, {"dead_letters": topic})
    writer.write([to_dead_letter(refused, BadRecord("not_json", "why"), "decode")])
    writer.flush()
    run_main(read_into(out, KafkaLogSource(config, topic, settings=UNTIL_END)))
    original, letter = read_dead_letter(out[0])
    assert original._replace(timestamp_ms=0) == refused
    assert letter.reason == "not_json"


def test_a_record_that_only_fits_compressed_does_not_stop_the_flow(config, embedded_broker, embedded_topic):
    source, dead = embedded_topic(1), embedded_topic(1)
    roomy = {"compression.type": "zstd", "message.max.bytes": 20_000_000}
    produce(KafkaConfig(embedded_broker.bootstrap, extra=roomy), source, [b"0" * 3_000_000])

    def refuse(r: LogRecord) -> tuple[str, list[Output]]:
        return "k", [to_dead_letter(r, BadRecord("too_large", "3 MB"), "decode")]

    flow = Dataflow("test")
    stream = op.input("in", flow, KafkaLogSource(config, source, settings=UNTIL_END))
    op.output("out", op.map("refuse", stream, refuse), KafkaSink(config, {"dead_letters": dead}))
    run_main(flow)
    (letter,) = read_all(config, dead)
    assert b"value 3000000" in dict(letter.headers())["dead-letter-cut"]


def test_topics_are_recorded_into_a_file_without_gaps(config, embedded_topic, tmp_path):
    first, second = embedded_topic(4), embedded_topic(1)
    produce(config, first, numbered(1000))
    produce(config, second, numbered(30))
    path = tmp_path / "log.jsonl.zst"
    recording = record(config, [first, second], path)
    assert recording.records == 1030
    assert sum(recording.next_offsets[first].values()) == 1000
    places: dict[tuple[str, int], list[int]] = {}
    for batch in read_log(path):
        for r in batch:
            places.setdefault((r.topic, r.partition), []).append(r.offset)
    assert all(offsets == list(range(len(offsets))) for offsets in places.values())


def test_a_recording_ends_at_the_number_of_records_asked_for(config, embedded_topic, tmp_path):
    topic = embedded_topic(4)
    produce(config, topic, numbered(1000))
    recording = record(config, [topic], tmp_path / "log.jsonl", max_records=321)
    assert recording.records == 321
    assert sum(recording.next_offsets[topic].values()) == 321


class ErrorMessage:
    """What a consumer hands out in place of a record."""

    def __init__(self, code: int, offset: int = 0) -> None:
        self._error, self._offset = KafkaError(code), offset

    def error(self) -> KafkaError:
        return self._error

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


@pytest.fixture
def reader(config, embedded_topic):
    topic = embedded_topic(1)
    produce(config, topic, numbered(5))
    return PartitionReader(config, topic, {0: None}, UNTIL_END)


def drain(reader: PartitionReader) -> list[LogRecord]:
    found = []
    while not reader.finished(0):
        found += reader.take(0)
    return found


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART])
def test_a_topic_that_may_no_longer_be_read_is_loud(reader, code):
    with pytest.raises(LogError, match=r"\[0\] cannot be read: .*Fix: see that the topic exists"):
        reader._keep([ErrorMessage(code)])


def test_what_stands_behind_the_last_record_and_is_none_counts_as_read(config, embedded_topic):
    """Transactions leave markers, which no consumer gets to see."""
    topic = embedded_topic(1)
    produce(config, topic, numbered(3))
    reader = PartitionReader(config, topic, {0: None}, ReadSettings())
    while reader.next_offset(0) < 3:
        reader.take(0)
    reader._keep([ErrorMessage(KafkaError._PARTITION_EOF, offset=5)])
    reader.take(0)
    assert reader.next_offset(0) == 5


def test_an_end_does_not_count_before_the_records_in_front_of_it_are_handed_out(reader):
    while not reader._places[0].queue:
        reader._poll()
    reader._keep([ErrorMessage(KafkaError._PARTITION_EOF, offset=5)])
    assert reader.next_offset(0) == 0
    assert len(drain(reader)) == 5


def test_an_offset_out_of_range_while_reading_is_loud(reader):
    with pytest.raises(LogError, match="offset 3 is not in the log"):
        reader._keep([ErrorMessage(KafkaError._AUTO_OFFSET_RESET, offset=3)])


def test_a_broker_that_is_away_is_logged_and_counted_and_reading_goes_on(config, embedded_topic, caplog):
    topic = embedded_topic(1)
    reader = PartitionReader(config, topic, {0: None}, ReadSettings())
    reader._keep([ErrorMessage(KafkaError._ALL_BROKERS_DOWN)])
    assert reader.stats.broker_down and reader.stats.client_errors == 1
    assert "kafka at 127.0.0.1" in caplog.text
    produce(config, topic, numbered(1))
    while not reader.take(0):
        pass
    assert not reader.stats.broker_down


def test_a_reader_that_has_lost_its_broker_closes_without_telling_it_where_it_stands(config, embedded_topic):
    """A commit under way makes the close wait for a broker that is away."""
    topic = embedded_topic(1)
    produce(config, topic, numbered(3))
    reader = PartitionReader(config, topic, {0: None}, replace(UNTIL_END, group_id="lost"))
    assert len(drain(reader)) == 3
    reader._keep([ErrorMessage(KafkaError._ALL_BROKERS_DOWN)])
    reader.close(0)
    watcher = Consumer(config.consumer("lost"))
    (place,) = watcher.committed([TopicPartition(topic, 0)], 15)
    watcher.close()
    assert place.offset < 0


def test_a_record_that_was_fetched_before_the_broker_was_lost_does_not_say_that_it_is_back(reader):
    fetched = reader._consumer.poll(10)
    reader._keep([ErrorMessage(KafkaError._ALL_BROKERS_DOWN)])
    reader._keep([fetched])
    assert reader.stats.broker_down
    assert len(reader.take(0)) == 1


@pytest.mark.parametrize(("stamped", "warnings"), [(True, 1), (False, 0)])
def test_producers_time_where_the_clock_goes_by_the_brokers_is_warned_of_once(
    config, embedded_topic, caplog, stamped, warnings
):
    topic = embedded_topic(2)
    settings = ReadSettings(until_end=True, stamped=stamped, batch_size=10)
    produce(config, topic, numbered(100))
    run_main(read_into([], KafkaLogSource(config, topic, settings=settings)))
    assert caplog.text.count(f"topic {topic}: its records carry their producers' time") == warnings
