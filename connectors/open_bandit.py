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
from connectors.timestamps import LATEST_MS
from models.domain.errors import LogError

_COLUMNS = ("timestamp", "item_id", "position", "click", "propensity_score")
LARGEST_ITEM = 9_999
"""Item ids number the items from 0, so tables have a row for each up to the largest."""
_MOST_FEATURES, _LONGEST_FEATURE = 32, 128
"""What an ad takes of labels."""
_FIX = "give a campaign's CSV of the Open Bandit Dataset, plain or gzip"


@dataclass(frozen=True, eq=False)
class BanditLog:
    """Logged impressions of one campaign under one policy.

    ``users`` are equal hashed feature tuples; where the file has no features each row is a user of its own.
    """

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
    header = _cells(path, 1, next(lines, (1, ""))[1])
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise LogError.expected(f"{path}:1", got=header[:8], expected=f"columns {missing}", fix=_FIX)
    at = [header.index(name) for name in _COLUMNS]
    features = [i for i, name in enumerate(header) if name.startswith("user_feature")]
    for number, line in lines:
        yield _row(path, number, _cells(path, number, line), len(header), at, features)


def _cells(path: Path, number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error as error:
        raise LogError.expected(
            f"{path}:{number}", got=str(error), expected="a row of CSV", fix=_FIX
        ) from error


def _row(path: Path, number: int, cells: list[str], width: int, at: list[int], features: list[int]) -> _Row:
    try:
        if len(cells) != width:
            raise ValueError(f"{len(cells)} columns")
        time, item, position, click, propensity = (cells[i] for i in at)
        stamp = datetime.fromisoformat(time)
        moment = round((stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp() * 1000)
        p = float(propensity)
        slot, row = int(position), int(item)
        if not (0 < p <= 1 and click in ("0", "1") and 1 <= slot <= 3 and 0 <= row <= LARGEST_ITEM):
            raise ValueError(f"click {click}, position {position}, item {item}, propensity {propensity}")
        if not 0 <= moment < LATEST_MS:
            raise ValueError(f"timestamp {time}")
    except (ValueError, OverflowError) as error:
        raise LogError.expected(
            f"{path}:{number}",
            got=str(error)[:200],
            expected=f"{width} columns: time since 1970, item 0-{LARGEST_ITEM}, position 1-3, click 0/1, "
            "propensity in (0, 1]",
            fix="correct or remove the row",
        ) from error
    whose = "|".join(cells[i] for i in features) if features else f"row {number}"
    user = blake2b(whose.encode(), digest_size=8).hexdigest()
    return moment, row, slot, float(click), p, user


def _item_features(path: Path, items: int) -> tuple[tuple[str, ...], ...]:
    """Return the categorical features of each item, empty ones where the file is missing."""
    known: dict[int, tuple[str, ...]] = {}
    if path.exists():
        lines = read_lines(path)
        header = _cells(path, 1, next(lines, (1, ""))[1])
        columns = sorted((name, i) for i, name in enumerate(header) if name.startswith("item_feature"))
        item_at = header.index("item_id") if "item_id" in header else len(header)
        for number, line in lines:
            cells = _cells(path, number, line) + [""] * len(header)
            values = tuple(cells[i] for _, i in columns if not _is_number(cells[i]))
            known[_item_id(path, number, cells[item_at])] = _fitting(path, number, values)
    count = max(items, max(known, default=-1) + 1)
    return tuple(known.get(item, ("",)) or ("",) for item in range(count))


def _item_id(path: Path, number: int, cell: str) -> int:
    if not (cell.isdecimal() and len(cell) <= len(str(LARGEST_ITEM)) and int(cell) <= LARGEST_ITEM):
        expected = f"a whole item_id up to {LARGEST_ITEM}"
        raise LogError.expected(f"{path}:{number}", got=cell[:40], expected=expected, fix=_FIX)
    return int(cell)


def _fitting(path: Path, number: int, values: tuple[str, ...]) -> tuple[str, ...]:
    longest = max(map(len, values), default=0)
    if len(values) > _MOST_FEATURES or longest > _LONGEST_FEATURE:
        raise LogError.expected(
            f"{path}:{number}",
            got=f"{len(values)} features of up to {longest} characters",
            expected=f"at most {_MOST_FEATURES} of {_LONGEST_FEATURE}",
            fix=_FIX,
        )
    return values


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
