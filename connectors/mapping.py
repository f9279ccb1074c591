"""The mapping file: which field of a raw topic's records is what in the log.

A TOML file with one ``[[topics]]`` per raw topic::

    [[topics]]
    topic = "shop.clickstream"
    type = "event.name"                       # where the kind stands; or  kind = "view"  for all records
    types = { product_view = "view", add_to_cart = "click", purchase = "conversion" }
    ignore = ["heartbeat"]                    # values of it that are no events at all
    id = ["order.id", "order.line"]           # parts of the event's id; left out: topic-partition-offset
    time = { field = "ts", format = "rfc3339" }   # or epoch_s, epoch_ms; left out: the record's own time
    fields = { user_id = "session.user", ad_id = "item.sku", value_micros = "order.total" }
    factors = { value_micros = 1_000_000 }    # what a number is multiplied by, then rounded to a whole one
    constants = { placement_id = "home" }

Paths are dotted names into the raw JSON object; a number steps into an array. Targets are the fields of
user events (`models.domain.events`), and ``context.country`` and its like for requests. A kind takes the
targets that it has and leaves the others out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from models.domain.errors import SettingError
from models.domain.events import KINDS, Context, EventKind, UserEvent

FieldPath = Annotated[str, Meta(pattern=r"^[^.\s]+(\.[^.\s]+)*$")]
Factor = Annotated[float, Meta(gt=0, le=1e12)]


class TimeField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an event's time stands and how it is written."""

    field: FieldPath
    format: Literal["epoch_ms", "epoch_s", "rfc3339"] = "epoch_ms"


class TopicMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the records of one raw topic are read; the module's example says what each field means."""

    topic: Annotated[str, Meta(min_length=1)]
    kind: EventKind | None = None
    type: FieldPath | None = None
    types: dict[str, EventKind] = {}
    ignore: tuple[str, ...] = ()
    id: tuple[FieldPath, ...] = ()
    time: TimeField | None = None
    fields: dict[str, FieldPath] = {}
    factors: dict[str, Factor] = {}
    constants: dict[str, str | int | float | bool] = {}

    def kinds(self) -> tuple[EventKind, ...]:
        """Return the kinds of events that this topic brings."""
        return (self.kind,) if self.kind is not None else tuple(dict.fromkeys(self.types.values()))

    def targets(self) -> set[str]:
        """Return the fields of events that this mapping fills, besides id, time and type."""
        return {*self.fields, *self.constants}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    topics: Annotated[tuple[TopicMapping, ...], Meta(min_length=1)]


_STRUCTS = dict(zip(KINDS, get_args(UserEvent), strict=True))
_CONTEXT = tuple(f"context.{field.name}" for field in msgspec.structs.fields(Context))
_OWN = {"id", "event_time", "context"}


def targets_of(kind: EventKind) -> dict[str, bool]:
    """Return the fields that a mapping may fill for this kind, and whether it must."""
    fields = msgspec.structs.fields(_STRUCTS[kind])
    found = {field.name: field.required for field in fields if field.name not in _OWN}
    return found | dict.fromkeys(_CONTEXT, False) if kind == "request" else found


def read_mappings(path: Path) -> tuple[TopicMapping, ...]:
    """Return the mappings of a file, one per raw topic.

    Raises
    ------
    SettingError
        saying all that is wrong with it: it is the start that must fail, not every record.

    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"mapping {path}: cannot be read: {error}. Fix: name a TOML file") from error
    return parse_mappings(text, str(path))


def parse_mappings(text: str, name: str = "mapping") -> tuple[TopicMapping, ...]:
    """Return the mappings in a TOML text; raises SettingError as `read_mappings` does."""
    try:
        mappings = msgspec.convert(tomllib.loads(text), _File).topics
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingError(
            f"mapping {name}: {error}. Fix: see the example in connectors/mapping.py"
        ) from error
    problems = [*_twice(mappings), *(problem for mapping in mappings for problem in _problems(mapping))]
    if problems:
        raise SettingError("\n".join(f"mapping {name}: {problem}" for problem in problems))
    return mappings


def _twice(mappings: tuple[TopicMapping, ...]) -> Iterator[str]:
    topics = [mapping.topic for mapping in mappings]
    for topic in sorted({topic for topic in topics if topics.count(topic) > 1}):
        yield f"topic {topic!r}: got several mappings, expected one. Fix: join them by their `types`."


def _problems(mapping: TopicMapping) -> Iterator[str]:
    where = f"topic {mapping.topic!r}"
    if (mapping.kind is None) == (mapping.type is None) or (mapping.type is None) != (not mapping.types):
        yield (
            f"{where}: got kind {mapping.kind!r}, type {mapping.type!r} and {len(mapping.types)} types, "
            'expected either kind = "..." or both type and types. Fix: say what kinds its records are.'
        )
        return
    known = {target for kind in mapping.kinds() for target in targets_of(kind)}
    for target in sorted(mapping.targets() - known):
        yield f"{where}: got the field {target!r}, expected one of {sorted(known)}. Fix: correct its name."
    for target in sorted(mapping.factors.keys() - mapping.fields.keys()):
        yield f"{where}: got a factor for {target!r}, expected it among the fields. Fix: map it or drop it."
    for target in sorted(mapping.fields.keys() & mapping.constants.keys()):
        yield f"{where}: got {target!r} as field and constant, expected one of them. Fix: drop the other."
    for kind in mapping.kinds():
        missing = {name for name, required in targets_of(kind).items() if required} - mapping.targets()
        if missing:
            yield f"{where}: got no {sorted(missing)}, expected it of a {kind}. Fix: say where it stands."
