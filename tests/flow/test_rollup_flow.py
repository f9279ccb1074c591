"""Campaign minutes are a function of the log: neither pace, batch, workers nor restarts change them."""

from __future__ import annotations

import random
import time

import msgspec
import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from support.flow_runs import MemoryLog, MemorySink, last_values, reason, run_flow
from support.outcomes import MINUTE, OutcomeLog, outcome

from connectors.codec import encode
from flows.log_clock import Told
from flows.minutes import MINUTES_KEPT, CampaignMinute, MarkLogic
from flows.rollup import decode_told, rollup


@pytest.fixture
def log() -> OutcomeLog:
    return OutcomeLog()


def outputs_of(records, batch=512, workers=1, lateness_s=60) -> MemorySink:
    sink = MemorySink()
    run_flow(rollup(MemoryLog(records, batch), sink, lateness_s), workers)
    return sink


def rows(sink: MemorySink) -> list[CampaignMinute]:
    return [msgspec.json.decode(o.value, type=CampaignMinute) for o in sink.stream("rollups")]


def final(sink: MemorySink) -> dict:
    return last_values(sink.stream("rollups"))


def test_a_minute_counts_what_happened_in_it(log):
    log.add("impression", 1, charge_micros=700)
    log.add("impression", 2, charge_micros=300)
    log.add("no_click", 3)
    log.add("click", 4, charge_micros=5000)
    log.add("conversion", 5, value_micros=9_000_000)
    log.add("impression", 180)
    (row,) = rows(outputs_of(log.records))
    assert row == CampaignMinute(
        campaign_id="c",
        minute=MINUTE,
        impressions=2,
        clicks=1,
        conversions=1,
        charge_micros=6000,
        value_micros=9_000_000,
        revision=1,
    )


def test_a_row_is_keyed_by_campaign_and_minute(log):
    log.add(at_s=59, campaign_id="summer")
    log.add(at_s=200)
    (output,) = outputs_of(log.records).stream("rollups")
    assert output.key == b"summer|%d" % MINUTE


def test_a_minute_closes_once_the_log_is_the_lateness_past_its_end(log):
    log.add(at_s=1)
    log.add("no_click", 119.9)
    assert rows(outputs_of(log.records)) == []
    log.add("no_click", 120)
    assert [row.impressions for row in rows(outputs_of(log.records))] == [1]


def test_a_silent_campaign_is_closed_by_the_outcomes_of_others(log):
    log.add(at_s=1, campaign_id="silent")
    log.add(at_s=500, campaign_id="loud")
    assert [row.campaign_id for row in rows(outputs_of(log.records, batch=1))] == ["silent"]


def test_a_straggler_within_the_lateness_counts_without_a_correction(log):
    log.add(at_s=1)
    log.add(at_s=100)
    log.add("click", 2, written_s=100)
    log.add("no_click", 200)
    (first, *_) = rows(outputs_of(log.records))
    assert (first.impressions, first.clicks, first.revision) == (1, 1, 1)


def test_a_late_outcome_corrects_its_row(log):
    log.add(at_s=1)
    log.add(at_s=300)
    log.add("click", 2, written_s=300, charge_micros=40)
    found = rows(outputs_of(log.records, batch=1))
    assert [(r.minute, r.impressions, r.clicks, r.charge_micros, r.revision) for r in found] == [
        (MINUTE, 1, 0, 0, 1),
        (MINUTE, 1, 1, 40, 2),
    ]


def test_a_minute_that_was_closed_and_forgotten_does_not_start_again_from_nothing(log):
    log.add(at_s=1, campaign_id="c")
    log.add(at_s=900, campaign_id="other")  # Bytewax forgets c's state here
    for second in range(3):
        log.add("click", second, written_s=900, campaign_id="c")
    last = [row for row in rows(outputs_of(log.records, batch=1)) if row.campaign_id == "c"][-1]
    assert (last.impressions, last.clicks, last.revision) == (1, 3, 4)


def test_an_outcome_written_twice_counts_once(log):
    log.add(at_s=1, event_id="same")
    log.add(at_s=1, event_id="same")
    log.add("no_click", 300)
    assert [row.impressions for row in rows(outputs_of(log.records))] == [1]


def test_a_campaign_that_is_in_two_partitions_has_one_row_with_both(log):
    for partition in (0, 1):
        log.add(at_s=1, partition=partition)
        log.add("no_click", 300, partition=partition)
    assert max(row.impressions for row in rows(outputs_of(log.records))) == 2
    assert len(final(outputs_of(log.records))) == 1


def test_what_comes_after_a_day_and_an_hour_is_a_dead_letter_and_no_row(log):
    log.add(at_s=0)
    log.add(at_s=(MINUTES_KEPT + 5) * 60)
    log.add(at_s=(MINUTES_KEPT + 10) * 60)
    log.add("click", 5, written_s=(MINUTES_KEPT + 10) * 60)
    sink = outputs_of(log.records, batch=1)
    (letter,) = sink.stream("dead_letters")
    assert reason(letter) == "late"
    assert letter.value == log.records[-1].value
    assert all(row.clicks == 0 for row in rows(sink))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"{", "bad_outcome"),
        (b"", "bad_outcome"),
        (encode(outcome(at_s=10**8)), "future"),
        (encode(outcome(event_time=10**15)), "future"),
        (encode(outcome(event_time=10**20)), "bad_outcome"),
        (encode(outcome(event_time=-1)), "bad_value"),
    ],
)
def test_an_outcome_that_cannot_be_is_a_dead_letter_and_the_flow_goes_on(log, value, why):
    log.add(at_s=1)
    log.raw(value)
    log.add(at_s=300)
    sink = outputs_of(log.records)
    assert [reason(letter) for letter in sink.stream("dead_letters")] == [why]
    assert [row.impressions for row in rows(sink)] == [1]


def test_a_year_that_no_clock_shows_is_a_dead_letter_even_where_its_record_agrees(log):
    year_9999_s = 253_402_300_799 - MINUTE // 1000
    log.add(at_s=1)
    log.add(at_s=year_9999_s)
    log.add(at_s=300)
    sink = outputs_of(log.records)
    assert [reason(letter) for letter in sink.stream("dead_letters")] == ["future"]
    assert [row.impressions for row in rows(sink)] == [1]


def random_log(seed: int, outcomes: int = 400) -> OutcomeLog:
    """Outcomes of five campaigns in three partitions, out of order by up to five minutes."""
    rng, log, now = random.Random(seed), OutcomeLog(), 0.0
    for _ in range(outcomes):
        now += rng.expovariate(0.5)
        log.add(
            rng.choice(("impression", "impression", "click", "conversion", "no_click")),
            max(now - rng.choice((0, 0, 0, 30, 300)), 0),
            rng.randrange(3),
            written_s=now,
            campaign_id=f"c{rng.randrange(5)}",
            charge_micros=rng.randrange(1000),
        )
    return log


def counted_at_once(log: OutcomeLog) -> dict[tuple[str, int], list[int]]:
    """Return the sums of every minute by a plain loop over all records, in no order."""
    sums: dict[tuple[str, int], list[int]] = {}
    for _, told in decode_told(log.records):
        assert isinstance(told, Told)
        o = told.outcome
        if o.kind != "no_click":
            minute = sums.setdefault((o.campaign_id, o.event_time // 60_000 * 60_000), [0, 0, 0, 0])
            minute[("impression", "click", "conversion").index(o.kind)] += 1
            minute[3] += o.charge_micros
    return sums


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 7, 64, 1000]), st.sampled_from([1, 2]))
def test_live_in_small_batches_and_fast_replay_end_with_the_same_rows(seed, batch, workers):
    log = random_log(seed)
    assert final(outputs_of(log.records, batch, workers)) == final(outputs_of(log.records, 10**6))


def test_every_closed_minute_holds_exactly_what_a_plain_loop_counts():
    log = random_log(1)
    for partition in range(3):
        log.add("no_click", 10**5, partition)  # closes everything
    values = final(outputs_of(log.records, 16)).values()
    found = {
        (row.campaign_id, row.minute): [row.impressions, row.clicks, row.conversions, row.charge_micros]
        for row in (msgspec.json.decode(value, type=CampaignMinute) for value in values)
    }
    assert found == counted_at_once(log)


def test_stopped_and_resumed_on_another_number_of_workers_it_ends_with_the_same_rows(tmp_path):
    log = random_log(2)
    init_db_dir(tmp_path, 1)
    sink = MemorySink()
    for workers, batches in ((1, 4), (2, 4), (1, None)):
        source = MemoryLog(log.records, 16, batches)
        run_flow(rollup(source, sink), workers, RecoveryConfig(str(tmp_path)))
    assert final(sink) == final(outputs_of(log.records))


def test_the_marks_of_a_partition_do_not_depend_on_its_batches():
    told = [item for _, item in decode_told(random_log(3).records)]
    one, many = MarkLogic(None, 60_000), MarkLogic(None, 60_000)
    assert one.on_batch(told)[0] == [mark for item in told for mark in many.on_batch([item])[0]]


def test_an_outcome_costs_as_much_beside_many_open_campaigns_as_beside_a_few():
    """No bound on seconds: looking at every open campaign for each outcome makes the ratio 50."""

    def cost(campaigns: int) -> float:
        log, more = OutcomeLog(), OutcomeLog()
        for n in range(campaigns):
            log.raw(encode(outcome(at_s=1, event_id=f"o{n}", campaign_id=f"c{n}")))
        for n in range(500):
            more.raw(encode(outcome(at_s=2, event_id=f"m{n}", campaign_id="c0")))
        marks = MarkLogic(None, 60_000)
        marks.on_batch([told for _, told in decode_told(log.records)])
        told = [told for _, told in decode_told(more.records)]
        began = time.process_time()
        marks.on_batch(told)
        return time.process_time() - began

    assert cost(4000) < 10 * min(cost(20) for _ in range(5))
