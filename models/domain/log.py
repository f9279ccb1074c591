"""A record as it stands in a log, before decoding, and as it leaves, after encoding."""

from __future__ import annotations

from typing import NamedTuple

Headers = tuple[tuple[str, bytes], ...]


class LogRecord(NamedTuple):
    """One record read from a topic or a recorded log; ``value`` is still bytes.

    ``timestamp_ms`` is the ingest time: the record's own timestamp in the log, UTC milliseconds.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Output(NamedTuple):
    """One record to write, and the place in the log of the record that caused it.

    ``stream`` is the role of the topic: ``decisions``, ``outcomes``, ``dead_letters``, ``control`` or
    ``rollups``. ``partition`` is None for the partitioner's choice by key.
    """

    stream: str
    key: bytes | None
    value: bytes | None
    source_partition: int
    source_offset: int
    partition: int | None = None
    headers: Headers = ()
