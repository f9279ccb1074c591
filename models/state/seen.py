"""Which keys came lately, in bounded memory, so that what comes again counts once."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class LastKeys(Generic[K]):
    """The last ``capacity`` keys in the order in which they came first; the oldest goes first.

    A dict would keep that order too, but finding its oldest key walks over all that were deleted before it.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._order: deque[K] = deque()
        self._known: set[K] = set()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, key: K) -> bool:
        """Remember the key; say whether it was not among the remembered ones."""
        if key in self._known:
            return False
        self._known.add(key)
        self._order.append(key)
        if len(self._order) > self.capacity:
            self._known.remove(self._order.popleft())
        return True

    def keys(self) -> list[K]:
        """Return the keys, oldest first."""
        return list(self._order)

    def replace(self, keys: Iterable[K]) -> None:
        """Take over what `keys` returned."""
        self._order = deque(keys)
        self._known = set(self._order)


class SeenIds:
    """The ids of the last ``capacity`` events, in the order of the log."""

    def __init__(self, capacity: int) -> None:
        self._last: LastKeys[str] = LastKeys(capacity)

    def __len__(self) -> int:
        return len(self._last)

    def first_time(self, event_id: str) -> bool:
        """Remember the id; say whether it was not among the remembered ones."""
        return self._last.add(event_id)

    def dump(self) -> list[str]:
        """Return the ids, oldest first."""
        return self._last.keys()

    def load(self, ids: list[str]) -> None:
        """Take over what `dump` returned."""
        self._last.replace(ids)
