"""Hot users' keys, values and vectors: a bounded cache that every run rebuilds bit-exactly.

A seat holds one user. For each block, and for the target attention as one more layer, it keeps a ring of
the last R events' keys (rotated once, at their absolute position) and values. `HotUsers.advance` brings
seats up to their user's history, event by event; a user who has no seat, whose row was given to another
user, or who is too far behind starts anew from the last `ModelConfig.history_length` events.

Why that is exact, to the bit: with band W, the output of block i for event m depends on the
(i + 1)(W - 1) events before m (i from 0) and on the time of the one before those, for its first gap.
The next step reads the last block's outputs of the last W events. So blocks (W - 1) + W events, and one
more for the gap, fix all that is ever read again; earlier steps of the rebuild see a shorter band than they
should, and nothing of theirs is read.

Legend: B users asked for, N seats, T events to step through, R slots of a ring, G events worked on at
once, H heads, Ep head width, Dp width, both padded.
"""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.errors import SettingError

from .config import ModelConfig
from .features import NO_TIME, category_bucket, dwell_bucket, gap_bucket, vocabulary_row
from .interface import HistoryTable
from .kernels import add_to, attend, multiply, relu, rms_norm, rotate_heads
from .simd import LANES, padded
from .weights import Encoder

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

GROUP = 12
"""Events that go through the network together, so that its weights are read once for all of them."""


class Seats(NamedTuple):
    """The cache's arrays; ``keys[n, l, h]`` is `[Ep, R]` and ``values[n, l, h]`` is `[R, Ep]`."""

    keys: F32
    """`[N, blocks + 1, H, Ep, R]`"""
    values: F32
    """`[N, blocks + 1, H, R, Ep]`"""
    vector: F32
    """`[N, Dp]` the user's vector after the events counted."""
    table: I64
    """`[N]` serial number of the history table, 0 for a free seat."""
    row: I64
    """`[N]` row of the table."""
    generation: I64
    """`[N]` occupant of the row."""
    stepped: I64
    """`[N]` events stepped through, counted from the user's first."""
    first: I64
    """`[N]` event at which this seat's rings began."""
    newer: I64
    """`[N + 1]` next seat in order of use; seat N is the list's end and start."""
    older: I64
    """`[N + 1]`"""


class Shape(NamedTuple):
    """Sizes that the kernels need, all padded but ``width``."""

    width: int
    heads: int
    head: int
    ring: int
    window: int
    history: int
    group: int
    category_buckets: int
    dwell_buckets: int
    gap_buckets: int
    rotary: int


def ring_length(window: int) -> int:
    """Return R: room for the band and for a group of later events, a multiple of LANES."""
    return -(-(window + GROUP - 1) // LANES) * LANES


def seat_bytes(config: ModelConfig) -> int:
    """Return the memory of one hot user."""
    ring = ring_length(config.window) * config.heads * padded(config.head_dim)
    return 4 * (2 * (config.blocks + 1) * ring + padded(config.d_model)) + 56


class HotUsers:
    """Cache of one scorer for the users of any number of history tables.

    Parameters
    ----------
    config, weights, keys
        The network: its sizes, its encoder and its vocabulary `[V]` of sorted keys.
    seats
        Users kept; the least recently used one gives way.

    """

    def __init__(self, config: ModelConfig, weights: Encoder, keys: U64, seats: int) -> None:
        if seats < 1:
            raise SettingError.expected("hot users", got=seats, expected="1 or more", fix="raise hot_users")
        self._weights, self._keys = weights, keys
        self.shape = _shape(config)
        self.seats = empty_seats(config, seats)
        self._tables: WeakKeyDictionary[HistoryTable, tuple[int, I32]] = WeakKeyDictionary()
        self._serial = 0

    def advance(self, history: HistoryTable, rows: I64) -> I64:
        """Bring at most as many rows as there are seats up to date; return their seats `[B]`."""
        serial, seat_of_row = self._table(history)
        return np.asarray(
            _advance(self.seats, self._weights, self.shape, self._keys, history_arrays(history), serial,
                     seat_of_row, rows)
        )  # fmt: skip

    def current(self, history: HistoryTable, rows: I64) -> I64:
        """Return what `advance` does, at a fraction of its cost where it was just called for these rows."""
        serial, seat_of_row = self._table(history)
        seats = self.seats
        found = _current(
            seats.table, seats.row, seats.generation, seats.stepped, history.generation, history.count,
            serial, seat_of_row, rows,
        )  # fmt: skip
        return found if len(found) == len(rows) else self.advance(history, rows)

    def _table(self, history: HistoryTable) -> tuple[int, I32]:
        known = self._tables.get(history)
        if known is None:
            self._serial += 1
            known = (self._serial, np.zeros(len(history.count), np.int32))
            self._tables[history] = known
        return known

    def __len__(self) -> int:
        return len(self.seats.row)


class History(NamedTuple):
    """The arrays of a HistoryTable, for the kernels."""

    ad_key: U64
    category_key: U64
    kind: NDArray[np.uint8]
    dwell_ms: I32
    time_ms: I64
    counts: I64
    generation: I64


def history_arrays(history: HistoryTable) -> History:
    """Return the table's arrays."""
    return History(
        history.ad_key,
        history.category_key,
        history.kind,
        history.dwell_ms,
        history.time_ms,
        history.count,
        history.generation,
    )


def _shape(config: ModelConfig) -> Shape:
    return Shape(
        width=config.d_model,
        heads=config.heads,
        head=padded(config.head_dim),
        ring=ring_length(config.window),
        window=config.window,
        history=config.history_length,
        group=GROUP,
        category_buckets=config.categories,
        dwell_buckets=config.dwell_buckets,
        gap_buckets=config.gap_buckets,
        rotary=config.rotary_length,
    )


def empty_seats(config: ModelConfig, seats: int) -> Seats:
    """Return seats that nobody has taken; each is as that of a user without events."""
    ring, head = ring_length(config.window), padded(config.head_dim)
    layers = (seats, config.blocks + 1, config.heads)
    around = np.arange(seats + 1)
    return Seats(
        keys=np.zeros((*layers, head, ring), np.float32),
        values=np.zeros((*layers, ring, head), np.float32),
        vector=np.zeros((seats, padded(config.d_model)), np.float32),
        table=np.zeros(seats, np.int64),
        row=np.zeros(seats, np.int64),
        generation=np.zeros(seats, np.int64),
        stepped=np.zeros(seats, np.int64),
        first=np.zeros(seats, np.int64),
        newer=np.roll(around, -1),
        older=np.roll(around, 1),
    )


@njit(cache=True)
def _advance(
    seats: Seats, weights: Encoder, shape: Shape, keys: U64, history: History, table: int,
    seat_of_row: I32, rows: I64,
) -> I64:  # fmt: skip
    """Find or give a seat for each row and step its new events; return the seats."""
    taken = np.zeros(len(rows), np.int64)
    begin = np.zeros(len(rows) + 1, np.int64)
    for b in range(len(rows)):
        seat = _seat(seats, history, table, seat_of_row, rows[b])
        taken[b] = seat
        begin[b + 1] = begin[b] + _pending(seats, seat, history, rows[b], shape, weights.start)
    event = np.zeros(begin[-1], np.int64)
    user = np.zeros(begin[-1], np.int64)
    for b in range(len(rows)):
        ahead = begin[b + 1] - begin[b]
        for i in range(ahead):
            event[begin[b] + i] = history.counts[rows[b]] - ahead + i
            user[begin[b] + i] = b
    _step_all(seats, weights, shape, keys, history, rows, taken, user, event)
    return taken


@njit(cache=True)
def _current(
    seat_table: I64, seat_row: I64, seat_generation: I64, stepped: I64, generation: I64, counts: I64,
    table: int, seat_of_row: I32, rows: I64,
) -> I64:  # fmt: skip
    """Return the rows' seats where all have one that is up to date, else fewer."""
    taken = np.zeros(len(rows), np.int64)
    for b in range(len(rows)):
        row, seat = rows[b], np.int64(seat_of_row[rows[b]])
        own = seat_table[seat] == table and seat_row[seat] == row and seat_generation[seat] == generation[row]
        if not own or stepped[seat] != counts[row]:
            return taken[:b]
        taken[b] = seat
    return taken


@njit(cache=True)
def _seat(seats: Seats, history: History, table: int, seat_of_row: I32, row: int) -> int:
    """Return the row's seat, now the most recently used; a fresh one has ``stepped`` -1."""
    seat = np.int64(seat_of_row[row])
    if seats.table[seat] != table or seats.row[seat] != row or (
        seats.generation[seat] != history.generation[row]
    ):  # fmt: skip
        seat = np.int64(seats.newer[len(seats.row)])  # the least recently used
        seat_of_row[row] = seat
        seats.table[seat], seats.row[seat] = table, row
        seats.generation[seat], seats.stepped[seat] = history.generation[row], -1
    end = len(seats.row)
    seats.newer[seats.older[seat]] = seats.newer[seat]
    seats.older[seats.newer[seat]] = seats.older[seat]
    last = seats.older[end]
    seats.newer[last], seats.older[seat] = seat, last
    seats.newer[seat], seats.older[end] = end, seat
    return int(seat)


@njit(cache=True)
def _pending(seats: Seats, seat: int, history: History, row: int, shape: Shape, start: F32) -> int:
    """Return how many of the row's last events the seat must step, and count them as stepped.

    A seat that is behind goes on if all events it lacks, and the one before, are still in the ring of
    the history; else it starts anew.
    """
    count, length = history.counts[row], history.ad_key.shape[1]
    done = seats.stepped[seat]
    anew = done < 0 or done > count or (done < count and count - done >= min(length, shape.history))
    if anew:
        done = max(count - shape.history + 1, 0)
        seats.first[seat] = done
    if count == 0:
        seats.vector[seat] = start
    seats.stepped[seat] = count
    return count - done


@njit(cache=True)
def _step_all(
    seats: Seats, weights: Encoder, shape: Shape, keys: U64, history: History, rows: I64, taken: I64,
    user: I64, event: I64,
) -> None:  # fmt: skip
    """Step the events `[T]` in order, a group at a time."""
    width = weights.ad.shape[1]
    x = np.zeros(shape.group * width, np.float32)
    for at in range(0, len(event), shape.group):
        size = min(shape.group, len(event) - at)
        seat = np.zeros(size, np.int64)
        for g in range(size):
            row = rows[user[at + g]]
            seat[g] = taken[user[at + g]]
            _embed(x, g * width, weights, shape, keys, history, row, event[at + g])
        _step_group(seats, weights, shape, x, seat, event[at : at + size])


@njit(cache=True)
def _embed(
    x: F32, at: int, weights: Encoder, shape: Shape, keys: U64, history: History, row: int, event: int
) -> None:
    """Write the embedding of one event of the row's ring."""
    length = history.ad_key.shape[1]
    slot = event % length
    before = history.time_ms[row, (event - 1) % length] if event > 0 else NO_TIME
    ad = vocabulary_row(keys, history.ad_key[row, slot])
    category = category_bucket(history.category_key[row, slot], shape.category_buckets)
    kind = history.kind[row, slot]
    dwell = dwell_bucket(history.dwell_ms[row, slot], shape.dwell_buckets)
    gap = gap_bucket(history.time_ms[row, slot], before, shape.gap_buckets)
    scale = np.float32(np.sqrt(np.float64(shape.width)))
    for d in range(weights.ad.shape[1]):
        total = weights.ad[ad, d] + weights.category[category, d]
        total += weights.kind[kind, d]
        total += weights.dwell[dwell, d]
        total += weights.gap[gap, d]
        x[at + d] = total * scale


@njit(cache=True)
def _step_group(seats: Seats, weights: Encoder, shape: Shape, x: F32, seat: I64, event: I64) -> None:
    """Send a group's embeddings ``x`` through the blocks; write rings and users' vectors."""
    size, width = len(seat), weights.ad.shape[1]
    heads = shape.heads * shape.head
    inner = weights.ffn_in.shape[2]
    normed = np.zeros(size * width, np.float32)
    qkv = np.zeros(size * 3 * heads, np.float32)
    attended = np.zeros(size * heads, np.float32)
    hidden = np.zeros(size * inner, np.float32)
    branch = np.zeros(size * width, np.float32)
    blocks = len(weights.qkv)
    for block in range(blocks):
        _norm_rows(x, weights.attention_norm, block * width, normed, size, shape.width, width)
        at = block * width * 3 * heads
        multiply(normed, 0, width, weights.qkv, at, width, 3 * heads, qkv, 0, 3 * heads, size)
        _attend_group(seats, weights, shape, block, qkv, attended, seat, event)
        at = block * heads * width
        multiply(attended, 0, heads, weights.attention_out, at, heads, width, branch, 0, width, size)
        add_to(x, branch, size * width)
        _norm_rows(x, weights.ffn_norm, block * width, normed, size, shape.width, width)
        at = block * width * inner
        multiply(normed, 0, width, weights.ffn_in, at, width, inner, hidden, 0, inner, size)
        relu(hidden, size * inner)
        multiply(hidden, 0, inner, weights.ffn_out, at, inner, width, branch, 0, width, size)
        add_to(x, branch, size * width)
    _norm_rows(x, weights.final_norm, 0, normed, size, shape.width, width)
    multiply(normed, 0, width, weights.target, 0, width, 2 * heads, qkv, 0, 3 * heads, size)
    for g in range(size):
        for d in range(width):
            seats.vector[seat[g], d] = normed[g * width + d]
        _write_ring(seats, shape, seat[g], blocks, event[g], qkv, g * 3 * heads, g * 3 * heads + heads)


@njit(cache=True)
def _norm_rows(x: F32, weight: F32, weight_at: int, out: F32, rows: int, size: int, width: int) -> None:
    for r in range(rows):
        rms_norm(x, r * width, weight, weight_at, out, size, width)


@njit(cache=True)
def _attend_group(
    seats: Seats, weights: Encoder, shape: Shape, block: int, qkv: F32, attended: F32, seat: I64, event: I64
) -> None:
    """Rotate queries and keys, write the rings, and attend from each event over its band.

    A later event of the same user in the group stands in a slot that the earlier one's band does not
    reach: the ring has room for both.
    """
    heads, ring = shape.heads * shape.head, shape.ring
    scores = np.zeros(ring + 1, np.float32)
    for g in range(len(seat)):
        position = event[g] % shape.rotary
        rotate_heads(qkv, g * 3 * heads, 2 * shape.heads, shape.head, weights.cos, weights.sin, position)
        at = g * 3 * heads
        _write_ring(seats, shape, seat[g], block, event[g], qkv, at + heads, at + 2 * heads)
    for g in range(len(seat)):
        seen = min(shape.window, event[g] - seats.first[seat[g]] + 1)
        for h in range(shape.heads):
            at = ((seat[g] * seats.keys.shape[1] + block) * shape.heads + h) * shape.head * ring
            attend(
                qkv, g * 3 * heads + h * shape.head, 0, seats.keys, at, seats.values, at, event[g] % ring,
                seen, ring, shape.head, scores, attended, g * heads + h * shape.head, 0, 1,
            )  # fmt: skip


@njit(cache=True)
def _write_ring(
    seats: Seats, shape: Shape, seat: int, layer: int, event: int, source: F32, keys: int, values: int
) -> None:
    """Put one event's keys and values, at these places of ``source``, into its slot."""
    slot = event % shape.ring
    for h in range(shape.heads):
        for e in range(shape.head):
            seats.keys[seat, layer, h, e, slot] = source[keys + h * shape.head + e]
            seats.values[seat, layer, h, slot, e] = source[values + h * shape.head + e]
