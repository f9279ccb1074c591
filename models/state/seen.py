"""Which event ids were seen lately, so that a repeated event counts once."""

from __future__ import annotations


class SeenIds:
    """The last ``capacity`` ids, in the order of the log."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._ids: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def first_time(self, event_id: str) -> bool:
        """Remember the id; say whether it was not among the remembered ones."""
        if event_id in self._ids:
            return False
        self._ids[event_id] = None
        if len(self._ids) > self.capacity:
            del self._ids[next(iter(self._ids))]
        return True

    def dump(self) -> list[str]:
        """Return the ids, oldest first."""
        return list(self._ids)

    def load(self, ids: list[str]) -> None:
        """Take over what `dump` returned."""
        self._ids = dict.fromkeys(ids)
