"""The users of one shard: who has which row of its tables.

The least recently seen user gives up their row when the table is full. Recency is the order of the log,
so which user is forgotten does not depend on batches or on the number of processes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any


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

    def row(self, user_id: str) -> int:
        """Return a known user's row without touching the order."""
        return self._rows[user_id]

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
