"""Which blobs the snapshots of shards may still need.

A snapshot names its view, and the view its catalogue and weights, which all shards of a process share as
blobs. Weights change every second, so blobs must go again: once none of the last snapshots of any shard
names them. How many are the last ones is how far one process of a cluster may be ahead of the others when
all of them resume.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable

SNAPSHOTS = 256
"""Snapshots of a shard, of different views, that can be resumed from."""


class KeptViews:
    """Counts which blobs the last snapshots name; ``drop`` is told of each that none names any more."""

    def __init__(self, drop: Callable[[str], None], snapshots: int = SNAPSHOTS) -> None:
        self._drop = drop
        self._snapshots = snapshots
        self._named: Counter[str] = Counter()
        self._of_shard: dict[str, deque[tuple[str, ...]]] = defaultdict(deque)

    def name(self, shard: str, blobs: tuple[str, ...]) -> None:
        """Note that a shard's latest snapshot names these blobs."""
        latest = self._of_shard[shard]
        if latest and latest[-1] == blobs:
            return
        latest.append(blobs)
        self._named.update(blobs)
        if len(latest) > self._snapshots:
            self._release(latest.popleft())

    def _release(self, blobs: tuple[str, ...]) -> None:
        for blob in blobs:
            self._named[blob] -= 1
            if not self._named[blob]:
                del self._named[blob]
                self._drop(blob)
