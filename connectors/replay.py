"""Recorded logs as a flow's input, and files of outputs as its output."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.log_files import read_log
from connectors.log_lines import encode_line
from models.domain.errors import LogError
from models.domain.log import LogRecord, Output

STATE_VERSION = 1

_AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)

State = dict[str, int]
"""Recovery state: ``version`` and how many ``records`` of the file were emitted or ``bytes`` written."""


def _now() -> datetime:
    return datetime.now(UTC)


class LogFileSource(FixedPartitionedSource[LogRecord, State]):
    """A recorded log as the one input of a flow; it ends where the file ends.

    Guarantee: every record once and in the file's order; resumed by the number of records emitted.

    Parameters
    ----------
    batch_size
        Records per batch; nothing that a flow decides may depend on it.
    pace
        None: as fast as the flow goes. Else a record is due when as much time has passed since the
        start as lies between it and the first record by their log timestamps, divided by ``pace``.
    stop
        Once set, the input ends.
    now
        The clock that ``pace`` goes by.

    """

    def __init__(
        self,
        path: Path,
        *,
        batch_size: int = 512,
        pace: float | None = None,
        stop: threading.Event | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._path, self._batch_size, self._pace, self._now = path, batch_size, pace, now
        self.stop = stop or threading.Event()

    def list_parts(self) -> list[str]:
        """Return the one part, the file."""
        return ["log"]

    def build_part(
        self, step_id: str, for_part: str, resume_state: State | None
    ) -> StatefulSourcePartition[LogRecord, State]:
        """Return the file from the record on that the state names."""
        done = 0 if resume_state is None else _count(resume_state, "records")
        if self._pace is None:
            return _FilePart(self._path, self._batch_size, done, self.stop)
        return _PacedPart(self._path, self._batch_size, done, self.stop, self._pace, self._now)


def _count(state: State, name: str) -> int:
    if state.get("version") != STATE_VERSION or name not in state:
        raise LogError.expected(
            "recovery state of a file",
            got=state,
            expected=f"version {STATE_VERSION} with {name}",
            fix="start from a fresh recovery store",
        )
    return state[name]


class _FilePart(StatefulSourcePartition[LogRecord, State]):
    def __init__(self, path: Path, batch_size: int, done: int, stop: threading.Event) -> None:
        self._batches = read_log(path, batch_size, skip=done)
        self._done, self._stop = done, stop

    def next_batch(self) -> list[LogRecord]:
        """Return the next records; ends with the file, or when told to stop."""
        if self._stop.is_set():
            raise StopIteration
        batch = next(self._batches)
        self._done += len(batch)
        return batch

    def next_awake(self) -> datetime:
        """Return a time long past: call again at once."""
        return _AT_ONCE

    def snapshot(self) -> State:
        """Return how many records were emitted."""
        return {"version": STATE_VERSION, "records": self._done}


class _PacedPart(_FilePart):
    def __init__(
        self,
        path: Path,
        batch_size: int,
        done: int,
        stop: threading.Event,
        pace: float,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(path, batch_size, done, stop)
        self._pace, self._now = pace, now
        self._held: list[LogRecord] = []
        self._start: tuple[datetime, int] | None = None

    def next_batch(self) -> list[LogRecord]:
        """Return the records that are due by the recorded pace."""
        if self._stop.is_set():
            raise StopIteration
        if not self._held:
            self._held = next(self._batches)
        if self._start is None:
            self._start = self._now(), self._held[0].timestamp_ms
        now = self._now()
        due = next((i for i, r in enumerate(self._held) if self._due(r) > now), len(self._held))
        batch, self._held = self._held[:due], self._held[due:]
        self._done += len(batch)
        return batch

    def _due(self, record: LogRecord) -> datetime:
        if self._start is None:
            return _AT_ONCE
        began, first_ms = self._start
        return began + (record.timestamp_ms - first_ms) / self._pace * _MS

    def next_awake(self) -> datetime:
        """Return when the next record is due."""
        return self._due(self._held[0]) if self._held else _AT_ONCE


class OutputFileSink(FixedPartitionedSink[Sequence[Output], State]):
    """Streams of outputs as JSON lines files; takes ``(key, outputs)`` as `connectors.kafka.KafkaSink` does.

    Each output is its value and a line's end; dead letters, whose values may be any bytes, stand as
    lines of a recorded log. Streams without a file are left out.

    Guarantee: with recovery on, exactly once: a resumed file is cut back to its last snapshot. Without,
    a file that exists is replaced. Order is the flow's.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)

    def list_parts(self) -> list[str]:
        """Return the one part: a file has one writer."""
        return ["files"]

    def build_part(
        self, step_id: str, for_part: str, resume_state: State | None
    ) -> StatefulSinkPartition[Sequence[Output], State]:
        """Return the writer, each file cut back to where its snapshot stood."""
        return _FileSinkPart(self._files, resume_state)


class _FileSinkPart(StatefulSinkPartition[Sequence[Output], State]):
    def __init__(self, files: Mapping[str, Path], resume: State | None) -> None:
        self._files = {
            stream: _open_at(path, 0 if resume is None else _count(resume, stream))
            for stream, path in files.items()
        }

    def write_batch(self, values: list[Sequence[Output]]) -> None:
        """Append outputs to the files of their streams."""
        for outputs in values:
            for output in outputs:
                if (file := self._files.get(output.stream)) is not None:
                    file.write(_line(output))

    def snapshot(self) -> State:
        """Write everything through to the disk and return the files' lengths."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return {"version": STATE_VERSION} | {stream: file.tell() for stream, file in self._files.items()}

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


def _open_at(path: Path, size: int) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("r+b" if size else "wb")
        if size > file.seek(0, os.SEEK_END):
            file.close()
            raise LogError(f"{path}: shorter than its last snapshot. Fix: restore it, or start afresh")
        file.truncate(size)
        file.seek(size)
    except OSError as error:
        raise LogError(f"{path}: cannot be written: {error}. Fix: name a folder that can") from error
    return file


def _line(output: Output) -> bytes:
    if output.stream == "dead_letters":
        record = LogRecord(
            output.stream,
            output.source_partition,
            output.source_offset,
            0,
            output.key,
            output.value,
            output.headers,
        )
        return encode_line(record) + b"\n"
    return (output.value or b"null") + b"\n"
