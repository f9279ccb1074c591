"""What comes again teaches, charges and offers nothing: outcomes written after a crash, records of ads."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.outcomes import MINUTE, outcome
from support.raw_log import RawLog

from connectors.codec import EventCodec
from flows.learn import DEFAULT_OPTIONS, LearnLogic
from flows.offers import Offered, OffersOnly, no_artifacts, unpublished
from models.domain.decision import Outcome, Parts
from models.domain.log import Output
from models.state.repeats import Repeats


def story(n: int = 120) -> list[Outcome]:
    """Impressions with their clicks or no-clicks, of few decisions with several slots."""
    rng, told = np.random.default_rng(3), []
    for i in range(n):
        about = {"decision_id": f"ads.events.v1-0-{i // 2}", "slot": i % 2, "ad_id": f"a{i % 3}"}
        about["parts"] = Parts(base=float(rng.normal(-2, 1)))
        told.append(outcome("impression", i, event_id=f"i{i}", charge_micros=100, **about))
        kind = "click" if rng.random() < 0.4 else "no_click"
        event_id = f"c{i}" if kind == "click" else ""
        told.append(outcome(kind, i + 0.5, event_id=event_id, charge_micros=9000, **about))
    return told


STORY = story()


def fresh(state: dict[str, bytes] | None = None) -> LearnLogic:
    """Started after the story; what a pacer says at its start is said by batches."""
    return LearnLogic(state, (0,), DEFAULT_OPTIONS, MINUTE + 3_600_000)


def said(logic: LearnLogic, told: list[Outcome]) -> list[Output]:
    return [output for outputs in logic.on_batch(told)[0] for output in outputs]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 239), st.integers(0, 239), st.integers(1, 50))
def test_what_comes_again_after_a_crash_changes_nothing(crash, back, batch):
    told = [*STORY[:crash], *STORY[max(crash - back, 0) : crash], *STORY[crash:]]
    once, twice = fresh(), fresh()
    expected = said(once, STORY)
    got = [output for n in range(0, len(told), batch) for output in said(twice, told[n : n + batch])]
    assert [output.value for output in got] == [output.value for output in expected]
    assert twice.snapshot() == once.snapshot()


def test_the_slots_and_kinds_of_one_decision_are_different_outcomes():
    repeats = Repeats()
    assert all(repeats.first_time(each) for each in STORY)
    assert not any(repeats.first_time(each) for each in STORY)


def test_memory_is_bounded_and_the_oldest_is_forgotten_first():
    repeats = Repeats(capacity=10)
    for each in STORY:
        repeats.first_time(each)
    assert len(repeats) == 10
    assert not repeats.first_time(STORY[-10]) and repeats.first_time(STORY[0])


def test_a_snapshot_takes_eight_bytes_per_outcome():
    repeats, again = Repeats(), Repeats()
    for each in STORY:
        repeats.first_time(each)
    again.load(repeats.dump())
    assert len(repeats.dump()) == 8 * len(STORY)
    assert again.dump() == repeats.dump() and not again.first_time(STORY[5])


MILLION = 1_000_000


def offered(log: RawLog) -> list[Offered]:
    return OffersOnly(EventCodec(), no_artifacts, unpublished)(log.records)


def budgets(log: RawLog, record_id: str, daily: int, **fields: object) -> None:
    ad = {"ad_id": "a", "campaign_id": "c", "daily_budget_micros": daily, **fields}
    log.event("ad_upsert", id=record_id, ads=[ad])


def test_a_record_of_ads_that_comes_again_moves_no_budget_also_across_a_restart():
    """The shards pass it over by its id: the budget in force is that of the second record."""
    log = RawLog()
    for record_id, daily in (("e1", 10), ("e2", 20), ("e1", 10)):
        budgets(log, record_id, daily * MILLION)
    first, second, again = offered(log)
    logic = fresh()
    logic.on_batch([first, second])
    restarted = fresh(logic.snapshot())
    for each in (logic, restarted):
        each.on_batch([again])
        assert each.pacer.account("c").daily == 20 * MILLION


def test_the_id_of_a_record_that_was_refused_is_taken_too():
    log = RawLog()
    budgets(log, "e1", 10 * MILLION)
    budgets(log, "e2", 1, bid_micros=MILLION)
    budgets(log, "e2", 20 * MILLION)
    logic = fresh()
    logic.on_batch(offered(log))
    assert logic.pacer.account("c").daily == 10 * MILLION


def test_a_withdrawn_ad_holds_its_campaign_open_no_longer():
    log = RawLog()
    for ad_id, days in (("a", 10), ("b", 2)):
        fields = {"lifetime_budget_micros": 100 * MILLION, "end_time": days * 86_400_000}
        log.event("ad_upsert", ads=[{"ad_id": ad_id, "campaign_id": "c", **fields}])
    log.event("ad_withdraw", ad_ids=["a"])
    logic = fresh()
    logic.on_batch(offered(log))
    assert logic.pacer.account("c").day_budget == 50 * MILLION
