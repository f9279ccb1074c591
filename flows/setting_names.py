"""The names that settings go by, and what is said of a wrong one: never a value that may be a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel

PREFIX = "IMPULSE_"
FILE_VARIABLE = "IMPULSE_SETTINGS"

_OTHERS = re.compile(
    r"IMPULSE_SETTINGS$|IMPULSE_TEST_|IMPULSE_KAFKA__EXTRA__"
    r"|IMPULSE_\w*SERVICE_(HOST|PORT)|IMPULSE_\w*PORT_\d+_(TCP|UDP|SCTP)"
)
"""Variables that name no setting: ours, and those that Kubernetes sets for a service named after Impulse."""

_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
_SHOWN = ("kafka.bootstrap_servers", "kafka.security_protocol")

SettingPath = tuple[str, ...]


def named(model: type[BaseModel], above: SettingPath = ()) -> Iterator[tuple[SettingPath, Any]]:
    """Yield the path of each section and setting, and its type."""
    for name, field in model.model_fields.items():
        path = (*above, name)
        yield path, field.annotation
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from named(field.annotation, path)


def variable(path: SettingPath) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + "__".join(path).upper()


def unknown_variables(model: type[BaseModel], environment: Mapping[str, str]) -> list[str]:
    """Return what to say of each of our variables that names no setting: it would be without effect."""
    known = [variable(path) for path, _ in named(model)]
    return [
        f"environment variable {name}: names no setting.{_nearest(name.upper(), known)} "
        "Fix: correct or unset it; see the README's table of settings."
        for name, value in sorted(environment.items())
        if name.upper().startswith(PREFIX)
        and name.upper() not in known
        and not (_OTHERS.match(name.upper()) or _ADDRESS.match(value))
    ]


def _nearest(name: str, known: Sequence[str]) -> str:
    return "".join(f" Did you mean {found}?" for found in get_close_matches(name, known, 1, 0.75))


def unreadable_variables(model: type[BaseModel], environment: Mapping[str, str]) -> list[str]:
    """Return what to say of each variable that must hold JSON and does not."""
    structured = [variable(path) for path, kind in named(model) if _is_structured(kind)]
    return [
        f"environment variable {name}: got no JSON, expected a value such as {_example(name)}. "
        "Fix: write it as JSON."
        for name, value in sorted(environment.items())
        if name.upper() in structured and not _is_json(value)
    ]


def _is_structured(kind: Any) -> bool:
    if get_origin(kind) is UnionType:
        return any(_is_structured(one) for one in get_args(kind))
    return get_origin(kind) in (dict, tuple) or (isinstance(kind, type) and issubclass(kind, BaseModel))


def _example(name: str) -> str:
    return "[1, 2]" if name.upper().endswith(("PACING_PLAN", "PARTITIONS")) else '{"name": "value"}'


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


def explained(model: type[BaseModel], problem: Any) -> str:
    """Return what to say of one of pydantic's findings."""
    loc = tuple(str(part) for part in problem["loc"])
    known = [path for path, _ in named(model)]
    if problem["type"] == "extra_forbidden":
        names = [".".join(path) for path in known]
        name = ".".join(loc)
        return f"setting {name}: there is none of this name.{_nearest(name, names)} " + (
            "Fix: correct or remove it; see `impulse settings` for the names."
        )
    path = next(loc[:end] for end in range(len(loc), -1, -1) if loc[:end] in known or not end)
    name, reason = ".".join(path), problem["msg"].removeprefix("Value error, ")
    return (
        f"setting {name}: got {_shown(name, problem['input'])}, expected: {reason}. "
        f"Fix: set {variable(path)} or `{name}` in the file."
    )


def _shown(name: str, value: object) -> str:
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__}"
    return "***" if name.partition(".")[0] == "kafka" and name not in _SHOWN else repr(value)
