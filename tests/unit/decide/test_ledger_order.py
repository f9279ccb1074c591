"""Which decision an event without a decision id belongs to does not depend on when impressions came."""

from support.shards import Bench, bodies, run

from models.decide.shard import ShardBounds
from models.domain import events
from models.domain.decision import Outcome


def shown_out_of_order(log):
    """Show one ad twice to a user; the impression of the first decision comes last."""
    log.ads(1)
    first = log.request()
    second = log.request(after_s=100)
    for decision in (second, first):
        log.add(events.Impression, user_id="u", ad_id="a0", decision_id=decision)
    return second


def test_a_click_without_a_decision_joins_the_latest_decision_that_was_shown(bench, log):
    latest = shown_out_of_order(log)
    log.add(events.Click, user_id="u", ad_id="a0")
    clicks = [o for o in bodies(run(bench.shard(), log.records), Outcome) if o.kind == "click"]
    assert [click.decision_id for click in clicks] == [latest]


def test_it_still_does_after_a_snapshot(bench, log):
    latest = shown_out_of_order(log)
    before, after = bench.shard(), bench.shard()
    run(before, log.records)
    after.load(before.dump())
    told = len(log.records)
    log.add(events.Click, user_id="u", ad_id="a0")
    (click,) = bodies(run(after, log.records[told:]), Outcome)
    assert click.decision_id == latest


def test_a_later_decision_that_made_room_leaves_the_ad_to_the_earlier_one_before_and_after_a_snapshot(log):
    bench = Bench(bounds=ShardBounds(users=100, decisions=4))
    log.ads(1)
    clicked, seen = log.request(), log.request(after_s=100)
    log.add(events.Click, user_id="u", ad_id="a0", decision_id=clicked)
    log.add(events.Impression, user_id="u", ad_id="a0", decision_id=seen)
    for n in range(6):
        log.request(user_id=f"other-{n}")
    live, restored = bench.shard(), bench.shard()
    run(live, log.records)
    restored.load(live.dump())
    told = len(log.records)
    for kind in (events.Conversion, events.Dwell):
        log.add(kind, user_id="u", ad_id="a0", **({"dwell_ms": 1} if kind is events.Dwell else {}))
    for shard in (live, restored):
        outcomes = bodies(run(shard, log.records[told:]), Outcome)
        assert [(o.kind, o.decision_id) for o in outcomes] == [("conversion", clicked), ("dwell", clicked)]
