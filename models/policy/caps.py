"""Frequency caps, no repeats and hidden ads: what one user may not be shown now.

A key (ad, campaign or advertiser) is blocked at ``now`` when at least ``impressions`` of the user's
impressions of it have ``time_ms > now - window``; an ad is blocked as a repeat when its last one is younger
than ``no_repeat_s``. Impressions that lie ahead of ``now`` (records out of order) count: they did happen.
An ad decided for another placement less than ``unseen_s`` ago (or ahead) counts as shown then, until its
impression is told: the placements of one page ask at once, and should neither repeat one another nor pass a
cap together.

**No cap is exceeded by what was appended before the decision**, but for users with more impressions inside
the window than are kept (`models.state.shown`): there the oldest are forgotten, and `is_exact` says so of any
decision. `check_policy` refuses caps that could never be reached.

Legend: U users (rows), H hidden ads kept, B decisions, N caps, M blocked keys at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.errors import SettingError
from models.domain.policy import Policy
from models.state.shown import IMPRESSIONS_KEPT, PAGE, Pages, Shown

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

SCOPES = ("hidden", "no_repeat", "ad", "campaign", "advertiser")
"""What a blocked key is; the index is its code. The last three are caps, and name what the key is of."""
HIDDEN, NO_REPEAT, AD, CAMPAIGN, ADVERTISER = range(5)


class CompiledCaps(NamedTuple):
    """A policy's caps as arrays `[N]`."""

    scope: NDArray[np.int8]
    impressions: I64
    window_ms: I64
    no_repeat_ms: int
    unseen_ms: int


class BlockedKeys(NamedTuple):
    """Keys that users may not be shown: the first ``length[b]`` of row b, in the order of SCOPES' codes."""

    keys: U64
    """`[B, M]`"""
    scope: NDArray[np.int8]
    """`[B, M]` index into SCOPES."""
    length: I64
    """`[B]`"""


class _Counts(NamedTuple):
    """A hash table of counts; a place is in use when its stamp is that of the present count."""

    key: U64
    seen: I32
    stamp: I32


def compile_caps(policy: Policy) -> CompiledCaps:
    """Return the policy's caps as arrays, by scope; equal policies give equal arrays."""
    caps = sorted(policy.caps, key=lambda cap: SCOPES.index(cap.scope))
    return CompiledCaps(
        np.array([SCOPES.index(cap.scope) for cap in caps], np.int8),
        np.array([cap.impressions for cap in caps], np.int64),
        np.array([cap.window_s * 1000 for cap in caps], np.int64),
        policy.no_repeat_s * 1000,
        policy.unseen_s * 1000,
    )


def widest_window_ms(policy: Policy) -> int:
    """Return how far back the policy's caps look."""
    return 1000 * max([policy.no_repeat_s, policy.unseen_s, *(cap.window_s for cap in policy.caps)])


def check_policy(policy: Policy, kept: int = IMPRESSIONS_KEPT) -> None:
    """Refuse caps that ``kept`` impressions of a user can never reach.

    Raises
    ------
    SettingError
        naming the cap and how many are kept.

    """
    for cap in policy.caps:
        if cap.impressions > kept:
            raise SettingError.expected(
                f"cap of {cap.impressions} impressions per {cap.scope} in {cap.window_s} s",
                got=cap.impressions,
                expected=f"at most the {kept} impressions kept per user",
                fix="lower the cap",
            )


def blocked_keys(shown: Shown, rows: I64, now_ms: I64, caps: CompiledCaps) -> BlockedKeys:
    """Return what each user may not be shown now.

    Parameters
    ----------
    rows
        `[B]` row of each user; -1 for a stranger, to whom everything may be shown.
    now_ms
        `[B]` event time of each decision.

    """
    users, pages = shown.users, shown.pages
    most = _most_impressions(pages.older, users.newest, rows)
    width = users.hidden_key.shape[1] + most * (1 + len(caps.scope))
    keys = np.empty((len(rows), width), np.uint64)
    scope = np.empty((len(rows), width), np.int8)
    length = np.zeros(len(rows), np.int64)
    places = 1 << (2 * most).bit_length()
    counts = _Counts(np.empty(places, np.uint64), np.empty(places, np.int32), np.zeros(places, np.int32))
    _block(
        pages, users.newest, users.filled, users.hidden_key, users.hidden_count, rows, now_ms, caps, counts,
        keys, scope, length,
    )  # fmt: skip
    return BlockedKeys(keys, scope, length)


def end_to_end(parts: Sequence[BlockedKeys]) -> BlockedKeys:
    """Return the rows of all parts, as wide as the widest."""
    length = np.concatenate([part.length for part in parts])
    shape = len(length), max(part.keys.shape[1] for part in parts)
    keys, scope = np.empty(shape, np.uint64), np.empty(shape, np.int8)
    begin = 0
    for part in parts:
        rows, width = part.keys.shape
        keys[begin : begin + rows, :width] = part.keys
        scope[begin : begin + rows, :width] = part.scope
        begin += rows
    return BlockedKeys(keys, scope, length)


def is_exact(shown: Shown, row: int, now_ms: int, caps: CompiledCaps) -> bool:
    """Return whether every impression of the user inside the widest window is known."""
    return shown.is_exact(row, now_ms - max([caps.no_repeat_ms, *caps.window_ms.tolist()]))


@njit(cache=True)
def _most_impressions(older: I32, newest: I32, rows: I64) -> int:
    most = 0
    for b in range(rows.shape[0]):
        page, count = newest[rows[b]] if rows[b] >= 0 else np.int32(-1), 0
        while page >= 0:
            page, count = older[page], count + PAGE
        most = max(most, count)
    return most


@njit(cache=True)
def _block(
    pages: Pages,
    newest: I32,
    filled: I32,
    hidden: U64,
    hidden_count: I64,
    rows: I64,
    now_ms: I64,
    caps: CompiledCaps,
    counts: _Counts,
    keys: U64,
    scope: NDArray[np.int8],
    length: I64,
) -> None:
    stamp = 0
    for b in range(rows.shape[0]):
        u, n = rows[b], 0
        if u < 0:
            continue
        for h in range(min(hidden_count[u], hidden.shape[1])):
            keys[b, n], scope[b, n] = hidden[u, h], HIDDEN
            n += 1
        head, now = (newest[u], filled[u]), (now_ms[b], caps.unseen_ms)
        if caps.no_repeat_ms > 0:
            since, stamp = now_ms[b] - caps.no_repeat_ms, stamp + 1
            n = _over(
                pages, pages.ad_key, head, now, since, 1, counts, stamp, NO_REPEAT, keys[b], scope[b], n
            )
        for c in range(caps.scope.shape[0]):
            since, stamp, of = now_ms[b] - caps.window_ms[c], stamp + 1, caps.scope[c]
            field = (
                pages.ad_key if of == AD else pages.campaign_key if of == CAMPAIGN else pages.advertiser_key
            )
            limit = caps.impressions[c]
            n = _over(pages, field, head, now, since, limit, counts, stamp, of, keys[b], scope[b], n)
        length[b] = n


@njit(cache=True)
def _over(
    pages: Pages,
    field: U64,
    head: tuple[int, int],
    now: tuple[int, int],
    since_ms: int,
    limit: int,
    counts: _Counts,
    stamp: int,
    of: int,
    keys: U64,
    scope: NDArray[np.int8],
    n: int,
) -> int:
    """Write, once each, the keys with at least ``limit`` impressions after a time; return the new length.

    ``now`` is the time of the decision, and how far from it unseen ads count.
    """
    last = np.uint64(counts.key.shape[0] - 1)
    (page, count), (now_ms, unseen_ms) = head, now
    while page >= 0:
        for i in range(count - 1, -1, -1):
            key, time = field[page, i], pages.time_ms[page, i]
            if time < 0:
                time = ~time
                if abs(now_ms - time) >= unseen_ms:
                    continue
            if time <= since_ms or key == 0:
                continue
            at = key & last
            while counts.stamp[at] == stamp and counts.key[at] != key:
                at = (at + np.uint64(1)) & last
            if counts.stamp[at] != stamp:
                counts.stamp[at], counts.key[at], counts.seen[at] = stamp, key, 0
            counts.seen[at] += 1
            if counts.seen[at] == limit:
                keys[n], scope[n] = key, of
                n += 1
        page, count = pages.older[page], PAGE
    return n
