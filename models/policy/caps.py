"""Frequency caps, no repeats and hidden ads: what one user may not be shown now.

Each user has a ring of their last C impressions and a ring of the last H ads they hid. A key (ad,
campaign or advertiser) is blocked at ``now`` when at least ``impressions`` entries of it have
``time_ms > now - window``; an ad is blocked as a repeat when its last entry is younger than
``no_repeat_s``. Entries that lie ahead of ``now`` (records out of order) count: they did happen.

The guarantee, and its bound. What the ring holds is counted exactly, so **no cap is exceeded by what
was appended before the decision, for every user with at most C impressions inside the cap's window**.
Beyond that the oldest entries are forgotten and a cap may be exceeded by those alone; ``forgotten_ms``
keeps the time of the youngest forgotten entry, so `is_exact` says of any decision whether this could
have happened. `check_policy` refuses caps that the ring can never count (more impressions than C).
Impressions still under way between a decision and its record are not in the ring: append at decision
time where that matters.

Legend: U users (rows), C impressions kept, H hidden ads kept, B decisions, N caps, M = H + C * (1 + N).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.errors import SettingError
from models.domain.policy import Policy

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

IMPRESSIONS_KEPT = 128
HIDDEN_KEPT = 32

SCOPES = ("hidden", "no_repeat", "ad", "campaign", "advertiser")
"""What a blocked key is; the index is its code. The last three are caps, and name what the key is of."""
HIDDEN, NO_REPEAT, AD, CAMPAIGN, ADVERTISER = range(5)


@dataclass(frozen=True, eq=False)
class CapRing:
    """Impressions and hidden ads of the users of one shard, rings in the order of the log."""

    ad_key: U64
    """`[U, C]` stable key of the ad; entry n stands at ``n % C``."""
    campaign_key: U64
    """`[U, C]`"""
    advertiser_key: U64
    """`[U, C]` NO_KEY for ads without an advertiser, which no cap counts."""
    time_ms: I64
    """`[U, C]` event time of the impression."""
    count: I64
    """`[U]` impressions ever appended."""
    forgotten_ms: I64
    """`[U]` time of the youngest impression that the ring has dropped, -1 for none."""
    hidden_key: U64
    """`[U, H]` stable key of an ad that the user does not want to see."""
    hidden_count: I64
    """`[U]` ads ever hidden."""

    @classmethod
    def empty(cls, users: int, kept: int = IMPRESSIONS_KEPT, hidden: int = HIDDEN_KEPT) -> CapRing:
        """Return rings for `users` rows that hold nothing: 32 bytes an impression, 8 a hidden ad."""
        return cls(
            ad_key=np.zeros((users, kept), np.uint64),
            campaign_key=np.zeros((users, kept), np.uint64),
            advertiser_key=np.zeros((users, kept), np.uint64),
            time_ms=np.zeros((users, kept), np.int64),
            count=np.zeros(users, np.int64),
            forgotten_ms=np.full(users, -1, np.int64),
            hidden_key=np.zeros((users, hidden), np.uint64),
            hidden_count=np.zeros(users, np.int64),
        )


class CompiledCaps(NamedTuple):
    """A policy's caps as arrays `[N]`."""

    scope: NDArray[np.int8]
    impressions: I64
    window_ms: I64
    no_repeat_ms: int


class BlockedKeys(NamedTuple):
    """Keys that users may not be shown: the first ``length[b]`` of row b, in the order of SCOPES' codes."""

    keys: U64
    """`[B, M]`"""
    scope: NDArray[np.int8]
    """`[B, M]` index into SCOPES."""
    length: I64
    """`[B]`"""


class _Impressions(NamedTuple):
    """The ring of impressions, as kernels take it."""

    ads: U64
    campaigns: U64
    advertisers: U64
    times: I64
    appended: I64


def compile_caps(policy: Policy) -> CompiledCaps:
    """Return the policy's caps as arrays, by scope; equal policies give equal arrays."""
    caps = sorted(policy.caps, key=lambda cap: SCOPES.index(cap.scope))
    return CompiledCaps(
        np.array([SCOPES.index(cap.scope) for cap in caps], np.int8),
        np.array([cap.impressions for cap in caps], np.int64),
        np.array([cap.window_s * 1000 for cap in caps], np.int64),
        policy.no_repeat_s * 1000,
    )


def check_policy(policy: Policy, kept: int = IMPRESSIONS_KEPT) -> None:
    """Refuse caps that a ring of ``kept`` impressions can never reach.

    Raises
    ------
    SettingError
        naming the cap and the ring size that it needs.

    """
    for cap in policy.caps:
        if cap.impressions > kept:
            raise SettingError.expected(
                f"cap of {cap.impressions} impressions per {cap.scope} in {cap.window_s} s",
                got=cap.impressions,
                expected=f"at most the {kept} impressions kept per user",
                fix="lower the cap, or keep more impressions per user",
            )


def append_impressions(
    ring: CapRing, rows: I64, ad_key: U64, campaign_key: U64, advertiser_key: U64, time_ms: I64
) -> None:
    """Append impressions to the users' rings, in the order given; all arrays are `[n]`."""
    _append(_impressions(ring), ring.forgotten_ms, rows, ad_key, campaign_key, advertiser_key, time_ms)


def append_hidden(ring: CapRing, row: int, ad_key: int) -> None:
    """Remember that the user hid this ad; hiding it again moves nothing."""
    key = np.uint64(ad_key)
    if not (ring.hidden_key[row] == key).any():
        ring.hidden_key[row, ring.hidden_count[row] % ring.hidden_key.shape[1]] = key
        ring.hidden_count[row] += 1


def blocked_keys(ring: CapRing, rows: I64, now_ms: I64, caps: CompiledCaps) -> BlockedKeys:
    """Return what each user may not be shown now.

    Parameters
    ----------
    rows
        `[B]` row of each user; -1 for a stranger, to whom everything may be shown.
    now_ms
        `[B]` event time of each decision.

    """
    width = ring.hidden_key.shape[1] + ring.ad_key.shape[1] * (1 + len(caps.scope))
    keys = np.empty((len(rows), width), np.uint64)
    scope = np.empty((len(rows), width), np.int8)
    length = np.zeros(len(rows), np.int64)
    _block(_impressions(ring), ring.hidden_key, ring.hidden_count, rows, now_ms, caps, keys, scope, length)
    return BlockedKeys(keys, scope, length)


def is_exact(ring: CapRing, row: int, now_ms: int, caps: CompiledCaps) -> bool:
    """Return whether the ring still holds every impression inside the widest window."""
    widest = max([caps.no_repeat_ms, *caps.window_ms.tolist()])
    forgotten = int(ring.forgotten_ms[row])
    return forgotten < 0 or forgotten <= now_ms - widest


def _impressions(ring: CapRing) -> _Impressions:
    return _Impressions(ring.ad_key, ring.campaign_key, ring.advertiser_key, ring.time_ms, ring.count)


@njit(cache=True)
def _append(
    ring: _Impressions,
    forgotten: I64,
    rows: I64,
    ad_key: U64,
    campaign_key: U64,
    advertiser_key: U64,
    time_ms: I64,
) -> None:
    ads, campaigns, advertisers, times, count = ring
    kept = ads.shape[1]
    for n in range(rows.shape[0]):
        u = rows[n]
        at = count[u] % kept
        if count[u] >= kept:
            forgotten[u] = max(forgotten[u], times[u, at])
        ads[u, at], campaigns[u, at], advertisers[u, at] = ad_key[n], campaign_key[n], advertiser_key[n]
        times[u, at] = time_ms[n]
        count[u] += 1


@njit(cache=True)
def _block(
    ring: _Impressions,
    hidden: U64,
    hidden_count: I64,
    rows: I64,
    now_ms: I64,
    caps: CompiledCaps,
    keys: U64,
    scope: NDArray[np.int8],
    length: I64,
) -> None:
    ads, campaigns, advertisers, times, count = ring
    for b in range(rows.shape[0]):
        u, n = rows[b], 0
        if u < 0:
            continue
        for h in range(min(hidden_count[u], hidden.shape[1])):
            keys[b, n], scope[b, n] = hidden[u, h], HIDDEN
            n += 1
        held = min(count[u], ads.shape[1])
        if caps.no_repeat_ms > 0:
            since = now_ms[b] - caps.no_repeat_ms
            n = _over(ads[u, :held], times[u, :held], since, 1, NO_REPEAT, keys[b], scope[b], n)
        for c in range(caps.scope.shape[0]):
            since, limit, of = now_ms[b] - caps.window_ms[c], caps.impressions[c], caps.scope[c]
            of_scope = ads if of == AD else campaigns if of == CAMPAIGN else advertisers
            n = _over(of_scope[u, :held], times[u, :held], since, limit, of, keys[b], scope[b], n)
        length[b] = n


@njit(cache=True)
def _over(
    entries: U64,
    times: I64,
    since: int,
    limit: int,
    of: int,
    keys: U64,
    scope: NDArray[np.int8],
    n: int,
) -> int:
    """Write, once each, the keys with at least ``limit`` entries after ``since``; return the new length."""
    for i in range(entries.shape[0]):
        if times[i] <= since or entries[i] == 0:
            continue
        seen = 1
        for j in range(i):
            if entries[j] == entries[i] and times[j] > since:
                seen += 1
        if seen == limit:
            keys[n], scope[n] = entries[i], of
            n += 1
    return n
