"""Control records of any number of weights or campaigns, in records that a topic takes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from msgspec.structs import replace

from models.domain.events import Adjustments, Control, Pacing

from .codec import encode

MOST_BYTES = 500_000
"""Half of what Kafka takes in a message by default."""

_BULK: dict[type[Control], tuple[str, ...]] = {
    Adjustments: ("ads", "campaigns", "segment_categories", "conversions", "creatives", "segment_creatives"),
    Pacing: ("multipliers", "exhausted", "lifetime_exhausted", "waived"),
}
_SAID_ONCE: dict[type[Control], dict[str, Any]] = {
    Adjustments: {"reset": False, "reason": "", "bias": None, "position_logits": None, "calibration": None},
    Pacing: {"reset": False},
}


def pieces(record: Control, most_bytes: int = MOST_BYTES) -> list[Control]:
    """Return the records that together say what this one does, each of at most so many bytes.

    All have its version, and those after the first are ``more`` of it: whoever has read them all knows the
    same as of one record, and between two of them no campaign that it stops is open that was stopped before.
    A record that cannot be cut further is returned whatever its size.
    """
    cut = _cut(record, most_bytes)
    return [cut[0], *(replace(piece, id=f"{record.id}-{n}") for n, piece in enumerate(cut[1:], 1))]


def _cut(record: Control, most_bytes: int) -> list[Control]:
    bulk = {name: getattr(record, name) for name in _BULK.get(type(record), ())}
    if len(encode(record)) <= most_bytes or max(map(len, bulk.values()), default=0) < 2:
        return [record]
    halves = {name: _halves(value) for name, value in bulk.items()}
    unfinished = {"unfinished": True} if isinstance(record, Pacing) else {}
    first = replace(record, **unfinished, **{name: half for name, (half, _) in halves.items()})
    once = _SAID_ONCE[type(record)]
    rest = replace(record, more=True, **once, **{name: half for name, (_, half) in halves.items()})
    return [*_cut(first, most_bytes), *_cut(rest, most_bytes)]


def _halves(value: Any) -> tuple[Any, Any]:
    """Return the first half of a mapping or sequence, and the rest."""
    middle = (len(value) + 1) // 2
    if isinstance(value, Sequence):
        return value[:middle], value[middle:]
    entries = iter(value.items())
    return dict(islice(entries, middle)), dict(entries)
