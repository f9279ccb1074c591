"""What the commands on Kafka make of the settings."""

from __future__ import annotations

import pytest
from bytewax.dataflow import Dataflow
from support.flow_runs import MemoryLog, MemorySink, run_flow

from flows.commands import stream
from flows.commands.stream import specs_of
from flows.personalize import personalize
from flows.settings import Settings, load_settings


def test_topics_get_the_replication_that_the_settings_name():
    assert {spec.replication for spec in specs_of(Settings(topics={"replication": 3}))} == {3}
    assert {spec.replication for spec in specs_of(Settings())} == {-1}, "the cluster's default"


def test_only_the_log_is_stamped_by_the_broker():
    stamped = [s.name for s in specs_of(Settings()) if "message.timestamp.type" in s.settings]
    assert stamped == ["ads.events.v1"]


def test_decisions_leave_the_content_type_to_the_sink_which_says_it_once(world_log, service):
    sink = MemorySink()
    run_flow(personalize(MemoryLog(world_log[:200]), sink, service()))
    assert {output.headers for output in sink.outputs} == {()}


@pytest.mark.parametrize(("recovered", "least_s", "most_s"), [(True, 10, 10), (False, 600, 86_400)])
def test_a_flow_without_a_recovery_store_is_not_stopped_for_snapshots(
    tmp_path, monkeypatch, recovered, least_s, most_s
):
    told = {}
    monkeypatch.setattr("bytewax._bytewax.cli_main", lambda flow, **options: told.update(options))
    chosen = load_settings(recovery=tmp_path / "store" if recovered else None)
    stream.run_flow(Dataflow("empty"), chosen)
    assert (told["recovery_config"] is not None) == recovered
    assert least_s <= told["epoch_interval"].total_seconds() <= most_s
