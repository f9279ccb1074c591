"""Files of ads, one as JSON per line: what ads are prepared in before they are sent into the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from models.domain.catalogue import Ad, Creative
from models.domain.errors import LogError

from .interactions import read_lines

_FIELDS = {"an ad": Ad.__struct_fields__, "a creative": Creative.__struct_fields__}


def read_ads(file: Path) -> Iterator[Ad]:
    """Yield the ads of a file, in its order; blank lines are passed over, gzip is accepted.

    Raises
    ------
    LogError
        where the file cannot be read, a line is no ad, or has a field that ads have not: a ``bid_micro``
        that went unread would sell at the default bid.

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
        told = msgspec.json.decode(line)
        ad = msgspec.convert(told, Ad)
    except (msgspec.DecodeError, RecursionError) as error:
        raise LogError.expected(
            f"{file} line {number}", got=line[:80], expected="an ad as JSON", fix=str(error)
        ) from error
    for kind, fields in (
        ("an ad", told),
        *(("a creative", creative) for creative in told.get("creatives", ())),
    ):
        _refuse_unknown(f"{file} line {number}", kind, fields)
    return ad


def _refuse_unknown(where: str, kind: str, told: Iterable[str]) -> None:
    known = _FIELDS[kind]
    if unknown := sorted(set(told) - set(known)):
        meant = get_close_matches(unknown[0], known, 1)
        raise LogError.expected(
            f"{where}: field of {kind}", got=unknown[0], expected=", ".join(known),
            fix=f"name it {meant[0]}" if meant else "drop it",
        )  # fmt: skip
