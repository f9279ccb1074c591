"""Metrics: what a flow says when Prometheus asks, as Prometheus reads it."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.outcomes import outcome
from support.processes import free_port
from support.shards import TOPIC, Bench, LogBuilder, run

from flows.metrics import BOUNDS_S, LagMetrics, LearnMetrics, RunMetrics, serve_metrics
from flows.settings import load_settings
from models.decide.shard import Place, ShardBounds
from models.domain import events
from models.domain.errors import BadRecord, SettingError
from models.domain.log import Emission, LogRecord, Rejected
from models.domain.policy import Policy
from models.learning.learner import Learner
from models.policy.pacing import Pacer


def asked(collector) -> dict[tuple[str, ...], float]:
    """Return each sample as (name, values of its labels by their names): value."""
    registry = CollectorRegistry()
    registry.register(collector)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


@pytest.fixture
def ran():
    """Metrics of a shard with room for two users that three have asked, each decided 30 ms later."""
    log, bench = LogBuilder(), Bench(bounds=ShardBounds(users=2, decisions=2))
    log.ads(2)
    for user in ("u", "v", "w"):
        log.request(user, after_s=0.0)
    log.add(events.Impression, user_id="w", ad_id="a0", decision_id="none", after_s=0.0)
    metrics = RunMetrics(clock_ms=lambda: log.now + 30)
    shard = metrics.following(lambda place: bench.shard(place.partition))(Place(TOPIC, 0, 0))
    refused = Rejected(LogRecord(TOPIC, 0, 9, 0, None, b"{"), BadRecord("bad_json", "no"), "decode")
    metrics.note([*run(shard, log.records), Emission(0, 9, refused)])
    return metrics


def test_decisions_are_counted_by_trigger_and_rung_and_dead_letters_by_reason(ran):
    found = asked(ran)
    assert found["impulse_decisions_total", "popularity", "request"] == 3
    assert found["impulse_dead_letters_total", "bad_json"] == 1


def test_the_latency_is_a_histogram_from_the_records_time_to_the_decision(ran):
    found = asked(ran)
    buckets = [found["impulse_decision_seconds_bucket", str(bound)] for bound in BOUNDS_S]
    assert buckets == [3.0 if bound >= 0.03 else 0.0 for bound in BOUNDS_S]
    assert found["impulse_decision_seconds_bucket", "+Inf"] == found[("impulse_decision_seconds_count",)] == 3
    assert found[("impulse_decision_seconds_sum",)] == pytest.approx(0.09)


def test_shards_say_what_they_took_in_and_what_they_had_to_forget(ran):
    found = asked(ran)
    assert (found["impulse_events_total", "request"], found["impulse_events_total", "impression"]) == (3, 1)
    assert found["impulse_feedback_unused_total", "unjoined"] == 1
    assert (found["impulse_held", "users"], found["impulse_forgotten_total", "users"]) == (2, 1)
    assert (found["impulse_held", "decisions"], found["impulse_forgotten_total", "decisions"]) == (2, 1)
    assert found["impulse_view_version", "adjustments"] == 0


def test_of_several_shards_the_least_version_is_told():
    log, bench, metrics = LogBuilder(), Bench(), RunMetrics()
    for version in (3, 5):
        log.add(events.PolicyChange, policy=Policy(version=version))
        log.add(events.Adjustments, version=version)
        log.add(events.Pacing, version=version)
    new_shard = metrics.following(lambda place: bench.shard(place.partition))
    for partition, records in enumerate((log.records, log.records[:3])):
        run(new_shard(Place(TOPIC, partition, 0)), records)
    found = asked(metrics)
    assert {found["impulse_view_version", of] for of in ("policy", "adjustments", "pacing")} == {3}


def test_before_the_first_record_there_is_nothing_but_zeros():
    assert set(asked(RunMetrics()).values()) == {0.0}
    assert asked(LearnMetrics()) == {}


def test_the_learner_says_what_it_learned_refused_and_told():
    learner, pacer, metrics = Learner(), Pacer(), LearnMetrics()
    learner.learn([outcome("impression"), outcome("click"), outcome("impression", slot=999)])
    metrics.follow(learner, pacer)
    found = asked(metrics)
    assert (found["impulse_outcomes_total", "impression"], found["impulse_outcomes_total", "click"]) == (1, 1)
    assert found["impulse_outcomes_refused_total", "bad_slot"] == 1
    assert found["impulse_told_version", "adjustments"] == learner.version
    assert found[("impulse_roll_backs_total",)] == 0 and "impulse_guard_ctr" in {name for name, *_ in found}


def test_the_lag_is_told_by_input_and_partition():
    found = asked(LagMetrics({"events": lambda: {0: 5, 3: 0}, "outcomes": dict}))
    assert found == {("impulse_lag_records", "events", "0"): 5, ("impulse_lag_records", "events", "3"): 0}


def test_metrics_are_served_where_the_settings_name_a_port():
    port = free_port()
    serve_metrics(load_settings(metrics_port=port), [LagMetrics({"events": lambda: {0: 5}})])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        assert b'impulse_lag_records{input="events",partition="0"} 5.0' in page.read()


def test_a_port_that_is_taken_stops_the_start():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=r"a free port.*IMPULSE_METRICS_PORT"):
            serve_metrics(load_settings(metrics_port=port), [])


def test_without_a_port_nothing_is_served():
    assert load_settings().metrics_port is None
    serve_metrics(load_settings(), [LagMetrics({"events": lambda: pytest.fail("asked")})])
