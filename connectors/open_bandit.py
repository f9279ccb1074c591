"""Open Bandit Dataset files as arrays, for off-policy evaluation and for recorded logs.

Legend: N rows, one impression each; I items. See Saito et al., "Open Bandit Dataset and Pipeline", 2020.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.interactions import read_lines
from models.domain.errors import LogError

_COLUMNS = ("timestamp", "item_id", "position", "click", "propensity_score")
_FIX = "give a campaign's CSV of the Open Bandit Dataset, plain or gzip"


@dataclass(frozen=True, eq=False)
class BanditLog:
    """Logged impressions of one campaign under one policy. ``users`` are equal hashed feature tuples."""

    time_ms: NDArray[np.int64]
    item: NDArray[np.int64]
    """`[N]` the action."""
    position: NDArray[np.int64]
    """`[N]` 1 to 3, left to right."""
    click: NDArray[np.float64]
    """`[N]` the reward."""
    propensity: NDArray[np.float64]
    """`[N]` of the item at the position under the policy that logged it."""
    user: NDArray[np.int64]
    """`[N]` index into ``users``."""
    users: tuple[str, ...]
    item_features: tuple[tuple[str, ...], ...]
    """`[I]` hashed categorical features."""


def read_open_bandit(path: Path) -> BanditLog:
    """Read a campaign's CSV, and the ``item_context.csv`` beside it where there is one.

    Raises
    ------
    LogError
        The header or a row is not of the format, or there is no row; the message names file and line.

    """
    rows = list(_rows(path))
    if not rows:
        raise LogError.expected(f"{path}", got="no rows", expected="impressions", fix=_FIX)
    columns = list(zip(*rows, strict=True))
    users = tuple(dict.fromkeys(columns[5]))
    of = {name: i for i, name in enumerate(users)}
    item = np.array(columns[1], dtype=np.int64)
    return BanditLog(
        time_ms=np.array(columns[0], dtype=np.int64),
        item=item,
        position=np.array(columns[2], dtype=np.int64),
        click=np.array(columns[3], dtype=np.float64),
        propensity=np.array(columns[4], dtype=np.float64),
        user=np.array([of[name] for name in columns[5]], dtype=np.int64),
        users=users,
        item_features=_item_features(path.with_name("item_context.csv"), int(item.max()) + 1),
    )


_Row = tuple[int, int, int, float, float, str]


def _rows(path: Path) -> Iterator[_Row]:
    lines = read_lines(path)
    header = next(csv.reader([next(lines, (1, ""))[1]]), [])
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise LogError.expected(f"{path}:1", got=header[:8], expected=f"columns {missing}", fix=_FIX)
    at = [header.index(name) for name in _COLUMNS]
    features = [i for i, name in enumerate(header) if name.startswith("user_feature")]
    for number, line in lines:
        yield _row(path, number, next(csv.reader([line])), len(header), at, features)


def _row(path: Path, number: int, cells: list[str], width: int, at: list[int], features: list[int]) -> _Row:
    try:
        if len(cells) != width:
            raise ValueError(f"{len(cells)} columns")
        time, item, position, click, propensity = (cells[i] for i in at)
        stamp = datetime.fromisoformat(time)
        moment = round((stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp() * 1000)
        p = float(propensity)
        if not 0 < p <= 1 or click not in ("0", "1") or not 1 <= int(position) <= 3 or int(item) < 0:
            raise ValueError(f"click {click}, position {position}, item {item}, propensity {propensity}")
    except ValueError as error:
        raise LogError.expected(
            f"{path}:{number}",
            got=str(error),
            expected=f"{width} columns: time, item >= 0, position 1-3, click 0/1, propensity in (0, 1]",
            fix="correct or remove the row",
        ) from error
    user = blake2b("|".join(cells[i] for i in features).encode(), digest_size=8).hexdigest()
    return moment, int(item), int(position), float(click), p, user


def _item_features(path: Path, items: int) -> tuple[tuple[str, ...], ...]:
    """Return the categorical features of each item, empty ones where the file is missing."""
    known: dict[int, tuple[str, ...]] = {}
    if path.exists():
        table = csv.DictReader(line for _, line in read_lines(path))
        for number, row in enumerate(table, 2):
            item = row.get("item_id")
            if item is None or not item.isdigit():
                raise LogError.expected(f"{path}:{number}", got=row, expected="a whole item_id", fix=_FIX)
            hashed = (row[name] or "" for name in sorted(row) if name and name.startswith("item_feature"))
            known[int(item)] = tuple(value for value in hashed if not _is_number(value))
    count = max(items, max(known, default=-1) + 1)
    return tuple(known.get(item, ("",)) or ("",) for item in range(count))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
