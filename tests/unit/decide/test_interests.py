"""A shard says, second by second, what each segment's users looked at on their own account."""

from __future__ import annotations

import msgspec
import pytest
from support.shards import Bench, LogBuilder, bodies, run

from models.decide.interests import Interests
from models.domain import events
from models.domain.decision import Interest
from models.domain.events import Context


@pytest.fixture
def bench():
    return Bench()


def log_of(*users: str, segment: str = "young") -> LogBuilder:
    """Return a log in which each of these users has been decided for."""
    log = LogBuilder()
    log.ads(2, category="shoes")
    for user in users:
        log.request(user, context=Context(segment=segment))
    return log


def view(log: LogBuilder, user: str, ad: str = "a0", after_s: float = 0.0) -> None:
    log.add(events.View, user_id=user, ad_id=ad, after_s=after_s)


def said(bench: Bench, log: LogBuilder) -> list[Interest]:
    return bodies(run(bench.shard(), log.records), Interest)


def test_views_are_said_by_segment_and_category_when_their_second_is_over(bench):
    log = log_of("u", "v", "w")
    for user in ("u", "v", "w"):
        view(log, user)
    view(log, "u", after_s=1.0)
    (interest,) = said(bench, log)
    assert interest == Interest(shard="00000-000", event_time=log.now, views={"young|shoes": 3})


def test_the_segment_is_that_of_the_users_latest_decision(bench):
    log = log_of("u")
    log.request("u", context=Context(segment="old"))
    view(log, "u")
    log.request("w")
    assert said(bench, log)[0].views == {"old|shoes": 1}


def test_one_user_counts_once_a_second_in_a_category(bench):
    log = log_of("u", "v")
    for user in ("u", "v", "u", "u", "u"):
        view(log, user)
    log.request("w")
    assert said(bench, log)[0].views == {"young|shoes": 2}


@pytest.mark.parametrize(("user", "ad"), [("stranger", "a0"), ("u", "no-such-ad")])
def test_a_stranger_and_an_unknown_ad_count_nowhere(bench, user, ad):
    log = log_of("u")
    view(log, user, ad)
    log.request("w")
    assert said(bench, log) == []


def test_what_a_decision_showed_is_not_counted(bench):
    log = log_of("u")
    log.add(events.Click, user_id="u", ad_id="a0")
    log.add(events.Impression, user_id="u", ad_id="a0")
    log.request("w")
    assert said(bench, log) == []


def test_an_erased_users_segment_is_forgotten(bench):
    log = log_of("u")
    log.add(events.Erasure, user_id="u")
    view(log, "u")
    log.request("w")
    assert said(bench, log) == []


@pytest.mark.parametrize("sizes", [(1,), (2, 3), (10**9,)])
def test_what_is_said_does_not_depend_on_the_batch(bench, sizes):
    log = log_of("u", "v")
    for n in range(20):
        view(log, "uv"[n % 2], after_s=0.3)
        log.request("u", after_s=0.0, context=Context(segment=f"s{n // 7}"))
    whole = said(bench, log)
    assert len(whole) > 3
    assert bodies(run(bench.shard(), log.records, sizes), Interest) == whole


def test_a_restored_shard_says_what_the_original_would(bench):
    log = log_of("u")
    view(log, "u")
    first, again = bench.shard(), bench.shard()
    run(first, log.records)
    again.load(first.dump())
    log.request("w")
    assert bodies(again.process(log.records[-1:]), Interest)[0].views == {"young|shoes": 1}


def test_a_flood_of_cells_is_cut_off():
    counted = Interests("0")
    for n in range(5000):
        counted.note(n, f"s{n}")
        counted.look(n, "shoes")
    interest = counted.due(1000)
    assert interest is not None
    assert len(interest.views) == 4096


@pytest.mark.parametrize("filler", ["\x01", "\U0001f600", "x"])
def test_what_a_shard_says_is_smaller_than_a_topic_takes_however_long_the_segments(filler):
    counted = Interests("0")
    for n in range(8192):
        counted.note(n, f"{n:04d}" + filler * 124)
        counted.look(n, filler * 128)
    interest = counted.due(1000)
    assert interest is not None
    assert 400_000 < len(msgspec.json.encode(interest)) < 510_000


def test_a_restored_count_has_the_room_that_the_original_had():
    counted, again = Interests("0"), Interests("0")
    for n in range(2000):
        if n == 200:
            again.load(counted.dump())
        for each in (counted,) if n < 200 else (counted, again):
            each.note(n, f"{n:04d}" + "\x01" * 124)
            each.look(n, "shoes")
    assert counted.due(1000) == again.due(1000)
