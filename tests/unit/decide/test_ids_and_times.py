"""What one record's id and time may not do to another: hide it, or turn back what came before."""

from support.shards import bodies, run

from models.decide.examples import ExampleCollector
from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.domain.policy import Policy, Triggers


def test_a_users_event_with_the_id_of_a_control_record_hides_it_not(bench, log):
    log.add(events.View, user_id="u", ad_id="x", id="pacing-7")
    log.add(events.Pacing, id="pacing-7", version=7, exhausted=("c",))
    log.add(events.View, user_id="u", ad_id="y", id="pacing-7")
    log.add(events.Pacing, id="pacing-7", version=8)
    shard = bench.shard()
    run(shard, log.records)
    assert shard.view.pacing.version == 7
    assert shard.counts["duplicate"] == 2, "of each kind, what comes again counts once"


def test_training_too_takes_a_control_record_whose_id_a_user_sent_before(log):
    log.add(events.View, user_id="u", ad_id="a", id="ads-1")
    log.add(events.AdUpsert, id="ads-1", ads=(Ad(ad_id="a", campaign_id="c", category="shoes"),))
    log.add(events.View, user_id="u", ad_id="a")
    collector = ExampleCollector()
    collector.take(log.records)
    assert len(collector.examples().ads.key) == 1


def test_a_snapshot_keeps_the_ids_of_control_records(bench, log):
    log.add(events.Pacing, id="pacing-7", version=7)
    shard, resumed = bench.shard(), bench.shard()
    run(shard, log.records)
    resumed.load(shard.dump())
    log.add(events.Pacing, id="pacing-7", version=8)
    run(resumed, log.records[1:])
    assert resumed.view.pacing.version == 7


def test_a_request_out_of_order_does_not_shorten_the_gap_between_decisions(bench, log):
    log.ads()
    log.add(events.PolicyChange, policy=Policy(triggers=Triggers(after_click=True, min_gap_s=60)))
    log.request()
    log.request(event_time=log.now - 120_000)
    log.add(events.Click, user_id="u", ad_id="a0")
    log.add(events.Click, user_id="u", ad_id="a0", after_s=60)
    decisions = bodies(run(bench.shard(), log.records), Decision)
    assert [decision.trigger for decision in decisions] == ["request", "request", "click"]


def test_a_clock_that_runs_ahead_by_less_than_is_refused_makes_nobody_else_late(bench, log):
    log.add(events.PolicyChange, policy=Policy(lateness_s=10, future_s=60))
    log.add(events.View, user_id="fast", ad_id="a", event_time=log.now + 55_000)
    log.add(events.View, user_id="u", ad_id="a")
    shard = bench.shard()
    run(shard, log.records)
    assert shard.counts["view"] == 2 and shard.counts["late"] == 0
    assert shard.watermark.time_ms == log.now
