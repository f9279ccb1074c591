"""A topic that was made a moment ago is read as soon as the broker that is asked knows of it."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors import consumer
from connectors.client import KafkaConfig
from connectors.consumer import PartitionReader, ReadSettings
from models.domain.errors import LogError


class Client:
    """Answers with an error so often, then with the bounds of an empty partition."""

    errors: list[int]

    def __init__(self, *_: object, **__: object) -> None:
        self.assigned: list[object] = []

    def get_watermark_offsets(self, where: object, timeout: float) -> tuple[int, int]:
        if self.errors:
            raise KafkaException(KafkaError(self.errors.pop()))
        return 0, 0

    def assign(self, places: list[object]) -> None:
        self.assigned = places


def opened(monkeypatch: pytest.MonkeyPatch, errors: list[int]) -> None:
    monkeypatch.setattr(consumer, "Consumer", Client)
    Client.errors = errors
    PartitionReader(KafkaConfig("nowhere:1"), "new", {0: None}, ReadSettings())


@pytest.mark.parametrize(
    "code", [KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE]
)
def test_what_the_broker_does_not_know_yet_is_asked_for_again(monkeypatch, code):
    opened(monkeypatch, [code, code])
    assert Client.errors == []


def test_what_waiting_does_not_help_is_refused_at_once(monkeypatch):
    with pytest.raises(LogError, match="Fix: "):
        opened(monkeypatch, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
