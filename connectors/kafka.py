"""Kafka as Bytewax's input and output.

Why a part per partition and one consumer behind them. Bytewax resumes a source part by part, and hands
the parts to whatever workers there are; only parts that exist at every size survive a change of size, so
a part is a partition and its state is the next offset. But a consumer per part (as in Bytewax's own
source) polls each in turn and breaks batches into pieces. So the parts of one worker share one
`PartitionReader`: the first part called polls for all of them, and each then emits its own share within
its own epoch, which keeps offsets and state exactly in step. Bytewax joins the shares again: all that
one poll brought reaches the next step as one batch (measured: 16 parts x 32 records arrive as 512).
`DynamicSource` would be simpler and has no recovery; one part with all offsets could not be resumed by
more processes.

A Bytewax cluster shares the parts out by itself and may be resumed at another size on the same recovery
store. Processes that know nothing of each other get ``partitions`` of their own and a store each.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.client import KafkaConfig
from connectors.consumer import PartitionReader, ReaderStats, ReadSettings, wanted_partitions
from connectors.once import OnceWriter, SinkState
from connectors.producer import OutputWriter
from models.domain.errors import LogError
from models.domain.log import LogRecord, Output

STATE_VERSION = 1

_AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)

State = dict[str, int | None]
"""Recovery state of a source part: ``version``, next ``offset`` and the ``stamp`` of the record before."""


class KafkaLogSource(FixedPartitionedSource[LogRecord, State]):
    """The log topic as the one input of a flow.

    Guarantee: each record of each partition enters the flow in order and at least once; with Bytewax's
    recovery on, exactly once as far as the flow's own state is concerned. Expired offsets, a missing topic
    and refused access are `LogError`; an absent broker is waited for.

    Parameters
    ----------
    partitions
        The partitions to read; None for all that the topic has, and then it is warned of new ones.
    stop
        Once set, every part ends its input: the last epoch closes whole and the flow exits with 0.

    """

    def __init__(
        self,
        config: KafkaConfig,
        topic: str,
        *,
        partitions: Sequence[int] | None = None,
        settings: ReadSettings | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._config, self._topic, self._partitions = config, topic, partitions
        self._settings = settings or ReadSettings()
        self.stop = stop or threading.Event()
        self._hubs: dict[int, _Hub] = {}

    def list_parts(self) -> list[str]:
        """Return one part per partition.

        Raises
        ------
        LogError
            when the topic or one of the partitions is missing, or no broker answers.

        """
        wanted = wanted_partitions(self._config, self._topic, self._partitions)
        if self._partitions is None:
            self._settings = replace(self._settings, partitions=len(wanted))
        return [f"{partition:05d}" for partition in wanted]

    def build_part(
        self, step_id: str, for_part: str, resume_state: State | None
    ) -> StatefulSourcePartition[LogRecord, State]:
        """Return the part of one partition, at the offset that its state names."""
        worker = threading.get_ident()
        hub = self._hubs.get(worker)
        if hub is None or hub.started:
            hub = self._hubs[worker] = _Hub(self._config, self._topic, self._settings)
        return _Part(hub, int(for_part), resume_state, self.stop)

    def lag(self) -> dict[int, int]:
        """Return the lag of each partition that this process reads, in offsets."""
        return {partition: lag for hub in [*self._hubs.values()] for partition, lag in hub.lag().items()}

    def stats(self) -> list[ReaderStats]:
        """Return what each worker's consumer has seen."""
        return [hub.stats for hub in self._hubs.values()]


class _Hub:
    """What the parts of one worker share; the consumer is made when all of them are known."""

    def __init__(self, config: KafkaConfig, topic: str, settings: ReadSettings) -> None:
        self._open = (config, topic, settings)
        self.offsets: dict[int, int | None] = {}
        self.stamps: dict[int, int | None] = {}
        self.stats = ReaderStats()
        self.reader: PartitionReader | None = None
        self.started = False

    def start(self) -> PartitionReader:
        """Return the one reader of all parts, made at the first call."""
        if self.reader is None:
            config, topic, settings = self._open
            self.reader = PartitionReader(config, topic, self.offsets, settings, self.stats, self.stamps)
            self.started = True
        return self.reader

    def lag(self) -> dict[int, int]:
        """Return the lag of each partition in offsets; nothing before the start."""
        reader = self.reader  # the flow may close it meanwhile
        return reader.lag() if reader else {}

    def close(self, partition: int) -> None:
        """Give a partition up; the last one closes the reader."""
        if self.reader and self.reader.close(partition):
            self.reader = None


class _Part(StatefulSourcePartition[LogRecord, State]):
    def __init__(self, hub: _Hub, partition: int, resume: State | None, stop: threading.Event) -> None:
        self._hub, self._partition, self._stop = hub, partition, stop
        hub.offsets[partition] = None if resume is None else _offset(resume)
        hub.stamps[partition] = None if resume is None else resume.get("stamp")

    def next_batch(self) -> list[LogRecord]:
        """Return what has arrived for this partition; ends when told to stop, or at the end asked for."""
        reader = self._hub.start()
        if self._stop.is_set() or reader.finished(self._partition):
            raise StopIteration
        return reader.take(self._partition)

    def next_awake(self) -> datetime:
        """Return a time long past: call again at once."""
        return _AT_ONCE  # the reader waits, for all parts together

    def snapshot(self) -> State:
        """Return the offset to go on from."""
        reader, partition = self._hub.start(), self._partition
        return {
            "version": STATE_VERSION,
            "offset": reader.next_offset(partition),
            "stamp": reader.stamp(partition),
        }

    def close(self) -> None:
        """Give the partition up."""
        self._hub.close(self._partition)


def _offset(state: State) -> int | None:
    if state.get("version") != STATE_VERSION:
        raise LogError.expected(
            "recovery state of the Kafka source",
            got=state,
            expected=f"version {STATE_VERSION}",
            fix="resume with the release that wrote it, or start from a fresh recovery store",
        )
    return state["offset"]


class KafkaSink(FixedPartitionedSink[Sequence[Output], SinkState | None]):
    """The one output of a flow: every stream to its topic, through one producer per process.

    Takes ``(key, outputs)``: any text that spreads the work over ``shards`` (a shard's name, say), and the
    outputs of some records in order.

    Guarantee: with ``store`` once, see `OnceWriter`; else at least once. What was written in an epoch is
    acknowledged by all replicas before the epoch's snapshot, hence before its input offsets are stored; a
    delivery that fails raises `LogError` there. After a crash the outputs of the unfinished epoch are made
    again, and without ``store`` written again.
    Records go out ``linger_ms`` after they were written, they do not wait for the epoch. A broker that is
    away for longer than ``delivery_timeout_s`` ends the flow, which resumes from its last epoch.

    Parameters
    ----------
    topics
        Topic of each stream (`Output.stream`).
    shards
        Number of sink parts, for good: it is part of the flow's recovery identity.
    store
        Folder of the flow's recovery store, for flows whose outputs follow from their input alone.
    partitions
        The partitions of the log whose outputs this process writes, for ``store``; None for all.

    """

    def __init__(
        self,
        config: KafkaConfig,
        topics: Mapping[str, str],
        *,
        shards: int = 4,
        linger_ms: float = 2.0,
        delivery_timeout_s: float = 120.0,
        store: Path | None = None,
        partitions: Sequence[int] | None = None,
    ) -> None:
        self._config, self._topics, self._shards = config, dict(topics), shards
        self._linger_ms, self._delivery_timeout_s = linger_ms, delivery_timeout_s
        self._store, self._partitions = store, partitions
        self._writer: OutputWriter | OnceWriter | None = None
        self._lock = threading.Lock()

    def list_parts(self) -> list[str]:
        """Return the names of the shards."""
        return [f"{shard:03d}" for shard in range(self._shards)]

    def build_part(
        self, step_id: str, for_part: str, resume_state: SinkState | None
    ) -> StatefulSinkPartition[Sequence[Output], SinkState | None]:
        """Return the writer of one shard, which goes on from its snapshot."""
        with self._lock:
            if self._writer is None:
                self._writer = self._open()
            self._writer.resume(resume_state)
        return _SinkPart(self._writer)

    def _open(self) -> OutputWriter | OnceWriter:
        writer = OutputWriter(self._config, self._topics, self._linger_ms, self._delivery_timeout_s)
        if self._store is None or not self._store.is_dir():  # `bytewax.run` makes no store of this name
            return writer
        return OnceWriter(writer, self._config, self._topics, self._store, self._partitions)


class _SinkPart(StatefulSinkPartition[Sequence[Output], SinkState | None]):
    def __init__(self, writer: OutputWriter | OnceWriter) -> None:
        self._writer = writer

    def write_batch(self, values: list[Sequence[Output]]) -> None:
        """Hand outputs to the producer."""
        for outputs in values:
            self._writer.write(outputs)

    def snapshot(self) -> SinkState | None:
        """Wait until all that was written is acknowledged; raises LogError where it is not."""
        return self._writer.snapshot()

    def close(self) -> None:
        """Wait until all that was written is acknowledged; the last snapshot has raised what was not."""
        self._writer.close()
