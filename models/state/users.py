"""The users of one shard: a bounded table of rows, one per user, all state in arrays.

The least recently seen user gives up their row when the table is full. Recency is the order of the log,
so which user is forgotten does not depend on batches or on the number of processes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


class UserRows:
    """Which row belongs to which user, least recently seen first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._rows: OrderedDict[str, int] = OrderedDict()
        self._free: list[int] = []
        self._used = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._rows

    def find(self, user_id: str) -> int:
        """Return the user's row and mark them as just seen; -1 for a stranger."""
        row = self._rows.get(user_id, -1)
        if row >= 0:
            self._rows.move_to_end(user_id)
        return row

    def full(self) -> bool:
        """Say whether a stranger needs somebody's row."""
        return not self._free and self._used >= self.capacity

    def allocate(self, user_id: str) -> int:
        """Give a stranger a row: a free one, a new one, or that of the user seen longest ago."""
        if self._free:
            row = self._free.pop()
        elif self._used < self.capacity:
            row, self._used = self._used, self._used + 1
        else:
            _, row = self._rows.popitem(last=False)
            self.forgotten += 1
        self._rows[user_id] = row
        return row

    def erase(self, user_id: str) -> int:
        """Take the user's row back; return it, or -1 for a stranger."""
        row = self._rows.pop(user_id, -1)
        if row >= 0:
            self._free.append(row)
        return row

    @property
    def used(self) -> int:
        """Rows that were ever given out; arrays need to be no longer than this."""
        return self._used

    def items(self) -> Iterable[tuple[str, int]]:
        """Yield (user id, row), least recently seen first."""
        return self._rows.items()

    def dump(self) -> dict[str, Any]:
        """Return the rows as plain data for a snapshot."""
        return {
            "users": list(self._rows),
            "rows": list(self._rows.values()),
            "free": list(self._free),
            "used": self._used,
            "forgotten": self.forgotten,
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` returned."""
        self._rows = OrderedDict(zip(data["users"], data["rows"], strict=True))
        self._free = list(data["free"])
        self._used = data["used"]
        self.forgotten = data["forgotten"]


@dataclass(frozen=True)
class Table:
    """A dataclass of arrays `[U, ...]`, seen as one growing table of rows."""

    arrays: Any
    blank: Callable[[int], Any]

    @property
    def rows(self) -> int:
        """How many rows there is room for."""
        return len(getattr(self.arrays, fields(self.arrays)[0].name))

    def grown(self, rows: int) -> Table:
        """Return the table with room for `rows` rows, the old ones copied."""
        bigger = self.blank(rows)
        for column in fields(self.arrays):
            old = getattr(self.arrays, column.name)
            getattr(bigger, column.name)[: len(old)] = old
        return Table(bigger, self.blank)

    def clear(self, row: int) -> None:
        """Make one row as blank as a new one."""
        fresh = self.blank(1)
        for column in fields(self.arrays):
            getattr(self.arrays, column.name)[row] = getattr(fresh, column.name)[0]

    def dump(self, used: int) -> Arrays:
        """Return copies of the first `used` rows of every column."""
        return {c.name: getattr(self.arrays, c.name)[:used].copy() for c in fields(self.arrays)}

    def load(self, columns: Arrays) -> Table:
        """Return a table with these rows."""
        rows = max((len(values) for values in columns.values()), default=0)
        table = Table(self.blank(max(rows, self.rows)), self.blank)
        for name, values in columns.items():
            getattr(table.arrays, name)[: len(values)] = values
        return table
