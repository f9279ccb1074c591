"""What a flow has written beyond its last snapshot, so that after a crash it is not written again.

A flow whose outputs follow from its input alone decides the same bytes again when it is resumed. So nothing
has to be taken back, as a transaction would; what stands in the topics already is left out. A snapshot notes
where the topics end (`OutputTopics.ends`), and whoever resumes from it reads what has come since
(`OutputTopics.since`) and strikes off each output that is there (`Standing.strikes_off`). Consumers see every
record at once: there is no commit to wait for, and no isolation level to set.

Each record says in a header which record of the log caused it (`with_source`). So records of other processes
are told apart, and what was not decided again (settings differ, say) is given up once its source has passed.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from connectors.client import KafkaConfig, opened
from connectors.consumer import (
    METADATA_TIMEOUT_S,
    NOT_KNOWN_YET,
    PartitionReader,
    ReadSettings,
    list_partitions,
    unreachable,
)
from models.domain.log import Headers, LogRecord, Output

logger = logging.getLogger("impulse.kafka")

SOURCE = "impulse-source"
"""Header that names the record of the log which caused this one: ``PARTITION/OFFSET``."""

ASK_AGAIN_S = 1.0
"""How long a broker is left alone that did not say where topics end."""

_PLACE = re.compile(rb"(\d{1,10})/(\d{1,19})")
_DIGEST_BYTES = 16

Ends = dict[str, dict[int, int]]
"""Next offset of every partition of every output topic."""


class Mark(NamedTuple):
    """One record that was written: what caused it, and a digest of topic, key, value and headers."""

    partition: int
    offset: int
    digest: bytes


def with_source(output: Output, headers: Headers) -> Headers:
    """Return the headers of an output with the one that names its source."""
    return (*headers, (SOURCE, b"%d/%d" % (output.source_partition, output.source_offset)))


def mark_of(topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Mark | None:
    """Return the mark of a record of an output topic; None where it does not name its source."""
    source = next((data for name, data in reversed(headers) if name == SOURCE), b"")
    if (place := _PLACE.fullmatch(source)) is None:
        return None
    whole = msgspec.msgpack.encode((topic, key, value, headers))
    digest = blake2b(whole, digest_size=_DIGEST_BYTES).digest()
    return Mark(int(place[1]), int(place[2]), digest)


class Standing:
    """Records that stand in the topics and are due to be decided again.

    Parameters
    ----------
    marks
        One per record; two records that are alike have two.

    """

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self._left = Counter(marks)
        self._reached: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._left)

    def __len__(self) -> int:
        return self._left.total()

    def strikes_off(self, mark: Mark) -> bool:
        """Say whether a record stands already; it is counted off then, so that its like is written."""
        self._reached[mark.partition] = max(mark.offset, self._reached.get(mark.partition, -1))
        if mark not in self._left:
            return False
        self._left[mark] -= 1
        if not self._left[mark]:
            del self._left[mark]
        return True

    def give_up_passed(self) -> int:
        """Forget, at the end of an epoch, what was not decided again, and return how many records.

        An epoch holds all that its records cause, so nothing of an offset comes after one beyond it has.
        """
        before = len(self)
        self._left = Counter(
            {m: n for m, n in self._left.items() if m.offset > self._reached.get(m.partition, -1)}
        )
        return before - len(self)

    def values(self) -> list[tuple[int, int, bytes]]:
        """Return what is left as plain data: the fields of a mark each."""
        return [(*mark,) for mark in self._left.elements()]


class OutputTopics:
    """The topics that a flow writes: where they end, and what they hold from there on.

    A broker that restarts, or a partition whose leader changes, is waited for: at most ``patience_s``.

    Raises
    ------
    LogError
        from every method, when a topic is missing or Kafka does not answer.

    """

    def __init__(self, config: KafkaConfig, topics: Collection[str], patience_s: float = 120.0) -> None:
        self._config, self._patience_s = config, patience_s
        self._admin = self._client()
        self._partitions = {topic: list_partitions(config, topic) for topic in sorted(set(topics))}

    def ends(self) -> Ends:
        """Return the next offset of every partition."""
        return self._offsets(OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def _offsets(self, which: Any) -> Ends:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return self._answered(which)
            except KafkaException as error:
                lost = unreachable(self._config, error)
                if error.args[0].code() not in NOT_KNOWN_YET or time.monotonic() > deadline:
                    raise lost from error
            logger.warning("%s. Asking again.", lost)
            time.sleep(ASK_AGAIN_S)
            self._admin = self._client()  # the old one goes on believing in the leaders that it knows

    def _client(self) -> AdminClient:
        return opened(AdminClient, self._config, self._config.common())

    def _answered(self, which: Any) -> Ends:
        wanted = {TopicPartition(t, p): which for t, parts in self._partitions.items() for p in parts}
        ends: Ends = {topic: {} for topic in self._partitions}
        answers = self._admin.list_offsets(wanted, request_timeout=METADATA_TIMEOUT_S)
        for place, answer in answers.items():
            ends[place.topic][place.partition] = answer.result().offset
        return ends

    def since(self, ends: Ends, partitions: Collection[int] | None = None) -> Iterator[Mark]:
        """Yield the marks of what was written since because of these partitions of the log; None: of all.

        What has expired meanwhile is passed over, and so is a topic that was made anew: nothing that stood
        in the old one stands in it.
        """
        lows = self._offsets(OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        highs = self.ends()
        for topic, bounds in highs.items():
            first = {p: max(ends.get(topic, {}).get(p, 0), lows[topic][p]) for p in bounds}
            starts: dict[int, int | None] = {p: n for p, n in first.items() if n < bounds[p]}
            for record in self._read(topic, starts):
                mark = mark_of(topic, record.key, record.value, record.headers)
                if mark is not None and (partitions is None or mark.partition in partitions):
                    yield mark

    def _read(self, topic: str, starts: Mapping[int, int | None]) -> Iterator[LogRecord]:
        if not starts:
            return
        settings = ReadSettings(group_id="impulse-resume", until_end=True, isolation="read_uncommitted")
        reader = PartitionReader(self._config, topic, starts, settings)
        while any(not reader.finished(partition) for partition in starts):
            for partition in starts:
                yield from reader.take(partition)
        for partition in starts:
            reader.close(partition)
