"""When a segment's interests move, its views say so before its clicks can.

A click tells of a category that was shown. A category that nobody liked is hardly ever shown, so that it
has become liked is found by chance and late. Views on the users' own account tell of all categories at
once: how a segment's views are spread over them is followed by `change_points`, cell by cell (segment x
category).

The weight of a cell holds ``elasticity * d``, where d is how far the log of its share is from what is
usual; its variance grows by a quarter of each step squared, and what the clicks then say corrects it as
always. As long as no change is believed in d is 0, so chance adds little noise. What has been changed for
`USUAL_AFTER_S` becomes usual: by then clicks have told, and a model may have been trained anew.

The elasticity (logits of a click per log share of views) is learned, see `elasticity`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.domain.decision import Interest

from .change_points import Law, Runs, begin_run, fresh_law, fresh_runs, observe
from .packing import pack, unpack

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

CAPACITY = 65_536
"""Cells held at most; those that were not looked at for long make room."""
EVERY_MS = 1000
"""Least event time between two looks at what was counted."""
USUAL_AFTER_S = 3600.0
STEP_TOLERANCE = 0.02
"""Logits that a weight may be off before it moves."""
LARGE = 0.2
"""Change of d from which on it is judged by itself (`elasticity`): too little comes of smaller ones."""
_SHARDS = 65_536
_MOST_AHEAD = 262_144
"""Counts of records that are ahead of the labels; beyond that the first of them no longer wait."""
_FORGOTTEN = 0.01
_SNAPSHOT = "interest/2"


class Steps(NamedTuple):
    """Weights to be moved `[M]`: the cells, by how many logits, and how d has changed."""

    cells: list[str]
    step: F64
    change: F64
    """Since the last step."""
    since: F64
    """Since the last time that this was `LARGE` or more."""


class InterestWatch:
    """Counts views by cell and follows their shares; see the module.

    Parameters
    ----------
    change_s
        Mean time between two changes of a cell, as far as is known beforehand.
    memory_s
        With which counts fade, and the weights that steps have moved.

    """

    def __init__(self, change_s: float, memory_s: float, capacity: int = CAPACITY) -> None:
        self._change_s, self._memory_s, self._capacity = change_s, memory_s, capacity
        self._place: dict[str, int] = {}
        self._segments: dict[str, int] = {}
        self._columns = _unknown(0)
        self._law = fresh_law()
        self._said: dict[str, int] = {}
        self._ahead: list[tuple[int, str, int, dict[str, int]]] = []
        self._held_back = self._records = 0
        self._new: dict[str, int] = {}
        self._clock_ms: int | None = None
        self._looked_ms = 0
        self._stepped_ms: int | None = None

    def __len__(self) -> int:
        return len(self._place)

    def add(self, interest: Interest) -> bool:
        """Take a record; return False where its shard has said as much before (after a crash)."""
        if interest.event_time <= self._said.get(interest.shard, -1):
            return False
        if interest.shard in self._said or len(self._said) < _SHARDS:
            self._said[interest.shard] = interest.event_time
        if not interest.views:
            return True
        self._records += 1
        record = (interest.event_time, interest.shard, self._records, dict(interest.views))
        heapq.heappush(self._ahead, record)
        self._held_back += len(interest.views)
        while self._held_back > _MOST_AHEAD:
            self._take()
        return True

    def steps(self, elasticity: float, now_ms: int) -> Steps:
        """Return the weights that are to move by what was seen up to now; they count as moved from here on.

        Records may be read ahead of the labels: each is taken in at its own time.
        """
        while self._ahead and self._ahead[0][0] <= now_ms:
            self._take()
        if self._clock_ms is not None:
            self._pass(now_ms)
        seconds = 0.0 if self._stepped_ms is None else max(now_ms - self._stepped_ms, 0) / 1000.0
        self._stepped_ms = now_ms
        of = self._columns
        of["held"] *= np.exp(-seconds / self._memory_s)
        step, since = elasticity * of["shift"] - of["held"], of["shift"] - of["noted"]
        large = np.abs(since) >= LARGE
        due = np.flatnonzero((np.abs(step) >= STEP_TOLERANCE) | large)
        change = of["shift"][due] - of["told"][due]
        of["held"][due] += step[due]
        of["told"][due] = of["shift"][due]
        of["noted"][large] = of["shift"][large]
        names = list(self._place)
        return Steps([names[at] for at in due.tolist()], step[due], change, since[due])

    def forget(self, cells: Iterable[str]) -> None:
        """Note that the weights of these cells are at their prior, and are to be moved again."""
        places = [self._place[cell] for cell in cells if cell in self._place]
        for name in ("held", "told", "noted"):
            self._columns[name][places] = 0.0

    def rolled_back(self) -> None:
        """Take for usual what is believed now: all weights are at their prior."""
        of = self._columns
        of["usual"] += of["shift"]
        for name in ("shift", "held", "told", "noted"):
            of[name][:] = 0.0

    def to_bytes(self) -> bytes:
        """Return the whole state."""
        values = {
            "cells": list(self._place),
            "segments": list(self._segments),
            "said": self._said,
            "ahead": sorted(self._ahead),
            "records": self._records,
            "new": self._new,
            "times_ms": [self._clock_ms, self._looked_ms, self._stepped_ms],
        }
        return pack(_SNAPSHOT, {**self._columns, **self._law._asdict()}, values)

    def restore(self, data: bytes) -> None:
        """Take the state of `to_bytes`; raises ArtifactError for other bytes."""
        self._columns, values = unpack(_SNAPSHOT, data)
        self._law = Law(*(self._columns.pop(name) for name in Law._fields))
        self._place = {cell: place for place, cell in enumerate(values["cells"])}
        self._segments = {segment: number for number, segment in enumerate(values["segments"])}
        self._said = values["said"]
        self._ahead = [(time_ms, shard, n, views) for time_ms, shard, n, views in values["ahead"]]
        self._held_back = sum(len(views) for *_, views in self._ahead)
        self._records = values["records"]
        self._new = values["new"]
        self._clock_ms, self._looked_ms, self._stepped_ms = values["times_ms"]

    def _look(self, seconds: float) -> None:
        """Follow the shares through the views that were counted in so many seconds."""
        of = self._columns
        runs = Runs(of["events"], of["exposure"], of["belief"])
        begin_run(runs, self._law, seconds, self._change_s)
        total, cells = (np.bincount(of["segment"], x)[of["segment"]] for x in (of["views"], None))
        fade = float(np.exp(-seconds / self._memory_s))
        of["shift"] = observe(
            runs, self._law, of["usual"], of["views"], total, cells.astype(np.float64), fade
        )
        of["usual"] += of["shift"] * -np.expm1(-seconds / USUAL_AFTER_S)
        of["views"][:] = 0.0

    def _take(self) -> None:
        """Take the first of the waiting records in."""
        time_ms, _, _, seen = heapq.heappop(self._ahead)
        self._held_back -= len(seen)
        if self._clock_ms is None:
            self._clock_ms = self._looked_ms = time_ms
        known = {self._place[cell]: views for cell, views in seen.items() if cell in self._place}
        if known:
            self._columns["views"][list(known)] += list(known.values())
        for cell, views in seen.items():
            if cell in self._new or (cell not in self._place and len(self._new) < self._capacity):
                self._new[cell] = self._new.get(cell, 0) + views
        if not self._ahead or self._ahead[0][0] > time_ms:
            self._pass(time_ms)

    def _pass(self, time_ms: int) -> None:
        """Let time pass, and look at what was counted where that is due."""
        self._clock_ms = max(self._clock_ms or time_ms, time_ms)
        if self._clock_ms - self._looked_ms >= EVERY_MS:
            self._open()
            self._look((self._clock_ms - self._looked_ms) / 1000.0)
            self._looked_ms = self._clock_ms

    def _open(self) -> None:
        """Give the new cells a place, as far as there is room.

        Their segment has been looked at for as long as its other cells were: that these were not looked at
        tells how rare they were.
        """
        if len(self) + len(self._new) > self._capacity:
            self._make_room()
        new = list(self._new)[: self._capacity - len(self)]
        fresh = _unknown(len(new))
        fresh["segment"] = self._numbers(new)
        fresh["views"] += [self._new[cell] for cell in new]
        fresh["exposure"][0] = self._exposure()[fresh["segment"]]
        self._new = {}
        if not new:
            return
        for cell in new:
            self._place[cell] = len(self._place)
        self._columns = {
            name: np.concatenate([column, fresh[name]], axis=-1) for name, column in self._columns.items()
        }

    def _exposure(self) -> F64:
        """Return the views of each segment, faded, 0 for a new one; all cells of one know the same."""
        known = np.zeros(len(self._segments))
        known[self._columns["segment"]] = self._columns["exposure"][0]
        return known

    def _make_room(self) -> None:
        """Drop the cells that were not looked at for long."""
        kept = np.flatnonzero(self._columns["events"][0] + self._columns["views"] > _FORGOTTEN)
        names = list(self._place)
        self._place = {names[at]: place for place, at in enumerate(kept.tolist())}
        self._columns = {name: column.take(kept, axis=-1) for name, column in self._columns.items()}
        self._segments = {}
        self._columns["segment"] = self._numbers(self._place)

    def _numbers(self, cells: Iterable[str]) -> I64:
        """Return the number of each cell's segment."""
        segments = (cell.split("|", 1)[0] for cell in cells)
        return np.array([self._segments.setdefault(s, len(self._segments)) for s in segments], np.int64)


def _unknown(cells: int) -> dict[str, NDArray[Any]]:
    """Return the columns of cells of which nothing is known, cells along the last axis."""
    return {
        **fresh_runs(cells)._asdict(),
        "segment": np.zeros(cells, np.int64),
        "views": np.zeros(cells),  # since the last look
        "usual": np.full(cells, np.nan),  # log share
        "shift": np.zeros(cells),  # d of the module
        "held": np.zeros(cells),  # logits that the weight holds by steps
        "told": np.zeros(cells),  # d at the last step
        "noted": np.zeros(cells),  # d when it had last changed much
    }
