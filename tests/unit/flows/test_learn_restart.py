"""A learner that was killed says anew what is in force, whatever it said after its last snapshot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from support.outcomes import MINUTE, outcome

from connectors.codec import EventCodec
from flows.learn import DEFAULT_OPTIONS, LearnLogic, Lesson
from flows.offers import Offered
from models.decide.view import PacingTable
from models.domain.catalogue import Ad
from models.domain.decision import Outcome, Parts
from models.domain.events import Adjustments, Control, Pacing
from models.domain.log import LogRecord
from models.learning.weights import WeightTable

BUDGETS = Offered(
    "budgets",
    tuple(Ad(ad_id=f"a{n}", campaign_id=f"c{n}", daily_budget_micros=10_000_000) for n in range(3)),
    whole=True,
)


def partition(number: int, start_s: int) -> list[Outcome]:
    """Return what one partition of outcomes holds from a time on: clicked ads, unclicked ads, charges."""
    rng, told = np.random.default_rng(number), []
    for n in range(60):
        ad = (2 * n + number) % 3
        at_s = start_s + 2 * n + number
        about = {
            "decision_id": f"ads.events.v1-{number}-{start_s + n}",
            "ad_id": f"a{ad}",
            "campaign_id": f"c{ad}",
            "parts": Parts(base=-1.0),
        }
        told.append(outcome("impression", at_s, event_id=f"i{number}-{at_s}", **about))
        if rng.random() < (0.1, 0.5, 0.9)[ad]:
            about["charge_micros"] = 20_000
            told.append(outcome("click", at_s + 1, event_id=f"c{number}-{at_s}", **about))
    return told


BEFORE = partition(0, 0) + partition(1, 0)
AFTER = {number: partition(number, 300) for number in (0, 1)}
END = [outcome("impression", 600 + n, event_id=f"e{n}") for n in range(30)]


class Said:
    """What the log holds, and what is in force after it."""

    def __init__(self) -> None:
        self.records: list[Control] = []

    def hear(self, logic: LearnLogic, told: Sequence[Lesson]) -> None:
        codec = EventCodec()
        for n in range(0, len(told), 16):
            outputs = (output for said in logic.on_batch(told[n : n + 16])[0] for output in said)
            self.records += [codec.decode(LogRecord("t", 0, 0, 0, o.key, o.value)) for o in outputs]

    def weights(self) -> WeightTable:
        table = WeightTable()
        for record in self.records:
            table = table.apply(record).table if isinstance(record, Adjustments) else table
        return table

    def pacing(self) -> PacingTable:
        table = PacingTable()
        for record in self.records:
            table = table.apply(record) if isinstance(record, Pacing) else table
        return table


def begun(said: Said) -> LearnLogic:
    logic = LearnLogic(None, (0,), DEFAULT_OPTIONS, 1)
    logic.on_batch([BUDGETS])
    said.hear(logic, BEFORE)
    return logic


def killed_and_told(told: list[Outcome]) -> Said:
    """Return what is said where partition 0 was heard after the last snapshot, and after the crash this."""
    said = Said()
    logic = begun(said)
    state = logic.snapshot()
    said.hear(logic, AFTER[0])
    said.hear(LearnLogic(state, (0,), DEFAULT_OPTIONS, MINUTE), told)
    return said


@pytest.fixture(scope="module")
def killed() -> Said:
    """After the crash partition 1 comes first."""
    return killed_and_told(AFTER[1] + AFTER[0] + END)


@pytest.fixture(scope="module")
def uninterrupted() -> Said:
    said = Said()
    said.hear(begun(said), AFTER[1] + AFTER[0] + END)
    return said


@pytest.mark.parametrize("group", ["ads", "campaigns", "segment_categories"])
def test_the_weights_in_force_are_those_of_an_uninterrupted_learner(killed, uninterrupted, group):
    got, expected = getattr(killed.weights(), group), getattr(uninterrupted.weights(), group)
    assert got.keys() == expected.keys()
    for key, (mean, variance) in expected.items():
        assert got[key] == (pytest.approx(mean, abs=0.02), pytest.approx(variance, rel=0.15)), key


def test_so_are_the_multipliers_and_each_charge_counts_once(killed, uninterrupted):
    got, expected = killed.pacing(), uninterrupted.pacing()
    assert max(expected.multipliers.values()) > 0.05
    for campaign, multiplier in expected.multipliers.items():
        assert got.multipliers[campaign] == pytest.approx(multiplier, abs=0.02 * (1 + multiplier))
    assert got.exhausted == expected.exhausted


def test_what_is_learned_first_after_the_restart_is_in_force_at_once():
    clicks = [
        outcome(
            "click", 300 + n, event_id=f"r{n}", decision_id=f"r-{n}", ad_id="rare", parts=Parts(base=-1.0)
        )
        for n in range(20)
    ]
    assert killed_and_told(clicks).weights().ads["rare"][0] > 0.1


def test_no_record_after_the_restart_is_stale(killed):
    for kind in (Adjustments, Pacing):
        versions = [record.version for record in killed.records if isinstance(record, kind)]
        assert len(versions) == len(set(versions)) and versions == sorted(versions)


def test_a_learner_without_a_snapshot_has_forgotten_what_the_one_before_it_told():
    said = Said()
    begun(said)
    assert said.weights().ads["a2"][0] > 0.1
    fresh = LearnLogic(None, (0,), DEFAULT_OPTIONS, MINUTE)
    fresh = LearnLogic(fresh.snapshot(), (0,), DEFAULT_OPTIONS, MINUTE)
    rare = [
        outcome("click", 900 + n, event_id=f"r{n}", ad_id="rare", parts=Parts(base=-1.0)) for n in range(9)
    ]
    said.hear(fresh, [*rare, *(outcome("impression", 990 + n, event_id=f"n{n}") for n in range(30))])
    assert "rare" in said.weights().ads
    assert not said.weights().ads.keys() & {"a1", "a2"}


def started_anew_without_budgets(told: list[Outcome]) -> Said:
    """Return what is said where a learner without a snapshot finds that nobody has a budget any more."""
    said = Said()
    begun(said)
    assert said.pacing().multipliers
    stopped = Pacing(
        id="s", event_time=MINUTE, version=MINUTE - 1, exhausted=("c1",), lifetime_exhausted=("c1",)
    )
    said.records.append(stopped)
    fresh = LearnLogic(None, (0,), DEFAULT_OPTIONS, MINUTE)
    free = tuple(Ad(ad_id=f"a{n}", campaign_id=f"c{n}") for n in range(3))
    said.hear(fresh, [Offered("free", free, whole=True)])
    said.hear(LearnLogic(fresh.snapshot(), (0,), DEFAULT_OPTIONS, MINUTE), told)
    return said


def test_a_pacer_without_a_snapshot_slows_and_stops_nobody_without_a_budget_any_more():
    pacing = started_anew_without_budgets(END).pacing()
    assert (pacing.multipliers, pacing.exhausted, pacing.lifetime_exhausted) == ({}, (), ())


def test_what_was_stopped_stays_so_until_the_outcomes_of_before_have_been_heard_again():
    before = [outcome("impression", -900 + n, event_id=f"b{n}") for n in range(30)]
    assert started_anew_without_budgets(before).pacing().lifetime_exhausted == ("c1",)


def test_only_the_first_record_of_a_learner_forgets():
    said = Said()
    begun(said)
    told = [record for record in said.records if isinstance(record, Adjustments)]
    assert len(told) > 1 and [record.reset for record in told] == [True, *[False] * (len(told) - 1)]
    assert told[0].reason
