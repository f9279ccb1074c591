"""Fixtures for everything that talks to a broker."""

from __future__ import annotations

import importlib.util
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from support.kafka_start import started

import flows  # noqa: F401 - sets the environment before numba is imported
from connectors.client import KafkaConfig
from connectors.consumer import PartitionReader, ReadSettings
from connectors.embedded_broker import EmbeddedBroker
from connectors.topics import TopicSpec, create_topics

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

KAFKA_SCRIPT = Path(__file__).parents[2] / "shared" / "kafka" / "kafka_server.py"


class RunningKafka:
    """A real Apache Kafka: ``config`` reaches it in plaintext, ``secure`` over SASL_SSL where it listens."""

    def __init__(self, bootstrap: str, server: Any = None) -> None:
        self.config = KafkaConfig(bootstrap)
        self.secure = KafkaConfig.of(server.secure) if server else None
        self._server = server

    def new_topic(self, partitions: int = 4, **settings: str) -> str:
        name = f"test.{uuid.uuid4().hex[:12]}.v1"
        create_topics(self.config, [TopicSpec(name, partitions, settings)])
        PartitionReader(self.config, name, dict.fromkeys(range(partitions)), ReadSettings())  # awaits leaders
        return name

    def kill(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._server.start()


@pytest.fixture(scope="session")
def kafka() -> Iterator[RunningKafka]:
    if bootstrap := os.environ.get("IMPULSE_TEST_KAFKA"):
        yield RunningKafka(bootstrap)
    elif not KAFKA_SCRIPT.is_file() or shutil.which("java") is None:
        pytest.skip(
            "no Apache Kafka: set IMPULSE_TEST_KAFKA=HOST:PORT, or have Java and "
            f"{KAFKA_SCRIPT.parent.parent.name}/{KAFKA_SCRIPT.parent.name} beside the repository"
        )
    else:
        server = started(_kafka_class())
        try:
            yield RunningKafka(server.bootstrap, server)
        finally:
            server.stop()


@pytest.fixture
def own_kafka(kafka: RunningKafka) -> RunningKafka:
    if os.environ.get("IMPULSE_TEST_KAFKA"):
        pytest.skip("IMPULSE_TEST_KAFKA names a broker that these tests may not kill")
    return kafka


def _kafka_class() -> Any:
    spec = importlib.util.spec_from_file_location("kafka_server", KAFKA_SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Kafka


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def embedded_topic(embedded_broker: EmbeddedBroker) -> Callable[[int], str]:
    def new_topic(partitions: int) -> str:
        name = f"test.{uuid.uuid4().hex[:12]}.v1"
        embedded_broker.create_topic(name, partitions)
        return name

    return new_topic
