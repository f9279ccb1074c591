"""Which ads a request may be answered with, and which rule keeps each of the others out.

`Rules` holds a catalogue and a policy compiled to arrays. What does not depend on the user is scanned
once per situation and kept; a request then costs a look-up, a copy of the bitset and the user's own
blocked keys. Every ad that is kept out is counted once, under the first of `REASONS` that applies.
The kept bitsets never change an answer, only its cost.

Legend: A ads, W words of a bitset, B requests, R reasons, M blocked keys.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.domain.catalogue import NO_END, Catalogue
from models.domain.events import Context
from models.domain.policy import Policy

from .bitsets import Words, pack, remove, words_for
from .caps import ADVERTISER, CAMPAIGN, HIDDEN, NO_REPEAT, BlockedKeys
from .columns import AdColumns, columns_of, keys_of
from .keys import KeyIndex, index_keys, remove_key
from .memo import Memo
from .placements import places_of
from .similarity import Facets, facets_of
from .targeting import Values, values_of
from .targets import Targets, compile_targets

I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

REASONS = (
    "withdrawn",
    "creative_review",
    "schedule",
    "placement",
    "targeting",
    "brand_safety",
    "blocked_advertiser",
    "blocked_category",
    "budget",
    "hidden",
    "no_repeat",
    "frequency_cap",
)
"""Why an ad is kept out, in the order in which the rules are asked.

``brand_safety`` is the blocked categories of the policy and of the placement, ``blocked_category`` the
request's own; both match an ad's category or one of its labels. ``budget`` is a campaign that the pacer
declared exhausted.
"""

_WITHDRAWN, _REVIEW, _SCHEDULE, _PLACEMENT, _TARGETING, _SAFETY, _ADVERTISER = range(7)
_CATEGORY, _BUDGET, _HIDDEN, _REPEAT, _CAP = range(7, 12)

_MEMO_BYTES = 64 << 20


class Situation(NamedTuple):
    """What a request asks for, besides the user's own caps.

    ``exhausted`` names the campaigns whose budget is spent; pass one object until it changes, since a
    frozenset keeps its hash.
    """

    placement_id: str
    context: Context
    event_time: int
    exhausted: frozenset[str] = frozenset()


class Eligibility(NamedTuple):
    """The answer for a batch of requests."""

    words: NDArray[np.uint64]
    """`[B, W]` bitset of the ads that may be shown."""
    counts: I64
    """`[B, R]` ads kept out, by the first of REASONS that applies."""

    def filtered(self, b: int) -> dict[str, int]:
        """Return the counts of one request by name, without the zeros."""
        return {name: n for name, n in zip(REASONS, self.counts[b].tolist(), strict=True) if n}

    def filtered_all(self) -> list[dict[str, int]]:
        """Return `filtered` of every request."""
        return [
            {name: n for name, n in zip(REASONS, counts, strict=True) if n} for counts in self.counts.tolist()
        ]


class Scan(NamedTuple):
    """Columns that the scan for one situation reads, `[A]` each; see `AdColumns`."""

    active: Flags
    approved: Flags
    start_time: I64
    end_time: I64
    placement: NDArray[np.int32]
    target: NDArray[np.int32]
    content: NDArray[np.int32]
    advertiser: NDArray[np.int32]


class _Entry(NamedTuple):
    words: Words
    counts: I64


@dataclass(frozen=True, eq=False)
class Rules:
    """A catalogue and a policy compiled for `eligible`; immutable, shared by all partitions."""

    catalogue: Catalogue
    policy: Policy
    columns: AdColumns
    targets: Targets
    safe_content: Flags
    """By code of category and labels: the policy blocks nothing of it."""
    safe_at: Mapping[str, Flags]
    """The same by placement, where a placement blocks more."""
    safe_advertiser: Flags
    """By advertiser code, and last (-1) for none."""
    changes_at: tuple[int, ...]
    """Ascending times at which some ad's schedule starts or ends."""
    by_ad: KeyIndex
    by_campaign: KeyIndex
    by_advertiser: KeyIndex
    _scan: Scan
    _entries: Memo[_Entry]
    _bits: Memo[Words]

    @classmethod
    def compile(cls, catalogue: Catalogue, policy: Policy, previous: Rules | None = None) -> Rules:
        """Compile a catalogue and a policy, reusing what did not change since ``previous``.

        A targeting text that cannot be compiled keeps its ads out (`why_not` quotes the error); such ads
        are to be refused before they reach a catalogue.
        """
        columns = columns_of(catalogue.ads, previous.columns if previous else None)
        same = previous if previous is not None and columns is previous.columns else None
        names = columns.names
        refused = frozenset(policy.blocked_advertisers)
        kept = _MEMO_BYTES // (8 * max(words_for(len(columns.ads)), 32))
        advertisers = keys_of(list(names.advertisers))
        return cls(
            catalogue=catalogue,
            policy=policy,
            columns=columns,
            targets=compile_targets(tuple(names.targets), previous.targets if previous else None),
            safe_content=_safe(names.contents, policy.blocked_categories),
            safe_at={
                name: _safe(names.contents, (*policy.blocked_categories, *place.blocked_categories))
                for name, place in places_of(policy).items()
                if place.blocked_categories
            },
            safe_advertiser=_flags([*(name not in refused for name in names.advertisers), True]),
            changes_at=same.changes_at if same else _changes(columns),
            by_ad=same.by_ad if same else index_keys(columns.key),
            by_campaign=same.by_campaign if same else _index(columns.campaign, names.campaigns),
            by_advertiser=same.by_advertiser if same else index_keys(advertisers, columns.advertiser),
            _scan=Scan(catalogue.active, *(getattr(columns, name) for name in Scan._fields[1:])),
            _entries=Memo(kept),
            _bits=Memo(kept // 4),
        )

    @cached_property
    def facets(self) -> Facets:
        """What the rules of a slate compare."""
        return facets_of(self.columns)

    def eligible(
        self, situation: Situation, blocked: BlockedKeys | None = None
    ) -> tuple[Words, dict[str, int]]:
        """Return the bitset `[W]` of the ads that may be shown, and the others' count by reason."""
        answer = self.eligible_batch([situation], blocked)
        return answer.words[0], answer.filtered(0)

    def eligible_batch(
        self, situations: Sequence[Situation], blocked: BlockedKeys | None = None
    ) -> Eligibility:
        """Answer B situations at once; a row's answer does not depend on the others.

        Parameters
        ----------
        situations
            One per request.
        blocked
            The users' blocked keys `[B, M]` (`caps.blocked_keys`); None when nobody has any.

        """
        words = np.empty((len(situations), words_for(len(self.columns.ads))), np.uint64)
        counts = np.empty((len(situations), len(REASONS)), np.int64)
        for b, situation in enumerate(situations):
            words[b], counts[b] = self._entry(situation)
        if blocked is not None:
            _remove_blocked(words, counts, blocked, self.by_ad, self.by_campaign, self.by_advertiser)
        return Eligibility(words, counts)

    def blocked_bits(self, name: str) -> Words:
        """Return the ads whose category or one of whose labels has this name."""
        return self._bits.get(
            name,
            lambda: pack(
                _flags(name in content for content in self.columns.names.contents)[self.columns.content]
            ),
        )

    def exhausted_bits(self, exhausted: frozenset[str]) -> Words:
        """Return the ads of these campaigns."""
        return self._bits.get(exhausted, lambda: pack(self._in_campaigns(exhausted)))

    def _in_campaigns(self, campaigns: frozenset[str]) -> Flags:
        codes = self.columns.names.campaigns
        found = np.zeros(len(codes), np.bool_)
        found[[codes[name] for name in campaigns if name in codes]] = True
        return found[self.columns.campaign]

    def _entry(self, situation: Situation) -> _Entry:
        """Return the answer without the user's own caps."""
        placement, context, now, exhausted = situation
        values = values_of(context, placement, now)
        period = bisect_right(self.changes_at, now)
        common = (period, placement, self.targets.read(values))
        if not exhausted and not context.blocked_categories:
            return self._entries.get(common, lambda: self._scanned(values, placement, now))
        own = (common, exhausted, context.blocked_categories)
        return self._entries.get(own, lambda: self._narrowed(common, values, situation))

    def _scanned(self, values: Values, placement: str, now: int) -> _Entry:
        words = np.zeros(words_for(len(self.columns.ads)), np.uint64)
        counts = np.zeros(len(REASONS), np.int64)
        placed = _flags(not places or placement in places for places in self.columns.names.placements)
        safe = self.safe_at.get(placement, self.safe_content)
        flags = (placed, self.targets.met(values), safe, self.safe_advertiser)
        _scan_ads(self._scan, now, flags, words, counts)
        return _Entry(words, counts)

    def _narrowed(self, common: Hashable, values: Values, situation: Situation) -> _Entry:
        """Return the answer of the scan without blocked categories and exhausted campaigns."""
        placement, context, now, exhausted = situation
        base = self._entries.get(common, lambda: self._scanned(values, placement, now))
        words, counts = base.words.copy(), base.counts.copy()
        for name in context.blocked_categories:
            counts[_CATEGORY] += remove(self.blocked_bits(name), words)
        if exhausted:
            counts[_BUDGET] += remove(self.exhausted_bits(exhausted), words)
        return _Entry(words, counts)


def _flags(values: Iterable[bool]) -> Flags:
    return np.fromiter(values, np.bool_)


def _safe(contents: Iterable[tuple[str, ...]], blocked: Iterable[str]) -> Flags:
    safe = frozenset(blocked).isdisjoint
    return _flags(safe(content) for content in contents)


def _index(code: NDArray[np.int32], names: dict[str, int]) -> KeyIndex:
    return index_keys(keys_of(list(names)), code)


def _changes(columns: AdColumns) -> tuple[int, ...]:
    times = np.unique(np.concatenate([columns.start_time, columns.end_time]))
    return tuple(times[(times > 0) & (times < NO_END)].tolist())


@njit(cache=True)
def _scan_ads(
    ads: Scan, now: int, flags: tuple[Flags, Flags, Flags, Flags], words: Words, counts: I64
) -> None:
    placed, met, safe_content, safe_advertiser = flags
    for a in range(ads.active.shape[0]):
        if not ads.active[a]:
            counts[_WITHDRAWN] += 1
        elif not ads.approved[a]:
            counts[_REVIEW] += 1
        elif now < ads.start_time[a] or now >= ads.end_time[a]:
            counts[_SCHEDULE] += 1
        elif not placed[ads.placement[a]]:
            counts[_PLACEMENT] += 1
        elif not met[ads.target[a]]:
            counts[_TARGETING] += 1
        elif not safe_content[ads.content[a]]:
            counts[_SAFETY] += 1
        elif not safe_advertiser[ads.advertiser[a]]:
            counts[_ADVERTISER] += 1
        else:
            words[a >> 6] |= np.uint64(1) << np.uint64(a & 63)


@njit(cache=True)
def _remove_blocked(
    words: NDArray[np.uint64],
    counts: I64,
    blocked: BlockedKeys,
    by_ad: KeyIndex,
    by_campaign: KeyIndex,
    by_advertiser: KeyIndex,
) -> None:
    for b in range(words.shape[0]):
        for m in range(blocked.length[b]):
            scope, key = blocked.scope[b, m], blocked.keys[b, m]
            reason = _HIDDEN if scope == HIDDEN else _REPEAT if scope == NO_REPEAT else _CAP
            if scope == CAMPAIGN:
                removed = remove_key(words[b], by_campaign, key)
            elif scope == ADVERTISER:
                removed = remove_key(words[b], by_advertiser, key)
            else:
                removed = remove_key(words[b], by_ad, key)
            counts[b, reason] += removed
