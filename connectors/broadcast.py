"""Control records into every partition of the log, where each is in order with the users' events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from connectors.client import KafkaConfig
from connectors.codec import MAX_BYTES, encode
from connectors.consumer import list_partitions
from connectors.producer import OutputWriter
from models.domain.catalogue import Ad
from models.domain.errors import ImpulseError
from models.domain.events import AdUpsert, Control
from models.domain.log import Output

STREAM = "control"


def copies(value: bytes, partitions: Sequence[int], source: tuple[int, int] = (-1, -1)) -> list[Output]:
    """Return one output per partition for an encoded control record.

    ``source`` is the partition and offset of the record that caused it, where there is one. The copies
    have no key: their partition is given.
    """
    return [Output(STREAM, None, value, *source, partition=partition) for partition in partitions]


def upserts(ads: Iterable[Ad], record_id: str, event_time: int, per_record: int = 500) -> Iterator[AdUpsert]:
    """Yield the control records that bring these ads, ``per_record`` at a time.

    Ids are ``<record_id>-<n>``, so sending the same batch again changes nothing. A whole catalogue goes by
    reference instead (`CatalogueSnapshot`).
    """
    rest, number = iter(ads), 0
    while batch := tuple(islice(rest, per_record)):
        yield AdUpsert(id=f"{record_id}-{number}", event_time=event_time, ads=batch)
        number += 1


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
            when a record is larger than the flow accepts.
        LogError
            when a copy could not be delivered.

        """
        sent = 0
        for record in records:
            value = encode(record)
            _require_fits(record.id, value)
            self._writer.write(copies(value, self.partitions))
            sent += 1
        self._writer.flush()
        return sent


def _require_fits(record_id: str, value: bytes) -> None:
    if len(value) > MAX_BYTES:
        raise ImpulseError.expected(
            f"control record {record_id!r}",
            got=f"{len(value)} bytes",
            expected=f"at most {MAX_BYTES}",
            fix="put fewer changes into one record, or send an artifact's hash",
        )
