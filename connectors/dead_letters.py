"""Records that could not be used: original key, value and headers, and why.

The reasons stand in headers ``dead-letter-*``, one per field of `models.domain.decision.DeadLetter` and
one for the error's class, so that the value stays what it was and can be sent again once it is repaired.
"""

from __future__ import annotations

import msgspec

from models.domain.decision import DeadLetter
from models.domain.errors import BadRecord, LogError
from models.domain.log import LogRecord, Output

PREFIX = "dead-letter-"
_MESSAGE_BYTES = 2000


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
    original = tuple((name, data) for name, data in record.headers if not name.startswith(PREFIX))
    why = tuple((_header(name), _encoded(value)) for name, value in msgspec.structs.asdict(letter).items())
    error = (PREFIX + "error", type(bad).__name__.encode())
    return Output(
        "dead_letters",
        record.key,
        record.value,
        record.partition,
        record.offset,
        headers=(*original, *why, error),
    )


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
    original = tuple((name, data) for name, data in record.headers if not name.startswith(PREFIX))
    return (
        record._replace(
            topic=letter.source_topic,
            partition=letter.source_partition,
            offset=letter.source_offset,
            headers=original,
        ),
        letter,
    )


_FIELDS = tuple(field.name for field in msgspec.structs.fields(DeadLetter))
