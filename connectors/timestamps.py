"""Times since 1970 as files give them: seconds, milliseconds or microseconds.

The unit is decided once per file, by the median of its times; there is no overlap between 1973 and 5138:

| median             | unit         |
|--------------------|--------------|
| below 10^11        | seconds      |
| below 10^14        | milliseconds |
| from there on      | microseconds |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import LogError

F64 = NDArray[np.float64]

LATEST_MS = 1e14
"""The year 5138: no later time is believed."""

UNITS = (
    (1e11, "seconds", 1000.0, 1.0),
    (1e14, "milliseconds", 1.0, 1.0),
    (math.inf, "microseconds", 1.0, 1000.0),
)
"""Medians below this, the unit's name, and what makes milliseconds of it: times, then divided by."""


def times_ms(path: Path, numbers: Sequence[int], cells: Sequence[str]) -> F64:
    """Return the times `[N]` of a file in milliseconds since 1970; ``numbers`` are the cells' lines.

    Raises
    ------
    LogError
        where a cell is no number, before 1970 or, in the file's unit, after 5138; named by line.

    """
    times = np.fromiter(map(_number, cells), np.float64, len(cells))
    _, unit, factor, divisor = next(row for row in UNITS if _median(times) < row[0])
    found = times * factor / divisor
    wrong = np.flatnonzero(~((found >= 0) & (found < LATEST_MS)))
    if len(wrong):
        raise LogError.expected(
            f"{path} line {numbers[wrong[0]]}",
            got=f"time {cells[wrong[0]][:80]}",
            expected=f"{unit} since 1970, as the file's median says",
            fix="give all times of a file in one unit: seconds, milliseconds or microseconds since 1970",
        )
    return found


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _median(times: F64) -> float:
    numbers = times[np.isfinite(times)]
    return float(np.median(numbers)) if len(numbers) else 0.0
