"""The main flow gives the same outputs whatever the batches, the workers, and the times it was stopped."""

from __future__ import annotations

import json
from itertools import groupby

import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from support.flow_runs import MemoryLog, MemorySink, run_flow

from flows.personalize import personalize
from models.domain.log import Output


@pytest.fixture(params=["popularity", "transformer"])
def chosen_model(request):
    return None if request.param == "popularity" else request.getfixturevalue("model")


def outputs_of(records, service, workers=1, batch=512) -> MemorySink:
    sink = MemorySink()
    run_flow(personalize(MemoryLog(records, batch), sink, service), workers)
    return sink


def test_every_request_gets_one_decision_and_no_record_is_lost(world_log, service):
    sink = outputs_of(world_log, service())
    kinds = [json.loads(record.value) for record in world_log]
    requests = {kind["id"] for kind in kinds if kind["type"] == "request"}
    decided = [json.loads(output.value)["request_id"] for output in sink.stream("decisions")]
    assert len(requests) > 500
    assert sorted(decided) == sorted(requests)
    assert sink.stream("dead_letters") == []
    assert len(sink.stream("outcomes")) > 20


def test_one_worker_or_two_and_batches_of_any_size_give_each_partition_the_same_outputs(
    world_log, service, chosen_model
):
    expected = outputs_of(world_log, service(model=chosen_model)).by_partition()
    assert len(expected) == 4
    for workers, batch in ((1, 3), (2, 8), (2, 64), (2, 512)):
        assert outputs_of(world_log, service(model=chosen_model), workers, batch).by_partition() == expected


def test_the_outputs_of_a_shard_leave_in_the_order_of_the_log(world_log, service):
    sink = outputs_of(world_log, service(bounds={"slices": 1}), batch=64)
    for _, outputs in groupby(sorted(sink.outputs, key=partition), partition):
        offsets = [output.source_offset for output in outputs]
        assert offsets == sorted(offsets)


def partition(output: Output) -> int:
    return output.source_partition


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2, 1), (2, 1, 2)])
def test_stopped_and_resumed_on_any_number_of_workers_it_goes_on_as_if_nothing_had_happened(
    world_log, service, model, tmp_path, sizes
):
    expected = outputs_of(world_log, service(model=model)).by_partition()
    (tmp_path / "recovery").mkdir()
    init_db_dir(tmp_path / "recovery", 1)
    sink = MemorySink()
    for workers, batches in zip(sizes, (3, 3, None), strict=True):
        source = MemoryLog(world_log, 50, batches)  # a new service each time, as a new process has
        flow = personalize(source, sink, service(model=model))
        run_flow(flow, workers, RecoveryConfig(str(tmp_path / "recovery")))
    assert sink.by_partition() == expected
