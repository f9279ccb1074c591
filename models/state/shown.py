"""What the users of one shard were shown, are about to be shown and hid: all that caps have to count.

A user's impressions lie in pages of PAGE, newest page first, from a pool that grows with the traffic; a user
who saw nothing takes no page. When a page is full, the user's pages that hold nothing inside the widest
window of the policy are given back (SLACK_MS later, for decisions on records that come out of order). So
**every impression inside the widest window is there**, up to ``kept`` of them per user: of one who saw more
(a robot), the oldest page goes. ``forgotten_ms`` says up to when impressions are gone.

A decided ad whose impression was not told yet is **unseen**. It lies among the impressions under the
complement of its time, so that it costs no room of its own: the impression of that decision takes its place,
and so does the next decision once it has ceased to count. A placement that asks again gives up what of it
is unseen: the user has moved on, and other ads stand there now.

Legend: U users (rows), H hidden ads kept, P pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .table import Plain, Table, from_plain, plain

U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

PAGE = 32
IMPRESSIONS_KEPT = 4096
"""Impressions of one user at most, and so the largest cap; 32 bytes each."""
HIDDEN_KEPT = 128
SLACK_MS = 600_000
GIVES_UP = -1
"""For ``unseen_ms`` of `Impressions`: no ad, but a placement that asks again."""
_GIVEN_UP_MS = 0
_FOREVER_MS = np.int64(1 << 62)
_NONE = -1
_FIRST_PAGES = 64


@dataclass(frozen=True, eq=False)
class Users:
    """What is kept per user beside the pages."""

    newest: I32
    """`[U]` page that is being filled, -1 for none."""
    filled: I32
    """`[U]` impressions in that page; all older ones are full."""
    forgotten_ms: I64
    """`[U]` time of the youngest impression that was given up, -1 for none."""
    hidden_key: U64
    """`[U, H]` stable key of an ad that the user does not want to see, a ring."""
    hidden_count: I64
    """`[U]` ads ever hidden."""

    @classmethod
    def empty(cls, users: int, hidden: int) -> Users:
        """Return users who saw and hid nothing."""
        return cls(
            newest=np.full(users, _NONE, np.int32),
            filled=np.zeros(users, np.int32),
            forgotten_ms=np.full(users, _NONE, np.int64),
            hidden_key=np.zeros((users, hidden), np.uint64),
            hidden_count=np.zeros(users, np.int64),
        )


class Pages(NamedTuple):
    """The pool, as kernels take it; entry n of a page came before entry n + 1."""

    ad_key: U64
    """`[P, PAGE]` stable key of the ad."""
    campaign_key: U64
    """`[P, PAGE]`"""
    advertiser_key: U64
    """`[P, PAGE]` NO_KEY for ads without an advertiser, which no cap counts."""
    time_ms: I64
    """`[P, PAGE]` event time of the impression; of an unseen ad ``~`` the time of the decision."""
    placement: U16
    """`[P, PAGE]` print of the placement that an unseen ad is for."""
    older: I32
    """`[P]` the user's page before this one, -1 for none; of a free page, the next free one."""

    @classmethod
    def empty(cls, pages: int) -> Pages:
        """Return pages that hold nothing."""
        shape = pages, PAGE
        ad_key, campaign_key, advertiser_key = (np.zeros(shape, np.uint64) for _ in range(3))
        older = np.full(pages, _NONE, np.int32)
        times, placement = np.zeros(shape, np.int64), np.zeros(shape, np.uint16)
        return cls(ad_key, campaign_key, advertiser_key, times, placement, older)


class Impressions(NamedTuple):
    """Impressions and unseen ads `[N]` in the order of the log."""

    row: I64
    ad_key: U64
    campaign_key: U64
    advertiser_key: U64
    time_ms: I64
    keep_ms: I64
    """How far back from its own time the caps in force may still look."""
    unseen_ms: I64
    """Of a decided ad, how long it counts unless an impression is told; 0 for an impression; GIVES_UP."""
    decided_ms: I64
    """Of an impression, the event time of its decision; -1 where none is known."""
    placement: U16
    """Print of the placement that an ad was decided for, or that asks again; 0 for an impression."""


class Shown:
    """Impressions, unseen and hidden ads of the users of one shard; see the module."""

    def __init__(self, users: int, kept: int = IMPRESSIONS_KEPT, hidden: int = HIDDEN_KEPT) -> None:
        self._table = Table(lambda count: Users.empty(count, hidden), users)
        self._most_pages = -(-kept // PAGE) + 1  # the newest may hold one impression only
        self.pages = Pages.empty(0)
        self._free = np.array([_NONE, 0], np.int32)
        """The first free page, and how many there are."""

    @property
    def users(self) -> Users:
        """What is kept per user; replaced when the table grows."""
        return self._table.columns

    def append(self, impressions: Impressions) -> None:
        """Append impressions in the order given; each takes the place of its ad unseen."""
        self._append(impressions, merge=True)

    def _append(self, impressions: Impressions, *, merge: bool) -> None:
        count = len(impressions.row)
        self._provide(count if count <= PAGE else len(np.unique(impressions.row)) + count // PAGE)
        users = self.users
        _append(
            self.pages, self._free, users.newest, users.filled, users.forgotten_ms, impressions,
            self._most_pages, merge,
        )  # fmt: skip

    def hide(self, row: int, ad_key: int) -> None:
        """Remember that the user hid this ad; hiding it again moves nothing."""
        key, users = np.uint64(ad_key), self.users
        if not (users.hidden_key[row] == key).any():
            users.hidden_key[row, users.hidden_count[row] % users.hidden_key.shape[1]] = key
            users.hidden_count[row] += 1

    def is_exact(self, row: int, since_ms: int) -> bool:
        """Return whether every impression of the user after this time is there."""
        forgotten = int(self.users.forgotten_ms[row])
        return forgotten < 0 or forgotten <= since_ms

    def grow(self, users: int) -> None:
        """Make room for so many users."""
        self._table.grow(users)

    def clear(self, row: int) -> None:
        """Forget a user."""
        _give_back(self.pages.older, self._free, self.users.newest, row)
        self._table.clear(row)

    def dump(self, used: int) -> dict[str, Any]:
        """Return the first `used` users as plain data: columns, and their impressions end to end."""
        columns = self._table.dump(used)
        del columns["newest"], columns["filled"]
        newest, filled = self.users.newest[:used], self.users.filled
        length = _lengths(newest, filled, self.pages.older)
        fields = {
            name: plain(_flat(getattr(self.pages, name), self.pages.older, newest, filled, length))
            for name in ("ad_key", "campaign_key", "advertiser_key", "time_ms", "placement")
        }
        return {"users": columns, "impressions": {**fields, "length": plain(length)}}

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` returned; call `grow` first."""
        columns: Plain = data["users"]
        self._table.load(columns)
        fields = {name: from_plain(field) for name, field in data["impressions"].items()}
        row = np.repeat(np.arange(len(fields["length"])), fields.pop("length"))
        keep_ms, none = np.full(len(row), _FOREVER_MS), np.zeros(len(row), np.int64)
        fields.setdefault("placement", none.astype(np.uint16))  # nothing was unseen before
        impressions = Impressions(row=row, keep_ms=keep_ms, unseen_ms=none, decided_ms=none, **fields)
        self._append(impressions, merge=False)

    def _provide(self, pages: int) -> None:
        """Have so many free pages at least."""
        have, free = len(self.pages.older), int(self._free[1])
        if free >= pages:
            return
        size = max(have + pages - free, 2 * have, _FIRST_PAGES)
        larger = Pages.empty(size)
        for name, old in self.pages._asdict().items():
            getattr(larger, name)[:have] = old
        larger.older[have:] = [*range(have + 1, size), self._free[0]]
        self._free[:] = have, free + size - have
        self.pages = larger


@njit(cache=True)
def _append(
    pages: Pages, free: I32, newest: I32, filled: I32, forgotten: I64, of: Impressions, most: int, merge: bool
) -> None:
    for n in range(of.row.shape[0]):
        u, time = of.row[n], of.time_ms[n]
        if of.unseen_ms[n] == GIVES_UP:
            _give_up(pages, newest[u], filled[u], of.placement[n])
            continue
        page, at = _place(pages, newest[u], filled[u], of, n) if merge else (_NONE, 0)
        if page < 0:
            if newest[u] < 0 or filled[u] == PAGE:
                _drop_old(pages, free, newest, forgotten, u, _time(time) - of.keep_ms[n] - SLACK_MS, most - 1)
                page = free[0]
                free[0], free[1] = pages.older[page], free[1] - 1
                pages.older[page], newest[u], filled[u] = newest[u], page, 0
            page, at = newest[u], filled[u]
            filled[u] += 1
        pages.ad_key[page, at], pages.campaign_key[page, at] = of.ad_key[n], of.campaign_key[n]
        pages.advertiser_key[page, at] = of.advertiser_key[n]
        pages.time_ms[page, at] = ~time if of.unseen_ms[n] > 0 else time
        pages.placement[page, at] = of.placement[n]


@njit(cache=True)
def _time(time_ms: int) -> int:
    return time_ms if time_ms >= 0 else ~time_ms


@njit(cache=True)
def _place(pages: Pages, newest: int, filled: int, of: Impressions, n: int) -> tuple[int, int]:
    """Return page and entry of an unseen ad in whose place this one comes, page -1 for none.

    An impression takes that of its own decision, where none is known the one of its ad that was decided last;
    an unseen ad that of one which ceased to count, from the newest page.
    """
    if of.unseen_ms[n] > 0:
        return _ceased(pages, newest, filled, of.time_ms[n] - of.unseen_ms[n])
    page, count, found, latest = newest, filled, (_NONE, 0), -1
    while page >= 0:
        for at in range(count):
            decided = ~pages.time_ms[page, at]  # negative where it was seen
            if decided > latest and pages.ad_key[page, at] == of.ad_key[n]:
                if of.decided_ms[n] < 0:
                    found, latest = (page, at), decided
                elif decided == of.decided_ms[n]:
                    return page, at
        page, count = pages.older[page], PAGE
    return found


@njit(cache=True)
def _ceased(pages: Pages, page: int, filled: int, until_ms: int) -> tuple[int, int]:
    """Return page and entry of an unseen ad that was decided up to a time, page -1 for none."""
    if page >= 0:
        for at in range(filled):
            if 0 <= ~pages.time_ms[page, at] <= until_ms:
                return page, at
    return _NONE, 0


@njit(cache=True)
def _give_up(pages: Pages, page: int, filled: int, placement: int) -> None:
    """Let nothing count any more that is unseen of a placement."""
    count = filled
    while page >= 0:
        for at in range(count):
            if pages.time_ms[page, at] < 0 and pages.placement[page, at] == placement:
                pages.time_ms[page, at] = ~_GIVEN_UP_MS
        page, count = pages.older[page], PAGE


@njit(cache=True)
def _newest_ms(pages: Pages, page: int) -> int:
    newest = _time(pages.time_ms[page, 0])
    for at in range(1, PAGE):
        newest = max(newest, _time(pages.time_ms[page, at]))
    return newest


@njit(cache=True)
def _drop_old(pages: Pages, free: I32, newest: I32, forgotten: I64, u: int, since_ms: int, most: int) -> None:
    """Give back the full pages of a user behind the last that is needed, and those beyond ``most``."""
    needed, page = _NONE, newest[u]
    for _ in range(most):
        if page < 0:
            break
        if _newest_ms(pages, page) > since_ms:
            needed = page
        page = pages.older[page]
    page = newest[u] if needed < 0 else pages.older[needed]
    if needed < 0:
        newest[u] = _NONE
    else:
        pages.older[needed] = _NONE
    while page >= 0:
        forgotten[u] = max(forgotten[u], _newest_ms(pages, page))
        after = pages.older[page]
        pages.older[page], free[0], free[1] = free[0], page, free[1] + 1
        page = after


@njit(cache=True)
def _give_back(older: I32, free: I32, newest: I32, u: int) -> None:
    page = newest[u]
    while page >= 0:
        after = older[page]
        older[page], free[0], free[1] = free[0], page, free[1] + 1
        page = after
    newest[u] = _NONE


@njit(cache=True)
def _lengths(newest: I32, filled: I32, older: I32) -> I64:
    length = np.zeros(newest.shape[0], np.int64)
    for u in range(newest.shape[0]):
        page = newest[u]
        if page >= 0:
            length[u] = filled[u]
            page = older[page]
        while page >= 0:
            length[u] += PAGE
            page = older[page]
    return length


@njit(cache=True)
def _flat(field: NDArray[Any], older: I32, newest: I32, filled: I32, length: I64) -> NDArray[Any]:
    """Return a field of the users' impressions end to end, each user's oldest first."""
    flat = np.empty(length.sum(), field.dtype)
    end = 0
    for u in range(newest.shape[0]):
        end += length[u]
        at, page, count = end, newest[u], filled[u]
        while page >= 0:
            at -= count
            flat[at : at + count] = field[page, :count]
            page, count = older[page], np.int32(PAGE)
    return flat
