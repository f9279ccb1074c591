"""Slots for feature names: a bounded two-way dictionary that lets the idle longest go."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

Key = tuple[int, str]
"""Group (column of `protocol.GROUPS`) and name."""


class Evicted(NamedTuple):
    """A feature that lost its slot to another one."""

    slot: int
    group: int
    name: str


class Vocabulary:
    """Gives each (group, name) a slot, at most ``capacity`` of them.

    Slots are dense and reused. `evicted` collects what had to go since it was last taken; their weights
    must be forgotten before the slot's next example.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.evicted: list[Evicted] = []
        self._slot: OrderedDict[Key, int] = OrderedDict()  # a dict walks over what went to find its first
        self._key: list[Key] = []

    def __len__(self) -> int:
        return len(self._slot)

    def slot(self, group: int, name: str) -> int:
        """Return the slot of a feature, giving it one if it has none; it is now the latest used."""
        key = (group, name)
        slot = self._slot.get(key, -1)
        if slot < 0:
            slot = self._slot[key] = self._new(key)
        else:
            self._slot.move_to_end(key)
        return slot

    def find(self, group: int, name: str) -> int:
        """Return the slot of a feature, -1 if it has none; it is no more used than before."""
        return self._slot.get((group, name), -1)

    def key(self, slot: int) -> Key:
        """Return the feature that holds a slot."""
        return self._key[slot]

    def values(self) -> list[Any]:
        """Return the state as plain values, for a snapshot."""
        return [[group, name, slot] for (group, name), slot in self._slot.items()]

    def restore(self, values: list[Any]) -> None:
        """Take the state of `values`."""
        self._slot = OrderedDict(((group, name), slot) for group, name, slot in values)
        self._key = [(0, "")] * len(values)
        for key, slot in self._slot.items():
            self._key[slot] = key

    def _new(self, key: Key) -> int:
        if len(self._key) < self.capacity:
            self._key.append(key)
            return len(self._key) - 1
        oldest, slot = self._slot.popitem(last=False)
        self.evicted.append(Evicted(slot, *oldest))
        self._key[slot] = key
        return slot
