"""A policy with placements, as JSON on the log: through the flow, and asked by why-not."""

from __future__ import annotations

import json

import pytest
from support.flow_runs import MemoryLog, MemorySink, reason, run_flow
from support.raw_log import RawLog
from typer.testing import CliRunner

from connectors.log_files import write_log
from flows.cli import app
from flows.personalize import personalize

GREEDY = {"thompson_nu": 0.0, "randomized_share": 0.0}


def market(placements: list[dict], **policy) -> RawLog:
    log = RawLog()
    log.event("policy", policy={"exploration": GREEDY, "slots": 5, "placements": placements, **policy})
    bids = [{"ad_id": f"a{n}", "campaign_id": f"c{n}", "bid_micros": 1000 + n} for n in range(4)]
    log.event("ad_upsert", ads=[bid | {"bid_type": "cpm"} for bid in bids])
    return log


def outputs(log: RawLog, service, batch: int = 512) -> MemorySink:
    sink = MemorySink()
    run_flow(personalize(MemoryLog(log.records, batch), sink, service()))
    return sink


def test_each_request_gets_the_slots_and_the_least_price_of_its_placement(service):
    log = market([{"placement_id": "side", "slots": 1, "floor_micros": 1003}, {"placement_id": "top"}])
    for user, placement in (("u", "side"), ("v", "top"), ("w", "elsewhere")):
        log.request(user, placement_id=placement)
    made = [json.loads(output.value) for output in outputs(log, service).stream("decisions")]
    side, top, elsewhere = sorted(made, key=lambda decision: decision["user_id"])
    assert [(slot["ad_id"], slot["price_micros"]) for slot in side["ads"]] == [("a3", 1003)]
    assert side["filtered"] == {"placement_floor": 3}
    assert [slot["price_micros"] for slot in top["ads"]] == [1002, 1001, 1000, 0]
    assert top["ads"] == elsewhere["ads"]


def test_batches_of_any_size_give_the_same_bytes(service):
    log = market([{"placement_id": "side", "slots": 2, "floor_micros": 1002}], new_ad_share=0.5)
    for n in range(40):
        log.request(f"u{n}", placement_id="side" if n % 3 else "top")
        if n == 20:
            log.now += 600_000
            log.event("ad_upsert", ads=[{"ad_id": "new", "campaign_id": "n", "bid_micros": 900_000}])
    whole = outputs(log, service).by_partition()
    assert all(outputs(log, service, batch).by_partition() == whole for batch in (1, 7))


@pytest.mark.parametrize(
    ("placement", "why"),
    [
        ({"placement_id": "side", "floor_micros": -1}, "bad_value"),
        ({"placement_id": "side", "slots": 0}, "bad_value"),
        ({"placement_id": ""}, "bad_value"),
        ({"placement_id": "side", "floor_micros": 10**16}, "bad_policy"),
    ],
)
def test_a_policy_with_a_placement_that_cannot_be_is_a_dead_letter(service, placement, why):
    log = market([placement])
    log.request()
    sink = outputs(log, service)
    assert [reason(letter) for letter in sink.stream("dead_letters")] == [why]
    assert len(sink.stream("decisions")) == 1


def test_why_not_names_the_floor_of_the_placement(tmp_path):
    log = market([{"placement_id": "side", "floor_micros": 1002}])
    log.request(placement_id="side")
    write_log(tmp_path / "log.jsonl", log.records)
    words = ["why-not", "a1", "--log", str(tmp_path / "log.jsonl"), "--decision", "ads.events.v1-0-2"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert (
        "placement_floor: worth 1001 micros per thousand impressions, the floor of placement 'side' is 1002"
        in (" ".join(done.stdout.split()))
    )
