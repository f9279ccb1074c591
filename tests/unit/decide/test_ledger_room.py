"""Which decisions feedback can still join when there are too many to remember them all."""

import pytest
from support.shards import Bench, LogBuilder, bodies, run

from models.decide.shard import ShardBounds
from models.domain import events
from models.domain.decision import Outcome
from models.domain.policy import Attribution, Policy

CAPACITY = 4


@pytest.fixture
def bench() -> Bench:
    return Bench(bounds=ShardBounds(users=100, decisions=CAPACITY))


def clicked(log: LogBuilder, user: str) -> tuple[str, str]:
    """Let a new user click what they are shown; return them and the decision."""
    decision = log.request(user_id=user)
    log.add(events.Click, user_id=user, ad_id="a0", decision_id=decision)
    return user, decision


def joined(kind: str, outcomes: list[Outcome]) -> list[str]:
    return [o.user_id for o in outcomes if o.kind == kind]


def converts(log: LogBuilder, journeys: list[tuple[str, str]]) -> None:
    for user, decision in journeys:
        log.add(events.Conversion, user_id=user, ad_id="a0", decision_id=decision)


def test_a_clicked_decision_outlives_any_number_of_decisions_without_a_click(bench, log):
    log.ads(1)
    first = clicked(log, "first")
    for n in range(5 * CAPACITY):
        log.request(user_id=f"other-{n}")
    converts(log, [first])
    assert joined("conversion", bodies(run(bench.shard(), log.records), Outcome)) == ["first"]


def test_of_too_many_clicked_decisions_those_clicked_first_go(bench, log):
    log.ads(1)
    journeys = [clicked(log, f"u{n}") for n in range(CAPACITY + 2)]
    converts(log, journeys)
    outcomes = bodies(run(bench.shard(), log.records), Outcome)
    assert joined("conversion", outcomes) == [user for user, _ in journeys[2:]]


def test_what_must_go_next_is_the_same_after_a_snapshot(bench, log):
    log.ads(1)
    early = log.request(user_id="clicked late")
    journeys = [clicked(log, f"u{n}") for n in range(CAPACITY - 1)]
    log.add(events.Click, user_id="clicked late", ad_id="a0", decision_id=early)
    before, after = bench.shard(), bench.shard()
    run(before, log.records)
    after.load(before.dump())
    told = len(log.records)
    converts(log, [clicked(log, "new"), *journeys, ("clicked late", early)])
    for shard in (before, after):
        outcomes = bodies(run(shard, log.records[told:]), Outcome)
        assert joined("conversion", outcomes) == ["new", "u1", "u2", "clicked late"]


@pytest.mark.parametrize("kind", [events.Impression, events.Click])
def test_impressions_of_decisions_that_went_or_were_clicked_take_no_room(bench, log, kind):
    """They would be due in a day, and be in every snapshot until then."""
    log.ads(1)
    log.add(events.PolicyChange, policy=Policy(attribution=Attribution(no_click_after_s=86_400)))
    for n in range(100):
        log.add(kind, user_id=f"u{n}", ad_id="a0", decision_id=log.request(user_id=f"u{n}"))
    shard = bench.shard()
    outcomes = bodies(run(shard, log.records), Outcome)
    assert len(joined("impression", outcomes)) == 100
    assert len(shard.ledger.dump()["unlabelled"]) <= 2 * CAPACITY + 20
    told = len(log.records)
    log.add(events.View, user_id="somebody", ad_id="a0", after_s=86_400)
    late = bodies(run(shard, log.records[told:]), Outcome)
    due = [] if kind is events.Click else [f"u{n}" for n in range(100 - CAPACITY, 100)]
    assert joined("no_click", late) == due
