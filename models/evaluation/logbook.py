"""A log in the making: events get partition, offset and ingest time as Kafka would give them.

User events are keyed by user and go to ``murmur2(key) mod partitions`` as Java clients place them;
control records are copied into every partition.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from models.domain.events import CONTROL_TYPES, Event
from models.domain.log import LogRecord

TOPIC = "ads.events.v1"
_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """Return the unsigned 32-bit MurmurHash2 of `data` with the seed that Kafka's clients use."""
    h = (0x9747B28C ^ len(data)) & _MASK
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, as Kafka's default Java partitioner chooses it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class Logbook:
    """Gives events their place in a log of so many partitions; offsets are dense from `offsets`, or 0.

    A record's ingest time is its event time plus `delay_ms`, never before its predecessor's.
    """

    def __init__(
        self, partitions: int = 1, topic: str = TOPIC, delay_ms: int = 5,
        offsets: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        self.topic = topic
        self.offsets = list(offsets or [0] * partitions)
        self._delay_ms = delay_ms
        self._last_ms = [0] * partitions
        self._encoder = msgspec.json.Encoder()
        self._partition: dict[str, int] = {}

    def append(self, event: Event) -> list[LogRecord]:
        """Return the event's records: one for a user's event, one per partition for a control record."""
        value = self._encoder.encode(event)
        if isinstance(event, CONTROL_TYPES):
            everywhere = range(len(self.offsets))
            return [self._record(p, None, value, event.event_time) for p in everywhere]
        user_id: str = event.user_id
        partition = self._partition.get(user_id)
        if partition is None:
            partition = self._partition[user_id] = partition_of(user_id.encode(), len(self.offsets))
        return [self._record(partition, user_id.encode(), value, event.event_time)]

    def _record(self, partition: int, key: bytes | None, value: bytes, event_time: int) -> LogRecord:
        offset, time_ms = self.offsets[partition], max(self._last_ms[partition], event_time + self._delay_ms)
        self.offsets[partition] = offset + 1
        self._last_ms[partition] = time_ms
        return LogRecord(self.topic, partition, offset, time_ms, key, value)
