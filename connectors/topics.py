"""The topics that Impulse needs, and what differs from them on a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it re-exports without saying so
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from connectors.client import KafkaConfig, opened
from connectors.consumer import METADATA_TIMEOUT_S
from models.domain.errors import LogError

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class TopicSpec:
    """One topic: its partitions and the settings that matter to Impulse, by Kafka's names."""

    name: str
    partitions: int
    settings: Mapping[str, str] = field(default_factory=dict)
    replication: int = -1
    """-1: the cluster's default."""


@dataclass(frozen=True)
class Difference:
    """Where a topic is not as it should be; ``got`` is None when it is missing."""

    topic: str
    what: str
    got: str | None
    expected: str
    fix: str

    def __str__(self) -> str:
        found = "missing" if self.got is None else f"{self.what} is {self.got}"
        return f"{self.topic}: {found}, expected {self.what} {self.expected}. Fix: {self.fix}"


def standard_topics(
    partitions: int = 16,
    *,
    events: str = "ads.events.v1",
    decisions: str = "ads.decisions.v1",
    outcomes: str = "ads.outcomes.v1",
    interests: str = "ads.interests.v1",
    dead_letters: str = "ads.events.v1.dlq",
    rollups: str = "ads.rollups.v1",
    retention_days: int = 7,
) -> list[TopicSpec]:
    """Return the topics of one Impulse: the log, and what it writes.

    The log is never compacted: its order is the program. Its records carry the broker's time, so that no
    producer's clock decides what is late or lies in the future. Outcomes and dead letters stay four times as
    long, roll-ups keep the last value of each key.
    """
    keep, long = _retention(retention_days), _retention(4 * retention_days)
    return [
        TopicSpec(events, partitions, keep | {"message.timestamp.type": "LogAppendTime"}),
        TopicSpec(decisions, partitions, keep),
        TopicSpec(outcomes, partitions, long),
        TopicSpec(interests, 1, keep),
        TopicSpec(dead_letters, 1, long),
        TopicSpec(rollups, 1, {"cleanup.policy": "compact"}),
    ]


def topic_sizes(partitions: int) -> dict[str, int]:
    """Return the partitions of each of the standard topics, as an embedded broker takes them."""
    return {spec.name: spec.partitions for spec in standard_topics(partitions)}


def _retention(days: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}


def create_topics(config: KafkaConfig, specs: Sequence[TopicSpec]) -> list[str]:
    """Create the topics that are missing and return their names; those that exist stay as they are.

    Raises
    ------
    LogError
        when the cluster refuses one, or does not answer.

    """
    admin = opened(AdminClient, config, config.common())
    existing = _existing(config, admin)
    missing = [spec for spec in specs if spec.name not in existing]
    new = [NewTopic(s.name, s.partitions, s.replication, config=dict(s.settings)) for s in missing]
    for name, created in (admin.create_topics(new) if new else {}).items():
        try:
            _answer(created, f"topic {name!r}: whether it was created")
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise LogError(_refused(config, name, error)) from error
    return [spec.name for spec in missing]


def _answer(asked: Future[Any], what: str) -> Any:
    try:
        return asked.result(METADATA_TIMEOUT_S)
    except TimeoutError:
        raise LogError(
            f"{what}: got no answer within {METADATA_TIMEOUT_S:.0f} s, expected one. "
            "Fix: see that all brokers are up, then try again."
        ) from None


def _refused(config: KafkaConfig, name: str, error: KafkaException) -> str:
    return (
        f"topic {name!r} was not created: {config.redact(str(error))}. Fix: let this user create "
        "topics, or have them created; the embedded broker takes its topics as `--topic NAME:PARTITIONS`"
    )


def _existing(config: KafkaConfig, admin: AdminClient) -> dict[str, int]:
    try:
        topics = admin.list_topics(timeout=METADATA_TIMEOUT_S).topics
    except KafkaException as error:
        raise LogError(
            f"kafka at {config.bootstrap_servers} did not answer: {config.redact(str(error))}. "
            "Fix: start the broker, or correct the bootstrap servers and security settings"
        ) from error
    return {name: len(topic.partitions) for name, topic in topics.items()}


def diff_topics(config: KafkaConfig, specs: Sequence[TopicSpec]) -> list[Difference]:
    """Return what on the cluster is not as specified; empty when all is well."""
    admin = opened(AdminClient, config, config.common())
    existing = _existing(config, admin)
    present = [spec for spec in specs if spec.name in existing]
    settings = _settings(config, admin, [spec.name for spec in present])
    missing = [_missing(spec) for spec in specs if spec.name not in existing]
    return missing + [d for s in present for d in _differences(s, existing[s.name], settings[s.name])]


def _settings(config: KafkaConfig, admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found = {}
    for resource, described in (admin.describe_configs(resources) if resources else {}).items():
        try:
            entries = _answer(described, f"topic {resource.name!r}: its settings")
        except KafkaException as error:
            raise LogError(
                f"topic {resource.name!r}: settings not readable: {config.redact(str(error))}"
            ) from error
        found[resource.name] = {name: entry.value for name, entry in entries.items()}
    return found


def _missing(spec: TopicSpec) -> Difference:
    return Difference(spec.name, "partitions", None, str(spec.partitions), "run `impulse topics --create`")


def _differences(spec: TopicSpec, partitions: int, settings: Mapping[str, str]) -> list[Difference]:
    found = []
    if partitions != spec.partitions:
        fix = (
            "say so in the settings; adding partitions moves users away from their state, "
            "so a running log keeps its number"
        )
        found.append(Difference(spec.name, "partitions", str(partitions), str(spec.partitions), fix))
    for name, expected in spec.settings.items():
        if (got := settings.get(name)) != expected:
            fix = f"kafka-configs --alter --topic {spec.name} --add-config {name}={expected}"
            found.append(Difference(spec.name, name, got or "unset", expected, fix))
    return found
