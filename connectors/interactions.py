"""Readers of the interaction files that recommender research uses; gzip accepted for all.

| format      | a line                                               | order                          |
|-------------|------------------------------------------------------|--------------------------------|
| `pairs`     | ``user item`` (SASRec, BERT4Rec, gSASRec)            | the file's                     |
| `sequences` | ``user item item ...`` (S3-Rec)                      | the line's                     |
| `recbole`   | tab-separated, typed header (``user_id:token`` ...)  | ``timestamp``, then the file's |

Reading is deterministic: users and items are numbered by first appearance in the file. Timestamps are
seconds, milliseconds or microseconds since 1970, one unit per file (see timestamps.py). Text is UTF-8, with
or without a byte order mark.
"""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from connectors.timestamps import times_ms
from models.domain.errors import ImpulseError, LogError
from models.scorer.sequences import Interactions, hash_arrays

Format = Literal["pairs", "sequences", "recbole"]
Row = tuple[int, str, str, str | None]
"""Line, user, item, and the time as the file has it (None where it has none)."""

ENCODING = "utf-8-sig"
"""UTF-8; a byte order mark at the start is no part of the text."""

GZIP_MAGIC = b"\x1f\x8b"
ITEM_FIX = "give a RecBole .item file, tab-separated"
FIX = "give the file's true --format (pairs, sequences or recbole)"


def read_interactions(path: Path, format: str) -> Interactions:
    """Read a file of interactions.

    Raises
    ------
    LogError
        where the file cannot be read, holds no interaction, or a line is not of the format.

    """
    if format not in get_args(Format):
        raise LogError.expected(
            "--format", got=format, expected=str(get_args(Format)), fix="name one of them"
        )
    rows = _Numbered()
    rows.take(read_rows(path, format))
    if not rows.user:
        raise LogError.expected(f"file {path}", got="no interaction", expected="at least one", fix=FIX)
    return rows.interactions(times_ms(path, rows.line, rows.time) if rows.time else None)


def read_rows(path: Path, format: str) -> Iterator[Row]:
    """Yield the interactions of a file in its order; raises as `read_interactions`."""
    readers = {"pairs": _pairs, "sequences": _sequences, "recbole": _recbole}
    return readers[format](path, read_lines(path))


class _Numbered:
    """Rows with a number for each user and item, by first appearance; names are kept once."""

    def __init__(self) -> None:
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.user, self.item, self.line = array("q"), array("q"), array("q")
        self.time: list[str] = []

    def take(self, rows: Iterable[Row]) -> None:
        """Add rows."""
        for line, user, item, time in rows:
            self.user.append(self.users.setdefault(user, len(self.users)))
            self.item.append(self.items.setdefault(item, len(self.items)))
            if time is not None:
                self.line.append(line)
                self.time.append(time)

    def interactions(self, time_ms: NDArray[np.float64] | None) -> Interactions:
        """Return the rows grouped by user, each user's items by time, ties as they came."""
        user, item = np.array(self.user, np.int64), np.array(self.item, np.int64)
        order = np.argsort(user, kind="stable") if time_ms is None else np.lexsort((time_ms, user))
        offsets = np.concatenate(([0], np.cumsum(np.bincount(user, minlength=len(self.users)))))
        times = None if time_ms is None else time_ms[order].astype(np.int64)
        digest = hash_arrays(offsets, item[order], *(() if times is None else (times,)))
        return Interactions(tuple(self.users), tuple(self.items), offsets, item[order], times, digest)


def read_items(path: Path) -> dict[str, tuple[str, str]]:
    """Read a RecBole ``.item`` file: item id -> (category, text).

    The text is every column but ``item_id``; the category is the first word of the last
    ``token_seq`` column (the genre or class), empty where there is none.

    Raises
    ------
    LogError
        where the file cannot be read, has no typed header with an ``item_id``, or a row ends before it.

    """
    lines = read_lines(path)
    header = _header(path, next(lines, (0, ""))[1])
    names, kinds = ([name.partition(":")[part] for name in header] for part in (0, 2))
    if "item_id" not in names:
        raise LogError.expected(f"header of {path}", got=names, expected="item_id", fix=ITEM_FIX)
    key = names.index("item_id")
    sequences = [at for at, kind in enumerate(kinds) if kind == "token_seq"]
    items = {}
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) <= key:
            raise _bad_line(path, number, line, f"{len(names)} columns", ITEM_FIX)
        words = cells[sequences[-1]].split() if sequences and sequences[-1] < len(cells) else []
        items[cells[key]] = (words[0] if words else "", " ".join(cells[:key] + cells[key + 1 :]))
    return items


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers from 1 and lines that are not blank, unpacking gzip by its first two bytes.

    Raises
    ------
    LogError
        where the file cannot be read, is cut short or damaged, or is no UTF-8 text.

    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
        with gzip.open(path, "rt", encoding=ENCODING) if packed else path.open(encoding=ENCODING) as text:
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise LogError.expected(
            f"file {path}",
            got=str(error),
            expected="readable text, plain or gzip, whole",
            fix="check the file",
        ) from error


def _pairs(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    for number, line in lines:
        cells = line.split()
        if len(cells) != 2:
            raise _bad_line(path, number, line, "`user item`")
        yield number, cells[0], cells[1], None


def _sequences(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    for number, line in lines:
        user, *items = line.split()
        if not items:
            raise _bad_line(path, number, line, "`user item item ...`")
        yield from ((number, user, item, None) for item in items)


def _recbole(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Row]:
    names = [name.partition(":")[0] for name in _header(path, next(lines, (0, ""))[1])]
    if not {"user_id", "item_id"} <= set(names):
        raise LogError.expected(f"header of {path}", got=names, expected="user_id and item_id", fix=FIX)
    user, item = names.index("user_id"), names.index("item_id")
    time = names.index("timestamp") if "timestamp" in names else None
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != len(names):
            raise _bad_line(path, number, line, f"{len(names)} columns")
        yield number, cells[user], cells[item], None if time is None else cells[time]


def _header(path: Path, line: str) -> list[str]:
    names = line.split("\t")
    if not all(":" in name for name in names):
        raise LogError.expected(f"header of {path}", got=line[:80], expected="`name:type` columns", fix=FIX)
    return names


def _bad_line(path: Path, number: int, line: str, expected: str, fix: str = FIX) -> ImpulseError:
    return LogError.expected(f"{path} line {number}", got=line[:80], expected=expected, fix=fix)
