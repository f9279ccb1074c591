"""Files of ads, one as JSON per line: what ads are prepared in before they are sent into the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from models.domain.catalogue import Ad
from models.domain.errors import LogError

from .interactions import read_lines


def read_ads(file: Path) -> Iterator[Ad]:
    """Yield the ads of a file, in its order; blank lines are passed over, gzip is accepted.

    Raises
    ------
    LogError
        where the file cannot be read or a line is no ad.

    """
    for number, line in read_lines(file):
        yield _ad(file, number, line)


def write_lines(file: Path, lines: Iterable[Any]) -> None:
    """Write structs or plain values as JSON, one per line.

    Raises
    ------
    LogError
        where the file cannot be written.

    """
    packed = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    try:
        file.write_bytes(packed)
    except OSError as error:
        raise LogError.expected(
            f"file {file}", got=error.strerror, expected="a file that can be written", fix="name another"
        ) from error


def _ad(file: Path, number: int, line: str) -> Ad:
    try:
        return msgspec.json.decode(line, type=Ad)
    except (msgspec.DecodeError, RecursionError) as error:
        raise LogError.expected(
            f"{file} line {number}", got=line[:80], expected="an ad as JSON", fix=str(error)
        ) from error
