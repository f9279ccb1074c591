"""The learner hears outcomes and ads, and answers into every partition of the log."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from functools import partial

import numpy as np
import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from support.flow_runs import MemoryLog, MemorySink, reason, run_flow
from support.outcomes import MINUTE, OutcomeLog
from support.raw_log import RawLog
from support.shards import Bench, LogBuilder, bodies
from support.shards import run as run_shard

from connectors.codec import EventCodec
from flows.learn import LearnOptions, learn
from flows.offers import published_slots
from models.domain.catalogue import Ad
from models.domain.decision import Decision, Parts
from models.domain.errors import ArtifactError
from models.domain.events import Adjustments, Notice, Pacing
from models.domain.log import LogRecord
from models.policy.pacing_settings import PacingSettings
from models.scorer.slots import SlotCounts

PARTITIONS = (0, 1, 2)


@pytest.fixture
def told() -> OutcomeLog:
    """Return a quarter of an hour in which ad `good` is clicked and ad `bad` is not."""
    log = OutcomeLog()
    for n in range(300):
        ad = ("good", "bad")[n % 2]
        shared = {"ad_id": ad, "campaign_id": f"c-{ad}", "decision_id": f"ads.events.v1-0-{n}"}
        log.add("impression", 3 * n, **shared, charge_micros=1000)
        log.add("click" if ad == "good" else "no_click", 3 * n + 1, **shared)
    return log


@pytest.fixture
def ads() -> RawLog:
    log = RawLog()
    fields = {"campaign_id": "c-bad", "daily_budget_micros": 50_000, "bid_micros": 10_000}
    log.event("ad_upsert", ads=[{"ad_id": "bad", **fields}], event_time=MINUTE)
    return log


def run(
    told: list[LogRecord], ads: RawLog, engine: str = "impulse", batch: int = 64, looked: RawLog | None = None
) -> MemorySink:
    sink = MemorySink()
    run_flow(learn(MemoryLog(told, batch), *others(ads, looked), sink, PARTITIONS, LearnOptions(engine)))
    return sink


def others(ads: RawLog, looked: RawLog | None = None) -> tuple[MemoryLog, MemoryLog]:
    """Return what the learner reads beside outcomes: interests and ads."""
    return MemoryLog(looked.records if looked is not None else []), MemoryLog(ads.records)


def control(sink: MemorySink, partition: int = 0) -> list:
    """Return the control records that a partition got, decoded as the main flow would."""
    codec = EventCodec()
    own = [output for output in sink.stream("control") if output.partition == partition]
    return [
        codec.decode(LogRecord("ads.events.v1", partition, n, 0, o.key, o.value)) for n, o in enumerate(own)
    ]


def merged(sink: MemorySink) -> dict[str, tuple[float, float]]:
    return {ad: w for c in control(sink) if isinstance(c, Adjustments) for ad, w in c.ads.items()}


@pytest.mark.parametrize("engine", ["impulse", "river_lr", "river_adpredictor"])
def test_clicked_ads_rise_and_others_fall(told, ads, engine):
    weights = merged(run(told.records, ads, engine))
    assert weights["good"][0] > 0 > weights["bad"][0]


@pytest.fixture
def turned(told) -> RawLog:
    """Return what is said of a segment which, before the last minute of `told`, turns from shoes to hats."""
    log, start = RawLog(), json.loads(told.records[0].value)["event_time"]
    for s in range(900):
        views = {"|shoes": 9, "|hats": 1} if s < 840 else {"|shoes": 1, "|hats": 9}
        log.raw(json.dumps({"shard": "0", "event_time": start + 1000 * s, "views": views}).encode())
    return log


def test_a_category_that_a_segment_turns_to_rises_though_it_was_never_shown(told, ads, turned):
    said = [c for c in control(run(told.records, ads, looked=turned)) if isinstance(c, Adjustments)]
    cells = {cell: w for c in said for cell, w in c.segment_categories.items()}
    assert cells["|hats"][0] > 0.1 > -0.1 > cells["|shoes"][0]


@pytest.mark.parametrize("bad", [b"", b"{", b'{"shard":"0","event_time":1,"views":{"a|b":-1}}', b"\xff"])
def test_a_record_that_is_no_interest_becomes_a_dead_letter_and_learning_goes_on(told, ads, turned, bad):
    turned.raw(bad)
    sink = run(told.records, ads, looked=turned)
    (letter,) = sink.stream("dead_letters")
    assert reason(letter) == "bad_interest"
    assert merged(sink)["good"][0] > 0


def test_every_partition_gets_the_same_records_in_the_same_order(told, ads):
    sink = run(told.records, ads)
    assert control(sink, 0)
    assert control(sink, 0) == control(sink, 1) == control(sink, 2)
    assert Counter(output.partition for output in sink.outputs).keys() == set(PARTITIONS)


def test_versions_rise_with_every_record(told, ads):
    for kind in (Adjustments, Pacing):
        versions = [record.version for record in control(run(told.records, ads)) if isinstance(record, kind)]
        assert versions == sorted(set(versions))


def test_a_campaign_that_spends_too_fast_is_slowed_or_stopped(told, ads):
    paces = [record for record in control(run(told.records, ads)) if isinstance(record, Pacing)]
    assert any("c-bad" in p.exhausted or p.multipliers.get("c-bad", 0) > 0 for p in paces)
    assert not any("c-good" in p.exhausted for p in paces)


def test_an_outcome_that_cannot_be_read_is_a_dead_letter_and_learning_goes_on(told, ads):
    told.raw(b'{"kind":"click"}')
    told.raw(b"\xff")
    sink = run([*told.records[-2:], *told.records[:-2]], ads)
    assert [reason(letter) for letter in sink.stream("dead_letters")] == ["bad_outcome", "bad_outcome"]
    assert merged(sink)["good"][0] > 0


def test_events_of_users_and_broken_ones_on_the_log_are_passed_over(told, ads):
    ads.raw(b"{")
    ads.request()
    ads.raw(b'{"type":"ad_upsert"')
    assert merged(run(told.records, ads))["good"][0] > 0


def test_an_ad_that_would_never_end_is_left_out_and_snapshots_go_on(told, ads, tmp_path):
    ads.event("ad_upsert", ads=[{"ad_id": "endless", "campaign_id": "c-good", "end_time": 10**20}])
    init_db_dir(tmp_path, 1)
    sink = MemorySink()
    flow = learn(MemoryLog(told.records, 64), MemoryLog([]), MemoryLog(ads.records), sink, PARTITIONS)
    run_flow(flow, 1, RecoveryConfig(str(tmp_path)))
    assert merged(sink)["good"][0] > 0


def test_stopped_and_resumed_it_goes_on_from_what_it_knew(told, ads, tmp_path):
    init_db_dir(tmp_path, 1)
    sink = MemorySink()
    for batches in (5, None):
        flow = learn(
            MemoryLog(told.records, 64, batches), MemoryLog([]), MemoryLog(ads.records), sink, PARTITIONS
        )
        run_flow(flow, 1, RecoveryConfig(str(tmp_path)))
    weights, whole = merged(sink), merged(run(told.records, ads))
    assert weights["good"] == pytest.approx(whole["good"], abs=0.05)
    versions = [record.version for record in control(sink) if isinstance(record, Adjustments)]
    assert versions == sorted(set(versions))
    assert json.loads(sink.stream("control")[0].value)["type"] in ("adjustments", "pacing")


def test_an_outcome_that_charges_less_than_nothing_is_a_dead_letter(told, ads):
    told.add("impression", 901, ad_id="bad", campaign_id="c-bad", charge_micros=-1)
    (letter,) = run(told.records, ads).stream("dead_letters")
    assert reason(letter) == "bad_outcome"


def test_outcomes_written_again_after_a_crash_count_once_also_across_a_resume(told, ads, tmp_path):
    """The writer is killed at 400 records and repeats 128 of them; the learner is stopped in the midst."""
    whole = merged(run(told.records, ads))
    repeated = [*told.records[:400], *told.records[272:400], *told.records[400:]]
    init_db_dir(tmp_path, 1)
    sink = MemorySink()
    for batches in (7, None):
        flow = learn(
            MemoryLog(repeated, 64, batches), MemoryLog([]), MemoryLog(ads.records), sink, PARTITIONS
        )
        run_flow(flow, 1, RecoveryConfig(str(tmp_path)))
    for ad, (mean, variance) in merged(sink).items():  # a learner that resumes says all once more
        assert whole[ad] == (pytest.approx(mean, abs=0.01), pytest.approx(variance, rel=0.1))
    assert merged(run(repeated, ads)) == whole


AT_ONCE = PacingSettings(first_mu=0.0)


def pacing_of(
    told: OutcomeLog, ads: RawLog, pacing: PacingSettings = AT_ONCE, **catalogues: tuple[Ad, ...]
) -> list[Pacing]:
    def ads_of(artifact: str) -> tuple[Ad, ...]:
        if artifact not in catalogues:
            raise ArtifactError(f"no {artifact}")
        return catalogues[artifact]

    sink = MemorySink()
    options = LearnOptions(pacing=pacing, ads_of=ads_of)
    run_flow(learn(MemoryLog(told.records, 64), *others(ads), sink, PARTITIONS, options))
    return [record for record in control(sink) if isinstance(record, Pacing)]


def said(paces: list[Pacing]) -> list[tuple]:
    """Return what records say, but for their versions, which begin at the time of the start."""
    return [(pace.event_time, pace.multipliers, pace.exhausted) for pace in paces]


def ad_of(campaign_id: str, daily: int | None, **fields: object) -> Ad:
    return Ad(**{"ad_id": campaign_id, "campaign_id": campaign_id, "daily_budget_micros": daily, **fields})


def test_budgets_follow_a_catalogue_that_comes_as_an_artifact(told):
    log = RawLog()
    log.event("catalogue", artifact="first", event_time=MINUTE)
    paces = pacing_of(told, log, first=(ad_of("c-bad", 2_000_000),))
    assert any(pace.multipliers.get("c-bad", 0) > 0 for pace in paces)
    assert not any("c-good" in pace.multipliers for pace in paces)


@pytest.mark.parametrize("first_mu", [0.0, 3.0])
def test_a_campaign_starts_at_the_part_of_its_bid_that_the_settings_say(told, first_mu):
    log = RawLog()
    log.event("catalogue", artifact="first", event_time=MINUTE)
    paces = pacing_of(told, log, PacingSettings(first_mu=first_mu), first=(ad_of("c-bad", 10**12),))
    assert any(0.0 < pace.multipliers["c-bad"] <= first_mu for pace in paces) == (first_mu > 0.0)


def test_a_catalogue_that_cannot_be_opened_or_holds_a_bad_ad_leaves_budgets_as_they_are(told, ads):
    as_it_was = pacing_of(told, ads)
    ads.event("catalogue", artifact="missing", event_time=MINUTE)
    ads.event("catalogue", artifact="broken", event_time=MINUTE)
    broken = (ad_of("c-bad", None), ad_of("x", 1, bid_micros=5))
    assert said(pacing_of(told, ads, broken=broken)) == said(as_it_was)


def test_ads_that_personalizing_refuses_move_no_budget(told, ads):
    as_it_was = pacing_of(told, ads)
    absurd = {"ad_id": "x", "campaign_id": "c-bad", "daily_budget_micros": 10**15, "bid_micros": 10**15}
    ads.event("ad_upsert", ads=[absurd], event_time=MINUTE)
    assert said(pacing_of(told, ads)) == said(as_it_was)


SLOTS = SlotCounts(np.full((2, 1), 10_000.0), np.array([[1000.0], [500.0]]))


def positions(told: OutcomeLog, log: RawLog, **options: object) -> list[tuple[float, ...]]:
    """Return what is told of slots, of which the outcomes are too few to tell anything."""
    sink = MemorySink()
    chosen = LearnOptions(**options)
    run_flow(learn(MemoryLog(told.records, 64), *others(log), sink, PARTITIONS, chosen))
    records = [record for record in control(sink) if isinstance(record, Adjustments)]
    return [record.position_logits for record in records if record.position_logits]


def test_a_model_that_the_log_switches_to_brings_what_its_own_log_told_of_slots(told):
    models, log = {"one": SLOTS, "two": None}, RawLog()
    for name in ("two", "one"):
        log.event("model", model_hash=name, event_time=MINUTE)
    assert positions(told, log, slots_of=models.get)[-1] == (0.0, pytest.approx(-0.69, abs=0.01))


def test_so_does_the_model_that_the_settings_name(told):
    assert positions(told, RawLog(), slots=SLOTS)[-1] == (0.0, pytest.approx(-0.69, abs=0.01))


def test_a_model_that_cannot_be_opened_leaves_slots_to_be_learned(told, tmp_path, caplog):
    log = RawLog()
    log.event("model", model_hash="0" * 32, event_time=MINUTE)
    log.event("model", model_hash="../elsewhere", event_time=MINUTE)
    assert positions(told, log, slots_of=partial(published_slots, tmp_path)) == []
    assert caplog.text.count("slots are learned from clicks alone") == 2


def shifted() -> OutcomeLog:
    """Return outcomes of one segment and category in which clicks become ten times as frequent half-way."""
    log, rng = OutcomeLog(), random.Random(0)
    for n in range(6000):
        at = n / 50
        shared = {"decision_id": f"ads.events.v1-0-{n}", "segment": "s", "category": "shoes"}
        log.add("impression", at, **shared, parts=Parts(base=-3.0))
        if rng.random() < (0.05 if n < 3000 else 0.5):
            log.add("click", at + 0.01, **shared, parts=Parts(base=-3.0))
    return log


def test_a_drift_is_a_notice_in_partition_0_that_names_segment_and_category(ads):
    sink = run(shifted().records, ads)
    notices = [record for record in control(sink) if isinstance(record, Notice)]
    assert 1 <= len(notices) <= 4
    assert {(n.about, n.segment, n.category) for n in notices} == {("drift", "s", "shoes")}
    assert notices[0].after > notices[0].before and notices[0].labels >= 300
    assert notices[0].event_time > MINUTE + 60_000
    assert len({notice.id for notice in notices}) == len(notices)
    for other in (1, 2):
        assert not any(isinstance(record, Notice) for record in control(sink, other))


def test_a_notice_changes_no_decision():
    log = LogBuilder()
    log.ads(2)
    before = log.request("u")
    log.add(Notice, about="drift", segment="s", category="shoes", after=0.3)
    log.request("v")
    first, second = bodies(run_shard(Bench().shard(), log.records), Decision)
    assert (first.decision_id, first.catalogue_version) == (before, second.catalogue_version)
    assert [slot.ad_id for slot in second.ads]


BAD_OUTCOMES = {
    "a probability that is NaN": b'"pctr":NaN',
    "a part that is infinite": b'"pcvr":1e999',
    "a charge below nothing": b'"charge_micros":-1',
    "a charge beyond all money": b'"charge_micros":%d' % 10**20,
    "a price beyond all money": b'"price_micros":%d' % 10**20,
    "a value beyond all money": b'"value_micros":%d' % 10**20,
    "a time beyond all numbers": b'"event_time":%d' % 10**20,
    "a decision's time beyond all numbers": b'"decision_time":%d' % 10**20,
    "a version beyond all numbers": b'"adjustments_version":%d' % 10**20,
    "a slot beyond all numbers": b'"slot":%d' % 10**20,
    "a click more than certain": b'"pctr":1e300',
    "a conversion less than impossible": b'"pcvr":-1e300',
    "a kind that nobody knows": b'"kind":"teleport"',
    "a value that is no number": b'"value_micros":"much"',
}


@pytest.mark.parametrize("field", BAD_OUTCOMES.values(), ids=BAD_OUTCOMES.keys())
def test_an_outcome_with_an_impossible_field_is_a_dead_letter(told, ads, field):
    name = field.split(b":")[0]
    good = next(r.value for r in told.records if name in (r.value or b""))
    told.raw(re.sub(name + b":[^,}]+", field, good))
    assert [reason(letter) for letter in run(told.records, ads).stream("dead_letters")] == ["bad_outcome"]


def test_outcomes_of_decisions_ads_and_campaigns_that_nobody_knows_are_learned_and_harm_nothing(told, ads):
    whole = merged(run(told.records, ads))
    for n in range(50):
        stranger = {"ad_id": f"x{n}", "campaign_id": f"y{n}", "decision_id": f"never-made-{n}"}
        told.add("click", 899, segment="elsewhere", **stranger)
    weights = merged(run(told.records, ads))
    assert weights["good"] == pytest.approx(whole["good"], abs=0.1)


def test_conversions_from_before_their_decision_count_for_no_rate(told, ads):
    def rates() -> list[dict]:
        found = control(run([*told.records, *later.records], ads))
        return [record.conversions for record in found if isinstance(record, Adjustments)]

    later = OutcomeLog()
    later.add("dwell", 960, user_id="v")
    before = rates()
    absurd = {"decision_time": MINUTE + 960_500, "through": "click", "campaign_id": "c-good"}
    for n in range(20):
        later.add("conversion", 960, ad_id="good", decision_id=f"d{n}", user_id="v", **absurd)
    later.add("dwell", 970, user_id="v")
    assert {name: w for r in rates() for name, w in r.items()} == {n: w for r in before for n, w in r.items()}


def test_one_wild_timestamp_does_not_end_the_day_of_every_budget(told, ads):
    exhausted = [pace.exhausted for pace in pacing_of(told, ads)]
    assert exhausted[-1] == ("c-bad",)
    day_ms = 86_400_000
    wild = {"ad_id": "good", "campaign_id": "c-good", "user_id": "wild", "charge_micros": 1}
    told.add("impression", 899, event_time=MINUTE + 3 * day_ms, decision_time=MINUTE + 3 * day_ms, **wild)
    told.add("impression", 900, ad_id="good", campaign_id="c-good")
    assert [pace.exhausted for pace in pacing_of(told, ads)][-1] == ("c-bad",)
