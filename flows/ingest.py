"""Raw topics of another shape into the log: mapped, cleaned, checked and keyed by user.

    impulse ingest --mapping FILE

    raw topics ─map▸ (topic/partition, [Output]) ─▸ ads.events.v1, key user
                                                 └▸ ads.events.v1.dlq, original record and reason

What the mapping cannot read, or the log's own codec would refuse, is a dead letter here already. The records
of one raw partition reach a user's partition in their order; several raw topics are read side by side by one
process, in no order between them (a slow one holds a busy one up: give that a process of its own).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from connectors.codec import encode
from connectors.consumer import ReadSettings
from connectors.dead_letters import to_dead_letter
from connectors.kafka import KafkaLogSource, KafkaSink
from connectors.mapped import mapped
from connectors.mapping import TopicMapping
from models.domain.errors import BadRecord, SettingError
from models.domain.events import CONTROL_TYPES
from models.domain.log import LogRecord, Output

from .operators import Keyed
from .settings import Settings


def flow(
    settings: Settings, mappings: Sequence[TopicMapping], stop: threading.Event | None = None
) -> Dataflow:
    """Return the dataflow that reads and writes Kafka as settings and mappings say.

    Raises
    ------
    SettingError
        where a raw topic is one that is written: each record would come back, without end.

    """
    config, topics = settings.kafka.config(), settings.topics
    _require_raw(mappings, (topics.events, topics.dead_letters))
    reading = ReadSettings(batch_size=settings.batch_size, group_id=f"{settings.group_id}-ingest")
    sources = {m.topic: KafkaLogSource(config, m.topic, settings=reading, stop=stop) for m in mappings}
    streams = {"events": topics.events, "dead_letters": topics.dead_letters}
    return ingest(sources, mappings, KafkaSink(config, streams, linger_ms=settings.linger_ms))


def _require_raw(mappings: Sequence[TopicMapping], written: Sequence[str]) -> None:
    for mapping in mappings:
        if mapping.topic in written:
            raise SettingError.expected(
                "raw topic of the mapping", got=mapping.topic,
                expected=f"none that is written by this flow: {', '.join(written)}",
                fix="name the topic that the records come from, or another one for events and dead letters",
            )  # fmt: skip


def ingest(
    sources: Mapping[str, Source[LogRecord]], mappings: Sequence[TopicMapping], sink: Sink[Keyed]
) -> Dataflow:
    """Return the dataflow between a source of each mapped topic and any sink of outputs."""
    dataflow = Dataflow("ingest")
    mapped_streams = []
    for mapping in mappings:
        name = step_name(mapping.topic)
        records = op.input(f"raw_{name}", dataflow, sources[mapping.topic])
        mapped_streams.append(op.flat_map_batch(f"map_{name}", records, Mapper(mapping)))
    outputs = op.merge("outputs", *mapped_streams)  # (topic/partition, [Output])
    op.output("out", outputs, sink)
    return dataflow


def step_name(topic: str) -> str:
    """Return a topic's name as a step may be called: part of the recovery identity, without dots."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: f"_{ord(found[0]):x}_", topic)


class Mapper:
    """Maps the records of one raw topic; each partition's outputs stay together and in order."""

    def __init__(self, mapping: TopicMapping) -> None:
        self._mapping = mapping

    def __call__(self, records: list[LogRecord]) -> list[tuple[str, Sequence[Output]]]:
        """Return the outputs of a batch under the partition that they come from."""
        groups: dict[str, list[Output]] = {}
        for record in records:
            if (output := map_record(record, self._mapping)) is not None:
                groups.setdefault(f"{record.topic}/{record.partition}", []).append(output)
        return list(groups.items())


def map_record(record: LogRecord, mapping: TopicMapping) -> Output | None:
    """Return the event of a raw record, keyed by user, or its dead letter; None where it is ignored."""
    try:
        event = mapped(record, mapping)
    except BadRecord as error:
        return to_dead_letter(record, error, "ingest")
    if event is None or isinstance(event, CONTROL_TYPES):  # a mapping names kinds of user events only
        return None
    return Output("events", event.user_id.encode(), encode(event), record.partition, record.offset)
