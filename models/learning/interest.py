"""When a segment's interests move, its views say so before its clicks can.

A click tells of a category that was shown. A category that nobody liked is hardly ever shown, so that it
has become liked is found by chance and late. Views on the users' own account tell of all categories at
once: how a segment's views are spread over them is compared with how they usually are.

Per cell (segment x category), with the counts n of the last seconds (fading with ``memory_s``) and u of the
minutes before (fading with the priors' time constant), N and U their sums over the segment and s = u/U:

    z = (n - sN) / sqrt(sN + (sN)^2 / u)            is the cell's share another one than usual?
    d = log((n + ks) / (N + k)) - log s             by how much, shrunk towards nothing by k views

Where abs(z) > ``z`` the cell's weight moves by ``elasticity * d``, its variance grows by a quarter of that
squared, and s is taken for usual from then on; what the clicks then say corrects it as always. Without a
change nothing moves: these are steps, not another feature whose noise would be added to every logit.

The elasticity (logits of a click per log share of views) is learned, see `elasticity`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.domain.decision import Interest

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

CAPACITY = 65_536
"""Cells held at most; those that were not looked at for long make room."""
_SHARDS = 65_536
_SHRINK = 50.0
_LEAST_RECENT = 30.0
_LEAST_USUAL = 300.0
_FORGOTTEN = 0.01


class Steps(NamedTuple):
    """Cells whose share of their segment's views has changed, and by how much: d `[M]`."""

    cells: list[str]
    change: F64


class InterestWatch:
    """Counts views by cell, over the last seconds and over the last minutes; see the module."""

    def __init__(self, memory_s: float, usual_s: float, z: float, capacity: int = CAPACITY) -> None:
        self._seconds = np.array([memory_s, usual_s])
        self._z, self._capacity = z, capacity
        self._place: dict[str, int] = {}
        self._segments: dict[str, int] = {}
        self._segment = np.zeros(0, np.int64)
        self._counts = np.zeros((2, 0))
        self._said: dict[str, int] = {}
        self._now_ms: int | None = None

    def __len__(self) -> int:
        return len(self._place)

    def add(self, interest: Interest) -> bool:
        """Take a record; return False where its shard has said as much before (after a crash)."""
        if interest.event_time <= self._said.get(interest.shard, -1):
            return False
        if interest.shard in self._said or len(self._said) < _SHARDS:
            self._said[interest.shard] = interest.event_time
        self._fade(interest.event_time)
        for cell, views in interest.views.items():
            place = self._place_of(cell)
            if place >= 0:
                self._counts[:, place] += views
        return True

    def steps(self) -> Steps:
        """Return the changes by now; from here on they are usual."""
        if not self._place:
            return Steps([], np.zeros(0))
        z, change, known = self._compare()
        moved = np.flatnonzero((np.abs(z) > self._z) & known)
        recent, earlier = self._apart()
        self._counts[1, moved] = recent[moved] + earlier[moved] * np.exp(change[moved])
        names = list(self._place)
        return Steps([names[at] for at in moved.tolist()], change[moved])

    def values(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "cells": list(self._place),
            "counts": self._counts[:, : len(self)].tolist(),
            "said": self._said,
            "now_ms": self._now_ms,
        }

    def restore(self, values: dict[str, Any]) -> None:
        """Take the state of `values`."""
        self._keep(values["cells"], np.array(values["counts"], np.float64).reshape(2, -1))
        self._said, self._now_ms = dict(values["said"]), values["now_ms"]

    def _compare(self) -> tuple[F64, F64, NDArray[np.bool_]]:
        """Return z, d and whether enough is known, of every cell `[N]`."""
        of = self._segment[: len(self)]
        recent, usual = self._apart()
        all_recent, all_usual, cells = (np.bincount(of, x)[of] for x in (recent, usual, np.ones(len(of))))
        share = (usual + 0.5) / (all_usual + 0.5 * cells)
        expected = share * all_recent
        deviation = np.sqrt(np.maximum(expected + expected * expected / (usual + 0.5), 1.0))
        shrunk = (recent + _SHRINK * share) / (all_recent + _SHRINK)
        known = (all_recent >= _LEAST_RECENT) & (all_usual >= _LEAST_USUAL)
        return (recent - expected) / deviation, np.log(shrunk / share), known

    def _apart(self) -> tuple[F64, F64]:
        """Return the counts of the last seconds, and those of the last minutes without them."""
        recent, all_of_them = self._counts[:, : len(self)]
        return recent, np.maximum(all_of_them - recent, 0.0)

    def _fade(self, now_ms: int) -> None:
        if self._now_ms is not None and now_ms > self._now_ms:
            self._counts *= np.exp(-(now_ms - self._now_ms) / 1000.0 / self._seconds)[:, None]
        self._now_ms = now_ms if self._now_ms is None else max(now_ms, self._now_ms)

    def _place_of(self, cell: str) -> int:
        place = self._place.get(cell, -1)
        if place >= 0:
            return place
        if len(self) >= self._capacity:
            self._make_room()
        return self._open(cell) if len(self) < self._capacity else -1

    def _open(self, cell: str) -> int:
        place = self._place[cell] = len(self)
        if place >= len(self._segment):
            more = max(256, len(self._segment))
            self._segment = np.concatenate([self._segment, np.zeros(more, np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros((2, more))], axis=1)
        segment = cell.split("|", 1)[0]
        self._segment[place] = self._segments.setdefault(segment, len(self._segments))
        return place

    def _make_room(self) -> None:
        kept = np.flatnonzero(self._counts[1, : len(self)] > _FORGOTTEN)
        names = list(self._place)
        self._keep([names[at] for at in kept.tolist()], self._counts[:, kept])

    def _keep(self, cells: Sequence[str], counts: F64) -> None:
        self._place, self._segments = {}, {}
        self._segment, self._counts = np.zeros(0, np.int64), np.zeros((2, 0))
        for cell in cells:
            self._open(cell)
        self._counts[:, : len(cells)] = counts
