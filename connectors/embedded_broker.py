"""A Kafka broker in a process of its own, for demos and wire tests: librdkafka's mock cluster.

Limits: everything is in memory and gone when the process ends; at most 5 MiB or 100,000 batches per
partition are kept, and older ones vanish silently; transactions are accepted but not isolated
(`read_committed` shows aborted records) and not fenced; there is no compaction, no retention, no
offsets-for-times, no security, and long polls never wake: who reads waits half of ``fetch.wait.max.ms`` for
every record, so clients are to use CLIENT_SETTINGS.
No guarantee may be derived from it: those are shown on Apache Kafka.

As a program (``python -m connectors.embedded_broker --topic NAME:PARTITIONS``) it prints one JSON line
with its address and runs until SIGTERM or SIGINT. With ``--controlled`` it also creates a topic for each
line ``{"topic": NAME, "partitions": N}`` on its standard input and ends when that is closed, so that it
does not outlive the process that started it.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import confluent_kafka

from models.domain.errors import LogError

DEFAULT_PARTITIONS = 4
"""Partitions of a topic that a client uses before it was created here."""

CLIENT_SETTINGS = {"fetch.wait.max.ms": 3}
"""What keeps the latency of a hop low, for `KafkaConfig.extra`. Shorter waits cost more than they gain."""

_PRODUCER = 0
_EXISTS = 36
_READY_S = 30.0


def _library() -> ctypes.CDLL:
    """Load the librdkafka that confluent-kafka brought along, or the system's."""
    package = Path(confluent_kafka.__file__).parent
    bundled = [
        *package.parent.glob("confluent_kafka.libs/librdkafka*"),
        *package.glob(".dylibs/librdkafka*"),
    ]
    name = str(bundled[0]) if bundled else ctypes.util.find_library("rdkafka")
    if name is None:
        raise LogError(
            "librdkafka: found none beside confluent-kafka or on the system. "
            "Fix: install a wheel of confluent-kafka, or set the bootstrap servers of a Kafka of your own."
        )
    library = ctypes.CDLL(name)
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_new.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_conf_set.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
    topic_create = library.rd_kafka_mock_topic_create
    topic_create.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    return library


class _MockCluster:
    def __init__(self) -> None:
        self._library = _library()
        error = ctypes.create_string_buffer(512)
        config = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(config, b"log_level", b"0", error, len(error))
        client = self._library.rd_kafka_new(_PRODUCER, config, error, len(error))
        if not client:
            raise LogError(f"librdkafka's mock cluster did not start: {error.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(client, 1)
        self.bootstrap = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def create_topic(self, name: str, partitions: int) -> int:
        """Create a topic and return librdkafka's error code (0: done)."""
        return int(self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1))


class EmbeddedBroker:
    """The broker as a context manager.

    Parameters
    ----------
    topics
        Topics to create, each with its number of partitions.

    """

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        self._topics = dict(topics or {})
        self._process: subprocess.Popen[str] | None = None
        self.bootstrap = ""

    def __enter__(self) -> EmbeddedBroker:
        command = [sys.executable, "-m", "connectors.embedded_broker", "--controlled"]
        pipe = subprocess.PIPE
        root = Path(__file__).parent.parent
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root)
        self.bootstrap = self._reply()["bootstrap.servers"]
        for name, partitions in self._topics.items():
            self.create_topic(name, partitions)
        return self

    def __exit__(self, *_: object) -> None:
        process = self._running()
        self._pipe(process.stdin).close()
        process.terminate()
        process.wait(_READY_S)
        self._pipe(process.stdout).close()

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic with this number of partitions.

        Raises
        ------
        LogError
            when it exists already or the name or number is refused.

        """
        stdin = self._pipe(self._running().stdin)
        stdin.write(json.dumps({"topic": name, "partitions": partitions}) + "\n")
        stdin.flush()
        if (code := self._reply()["error"]) != 0:
            reason = "it exists already" if code == _EXISTS else f"librdkafka's error {code}"
            raise LogError(f"embedded broker: topic {name!r} with {partitions} partitions refused: {reason}")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise LogError("embedded broker: not running. Fix: use it as `with EmbeddedBroker() as broker:`")
        return self._process

    def _reply(self) -> dict[str, Any]:
        line = self._pipe(self._running().stdout).readline()
        if not line:
            raise LogError("embedded broker: its process ended before it answered")
        return dict(json.loads(line))

    @staticmethod
    def _pipe(stream: IO[str] | None) -> IO[str]:
        if stream is None:
            raise LogError("embedded broker: its process has no pipes")
        return stream


def _obey(cluster: _MockCluster, lines: IO[str]) -> None:
    for line in lines:
        order = json.loads(line)
        _say({"error": cluster.create_topic(order["topic"], int(order["partitions"]))})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _topic(text: str) -> tuple[str, int]:
    name, _, partitions = text.partition(":")
    return name, int(partitions or DEFAULT_PARTITIONS)


def main() -> None:
    """Run the broker until SIGTERM or SIGINT (or, controlled, the end of standard input)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--topic", type=_topic, action="append", default=[], metavar="NAME:PARTITIONS")
    parser.add_argument("--controlled", action="store_true", help="take orders from standard input")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    cluster = _MockCluster()
    for name, partitions in options.topic:
        if code := cluster.create_topic(name, partitions):
            parser.error(f"topic {name}:{partitions} refused, librdkafka's error {code}")
    _say({"bootstrap.servers": cluster.bootstrap})
    if options.controlled:
        _obey(cluster, sys.stdin)
    else:
        signal.pause()


if __name__ == "__main__":
    main()
