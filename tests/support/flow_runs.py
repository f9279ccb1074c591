"""Running flows in memory, on one worker or more, and outputs as something to compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main

from models.domain.log import LogRecord, Output


@dataclass
class MemoryLog(FixedPartitionedSource[LogRecord, int]):
    """Records as a source with a part per partition, like the Kafka source; ``batch`` of a part at a time.

    ``stop_after`` batches of each part it ends, as a stopped flow does; resumed, it goes on from there.
    """

    records: Sequence[LogRecord]
    batch: int = 512
    stop_after: int | None = None

    def list_parts(self) -> list[str]:
        return sorted({f"{record.partition:05d}" for record in self.records})

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _MemoryPart:
        own = [record for record in self.records if record.partition == int(for_part)]
        return _MemoryPart(own, self.batch, resume_state or 0, self.stop_after)


class _MemoryPart(StatefulSourcePartition[LogRecord, int]):
    def __init__(self, records: list[LogRecord], batch: int, place: int, left: int | None) -> None:
        self._records, self._batch, self._place, self._left = records, batch, place, left

    def next_batch(self) -> list[LogRecord]:
        if self._place >= len(self._records) or self._left == 0:
            raise StopIteration
        batch = self._records[self._place : self._place + self._batch]
        self._place += len(batch)
        self._left = None if self._left is None else self._left - 1
        return batch

    def snapshot(self) -> int:
        return self._place


@dataclass
class MemorySink(DynamicSink[tuple[str, Sequence[Output]]]):
    """Keeps what every worker writes, in order."""

    outputs: list[Output] = field(default_factory=list)

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _MemorySinkPart:
        return _MemorySinkPart(self.outputs)

    def stream(self, name: str) -> list[Output]:
        return [output for output in self.outputs if output.stream == name]

    def by_partition(self) -> dict[int, list[Output]]:
        """Return the outputs of each partition of the log, in the order of their offsets."""
        found: dict[int, list[Output]] = defaultdict(list)
        for output in sorted(self.outputs, key=lambda o: (o.source_partition, o.source_offset)):
            found[output.source_partition].append(output)
        return dict(found)


class _MemorySinkPart(StatelessSinkPartition[tuple[str, Sequence[Output]]]):
    def __init__(self, outputs: list[Output]) -> None:
        self._outputs = outputs

    def write_batch(self, items: list[tuple[str, Sequence[Output]]]) -> None:
        for _, outputs in items:
            self._outputs.extend(outputs)


def run_flow(dataflow: Dataflow, workers: int = 1, recovery: Any = None) -> None:
    """Run a flow to its end in this process."""
    cluster_main(
        dataflow,
        [],
        0,
        epoch_interval=timedelta(0) if recovery else None,
        recovery_config=recovery,
        worker_count_per_proc=workers,
    )


def reason(letter: Output) -> str:
    """Return why a record is a dead letter."""
    return dict(letter.headers)["dead-letter-reason"].decode()


def last_values(outputs: Iterable[Output]) -> dict[bytes | None, bytes | None]:
    """Return the last value of each key, as a compacted topic keeps it."""
    return {output.key: output.value for output in outputs}
