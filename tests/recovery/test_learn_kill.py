"""kill -9 of `impulse learn`: what is in force afterwards is what a learner says that nothing interrupts.

Not to the byte: partitions of outcomes interleave otherwise after a restart. Each outcome counts once.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer
from support.flow_runs import MemoryLog, MemorySink, run_flow
from support.kafka_io import read_all
from support.outcomes import MINUTE, outcome
from support.processes import Processes
from support.topics import NewTopics, Topics

from connectors.codec import EventCodec, encode
from connectors.messages import to_record
from flows.learn import learn
from models.decide.view import PacingTable
from models.domain.decision import Outcome, Parts
from models.domain.events import Adjustments, Control, Pacing
from models.domain.log import LogRecord
from models.learning.weights import WeightTable

pytestmark = pytest.mark.timeout(300)

PARTITIONS = 2
PRICE = 10_000
CLICK_RATE = {"a0": 0.1, "a1": 0.4, "a2": 0.8}
BUDGET_SHARE = {"c0": None, "c1": 2.0, "c2": 0.5}
"""Daily budget of a campaign over what its clicks cost in all; counted twice, c1 would be spent too."""
SOME = 20
"""Records after which a learner is in the midst of its part, in whatever order it reads the partitions."""
OTHER_ORDER = 0.25
"""Logits that another order of the outcomes may move a weight of some 0.6: ads share bias and segment."""


def story(seed: int, impressions: int = 600) -> list[Outcome]:
    """Return ten minutes of impressions, and clicks after a second, of three ads."""
    rng, told = np.random.default_rng(seed), []
    for n in range(impressions):
        ad = f"a{rng.integers(3)}"
        about = {"decision_id": f"ads.events.v1-0-{n}", "ad_id": ad, "campaign_id": f"c{ad[1]}"}
        about |= {"user_id": f"u{n % 50}", "parts": Parts(base=-1.0)}
        told.append(outcome("impression", n, event_id=f"i{n}", **about))
        if rng.random() < CLICK_RATE[ad]:
            told.append(outcome("click", n + 0.5, event_id=f"c{n}", charge_micros=PRICE, **about))
    return told


STORY = story(0)
ENDS = [
    [outcome("click", 620 + n, event_id=f"e{p}-{n}", ad_id=f"end-{p}", campaign_id="c0") for n in range(10)]
    for p in range(PARTITIONS)
]
"""What a partition ends with: an ad of its own, whose weight tells that all before it was heard."""


class InForce:
    """What one partition of the log says is in force."""

    def __init__(self, records: list[LogRecord]) -> None:
        codec = EventCodec()
        self.weights, self.pacing = WeightTable(), PacingTable()
        self.said: list[Control] = [codec.decode(record) for record in records]
        for record in self.said:
            if isinstance(record, Adjustments):
                self.weights = self.weights.apply(record).table
            elif isinstance(record, Pacing):
                self.pacing = self.pacing.apply(record)


class Run:
    """Topics of one test, and the learner on them as a process."""

    def __init__(self, topics: Topics, folder: Path) -> None:
        self.config, self.topics = topics.config, topics.names
        self.processes = Processes(folder, topics.environment(folder))
        self.asked = 0
        self._producer = Producer(topics.config.producer())

    def ads(self) -> None:
        ads = []
        for campaign, share in BUDGET_SHARE.items():
            clicks = sum(o.kind == "click" and o.campaign_id == campaign for o in STORY)
            daily = {} if share is None else {"daily_budget_micros": int(share * clicks * PRICE)}
            ads.append({"ad_id": f"a{campaign[1]}", "campaign_id": campaign, "bid_micros": PRICE, **daily})
        value = json.dumps({"type": "ad_upsert", "id": "ads", "event_time": MINUTE, "ads": ads}).encode()
        for partition in range(PARTITIONS):
            self._producer.produce(self.topics["EVENTS"], value, None, partition)
        assert self._producer.flush(30) == 0

    def tell(self, told: list[Outcome]) -> None:
        """Write outcomes, each ad's into a partition of its own."""
        for one in told:
            partition = int(one.ad_id[-1]) % PARTITIONS if one.ad_id[-1].isdecimal() else 0
            self._producer.produce(self.topics["OUTCOMES"], encode(one), one.ad_id.encode(), partition)
        assert self._producer.flush(30) == 0

    def records(self, stream: str) -> list[LogRecord]:
        return [to_record(message) for message in read_all(self.config, self.topics[stream])]

    def in_force(self, partition: int = 0) -> InForce:
        return InForce([record for record in self.records("EVENTS") if record.partition == partition])

    def said(self) -> int:
        return len(self.in_force().said)

    def heard_all(self) -> bool:
        """Say whether the ends of all partitions are in force; every question moves the clock by a second."""
        self.asked += 1
        self.tell([outcome("impression", 630 + self.asked, event_id=f"t{self.asked}", campaign_id="c0")])
        return all(f"end-{p}" in self.in_force().weights.ads for p in range(PARTITIONS))


@pytest.fixture
def run(new_topics: NewTopics, tmp_path: Path) -> Iterator[Run]:
    run = Run(
        new_topics({"EVENTS": PARTITIONS, "OUTCOMES": PARTITIONS, "INTERESTS": 1, "DEAD_LETTERS": 1}),
        tmp_path,
    )
    yield run
    run.processes.close()


def undisturbed(run: Run) -> InForce:
    """Return what a learner says of the same outcomes that nothing interrupts, in memory."""
    sink = MemorySink()
    ads = [record for record in run.records("EVENTS") if record.partition == 0][:1]
    run_flow(learn(MemoryLog(run.records("OUTCOMES"), 16), MemoryLog([]), MemoryLog(ads), sink, [0]))
    return InForce([LogRecord("t", 0, n, 0, o.key, o.value) for n, o in enumerate(sink.stream("control"))])


def means(in_force: InForce, group: str) -> dict[str, float]:
    weights = getattr(in_force.weights, group)
    return {name: mean for name, (mean, _) in weights.items() if not name.startswith("end")}


def test_killed_again_and_again_it_ends_with_the_weights_and_budgets_of_one_that_was_not(run):
    run.ads()
    parts = [STORY[:300], STORY[300:600], STORY[600:]]
    for part in parts[:2]:
        learner = run.processes.impulse("learn")
        goal = run.said() + SOME
        run.tell(part)
        learner.wait_until(lambda goal=goal: run.said() >= goal)
        learner.end(signal.SIGKILL)
    learner = run.processes.impulse("learn")
    run.tell(parts[2] + [one for end in ENDS for one in end])
    learner.wait_until(run.heard_all)
    assert learner.end() == 0
    expected = undisturbed(run)
    for partition in range(PARTITIONS):
        got = run.in_force(partition)
        for group in ("ads", "campaigns"):
            assert means(got, group) == pytest.approx(means(expected, group), abs=OTHER_ORDER)
        assert got.pacing.exhausted == expected.pacing.exhausted == ("c2",)
    assert run.records("DEAD_LETTERS") == []
