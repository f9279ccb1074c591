"""The line format of recorded logs.

A line is one `LogRecord`::

    {"topic":"ads.events.v1","partition":3,"offset":17,"timestamp_ms":1700000000000,"key":"u1","value":{...}}

The value stands as it was, byte for byte, where it is JSON on one line and nested no deeper than any
reader follows (200 levels); else as ``value_base64``. So does a key that is text, else ``key_base64``.
Headers are ``[name, base64]`` pairs. A missing ``key`` or ``value`` is None.
"""

from __future__ import annotations

import re
from itertools import accumulate

import msgspec

from models.domain.errors import LogError
from models.domain.log import LogRecord


class _Line(msgspec.Struct, omit_defaults=True, gc=False):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str | msgspec.UnsetType = msgspec.UNSET
    key_base64: bytes | msgspec.UnsetType = msgspec.UNSET
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    value_base64: bytes | msgspec.UnsetType = msgspec.UNSET
    headers: list[tuple[str, bytes]] = []


_DEEPEST = 200
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DEPTH = dict(zip(b"[{]}", (1, 1, -1, -1), strict=True))

_LINES = msgspec.json.Decoder(_Line)
_RAW = msgspec.json.Decoder(msgspec.Raw)
_ENCODE = msgspec.json.Encoder().encode


def is_json_line(value: bytes) -> bool:
    """Say whether these bytes are one JSON value that can stand in a line unchanged."""
    if not value or value[:1].isspace() or value[-1:].isspace() or b"\n" in value or b"\r" in value:
        return False
    try:
        value.decode()
        return bytes(_RAW.decode(value)) == value and not _is_deep(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _is_deep(value: bytes) -> bool:
    """Say whether JSON is nested so deeply that a reader of its line may give up."""
    if value.count(b"[") + value.count(b"{") <= _DEEPEST:
        return False
    brackets = _STRING.sub(b"", value).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_DEPTH.__getitem__, brackets)), default=0) > _DEEPEST


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def encode_line(record: LogRecord) -> bytes:
    """Return a record as a line of a recorded log, without the line's end."""
    line = _Line(record.topic, record.partition, record.offset, record.timestamp_ms)
    if record.key is not None:
        text = _text(record.key)
        if text is None:
            line.key_base64 = record.key
        else:
            line.key = text
    if record.value is not None:
        if is_json_line(record.value):
            line.value = msgspec.Raw(record.value)
        else:
            line.value_base64 = record.value
    if record.headers:
        line.headers = list(record.headers)
    return _ENCODE(line)


def decode_line(data: bytes, file: object = "line", number: int = 1) -> LogRecord:
    """Return the record in a line; its file and number go into the `LogError` of a bad one."""
    try:
        line = _LINES.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LogError(
            f"{file}:{number}: not a line of a recorded log: {error}. "
            "Fix: record or generate it anew (`impulse record`, `impulse generate`)"
        ) from error
    key = line.key_base64 if line.key is msgspec.UNSET else line.key.encode()
    value = line.value_base64 if line.value is msgspec.UNSET else bytes(line.value)
    return LogRecord(
        line.topic,
        line.partition,
        line.offset,
        line.timestamp_ms,
        None if key is msgspec.UNSET else key,
        None if value is msgspec.UNSET else value,
        tuple(line.headers),
    )
