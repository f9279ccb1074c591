"""Records that could not be used: original key, value and headers, and why.

The reasons stand in headers ``dead-letter-*``, one per field of `models.domain.decision.DeadLetter` and
one for the error's class, so that the value stays what it was and can be sent again once it is repaired.
A record too large for any topic (they travel compressed) is cut, and says so in ``dead-letter-cut``: it
must not stop the flow, and stands whole where it came from.
"""

from __future__ import annotations

import msgspec

from models.domain.decision import DeadLetter
from models.domain.errors import BadRecord, LogError
from models.domain.log import Headers, LogRecord, Output

PREFIX = "dead-letter-"
LARGEST = 900_000
"""Bytes of key, value and headers that every topic takes; above, a dead letter is cut."""

_CUT = 65_536
_MESSAGE_BYTES = 2000

_Parts = tuple[bytes | None, bytes | None, Headers]


def to_dead_letter(record: LogRecord, bad: BadRecord, stage: str) -> Output:
    """Return the dead letter of a record; ``stage`` is the step that refused it."""
    letter = DeadLetter(
        reason=bad.reason,
        message=str(bad),
        stage=stage,
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
    )
    why = tuple((_header(name), _encoded(value)) for name, value in msgspec.structs.asdict(letter).items())
    error = (PREFIX + "error", type(bad).__name__.encode())
    key, value, headers = _fitted(record.key, record.value, _original_headers(record))
    return Output(
        "dead_letters",
        key,
        value,
        record.partition,
        record.offset,
        headers=(*headers, *why, error),
    )


def _original_headers(record: LogRecord) -> Headers:
    return tuple((name, data) for name, data in record.headers if not name.startswith(PREFIX))


def _fitted(key: bytes | None, value: bytes | None, headers: Headers) -> _Parts:
    sizes = len(key or b""), len(value or b""), sum(len(name) + len(data) for name, data in headers)
    if sum(sizes) <= LARGEST:
        return key, value, headers
    note = (PREFIX + "cut", b"key %d, value %d, headers %d bytes" % sizes)
    kept = headers if sizes[2] <= _CUT else ()
    return key and key[:_CUT], value and value[:_CUT], (*kept, note)


def _header(field: str) -> str:
    return PREFIX + field.replace("_", "-")


def _encoded(value: object) -> bytes:
    return str(value).encode(errors="replace")[:_MESSAGE_BYTES]


def read_dead_letter(record: LogRecord) -> tuple[LogRecord, DeadLetter]:
    """Return the record as it was refused, and why, from a record of the dead-letter topic.

    Raises
    ------
    LogError
        when it does not carry the headers of a dead letter.

    """
    headers = dict(record.headers)
    fields = {field: headers.get(_header(field), b"").decode(errors="replace") for field in _FIELDS}
    try:
        letter = msgspec.convert(fields, DeadLetter, strict=False)
    except msgspec.ValidationError as error:
        place = f"{record.topic}[{record.partition}] offset {record.offset}"
        raise LogError(f"{place} is not a dead letter: {error}") from error
    return (
        record._replace(
            topic=letter.source_topic,
            partition=letter.source_partition,
            offset=letter.source_offset,
            headers=_original_headers(record),
        ),
        letter,
    )


_FIELDS = tuple(field.name for field in msgspec.structs.fields(DeadLetter))
