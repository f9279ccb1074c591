from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shards import Bench, LogBuilder, bodies, logs, run

from models.decide.shard import ShardBounds
from models.domain import events
from models.domain.catalogue import Creative
from models.domain.decision import Decision

SMALL = ShardBounds(users=3)


def watched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of jobs whenever decisions are made."""
    seen: list[int] = []
    decide = bench.decider.decide

    def counted(view, groups):
        seen.append(sum(len(group.jobs) for group in groups))
        return decide(view, groups)

    monkeypatch.setattr(bench.decider, "decide", counted)
    return seen


def asked(partition: int, *users: str) -> LogBuilder:
    log = LogBuilder(partition)
    log.ads(4)
    for user in users:
        log.request(user)
    return log


@settings(max_examples=60, deadline=None)
@given(
    st.lists(logs(), min_size=2, max_size=3),
    st.integers(1, 12),
    st.sampled_from([ShardBounds(), SMALL]),
    st.randoms(use_true_random=False),
)
def test_shards_that_take_turns_say_what_each_says_alone(drawn, size, bounds, order):
    alone, together = Bench(bounds=bounds), Bench(bounds=bounds)
    expected = [run(alone.shard(0, n), records) for n, records in enumerate(drawn)]
    shards = [together.shard(0, n) for n in range(len(drawn))]
    said = [[] for _ in drawn]
    for begin in range(0, max(map(len, drawn)), size):
        turns = [(n, shards[n].take(records[begin : begin + size])) for n, records in enumerate(drawn)]
        order.shuffle(turns)
        for n, turn in turns:
            said[n] += turn.emissions()
    assert said == expected


@settings(max_examples=30, deadline=None)
@given(logs(), st.integers(0, 40))
def test_a_snapshot_of_an_open_turn_is_that_of_a_closed_one(records, cut):
    open_, closed = Bench().shard(), Bench().shard()
    turn = open_.take(records[:cut])
    said = closed.process(records[:cut])
    assert open_.dump() == closed.dump()
    assert turn.emissions() == said


def test_the_users_of_all_shards_are_decided_together(monkeypatch):
    bench = Bench()
    seen = watched(bench, monkeypatch)
    turns = [bench.shard(n).take(asked(n, "u", "v").records) for n in range(3)]
    assert seen == []
    assert [len(bodies(turn.emissions(), Decision)) for turn in turns] == [2, 2, 2]
    assert seen == [6]


def test_a_second_event_of_a_waiting_user_holds_up_their_own_shard_only(monkeypatch):
    bench = Bench()
    seen = watched(bench, monkeypatch)
    turns = [bench.shard(0).take(asked(0, "u", "u", "v").records), bench.shard(1).take(asked(1, "w").records)]
    assert [len(bodies(turn.emissions(), Decision)) for turn in turns] == [3, 1]
    assert seen == [2, 2]


def test_a_job_is_decided_under_the_view_it_came_under(monkeypatch):
    bench = Bench()
    seen = watched(bench, monkeypatch)
    log = asked(0, "u")
    log.add(events.AdWithdraw, ad_ids=("a0", "a1", "a2"))
    log.request("v")
    first, second = bodies(bench.shard().take(log.records).emissions(), Decision)
    assert {slot.ad_id for slot in first.ads} == {"a0", "a1", "a2", "a3"}
    assert [slot.ad_id for slot in second.ads] == ["a3"]
    assert seen == [1, 1]


def test_a_roll_back_waits_for_the_decisions_before_it():
    log = asked(0, "u")
    shown = log.records[-1].record.offset
    decision = f"{log.records[-1].record.topic}-0-{shown}"
    log.add(events.Impression, user_id="u", ad_id="a0", decision_id=decision)
    log.add(events.Click, user_id="u", ad_id="a0", decision_id=decision)
    log.request("u")
    log.add(events.Adjustments, version=9, reset=True)
    log.request("u")
    whole = Bench().shard().take(log.records).emissions()
    assert whole == run(Bench().shard(), log.records, [1])


def test_a_turn_that_nobody_closed_is_closed_by_the_next_one():
    bench = Bench()
    shard = bench.shard()
    records = asked(0, "u", "v", "w").records
    first = shard.take(records[:3])
    second = shard.take(records[3:])
    assert [len(bodies(turn.emissions(), Decision)) for turn in (first, second)] == [2, 1]


def test_segments_that_anybody_makes_up_take_no_memory_for_ever(monkeypatch):
    monkeypatch.setattr("models.decide.compiled_view._SEGMENTS_KEPT", 3)
    bench, log = Bench(), LogBuilder()
    log.ads(2)
    for n in range(8):
        log.request(f"u{n}", context=events.Context(segment=f"made-up-{n}"))
    shard = bench.shard()
    assert len(bodies(shard.process(log.records), Decision)) == 8
    assert len(bench.views.compiled(shard.view)._situations.places) <= 3


def known_segments(segments: int, versions: int) -> LogBuilder:
    """Requests from segments of which something is learned, in several versions."""
    log = LogBuilder()
    log.ads(20, category="k")
    for version in range(1, versions + 1):
        learned = {f"s{n}|k": (n / 10, 0.01) for n in range(segments)}
        log.add(events.Adjustments, version=version, bias=(version / 10, 0.01), segment_categories=learned)
        for n in (*range(segments), *range(segments)):
            log.request(f"u{n}", context=events.Context(segment=f"s{n}"))
    return log


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_segments_beyond_the_room_are_looked_up_anew_with_the_same_answers(monkeypatch, size):
    log = known_segments(8, 2)
    roomy = run(Bench().shard(), log.records, [size])
    monkeypatch.setattr("models.decide.compiled_view.MOST_BYTES", 1000)
    assert run(Bench().shard(), log.records, [size]) == roomy


def test_views_of_long_ago_let_go_of_what_they_knew_of_segments():
    bench, log = Bench(), known_segments(3, 12)
    shard = bench.shard()
    shard.process(log.records)
    held = [view for view in bench.views._compiled.all_but_latest(0) if "_situations" in view.__dict__]
    assert 1 <= len(held) <= 8


def test_creatives_of_ads_are_chosen_alike_alone_and_together():
    log = LogBuilder()
    log.ads(3, creatives=tuple(Creative(creative_id=f"x{n}") for n in range(3)))
    for n in range(6):
        log.request(f"u{n}")
    assert run(Bench().shard(), log.records) == run(Bench().shard(), log.records, [1])
