"""TOML files that a user names: read, or refused in a sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from models.domain.errors import SettingError


def read_text(file: Path, what: str, holds: str) -> str:
    """Return the text of a file.

    Raises
    ------
    SettingError
        naming ``what`` the file is and ``holds``, where it cannot be read or is not UTF-8.

    """
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(file, what, holds, error) from None


def read_toml(file: Path, what: str, holds: str) -> dict[str, Any]:
    """Return what a TOML file says; raises SettingError as `read_text`, and for what is no TOML."""
    try:
        return tomllib.loads(read_text(file, what, holds))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _refused(file, what, holds, error) from None


def _refused(file: Path, what: str, holds: str, error: Exception) -> Exception:
    return SettingError.expected(
        f"{what} {file}",
        got=str(error),
        expected=f"TOML with {holds}",
        fix="name a file of such text in UTF-8",
    )
