"""Paths that a command will write to, looked at before its work begins: callbacks of options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from models.domain.errors import SettingError


def new_file(param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Return an option's file; SettingError where none can be written there."""
    if value is not None and value.is_dir():
        raise _refused(param, value, "a folder of that name", "a file to write")
    if value is not None and not _reachable(value):
        raise _refused(param, value, "a place where nothing can be written", "a file to write")
    return value


def new_folder(param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Return an option's folder; SettingError where it is a file or cannot be made."""
    if value is not None and value.exists() and not value.is_dir():
        raise _refused(param, value, "a file of that name", "a folder to write to")
    if value is not None and not _reachable(value):
        raise _refused(param, value, "a place where nothing can be written", "a folder to write to")
    return value


def spare(option: str, written: Path | None, *read: Path | None) -> None:
    """Raise SettingError where what an option names would be written over a file that the command reads."""
    if written is None or written.resolve() not in {file.resolve() for file in read if file is not None}:
        return
    raise SettingError.expected(
        f"{option} {written}", got="a file that is read", expected="a file of its own", fix="name another"
    )


def _reachable(path: Path) -> bool:
    """Say whether what there is of a path can be written to, and folders can be made up to it."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    return os.access(there, os.W_OK) and (there == path or there.is_dir())


def _refused(param: typer.CallbackParam, value: Path, got: str, expected: str) -> Exception:
    name = max(param.opts, key=len)
    return SettingError.expected(f"{name} {value}", got=got, expected=expected, fix="name another")


ReportFile = Annotated[Path | None, typer.Option(help="Write an HTML report here.", callback=new_file)]
LogOut = Annotated[
    Path,
    typer.Option("--out", help="File to write: .jsonl, .jsonl.zst or .jsonl.gz.", callback=new_file),
]
