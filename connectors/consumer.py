"""One Kafka consumer over several partitions of a topic, read in turns without losing the place.

Guarantee: every record of a partition from its start offset on is handed out once, in order. An offset
that the log does not hold (any more) is a `LogError`, never a jump. A broker that is away is logged and
counted, and reading goes on where it stopped when it is back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from confluent_kafka import (
    TIMESTAMP_CREATE_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from connectors.client import KafkaConfig, opened
from connectors.messages import to_record
from connectors.place import Place
from models.domain.errors import LogError
from models.domain.log import LogRecord

logger = logging.getLogger("impulse.kafka")

NO_STAMPS: Mapping[int, int | None] = MappingProxyType({})

METADATA_TIMEOUT_S = 15.0
"""How long a broker may take to say which partitions and offsets it has."""
LOOK_EVERY_S = 30.0
"""How often it is looked whether a topic has got more partitions."""
LOOK_TIMEOUT_S = 1.0
"""How long reading waits for that, at most."""
CLOSE_TIMEOUT_S = 3.0
"""How long a broker may take to let a consumer go; three of them before a supervisor loses patience."""

_TRANSIENT = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.NETWORK_EXCEPTION,
    }
)
"""What passes by itself: brokers that go and come, partitions whose leaders change."""

NOT_KNOWN_YET = _TRANSIENT | {KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART}
"""While a topic is new to the broker that is asked; whether it exists at all is seen to before."""


_PRODUCERS_TIME = (
    "topic %s: its records carry their producers' time, expected the broker's: a single one dated far ahead "
    "makes all later events of its shard late, for good. Fix: set message.timestamp.type=LogAppendTime on it "
    "(`impulse topics` shows the command; the embedded broker cannot)"
)

_MORE_PARTITIONS = (
    "topic %s: got %d partitions, expected %d as when this flow started: it does not read the others. "
    "Fix: start all flows again; then send ads, model and policy again, of which new partitions know nothing"
)


@dataclass
class ReaderStats:
    """What a consumer has seen since it started."""

    records: int = 0
    client_errors: int = 0
    failed_commits: int = 0
    broker_down: bool = False


@dataclass(frozen=True)
class ReadSettings:
    """How a topic is read.

    ``batch_size`` caps one batch (Bytewax breaks up more than 1,024); ``poll_s`` is how long an idle
    consumer waits for the first record of the next (it wakes at once; at 0.01 s an idle process takes 1-3 %
    of a core); ``start`` (``earliest`` or ``latest``) holds for partitions without an offset of their own;
    with ``until_end`` reading stops at the end that each partition had when it started. Positions are
    committed for ``group_id`` every ``commit_every_s`` so that Kafka's tools show the lag; nothing is ever
    resumed from there. ``stamped`` says that the reader's clock goes by the records' timestamps, which are
    to be the broker's then: producers' ones are warned of. ``partitions`` is how many the topic has for a
    flow that reads them all: more of them are warned of, for nobody reads those.
    """

    group_id: str = "impulse"
    batch_size: int = 512
    poll_s: float = 0.01
    start: str = "earliest"
    until_end: bool = False
    isolation: str = "read_committed"
    commit_every_s: float = 5.0
    stamped: bool = False
    partitions: int | None = None


def list_partitions(config: KafkaConfig, topic: str) -> list[int]:
    """Return the partitions of a topic.

    Raises
    ------
    LogError
        when the topic is missing or no broker answers.
    SettingError
        when librdkafka refuses the settings.

    """
    heard: list[str] = []
    settings = config.consumer("impulse-metadata") | {"error_cb": lambda error: heard.append(error.str())}
    consumer = opened(Consumer, config, settings, logger=logger)
    try:
        found = consumer.list_topics(timeout=METADATA_TIMEOUT_S).topics
    except KafkaException as error:
        consumer.poll(0)  # hands over what error_cb has to say, such as a refused password
        raise unreachable(config, error, heard) from error
    finally:
        consumer.close()
    if topic not in found:
        raise LogError(f"topic {topic!r} does not exist. Fix: run `impulse topics --create`")
    return sorted(found[topic].partitions)


def wanted_partitions(config: KafkaConfig, topic: str, wanted: Sequence[int] | None) -> list[int]:
    """Return the partitions of a topic that are wanted, all for None; raises as `list_partitions`.

    Raises
    ------
    LogError
        when the topic lacks one of them, too.

    """
    found = list_partitions(config, topic)
    if wanted is None:
        return found
    if missing := set(wanted) - set(found):
        raise LogError.expected(
            f"partitions of {topic}",
            got=sorted(missing),
            expected=f"some of 0 to {len(found) - 1}",
            fix="run `impulse topics` to see what exists",
        )
    return sorted(wanted)


def unreachable(config: KafkaConfig, error: KafkaException, heard: Sequence[str] = ()) -> LogError:
    """Return what is to be raised where no broker answers; ``heard`` is what the client said meanwhile."""
    why = "; ".join(dict.fromkeys([error.args[0].str(), *heard]))
    return LogError(
        f"kafka at {config.bootstrap_servers} did not answer: {config.redact(why)}. "
        "Fix: start the broker, or correct the bootstrap servers and security settings"
    )


class PartitionReader:
    """Reads partitions of one topic through one consumer.

    Parameters
    ----------
    offsets
        Next offset of each partition to read; None where ``settings.start`` decides.
    stats
        Where to count.
    stamps
        Of partitions that are resumed, the timestamp of the last record read (`stamp`): where the record
        before the offset has another one, the topic was made anew.

    """

    def __init__(
        self,
        config: KafkaConfig,
        topic: str,
        offsets: Mapping[int, int | None],
        settings: ReadSettings,
        stats: ReaderStats | None = None,
        stamps: Mapping[int, int | None] = NO_STAMPS,
    ) -> None:
        self.stats = stats or ReaderStats()
        self._config, self._topic, self._settings = config, topic, settings
        self._consumer = opened(Consumer, config, self._client_settings(), logger=logger)
        self._places = {n: self._find(n, offset, stamps.get(n)) for n, offset in offsets.items()}
        self._consumer.assign([TopicPartition(topic, n, place.first()) for n, place in self._places.items()])
        self._closing = threading.Lock()
        self._served: set[int] = set()
        self._committed_at = time.monotonic()
        self._ends_when_lost: dict[int, int] = {}
        self._emptied = True
        self._trusts_stamps = not settings.stamped
        self._partitions, self._looked_at = settings.partitions, time.monotonic()

    def _client_settings(self) -> dict[str, Any]:
        return self._config.consumer(self._settings.group_id) | {
            "enable.partition.eof": True,
            "isolation.level": self._settings.isolation,
            "error_cb": self._on_client_error,
            "on_commit": self._on_commit,
        }

    def _find(self, partition: int, offset: int | None, stamp_ms: int | None) -> Place:
        low, high = self._bounds(partition)
        if offset is None:
            offset = low if self._settings.start == "earliest" else high
        if not low <= offset <= high:
            raise self._lost(partition, offset, f"the log holds {low} to {high}")
        return Place(offset, high, low=low, stamp_ms=stamp_ms)

    def _bounds(self, partition: int) -> tuple[int, int]:
        """Return the first offset of a partition and its end, also while its leader is being elected."""
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        while True:
            try:
                where = TopicPartition(self._topic, partition)
                low, high = self._consumer.get_watermark_offsets(where, timeout=METADATA_TIMEOUT_S)
                return int(low), int(high)
            except KafkaException as error:
                if error.args[0].code() not in NOT_KNOWN_YET or time.monotonic() > deadline:
                    raise unreachable(self._config, error) from error
                time.sleep(0.05)

    def _lost(self, partition: int, offset: int, why: str) -> LogError:
        return LogError(
            f"{self._topic}[{partition}]: offset {offset} is not in the log ({why}): records have expired "
            "or the topic was made anew. Fix: restore the records, or give up on them by removing the "
            "recovery store; then raise the topic's retention"
        )

    def take(self, partition: int) -> list[LogRecord]:
        """Return the records of one partition that have arrived; call for each partition in turn.

        The consumer is polled once per turn (when a partition comes round again), so what one poll
        brought goes out in one turn. Waits at most ``poll_s``.
        """
        if partition in self._served:
            self._poll()
            self._served.clear()
        self._served.add(partition)
        return self._places[partition].hand_out()

    def finished(self, partition: int) -> bool:
        """Say whether a reader with ``until_end`` has handed out all of a partition."""
        place = self._places[partition]
        read = not place.queue and max(place.reached, place.next_offset) >= place.end
        return self._settings.until_end and read

    def next_offset(self, partition: int) -> int:
        """Return the offset after the last record handed out, and after what follows it that is none."""
        return self._places[partition].next_offset

    def stamp(self, partition: int) -> int | None:
        """Return the timestamp of the last record handed out; None before the first."""
        return self._places[partition].stamp_ms

    def lag(self) -> dict[int, int]:
        """Return how many offsets each open partition is behind the end that the consumer last heard of."""
        with self._closing:  # whoever serves metrics asks from a thread of its own
            return {n: max(0, self._end(n, place) - place.next_offset) for n, place in self._places.items()}

    def _end(self, partition: int, place: Place) -> int:
        return max(self._last_heard_end(partition), place.end)

    def _last_heard_end(self, partition: int) -> int:
        _, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        return int(high)

    def close(self, partition: int) -> bool:
        """Stop reading a partition; with the last one close the consumer and return True."""
        with self._closing:
            place = self._places.pop(partition)
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
        self._commit({partition: place})
        if not self._places:
            self._close_consumer()
        return not self._places

    def _close_consumer(self) -> None:
        """Close, or give up: librdkafka waits for ever for a broker that goes with a commit under way."""
        closing = threading.Thread(target=self._consumer.close, daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT_S)
        if closing.is_alive():
            logger.warning("kafka at %s: no answer, closing without", self._config.bootstrap_servers)

    def _poll(self) -> None:
        if (first := self._consumer.poll(self._settings.poll_s)) is not None:
            self._keep([first, *self._consumer.consume(self._settings.batch_size - 1, 0)])
        else:
            self._emptied = True
        if time.monotonic() - self._committed_at >= self._settings.commit_every_s:
            self._commit(self._places)
        if time.monotonic() - self._looked_at >= LOOK_EVERY_S:
            self._look_for_more()

    def _look_for_more(self) -> None:
        self._looked_at = time.monotonic()
        if self._partitions is None or self.stats.broker_down:
            return
        try:
            found = self._consumer.list_topics(self._topic, timeout=LOOK_TIMEOUT_S)
        except KafkaException:
            return  # a broker that is away is told of elsewhere
        if (count := len(found.topics[self._topic].partitions)) > self._partitions:
            logger.warning(_MORE_PARTITIONS, self._topic, count, self._settings.partitions)
            self._partitions = count  # once is enough

    def _keep(self, messages: Sequence[Any]) -> None:
        for message in messages:
            if (error := message.error()) is not None:
                self._on_message_error(message, error)
            elif (place := self._places.get(message.partition())) and self._wanted(place, message.offset()):
                self._take_in(place, to_record(message))
        if messages[-1].error() is None:
            self._note_good(messages[-1])

    def _take_in(self, place: Place, record: LogRecord) -> None:
        if record.offset >= place.next_offset:
            place.queue.append(record)
            self.stats.records += 1
        elif record.timestamp_ms != place.stamp_ms:
            why = f"the record before it is of {record.timestamp_ms} ms, not of {place.stamp_ms}"
            raise self._lost(record.partition, place.next_offset, why)

    def _note_good(self, message: Any) -> None:
        """Look at one record of each batch for what concerns all of them."""
        if self.stats.broker_down and self._was_just_fetched():
            self.stats.broker_down = False
            logger.info("kafka at %s is back", self._config.bootstrap_servers)
        if not self._trusts_stamps and message.timestamp()[0] == TIMESTAMP_CREATE_TIME:
            self._trusts_stamps = True  # once is enough
            logger.warning(_PRODUCERS_TIME, self._topic)

    def _was_just_fetched(self) -> bool:
        """Say whether the broker has answered since it was lost: records fetched before may still come."""
        return self._emptied or any(
            self._last_heard_end(partition) > end
            for partition, end in self._ends_when_lost.items()
            if partition in self._places
        )

    def _wanted(self, place: Place, offset: int) -> bool:
        return not self._settings.until_end or offset < place.end

    def _on_message_error(self, message: Any, error: KafkaError) -> None:
        partition, code = message.partition(), error.code()
        if code == KafkaError._PARTITION_EOF:
            if place := self._places.get(partition):
                end = min(message.offset(), place.end) if self._settings.until_end else message.offset()
                place.reached = max(place.reached, end)
        elif code == KafkaError._AUTO_OFFSET_RESET:
            raise self._lost(partition, message.offset(), self._config.redact(error.str()))
        elif code in _TRANSIENT:
            self._on_client_error(error)
        else:
            raise LogError(
                f"{self._topic}[{partition}] cannot be read: {self._config.redact(error.str())}. "
                "Fix: see that the topic exists (`impulse topics`) and that this user may read it"
            )

    def _on_client_error(self, error: KafkaError) -> None:
        self.stats.client_errors += 1
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            self.stats.broker_down, self._emptied = True, False
            self._ends_when_lost = {partition: self._last_heard_end(partition) for partition in self._places}
        logger.warning("kafka at %s: %s", self._config.bootstrap_servers, self._config.redact(error.str()))

    def _commit(self, places: Mapping[int, Place]) -> None:
        self._committed_at = time.monotonic()
        if self.stats.broker_down:
            return  # whoever closes would wait for it
        offsets = [TopicPartition(self._topic, n, place.next_offset) for n, place in places.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException:
            self.stats.failed_commits += 1

    def _on_commit(self, error: KafkaError | None, _offsets: Sequence[TopicPartition]) -> None:
        self.stats.failed_commits += error is not None
