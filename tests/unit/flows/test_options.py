"""Every number that a command takes has a range, and is a number."""

import inspect
from collections.abc import Iterator
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.models import ArgumentInfo, OptionInfo
from typer.testing import CliRunner

from flows.cli import app


def commands(group: typer.Typer, *words: str) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the words and the function of every command of the command line."""
    for below in group.registered_groups:
        yield from commands(below.typer_instance, *words, *([below.name] if below.name else []))
    for command in group.registered_commands:
        yield (*words, command.name or command.callback.__name__), command.callback


def described(function) -> Iterator[tuple[str, type, OptionInfo | ArgumentInfo, bool]]:
    """Yield spelling, type (None aside), description and whether it must be given, of every parameter."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if get_origin(hints[name]) is Annotated:
            kind, info = get_args(hints[name])[:2]
            kinds = [one for one in get_args(kind) or (kind,) if one is not type(None)]
            spelling = next(iter(getattr(info, "param_decls", None) or ()), "--" + name.replace("_", "-"))
            yield spelling, kinds[0], info, parameter.default is inspect.Parameter.empty


def numbers() -> Iterator[tuple[str, tuple[str, ...], str, type, OptionInfo]]:
    """Yield every numeric option: its name, what must stand before it, its spelling, type, description."""
    for words, function in commands(app):
        given = []
        for spelling, _, info, required in described(function):
            given += [*([spelling] if isinstance(info, OptionInfo) else []), "1"] if required else []
        for spelling, kind, info, _ in described(function):
            if kind in (int, float) and isinstance(info, OptionInfo):
                yield " ".join((*words, spelling)), (*words, *given), spelling, kind, info


FOUND = list(numbers())
WITHOUT_RANGE = {"evaluate stream --click-from"}
"""Ratings may be on any scale."""


def parametrized(wanted):
    return pytest.mark.parametrize(
        ("words", "spelling", "info"),
        [
            pytest.param(words, spelling, info, id=name)
            for name, words, spelling, kind, info in FOUND
            if wanted(kind, info)
        ],
    )


def refused(words, spelling, value):
    done = CliRunner().invoke(app, [*words, spelling, value])
    return done.exit_code == 2 and spelling in done.output


def test_every_number_has_a_least_value():
    assert len(FOUND) > 20
    assert {name for name, *_, info in FOUND if info.min is None} == WITHOUT_RANGE


@parametrized(lambda kind, _: kind is float)
def test_what_is_not_a_number_is_refused(words, spelling, info):
    assert refused(words, spelling, "nan")


@parametrized(lambda _, info: info.min is not None)
def test_less_than_the_least_value_is_refused(words, spelling, info):
    assert refused(words, spelling, str(info.min - 1))
