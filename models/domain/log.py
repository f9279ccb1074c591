"""A record on its way: as it stands in a log, decoded, decided upon, and encoded to leave."""

from __future__ import annotations

from typing import NamedTuple

from .decision import Decision, Interest, Outcome
from .errors import BadRecord
from .events import Event

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

    ``stream`` is the role of the topic: ``decisions``, ``outcomes``, ``interests``, ``dead_letters``,
    ``control`` or ``rollups``. ``partition`` is None for the partitioner's choice by key.
    """

    stream: str
    key: bytes | None
    value: bytes | None
    source_partition: int
    source_offset: int
    partition: int | None = None
    headers: Headers = ()


class Received(NamedTuple):
    """A record of the log and the event it holds."""

    record: LogRecord
    event: Event


class Rejected(NamedTuple):
    """A record that could not be used, why, and at which stage."""

    record: LogRecord
    error: BadRecord
    stage: str


class Emission(NamedTuple):
    """One thing the decision core says, and the offset of the record that made it say so."""

    partition: int
    offset: int
    body: Decision | Outcome | Interest | Rejected
