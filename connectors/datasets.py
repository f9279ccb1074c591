"""Public data sets as recorded logs: records of the log topic in time order, catalogue first.

| name          | a row becomes                                                                        |
|---------------|--------------------------------------------------------------------------------------|
| `otto`        | click: `view`, cart: `click`, order: `conversion`; a `request` after each click      |
| `recbole`     | `view` at its timestamp, then a `request`; titles and genres from the `.item` beside |
| `pairs`       | `view`, then a `request`; the n-th of each user at minute n (the file has no times)  |
| `sequences`   | the same                                                                             |
| `open_bandit` | `request`, `impression` and, if clicked, `click`; users are equal hashed features,   |
|               | rows where the file has no features                                                  |

The requests ask what the user should see next, so that a replay decides. Files are read whole, gzip or
plain; a file's own ids are kept, with a prefix for users (``u``) and ads (``i``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from connectors.broadcast import upserts
from connectors.interactions import read_interactions, read_items, read_lines, read_rows
from connectors.open_bandit import BanditLog, read_open_bandit
from connectors.timestamps import LATEST_MS
from models.domain.catalogue import Ad
from models.domain.errors import ImpulseError, LogError
from models.domain.events import Click, Context, Conversion, Event, Impression, Request, View
from models.domain.log import LogRecord
from models.evaluation.logbook import Logbook

Timed = tuple[int, Sequence[Event]]
"""Event time in UTC milliseconds and the events of that moment, in order."""

_EPOCH_MS = 1_577_836_800_000
_MINUTE_MS = 60_000
_UPSERT_ADS = 1000
_LONGEST = {"user": 112, "item": 127}
"""Characters of ids with which those of records, made of them and a number, have 128 at most."""


def dataset_log(name: str, path: Path, *, partitions: int = 4) -> Iterator[LogRecord]:
    """Yield the log that a data set's file stands for.

    Parameters
    ----------
    name
        One of LOADERS.
    path
        The file (for Open Bandit: the campaign's CSV beside its ``item_context.csv``).
    partitions
        Of the log; users are placed by their id as Kafka's clients would.

    Raises
    ------
    LogError
        The name is unknown, or the file cannot be read, is empty or holds a malformed row (named by line).

    """
    if name not in LOADERS:
        raise LogError.expected(
            "data set", got=name, expected=" or ".join(LOADERS), fix="name the file's format"
        )
    try:
        ads, events = LOADERS[name](path)
        first = next(events, None)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise LogError.expected(
            f"data set {path}", got=str(error), expected="a readable file", fix="check the path"
        ) from error
    if first is None:
        raise LogError.expected(
            f"data set {path}", got="no rows", expected=f"rows of {name}", fix="give a file that is not empty"
        )
    return _records(ads, first, events, Logbook(partitions))


def _records(ads: Sequence[Ad], first: Timed, rest: Iterator[Timed], logbook: Logbook) -> Iterator[LogRecord]:
    for upsert in upserts(ads, "catalogue", first[0], _UPSERT_ADS):
        yield from logbook.append(upsert)
    for _, moment in chain([first], rest):
        for event in moment:
            yield from logbook.append(event)


def _request(name: str, time_ms: int, user_id: str) -> Request:
    return Request(id=f"r{name}", event_time=time_ms, user_id=user_id)


def _plain_ads(items: Iterable[str]) -> list[Ad]:
    return [Ad(ad_id=f"i{item}", campaign_id=f"c{item}") for item in dict.fromkeys(items)]


def load_otto(path: Path) -> tuple[list[Ad], Iterator[Timed]]:
    """Return ads and events of an OTTO file: one session per line, ``{"session": ..., "events": [...]}``."""
    actions = [
        (time_ms, session, i, item, kind)
        for number, line in read_lines(path)
        for session, found in [_otto_session(path, number, line)]
        for i, (item, time_ms, kind) in enumerate(found)
    ]
    ads = _plain_ads(action[3] for action in actions)
    actions.sort(key=lambda action: action[0])
    return ads, ((t, _otto_events(f"{s}-{i}", f"u{s}", item, t, kind)) for t, s, i, item, kind in actions)


def _otto_session(path: Path, number: int, line: str) -> tuple[str, list[tuple[str, int, str]]]:
    try:
        row = json.loads(line)
        actions = [(_otto_id(e["aid"]), _otto_time(e["ts"]), _OTTO_KINDS[e["type"]]) for e in row["events"]]
        return _otto_id(row["session"]), actions
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise LogError.expected(
            f"{path}:{number}",
            got=f"{type(error).__name__} {error} in {line[:60]!r}",
            expected='{"session": int, "events": [{"aid": int, "ts": ms, "type": clicks|carts|orders}]}, '
            "integers of 64 bits, times since 1970",
            fix="correct or remove the line",
        ) from error


def _otto_id(value: Any) -> str:
    if not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"id of {len(str(int(value)))} digits")
    return str(int(value))


def _otto_time(value: Any) -> int:
    if not 0 <= int(value) < LATEST_MS:
        raise ValueError(f"ts {str(value)[:40]}")
    return int(value)


_OTTO_KINDS = {"clicks": "view", "carts": "click", "orders": "conversion"}


def _otto_events(name: str, user_id: str, item: str, time_ms: int, kind: str) -> list[Event]:
    about: dict[str, Any] = {"event_time": time_ms, "user_id": user_id, "ad_id": f"i{item}"}
    if kind == "view":
        return [View(id=f"v{name}", **about), _request(name, time_ms, user_id)]
    return [Click(id=f"c{name}", **about) if kind == "click" else Conversion(id=f"b{name}", **about)]


def _load_interactions(path: Path, file_format: str) -> tuple[list[Ad], Iterator[Timed]]:
    data = read_interactions(path, file_format)
    longest = {"user": max(map(len, data.user_ids)), "item": max(map(len, data.item_ids))}
    if any(longest[kind] > most for kind, most in _LONGEST.items()):
        raise _too_long(path, file_format)
    nth = np.arange(len(data.item)) - np.repeat(data.offsets[:-1], np.diff(data.offsets))
    times = _EPOCH_MS + nth * _MINUTE_MS if data.time_ms is None else data.time_ms
    user = np.repeat(np.arange(len(data)), np.diff(data.offsets))
    order = np.argsort(times, kind="stable")
    rows = zip(*(column[order].tolist() for column in (times, user, nth, data.item)), strict=True)
    moments = (_viewed(t, data.user_ids[u], n, data.item_ids[item]) for t, u, n, item in rows)
    return _plain_ads(data.item_ids), moments


def _too_long(path: Path, file_format: str) -> ImpulseError:
    number, kind, name = next(
        (number, kind, name)
        for number, user, item, _ in read_rows(path, file_format)
        for kind, name in (("user", user), ("item", item))
        if len(name) > _LONGEST[kind]
    )
    return LogError.expected(
        f"{path} line {number}",
        got=f"{kind} id of {len(name)} characters, {name[:40]}...",
        expected=f"at most {_LONGEST[kind]}",
        fix="number the ids, or hash them",
    )


def _viewed(time_ms: int, user: str, nth: int, item: str) -> Timed:
    view = View(id=f"v{user}-{nth}", event_time=time_ms, user_id=f"u{user}", ad_id=f"i{item}")
    return time_ms, [view, _request(f"{user}-{nth}", time_ms, view.user_id)]


def load_recbole(path: Path) -> tuple[list[Ad], Iterator[Timed]]:
    """Return ads and events of a RecBole ``.inter`` file; the ads' text from the ``.item`` file beside it."""
    ads, events = _load_interactions(path, "recbole")
    beside = path.with_name(path.name.removesuffix(".gz").removesuffix(".inter") + ".item")
    about = read_items(beside) if beside.exists() else {}
    return [_described(ad, about.get(ad.ad_id[1:])) for ad in ads], events


def _described(ad: Ad, about: tuple[str, str] | None) -> Ad:
    if about is None:
        return ad
    category, text = about
    return Ad(ad_id=ad.ad_id, campaign_id=ad.campaign_id, category=category[:128], title=text[:4096])


def load_pairs(path: Path) -> tuple[list[Ad], Iterator[Timed]]:
    """Return ads and events of a ``user item`` file (SASRec, BERT4Rec)."""
    return _load_interactions(path, "pairs")


def load_sequences(path: Path) -> tuple[list[Ad], Iterator[Timed]]:
    """Return ads and events of a ``user item item ...`` file (S3-Rec)."""
    return _load_interactions(path, "sequences")


def load_open_bandit(path: Path) -> tuple[list[Ad], Iterator[Timed]]:
    """Return ads and events of an Open Bandit campaign; decision ids name the file and row."""
    log = read_open_bandit(path)
    ads = [
        Ad(ad_id=f"i{item}", campaign_id=f"c{item}", category=features[0][:8], labels=tuple(features))
        for item, features in enumerate(log.item_features)
    ]
    name = path.name.split(".")[0][:64]
    return ads, (_bandit_row(log, name, row) for row in np.argsort(log.time_ms, kind="stable").tolist())


def _bandit_row(log: BanditLog, name: str, row: int) -> Timed:
    time_ms, slot = int(log.time_ms[row]), int(log.position[row]) - 1
    user_id, row_name = f"u{log.users[log.user[row]]}", f"{name}-{row}"
    about: dict[str, Any] = {"event_time": time_ms, "user_id": user_id, "ad_id": f"i{log.item[row]}"}
    about["decision_id"] = f"obd-{row_name}"
    context = Context(segment=log.users[log.user[row]][:8])
    events: list[Event] = [
        Request(id=f"r{row_name}", event_time=time_ms, user_id=user_id, slots=3, context=context),
        Impression(id=f"i{row_name}", slot=slot, **about),
    ]
    if log.click[row]:
        events.append(Click(id=f"c{row_name}", **about))
    return time_ms, events


LOADERS: dict[str, Callable[[Path], tuple[list[Ad], Iterator[Timed]]]] = {
    "otto": load_otto,
    "recbole": load_recbole,
    "pairs": load_pairs,
    "sequences": load_sequences,
    "open_bandit": load_open_bandit,
}
"""Loaders by the name of their format."""
