"""Ratings with times, from RecBole ``.inter`` files, in the order of time.

Timestamps are seconds, milliseconds or microseconds since 1970, one unit per file (see timestamps.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.interactions import read_lines
from connectors.timestamps import times_ms
from models.domain.errors import LogError

_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
_FIX = "give a RecBole .inter file with user_id, item_id, rating and timestamp"


@dataclass(frozen=True, eq=False)
class Ratings:
    """N ratings by time, ties in the order of the file; users and items by first appearance."""

    users: tuple[str, ...]
    items: tuple[str, ...]
    user: NDArray[np.int64]
    """`[N]` index into ``users``."""
    item: NDArray[np.int64]
    """`[N]` index into ``items``."""
    rating: NDArray[np.float64]
    time_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rating)


def read_ratings(path: Path) -> Ratings:
    """Read a file of ratings, plain or gzip.

    Raises
    ------
    LogError
        where the file cannot be read, lacks a column, or holds a malformed or no row; named by line.

    """
    try:
        lines = read_lines(path)
        names = [cell.partition(":")[0] for cell in next(lines, (0, ""))[1].split("\t")]
        missing = [name for name in _COLUMNS if name not in names]
        if missing:
            raise LogError.expected(f"header of {path}", got=names, expected=f"also {missing}", fix=_FIX)
        at = [names.index(name) for name in _COLUMNS]
        rows = [(number, _row(path, number, line.split("\t"), at)) for number, line in lines]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise LogError.expected(f"file {path}", got=str(error), expected="readable text", fix=_FIX) from error
    if not rows:
        raise LogError.expected(f"file {path}", got="no rating", expected="at least one", fix=_FIX)
    times = times_ms(path, [number for number, _ in rows], [row[3] for _, row in rows])
    return _in_time([row for _, row in rows], times)


def _row(path: Path, number: int, cells: list[str], at: list[int]) -> tuple[str, str, float, str]:
    try:
        user, item, rating, time = (cells[i] for i in at)
        row = user, item, float(rating), time
        if not np.isfinite(row[2]):
            raise ValueError(f"rating {rating}")
    except (ValueError, IndexError) as error:
        raise LogError.expected(
            f"{path} line {number}", got=str(error), expected="a finite rating and a timestamp", fix=_FIX
        ) from error
    return row


def _in_time(rows: list[tuple[str, str, float, str]], time_ms: NDArray[np.float64]) -> Ratings:
    users = {row[0]: None for row in rows}
    items = {row[1]: None for row in rows}
    user_of, item_of = ({key: i for i, key in enumerate(keys)} for keys in (users, items))
    order = np.argsort(time_ms, kind="stable")
    return Ratings(
        tuple(users),
        tuple(items),
        np.array([user_of[row[0]] for row in rows], np.int64)[order],
        np.array([item_of[row[1]] for row in rows], np.int64)[order],
        np.array([row[2] for row in rows])[order],
        time_ms[order].astype(np.int64),
    )
