"""Users' sequences cut into pieces and laid into padded batches; everything drawn from one seed.

A piece is events ``start..stop`` of one user: all but the last are inputs, all but the first are
targets. Pieces of one user overlap by that one event, so no step from event to event is lost, and the
cuts move in every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .sequences import I64, Dataset
from .transformer import Events

BATCHES_SORTED_TOGETHER = 32
"""Pieces of so many batches are sorted by length, so that little of a batch is padding."""


class Batch(NamedTuple):
    """Inputs and what follows each of them: B pieces, T inputs, padded on the right.

    ``target`` `[B, T]` is the ad after each input and ``wanted`` `[B, T]` where the loss looks; ``first``
    `[S]` are ads that came first for their user.
    """

    events: Events
    target: Tensor
    wanted: Tensor
    first: Tensor


def cut(offsets: I64, length: int, rng: np.random.Generator) -> tuple[I64, I64]:
    """Return starts and stops (exclusive) of pieces of at most ``length`` + 1 events, at least 2.

    Each user's cuts lie ``length`` apart from a random first one.
    """
    starts, stops = [], []
    shift = rng.integers(1, length + 1, len(offsets) - 1)
    for begin, end, first in zip(offsets[:-1].tolist(), offsets[1:].tolist(), shift.tolist(), strict=True):
        if end - begin <= length:
            cuts = [begin, end - 1]
        else:
            cuts = [begin, *range(begin + first, end - 1, length), end - 1]
        starts += cuts[:-1]
        stops += cuts[1:]
    start, stop = np.array(starts, np.int64), np.array(stops, np.int64) + 1
    keep = stop - start > 1
    return start[keep], stop[keep]


def plan(start: I64, stop: I64, tokens: int, rng: np.random.Generator) -> list[I64]:
    """Return batches as rows of pieces, each of about ``tokens`` padded inputs, in random order."""
    order = rng.permutation(len(start))
    length = (stop - start - 1)[order]
    block = np.cumsum(length) // (tokens * BATCHES_SORTED_TOGETHER)
    order = order[np.lexsort((length, block))]
    length = (stop - start - 1)[order]
    batches, begin = [], 0
    for at in range(1, len(order) + 1):
        if at == len(order) or (at + 1 - begin) * length[begin : at + 1].max() > tokens:
            batches.append(order[begin:at])
            begin = at
    return [batches[i] for i in rng.permutation(len(batches))]


def epoch(dataset: Dataset, length: int, tokens: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield the batches of one pass over the sequences."""
    start, stop = cut(dataset.offsets, length, rng)
    user_starts = np.zeros(len(dataset.ad) + 1, np.bool_)
    user_starts[dataset.offsets[:-1]] = True
    for rows in plan(start, stop, tokens, rng):
        yield assemble(dataset, start[rows], stop[rows], user_starts)


def assemble(dataset: Dataset, start: I64, stop: I64, user_starts: np.ndarray) -> Batch:
    """Return the batch of these pieces."""
    longest = int((stop - start).max()) - 1
    at = start[:, None] + np.arange(longest)  # [B, T] place of each input
    real = at < stop[:, None] - 1
    at = np.minimum(at, len(dataset.ad) - 2)
    wanted = real & dataset.target[at + 1]
    first = start[user_starts[start]]
    return Batch(
        gather(dataset, at, real),
        torch.from_numpy(dataset.ad[at + 1]),
        torch.from_numpy(wanted),
        torch.from_numpy(dataset.ad[first[dataset.target[first]]]),
    )


def gather(dataset: Dataset, at: I64, real: np.ndarray) -> Events:
    """Return the events at places ``at`` `[B, T]` of the data, row 0 of every table where not ``real``."""
    columns = (dataset.ad, dataset.category, dataset.kind, dataset.dwell, dataset.gap)
    return Events(*(torch.from_numpy(np.where(real, column[at], 0)) for column in columns))


def tails(dataset: Dataset, users: I64, length: int) -> tuple[Events, Tensor]:
    """Return the last ``length`` events of users `[B, T]`, left aligned, and how many are real `[B]`."""
    end = dataset.offsets[users + 1]
    count = np.minimum(end - dataset.offsets[users], length)
    longest = max(int(count.max(initial=0)), 1)
    step = np.arange(longest)
    at = np.clip((end - count)[:, None] + step, 0, max(len(dataset.ad) - 1, 0))
    return gather(dataset, at, step < count[:, None]), torch.from_numpy(count)
