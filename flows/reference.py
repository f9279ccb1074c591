"""The README's reference, generated: ``python -m flows.reference`` prints it, ``... README.md`` fills it in.

`SECTIONS` names the parts; each stands in the README between ``<!-- name -->`` and ``<!-- /name -->``. A test
compares, so a command, option, setting or field that the README does not show fails the build.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import typer
from msgspec import inspect
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from flows.minutes import CampaignMinute
from flows.setting_names import PREFIX
from flows.settings import Settings
from models.domain.catalogue import Ad, Creative
from models.domain.decision import DeadLetter, Decision, Interest, Outcome, Parts, Presentation, Slot
from models.domain.errors import SettingError
from models.domain.events import Context, Event
from models.domain.fields import LARGEST
from models.domain.policy import Attribution, Cap, Exploration, Placement, Policy, Triggers
from models.evaluation.world_config import WorldConfig

_INSIDE = (Context, Ad, Creative, Policy, Cap, Placement, Exploration, Triggers, Attribution)
_LEAVING = (Decision, Slot, Parts, Presentation, Outcome, Interest, CampaignMinute, DeadLetter)
_COMMON = ("id", "event_time")
"""Fields that every record of the log has."""


def commands_reference(app: typer.Typer) -> str:
    """Return Markdown with a heading, the help and a table of arguments and options for each command."""
    group = typer.main.get_command(app)
    return "\n".join(_command(name, command) for name, command in _leaves("impulse", group))


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word in below:
        yield from _leaves(f"{name} {word}", below[word])


def _command(name: str, command: Any) -> str:
    shown = [p for p in command.params if p.name != "help"]
    rows = [(_spelling(p), _default(p), p.help or "") for p in shown]
    arguments = [p.name.upper() for p in shown if p.param_type_name == "argument"]
    heading = f"#### `{' '.join([name, *arguments])}`\n\n{_one_line(command.help)}\n"
    return heading + ("\n" + _table(("option", "default", "what"), rows) if rows else "")


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    return "" if value is None or value is False else f"`{value}`"


def settings_reference() -> str:
    """Return a Markdown table of every setting: name, variable, default, meaning."""
    rows = [
        (
            f"`{name}`",
            f"`{PREFIX}{name.upper().replace('.', '__')}`",
            _setting_default(field),
            _meaning(field),
        )
        for name, field in _fields(Settings, "")
    ]
    return _table(("setting", "variable", "default", "what"), rows)


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _setting_default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    return "" if value is None or value is PydanticUndefined else f"`{value}`"


def _meaning(field: FieldInfo) -> str:
    return field.description or ""


def events_reference() -> str:
    """Return Markdown tables of the log's records, of what stands inside them and of what leaves."""
    records = [(f"`{_tag(kind)}`", _fields_of(kind, _COMMON), _first_line(kind)) for kind in _kinds(Event)]
    inside = [(f"`{kind.__name__}`", _fields_of(kind), _first_line(kind)) for kind in _INSIDE]
    leaving = [(f"`{kind.__name__}`", _fields_of(kind), _first_line(kind)) for kind in _LEAVING]
    head = ("`type`", "fields", "what")
    parts = (
        "Every record of the log has an `id` text ≤ 128, unique, and an `event_time` in UTC milliseconds. A "
        "field with a default may be left out; all others are required.\n",
        _table(head, records),
        _table(("inside", "fields", "what"), inside),
        _table(("leaves as", "fields", "what"), leaving),
    )
    return "\n".join(parts)


def world_reference() -> str:
    """Return what the world file and each of its sections is for, with a Markdown table of its fields."""
    return "\n".join(_world_section(name, kind) for name, kind in _sections("", WorldConfig))


def _sections(name: str, kind: type[msgspec.Struct]) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    yield name, kind
    for field in _shape(kind).fields:
        if isinstance(field.type, inspect.StructType):
            yield from _sections(f"{name}.{field.encode_name}".lstrip("."), field.type.cls)


def _world_section(name: str, kind: type[msgspec.Struct]) -> str:
    fields = [field for field in _shape(kind).fields if not isinstance(field.type, inspect.StructType)]
    rows = [(f"`{field.encode_name}`", _type(field.type), f"`{_told(field)}`") for field in fields]
    heading = f"`[{name}]`: {_one_line(kind.__doc__)}" if name else _one_line(kind.__doc__)
    return f"{heading}\n\n{_table(('field', 'type and range', 'default'), rows)}"


def _kinds(union: Any) -> Iterator[type[msgspec.Struct]]:
    for kind in get_args(union):
        yield from _kinds(kind) if get_args(kind) else (kind,)


def _tag(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _fields_of(kind: type[msgspec.Struct], besides: Collection[str] = ()) -> str:
    return ", ".join(_field(field) for field in _shape(kind).fields if field.name not in besides)


def _shape(kind: type[msgspec.Struct]) -> inspect.StructType:
    shape = inspect.type_info(kind)
    assert isinstance(shape, inspect.StructType), kind
    return shape


def _field(field: inspect.Field) -> str:
    told = f"`{field.encode_name}` {_type(field.type)}"
    if field.required:
        return told
    if field.default_factory is field.default:  # neither: the field is left out where it is not told
        return f"{told}, may be absent"
    return f"{told} = {_told(field)}"


def _told(field: inspect.Field) -> str:
    """Return the default of a field that has one, as JSON."""
    made = field.default_factory
    value = field.default if made is msgspec.NODEFAULT else made()
    return "{}" if isinstance(value, msgspec.Struct) else msgspec.json.encode(value).decode()


def _type(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _type(kind.type)
        case inspect.UnionType():
            return " or ".join(
                _type(inner) for inner in kind.types if not isinstance(inner, inspect.NoneType)
            )
        case inspect.StructType():
            return kind.cls.__name__
        case inspect.DictType():
            return f"{{{_type(kind.key_type)}: {_type(kind.value_type)}}}"
        case inspect.VarTupleType() | inspect.ListType():
            return f"[{_type(kind.item_type)}]" + (
                f" of at least {kind.min_length}" if kind.min_length else ""
            )
        case inspect.TupleType():
            return f"[{', '.join(_type(inner) for inner in kind.item_types)}]"
        case inspect.LiteralType():
            return " / ".join(f'"{value}"' for value in kind.values)
        case _:
            return _scalar(kind)


_SIGNS = {"gt": ">", "ge": "≥", "le": "≤", "lt": "<"}
_ENDS_OF_INTEGERS = (None, -LARGEST - 1, LARGEST)
"""Bounds that every integer has, and no bound: nothing to tell."""


def _scalar(kind: Any) -> str:
    name = type(kind).__name__.removesuffix("Type").lower()
    bounds = {sign: getattr(kind, name, None) for name, sign in _SIGNS.items()}
    signs = [f"{sign} {bound:,}" for sign, bound in bounds.items() if bound not in _ENDS_OF_INTEGERS]
    longest = getattr(kind, "max_length", None)
    return " ".join([{"str": "text"}.get(name, name), *signs, *([f"≤ {longest}"] if longest else [])])


def _first_line(kind: type[msgspec.Struct]) -> str:
    return _one_line((kind.__doc__ or "").split("\n\n")[0])


def _one_line(text: str | None) -> str:
    return " ".join((text or "").replace("``", "`").split())


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _commands() -> str:
    from flows.cli import app

    return commands_reference(app)


SECTIONS: dict[str, Callable[[], str]] = {
    "commands": _commands,
    "settings": settings_reference,
    "events": events_reference,
    "world": world_reference,
}
"""What generates each marked part of the README."""


def section(text: str, name: str) -> str:
    """Return what stands between the markers of a part.

    Raises
    ------
    SettingError
        where a marker is missing.

    """
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    if found is None:
        raise SettingError.expected(
            f"part {name!r} of the README", got="no such markers",
            expected=f"<!-- {name} --> and <!-- /{name} -->, each on a line", fix="add them",
        )  # fmt: skip
    return found[1]


def filled(text: str) -> str:
    """Return a README with every marked part generated anew; raises SettingError as `section`."""
    for name, make in SECTIONS.items():
        old = f"<!-- {name} -->\n{section(text, name)}<!-- /{name} -->"
        text = text.replace(old, f"<!-- {name} -->\n{make()}<!-- /{name} -->")
    return text


def main() -> None:
    """Print the reference; with a file named, fill it in instead."""
    if len(sys.argv) > 1:
        readme = Path(sys.argv[1])
        readme.write_text(filled(readme.read_text()))
        return
    for name, make in SECTIONS.items():
        sys.stdout.write(f"<!-- {name} -->\n{make()}<!-- /{name} -->\n")


if __name__ == "__main__":
    main()
