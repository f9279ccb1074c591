"""Growing tables of rows kept in arrays, and their plain form in a snapshot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Plain = dict[str, tuple[str, tuple[int, ...], bytes]]


class Table(Generic[T]):
    """A dataclass whose arrays are `[U, ...]`, made longer as users arrive; other fields are constants.

    ``columns`` is replaced when the table grows; hold on to the table, not to it.
    """

    def __init__(self, blank: Callable[[int], T], rows: int) -> None:
        self._blank = blank
        self._row = _arrays_of(blank(1))
        self._use(blank(rows))

    def _use(self, columns: T) -> None:
        self.columns = columns
        self._arrays = _arrays_of(columns)
        self._blanks = [(values, self._row[name][0]) for name, values in self._arrays.items()]

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows; the old ones keep their content, the new ones are blank."""
        old = self._arrays
        self._use(self._blank(rows))
        for name, values in old.items():
            self._arrays[name][: len(values)] = values

    def clear(self, row: int) -> None:
        """Make one row as blank as a new one."""
        for values, blank in self._blanks:
            values[row] = blank

    def dump(self, used: int) -> Plain:
        """Return the first `used` rows as (dtype, shape, bytes) per column."""
        return {name: plain(values[:used]) for name, values in self._arrays.items()}

    def load(self, columns: Plain) -> None:
        """Take over what `dump` returned; call `grow` first."""
        for name, values in columns.items():
            array = from_plain(values)
            self._arrays[name][: len(array)] = array


def _arrays_of(columns: Any) -> dict[str, NDArray[Any]]:
    values = {f.name: getattr(columns, f.name) for f in fields(columns)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def plain(array: NDArray[Any]) -> tuple[str, tuple[int, ...], bytes]:
    """Return an array as (dtype, shape, bytes)."""
    return array.dtype.str, array.shape, array.tobytes()


def from_plain(value: tuple[str, tuple[int, ...], bytes]) -> NDArray[Any]:
    """Return the array, read-only, that `plain` was given."""
    dtype, shape, data = value
    return np.frombuffer(data, dtype=np.dtype(dtype)).reshape(tuple(shape))
