"""Which shard a record belongs to: the slice of a user within their partition, every slice for control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast
from zlib import crc32

from models.domain.events import CONTROL_TYPES, UserEvent
from models.domain.log import Received, Rejected

from .shard import Place

Item = Received | Rejected

_CONTROL = frozenset(CONTROL_TYPES)


class Chunk(NamedTuple):
    """Consecutive records of one shard."""

    place: Place
    items: list[Item]


def chunks(items: Sequence[Item], slices: int) -> list[Chunk]:
    """Return the items as one chunk per shard, each in the order given."""
    parts: dict[tuple[str, int, int], Chunk] = {}
    for item in items:
        record = item.record
        for slice_ in _slices_of(item, slices):
            place = (record.topic, record.partition, slice_)
            part = parts.get(place)
            if part is None:
                part = parts[place] = Chunk(Place(*place), [])
            part.items.append(item)
    return list(parts.values())


def _slices_of(item: Item, slices: int) -> Sequence[int]:
    if isinstance(item, Rejected):
        return (0,)
    if type(item.event) in _CONTROL:  # far cheaper than isinstance of eight classes
        return range(slices)
    return (slice_of(cast("UserEvent", item.event).user_id, slices),)


def slice_of(user_id: str, slices: int) -> int:
    """Return the slice of a user within their partition; stable across processes and runs."""
    return crc32(user_id.encode()) % slices
