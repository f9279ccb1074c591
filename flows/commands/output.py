"""How commands say what they did: one JSON object with ``--json``, a table for people otherwise."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from flows.settings import Settings, load_settings

AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="TOML file with settings; the environment wins over it.")
]

MOST = 10_000_000
"""The largest count, number of seconds or minutes that an option takes."""

_WIDEST = 10_000
"""Characters of a table that is no terminal's."""

console = Console(stderr=True)


def a_number(value: float | None) -> float | None:
    """Return an option's value; refuse nan, which no `min` and no `max` refuses."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("got nan, expected a number. Fix: give one.")
    return value


def say(figures: Mapping[str, Any], as_json: bool, title: str = "") -> None:
    """Print the figures of a command on standard output."""
    if as_json:
        sys.stdout.write(orjson.dumps(figures, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
        return
    table = Table("what", "value", title=title or None, title_justify="left")
    for name, value in flat(figures):
        table.add_row(name, cell(value))
    show(table)


def show(table: Table) -> None:
    """Print a table on standard output, whole and as it stands: users' texts are no markup.

    On a terminal long cells go on in the next line; elsewhere the table is as wide as it has to be.
    """
    for column in table.columns:
        column.overflow = "fold"
    out = Console(markup=False, emoji=False, highlight=False)
    if not out.is_terminal:
        widest = out.options.update(max_width=_WIDEST)
        out.width = max(out.width, out.measure(table, options=widest).maximum, len(str(table.title)))
    out.print(table)


def tell(text: str) -> None:
    """Print a line on standard error as it stands."""
    console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def cell(value: object) -> str:
    """Return a figure as people read it: four digits, "-" for what is not known."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(cell(each) for each in value) or "-"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value}"


def write_report(file: Path, page: str) -> None:
    """Write an HTML report; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page)


def flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested figures as (dotted name, value); those in a list are named by their first value."""
    rows: list[tuple[str, Any]] = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
            rows += [row for one in value for row in _named(one, f"{prefix}{name}.")]
        else:
            rows.append((f"{prefix}{name}", value))
    return rows


def _named(figures: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    (_, first), *rest = figures.items()
    return flat(dict(rest), f"{prefix}{cell(first) or '(none)'}.")


def settings_of(file: Path | None, **overrides: Any) -> Settings:
    """Return the settings with the options that were given laid over them."""
    return load_settings(file, **{name: value for name, value in overrides.items() if value is not None})
