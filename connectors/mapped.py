"""Raw records into user events, as a mapping says (see `connectors.mapping`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from connectors.codec import MAX_BYTES, EventCodec
from connectors.mapping import TimeField, TopicMapping, targets_of
from models.domain.errors import BadRecord
from models.domain.events import Event, EventKind
from models.domain.ids import decision_id
from models.domain.log import LogRecord

_CODEC = EventCodec()
_TEXT = ("user_id", "ad_id", "decision_id", "placement_id")
_SHOWN = 80


def mapped(record: LogRecord, mapping: TopicMapping) -> Event | None:
    """Return the event that a raw record stands for; None where the mapping ignores its kind.

    Raises
    ------
    BadRecord
        with reason ``empty``, ``too_large``, ``not_json``, ``unknown_type`` or ``bad_value``.

    """
    raw = _decoded(record)
    kind = _kind(raw, mapping)
    if kind is None:
        return None
    event: dict[str, Any] = {
        "type": kind,
        "id": _id(record, raw, mapping.id),
        "event_time": _time(record, raw, mapping.time),
    }
    for target, required in targets_of(kind).items():
        if (value := _value(raw, target, mapping)) is not None:
            _put(event, target, value)
        elif required:
            raise _bad(target, None, f"a value at {mapping.fields.get(target)!r}")
    return _CODEC.decode(record._replace(value=_encoded(event)))


def _encoded(event: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(event)
    except RecursionError as error:
        raise BadRecord("bad_value", "a mapped value is nested too deeply, expected a plain one") from error


def _decoded(record: LogRecord) -> Any:
    if not record.value:
        raise BadRecord("empty", "the record has no value; expected a JSON object")
    if len(record.value) > MAX_BYTES:
        raise BadRecord("too_large", f"{len(record.value)} bytes, expected at most {MAX_BYTES}")
    try:
        return msgspec.json.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecord("not_json", str(error)) from error


def at(raw: Any, path: str) -> Any:
    """Return what stands at a dotted path; None where there is nothing."""
    for name in path.split("."):
        if isinstance(raw, dict):
            raw = raw.get(name)
        elif isinstance(raw, list) and name.isdecimal() and int(name) < len(raw):
            raw = raw[int(name)]
        else:
            return None
    return raw


def _kind(raw: Any, mapping: TopicMapping) -> EventKind | None:
    if mapping.type is None:
        return mapping.kind
    found = at(raw, mapping.type)
    if isinstance(found, str) and found in mapping.types:
        return mapping.types[found]
    if isinstance(found, str) and found in mapping.ignore:
        return None
    raise BadRecord(
        "unknown_type",
        f"{mapping.type}: got {_shown(found)}, expected one of {sorted(mapping.types)}. "
        "Fix: add it to the mapping's `types`, or to `ignore`.",
    )


def _id(record: LogRecord, raw: Any, paths: Sequence[str]) -> str:
    if not paths:
        return decision_id(record.topic, record.partition, record.offset)
    parts = [at(raw, path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if isinstance(part, bool) or not isinstance(part, str | int):
            raise _bad("id", part, f"a text or whole number at {path!r}")
    return "-".join(str(part) for part in parts)


def _time(record: LogRecord, raw: Any, time: TimeField | None) -> int:
    if time is None:
        return record.timestamp_ms
    found = at(raw, time.field)
    try:
        if time.format == "rfc3339" and isinstance(found, str):
            moment = datetime.fromisoformat(found)
            if moment.tzinfo is not None:
                return round(moment.timestamp() * 1000)
        elif (
            time.format != "rfc3339" and isinstance(found, str | int | float) and not isinstance(found, bool)
        ):
            return round(float(found) * (1000 if time.format == "epoch_s" else 1))
    except (ValueError, OverflowError):
        pass
    expected = {
        "rfc3339": "a time with its zone, such as 2026-01-31T12:00:00Z",
        "epoch_s": "seconds since 1970",
    }
    raise _bad(
        "event_time", found, f"{expected.get(time.format, 'milliseconds since 1970')} at {time.field!r}"
    )


def _value(raw: Any, target: str, mapping: TopicMapping) -> Any:
    if target not in mapping.fields:
        return mapping.constants.get(target)
    value = at(raw, mapping.fields[target])
    if target in mapping.factors and value is not None:
        return _scaled(value, mapping.factors[target], target)
    if (target in _TEXT or target.startswith("context.")) and type(value) is int:
        return str(value)
    return value


def _scaled(value: Any, factor: float, target: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad(target, value, "a number")
    try:
        return round(value * factor)
    except (ValueError, OverflowError) as error:
        raise _bad(target, value, f"a number that times {factor:g} is finite") from error


def _put(event: dict[str, Any], target: str, value: Any) -> None:
    section, _, name = target.rpartition(".")
    (event.setdefault(section, {}) if section else event)[name] = value


def _bad(target: str, got: Any, expected: str) -> BadRecord:
    return BadRecord("bad_value", f"{target}: got {_shown(got)}, expected {expected}")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"  # of any depth, so no repr
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
