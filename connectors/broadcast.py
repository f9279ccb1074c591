"""Control records into every partition of the log, where each is in order with the users' events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from connectors.client import KafkaConfig
from connectors.codec import encode
from connectors.consumer import list_partitions
from connectors.dead_letters import LARGEST
from connectors.producer import OutputWriter
from models.domain.catalogue import Ad
from models.domain.errors import ImpulseError, LogError
from models.domain.events import AdUpsert, Control
from models.domain.log import Output

STREAM = "control"

FULL = 800_000
"""Bytes of ads or ids that one record takes; with what stands around them it is below `LARGEST`."""

T = TypeVar("T")


def copies(value: bytes, partitions: Sequence[int], source: tuple[int, int] = (-1, -1)) -> list[Output]:
    """Return one output per partition for an encoded control record.

    ``source`` is the partition and offset of the record that caused it, where there is one. The copies
    have no key: their partition is given.
    """
    return [Output(STREAM, None, value, *source, partition=partition) for partition in partitions]


def upserts(ads: Iterable[Ad], record_id: str, event_time: int, per_record: int = 500) -> Iterator[AdUpsert]:
    """Yield the control records that bring these ads, at most ``per_record`` and `FULL` bytes at a time.

    Ids are ``<record_id>-<n>``, so sending the same batch again changes nothing. A whole catalogue goes by
    reference instead (`CatalogueSnapshot`).

    Raises
    ------
    LogError
        naming an ad that no record takes.

    """
    for number, batch in enumerate(fitting(ads, per_record)):
        yield AdUpsert(id=f"{record_id}-{number}", event_time=event_time, ads=batch)


def fitting(items: Iterable[T], most: int) -> Iterator[tuple[T, ...]]:
    """Yield ads or ids in tuples of at most ``most`` that one record takes; raises as `upserts`."""
    batch: list[T] = []
    held = 0
    for item in items:
        size = len(msgspec.json.encode(item)) + 1  # and the comma
        if size > FULL:
            raise LogError.expected(
                f"ad {item.ad_id if isinstance(item, Ad) else item!r}", got=f"{size} bytes as JSON",
                expected=f"at most {FULL}", fix="shorten its vector, texts or creatives",
            )  # fmt: skip
        if batch and (len(batch) == most or held + size > FULL):
            yield tuple(batch)
            batch, held = [], 0
        batch.append(item)
        held += size
    if batch:
        yield tuple(batch)


class Broadcaster:
    """Sends control records to every partition of the log topic.

    Guarantee: when `send` returns, every partition holds every record, in the order given. When it
    raises, some may: send the same records again, the copies that arrived twice are dropped by their id.

    Parameters
    ----------
    topic
        The log topic; its partitions are read once, here.

    """

    def __init__(self, config: KafkaConfig, topic: str, delivery_timeout_s: float = 30.0) -> None:
        self.partitions = list_partitions(config, topic)
        self._writer = OutputWriter(config, {STREAM: topic}, delivery_timeout_s=delivery_timeout_s)

    def send(self, records: Iterable[Control]) -> int:
        """Write the records and wait for their delivery; return how many there were.

        Raises
        ------
        ImpulseError
            when one of the records is larger than every topic takes; then none is sent.
        LogError
            when a copy could not be delivered.

        """
        values = [_fitted(record) for record in records]
        for value in values:
            self._writer.write(copies(value, self.partitions))
        self._writer.flush()
        return len(values)


def _fitted(record: Control) -> bytes:
    value = encode(record)
    if len(value) > LARGEST:
        raise ImpulseError.expected(
            f"control record {record.id!r}",
            got=f"{len(value)} bytes",
            expected=f"at most {LARGEST}",
            fix="put fewer changes into one record, or send an artifact's hash",
        )
    return value
