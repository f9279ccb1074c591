"""kill -9 of a real Bytewax process between two real topics."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bytewax.recovery import init_db_dir
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from support.kafka_io import read_all

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(90)]

ROOT = Path(__file__).parents[2]
PARTITIONS = 16


class CopyProcess:
    def __init__(self, kafka, source: str, target: str, recovery: Path, *cluster: str) -> None:
        script = ROOT / "tests" / "support" / "copy_flow.py"
        arguments = [kafka.config.bootstrap_servers, source, target, str(recovery), *cluster]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments], env=environment, stderr=subprocess.DEVNULL
        )

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def start(kafka, tmp_path):
    """Starts processes of the copying flow, and leaves none behind."""
    started: list[CopyProcess] = []

    def start(source: str, target: str, *cluster: str) -> CopyProcess:
        started.append(CopyProcess(kafka, source, target, tmp_path, *cluster))
        return started[-1]

    yield start
    for copy in started:
        copy.process.kill()
        copy.process.wait(20)


def records_in(kafka, topic: str) -> int:
    consumer = Consumer(kafka.config.consumer("test-watcher"))
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), 15)[1] for p in range(PARTITIONS)]
    consumer.close()
    return sum(ends)


def wait_for(kafka, topic: str, at_least: int) -> None:
    deadline = time.monotonic() + 30
    while (found := records_in(kafka, topic)) < at_least:
        assert time.monotonic() < deadline, f"{found} of {at_least} records in {topic}"
        time.sleep(0.05)


def wait_for_each(kafka, topic: str, numbers: range) -> None:
    """Wait until a topic holds each of these, however often."""
    deadline = time.monotonic() + 30
    while missing := set(numbers) - {int(m.value()) for m in read_all(kafka.config, topic)}:
        assert time.monotonic() < deadline, f"{len(missing)} of {len(numbers)} are not in {topic}"


def header(message: Message, name: str) -> bytes:
    return dict(message.headers())[name]


def write(kafka, topic: str, numbers: range) -> None:
    producer = Producer(kafka.config.producer())
    for n in numbers:
        producer.produce(topic, b"%d" % n, b"user-%d" % (n % 50))
    assert producer.flush(30) == 0


def test_killed_and_restarted_again_and_again_it_writes_each_output_once(kafka, start, tmp_path):
    source, target = kafka.new_topic(PARTITIONS), kafka.new_topic(PARTITIONS)
    init_db_dir(tmp_path, 1)
    total = 0
    for kill in range(4):
        copy = start(source, target)
        write(kafka, source, range(total, total + 2000))
        total += 2000
        wait_for(kafka, target, total - 1500 + 100 * kill)
        copy.end(signal.SIGKILL)
        write(kafka, source, range(total, total + 500))
        total += 500
    copy = start(source, target)
    wait_for_each(kafka, target, range(total))
    assert copy.end(signal.SIGTERM) == 0
    found = read_all(kafka.config, target)
    assert sorted(int(m.value()) for m in found) == list(range(total)), "an output is missing or came twice"
    assert all(header(m, "seen") == header(m, "offset") for m in found), "state and offsets are out of step"


def test_after_sigterm_nothing_is_written_twice(kafka, start, tmp_path):
    source, target = kafka.new_topic(PARTITIONS), kafka.new_topic(PARTITIONS)
    init_db_dir(tmp_path, 1)
    for run in range(2):
        copy = start(source, target)
        write(kafka, source, range(run * 500, run * 500 + 500))
        wait_for(kafka, target, run * 500 + 500)
        assert copy.end(signal.SIGTERM) == 0
    assert sorted(int(m.value()) for m in read_all(kafka.config, target)) == list(range(1000))


def free_addresses(count: int) -> str:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return ",".join(f"127.0.0.1:{s.getsockname()[1]}" for s in sockets)


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_flow_goes_on_with_another_number_of_processes(kafka, start, tmp_path, first, then):
    source, target = kafka.new_topic(PARTITIONS), kafka.new_topic(PARTITIONS)
    init_db_dir(tmp_path, 2)
    for run, size in enumerate((first, then)):
        addresses = free_addresses(size)
        cluster = [start(source, target, str(n), addresses) for n in range(size)]
        write(kafka, source, range(run * 500, run * 500 + 500))
        wait_for(kafka, target, run * 500 + 500)
        for copy in cluster:
            copy.process.send_signal(signal.SIGTERM)
        assert [copy.process.wait(20) for copy in cluster] == [0] * size
    found = read_all(kafka.config, target)
    assert sorted(int(m.value()) for m in found) == list(range(1000))
    assert all(header(m, "seen") == header(m, "offset") for m in found), "state and offsets are out of step"
