"""Stable 64-bit keys for textual ids, and the seeds of every random draw.

A key depends on the text alone, so it survives restarts, model switches and catalogue changes. Two
different ids among a million share a key with probability 3e-8.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

NO_KEY = 0


def key64(text: str) -> int:
    """Return the stable unsigned 64-bit key of an id; never ``NO_KEY``."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") or 1


@lru_cache(maxsize=1 << 17)
def known_key64(text: str) -> int:
    """Return `key64` of an id that comes again and again: an ad's, a campaign's, a category's."""
    return key64(text)


def label_key(label: str) -> int:
    """Return the key of a label that may be empty: ``NO_KEY`` where it is."""
    return known_key64(label) if label else NO_KEY


def decision_id(topic: str, partition: int, offset: int) -> str:
    """Return the id of the decision that the record at this place of the log causes (at most one)."""
    return f"{topic}-{partition}-{offset}"


def content_hash(data: bytes) -> str:
    """Return the name of an artifact: the hex BLAKE2b-128 digest of its bytes."""
    return blake2b(data, digest_size=16).hexdigest()
