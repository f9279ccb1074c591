"""Users' sequences cut into pieces and laid into padded batches; everything drawn from one seed.

A piece is events ``start..stop`` (exclusive) of one user; each event's target is the event after it, so
no step from event to event is lost between pieces, and the cuts move in every epoch. Impressions come
with the piece that holds the event before them.

Legend: N events, U users, B pieces of a batch, T events of the longest, I impressions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .sequences import I64, Bools, Dataset
from .transformer import Events

BATCHES_SORTED_TOGETHER = 32
"""Pieces of so many batches are sorted by length, so that little of a batch is padding."""


class Shown(NamedTuple):
    """Impressions of a batch, each `[I]`: which label, in which row, after which event (-1: none)."""

    label: I64
    row: Tensor
    end: Tensor


class Batch(NamedTuple):
    """Inputs and what follows each of them, padded on the right.

    ``target`` `[B, T]` is the ad after each event, ``wait`` `[B, T]` the row of the time until then and
    ``wanted`` `[B, T]` where the loss looks; ``first`` `[S]` are ads that came first for their user.
    """

    events: Events
    target: Tensor
    wait: Tensor
    wanted: Tensor
    first: Tensor
    shown: Shown

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        events = Events(*(column.to(device) for column in self.events))
        shown = Shown(self.shown.label, self.shown.row.to(device), self.shown.end.to(device))
        target, wait, wanted, first = (x.to(device) for x in self[1:5])
        return Batch(events, target, wait, wanted, first, shown)


class Pieces:
    """A data set ready to be cut: what follows each event, and where impressions fall."""

    def __init__(self, dataset: Dataset, most_labels: int) -> None:
        self.dataset, self.most_labels = dataset, most_labels
        count = len(dataset.ad)
        self.starts_user = np.zeros(count + 1, np.bool_)
        self.starts_user[dataset.offsets] = True
        self.next_ad = np.append(dataset.ad[1:], 0)
        self.wanted = np.append(dataset.target[1:], False) & ~self.starts_user[1:]
        labels = dataset.labels
        place = dataset.offsets[labels.user] + labels.position - 1
        self.after_none = np.flatnonzero(labels.position == 0)
        after_some = np.flatnonzero(labels.position > 0)
        self.order = after_some[np.argsort(place[after_some], kind="stable")]
        self.place = place[self.order]

    def epoch(self, length: int, tokens: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield the batches of one pass over the sequences."""
        for start, stop in self.pass_over(length, tokens, rng):
            yield self.batch(start, stop, rng)

    def pass_over(self, length: int, tokens: int, rng: np.random.Generator) -> list[tuple[I64, I64]]:
        """Return the starts and stops of each batch's pieces in one pass over the sequences."""
        start, stop = cut(self.dataset.offsets, length, rng)
        return [(start[rows], stop[rows]) for rows in plan(stop - start, tokens, rng)]

    def batch(self, start: I64, stop: I64, rng: np.random.Generator) -> Batch:
        """Return the batch of these pieces."""
        at = start[:, None] + np.arange(int((stop - start).max()))  # [B, T] place of each input
        real = at < stop[:, None]
        at = np.minimum(at, len(self.dataset.ad) - 1)
        first = start[self.starts_user[start] & self.dataset.target[start]]
        return Batch(
            gather(self.dataset, at, real),
            torch.from_numpy(self.next_ad[at]),
            torch.from_numpy(self.dataset.wait[at]),
            torch.from_numpy(real & self.wanted[at]),
            torch.from_numpy(self.dataset.ad[first]),
            self._shown(start, stop, rng),
        )

    def _shown(self, start: I64, stop: I64, rng: np.random.Generator) -> Shown:
        low, high = np.searchsorted(self.place, start), np.searchsorted(self.place, stop)
        row = np.repeat(np.arange(len(start)), high - low)
        found = np.arange(len(row)) + np.repeat(low - np.cumsum(high - low) + (high - low), high - low)
        if len(row) > self.most_labels:
            chosen = np.sort(rng.choice(len(row), self.most_labels, replace=False))
            row, found = row[chosen], found[chosen]
        end = self.place[found] - start[row]
        none = self._without_history(len(row), rng)
        zeros = np.zeros(len(none), np.int64)
        return Shown(
            np.concatenate((self.order[found], none)),
            torch.from_numpy(np.concatenate((row, zeros))),
            torch.from_numpy(np.concatenate((end, zeros - 1))),
        )

    def _without_history(self, others: int, rng: np.random.Generator) -> I64:
        """Draw impressions before any event, as many per other one as the data has."""
        if len(self.after_none) == 0:
            return self.after_none
        ratio = len(self.after_none) / max(len(self.order), 1)
        count = min(int(np.ceil(others * ratio)), self.most_labels, len(self.after_none))
        return rng.choice(self.after_none, count, replace=False)


def cut(offsets: I64, length: int, rng: np.random.Generator) -> tuple[I64, I64]:
    """Return starts and stops of pieces of at most ``length`` events; a user's cuts begin at random."""
    starts, stops = [], []
    shift = rng.integers(1, length + 1, len(offsets) - 1)
    for begin, end, first in zip(offsets[:-1].tolist(), offsets[1:].tolist(), shift.tolist(), strict=True):
        if end > begin:
            inner = range(begin + first, end, length) if end - begin > length else ()
            starts += [begin, *inner]
            stops += [*inner, end]
    return np.array(starts, np.int64), np.array(stops, np.int64)


def plan(length: I64, tokens: int, rng: np.random.Generator) -> list[I64]:
    """Return batches as rows of pieces, each of about ``tokens`` padded inputs, in random order."""
    order = rng.permutation(len(length))
    block = np.cumsum(length[order]) // (tokens * BATCHES_SORTED_TOGETHER)
    order = order[np.lexsort((length[order], block))]
    sizes = length[order].tolist()
    batches, begin, longest = [], 0, 0
    for at, size in enumerate(sizes):
        longest = max(longest, size)
        if at > begin and (at + 1 - begin) * longest > tokens:
            batches.append(order[begin:at])
            begin, longest = at, size
    batches.append(order[begin:])
    return [batches[i] for i in rng.permutation(len(batches))]


def gather(dataset: Dataset, at: I64, real: Bools) -> Events:
    """Return the events at places ``at`` `[B, T]` of the data, row 0 of every table where not ``real``."""
    columns = (dataset.ad, dataset.category, dataset.kind, dataset.dwell, dataset.gap)
    return Events(*(torch.from_numpy(np.where(real, column[at], 0)) for column in columns))


class Tails(NamedTuple):
    """The last events of users `[B, T]`, left aligned, how many are real, and the wait after them, `[B]`."""

    events: Events
    real: Tensor
    wait: Tensor

    def to(self, device: torch.device) -> Tails:
        """Return them on a device."""
        events = Events(*(column.to(device) for column in self.events))
        return Tails(events, self.real.to(device), self.wait.to(device))


def tails(dataset: Dataset, users: I64, length: int) -> Tails:
    """Return the last ``length`` events of users."""
    end = dataset.offsets[users + 1]
    count = np.minimum(end - dataset.offsets[users], length)
    step = np.arange(max(int(count.max(initial=0)), 1))
    if len(dataset.ad) == 0:
        zeros = torch.zeros((len(users), 1), dtype=torch.int64)
        return Tails(Events(zeros, zeros, zeros, zeros, zeros), torch.from_numpy(count), zeros[:, 0])
    at = np.clip((end - count)[:, None] + step, 0, len(dataset.ad) - 1)
    wait = np.where(count > 0, dataset.wait[np.maximum(end - 1, 0)], 0)
    found = (torch.from_numpy(x) for x in (count, wait))
    return Tails(gather(dataset, at, step < count[:, None]), *found)
