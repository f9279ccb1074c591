"""Consumed messages as records of the log."""

from __future__ import annotations

from typing import Any

from models.domain.log import Headers, LogRecord

UNREADABLE_HEADERS: Headers = (("headers-unreadable", b""),)
"""Stand for the headers of a record of which one has a name of other bytes than UTF-8."""


def to_record(message: Any) -> LogRecord:
    """Return a consumed message (`confluent_kafka.Message` without an error) as a record of the log."""
    return LogRecord(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        _headers(message),
    )


def _headers(message: Any) -> Headers:
    """Return the headers of a message, or one that says so where one has a name that is no UTF-8."""
    try:
        return tuple((name, data or b"") for name, data in message.headers() or ())
    except (SystemError, UnicodeDecodeError) as error:
        if not isinstance(error.__cause__ or error, UnicodeDecodeError):
            raise
        return UNREADABLE_HEADERS
