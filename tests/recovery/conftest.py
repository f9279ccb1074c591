"""Fresh topics on whatever broker there is."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import pytest
from support.topics import NewTopics, Topics

from connectors.client import KafkaConfig


@pytest.fixture
def new_topics(request: pytest.FixtureRequest) -> NewTopics:
    """Make topics of so many partitions each: on real Kafka where there is one, else on the embedded one."""
    try:
        kafka = request.getfixturevalue("kafka")
    except pytest.skip.Exception:
        broker = request.getfixturevalue("embedded_broker")

        def embedded(partitions: Mapping[str, int]) -> Topics:
            names = {stream: f"test.{uuid.uuid4().hex[:12]}.v1" for stream in partitions}
            for stream, name in names.items():
                broker.create_topic(name, partitions[stream])
            return Topics(KafkaConfig(broker.bootstrap), names)

        return embedded

    def real(partitions: Mapping[str, int]) -> Topics:
        stamped = {"EVENTS": {"message.timestamp.type": "LogAppendTime"}}
        names = {s: kafka.new_topic(count, **stamped.get(s, {})) for s, count in partitions.items()}
        return Topics(kafka.config, names)

    return real
