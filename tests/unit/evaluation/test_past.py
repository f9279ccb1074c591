"""The past of a world: what all policies have read before their first decision."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from support.shards import Bench

from models.domain.decision import Decision
from models.domain.events import AdUpsert, Request, View
from models.evaluation.core_policy import CorePolicy
from models.evaluation.loop import Delivered
from models.evaluation.oracle import RandomPolicy
from models.evaluation.past import NO_PAST, Past, record_past
from models.evaluation.simulate import BASELINES, run_policies, run_policy
from models.evaluation.vw import VowpalWabbitPolicy
from models.evaluation.world import World
from models.evaluation.world_config import Drift, Inventory, Sizes, Traffic, WorldConfig

SMALL = WorldConfig(
    sizes=Sizes(users=30, ads=40),
    traffic=Traffic(requests_per_s=20, views_per_s=10),
    inventory=Inventory(burst_every_s=5),
    drift=Drift(shift_every_s=8),
)


class Listening(RandomPolicy):
    """Keeps what it is given."""

    def __init__(self, world: World) -> None:
        super().__init__(world.state)
        self.recalled: list[Decision] = []
        self.given: list[Delivered] = []

    def recall(self, decisions: Sequence[Decision]) -> None:
        self.recalled += decisions

    def decide_batch(self, batch: Sequence[Delivered]) -> list[Decision]:
        self.given += batch
        return super().decide_batch(batch)


@pytest.fixture(scope="module")
def past() -> Past:
    return record_past(SMALL, 6)


@pytest.fixture(scope="module")
def listener(past: Past) -> Listening:
    made: list[Listening] = []

    def make(world: World) -> Listening:
        made.append(Listening(world))
        return made[0]

    run_policy(SMALL, make, 2, past=past)
    return made[0]


def test_the_past_ends_where_the_world_begins(past):
    times = [event.event_time for _, event in past.delivered]
    assert min(times) == SMALL.start_ms - 6000
    assert max(times) < SMALL.start_ms
    assert sum(isinstance(event, Request) for _, event in past.delivered) == len(past.decisions) > 50


def test_the_past_brings_the_first_catalogue_and_no_bursts(past):
    upserts = [event for _, event in past.delivered if isinstance(event, AdUpsert)]
    assert [ad for event in upserts for ad in event.ads] == World(SMALL).catalogue()


def test_a_policy_reads_the_past_without_being_asked_to_decide_again(past, listener):
    before = [one for one in listener.given if one.event.event_time < SMALL.start_ms]
    assert before == [one for one in past.delivered if not isinstance(one.event, Request)]
    assert tuple(listener.recalled) == past.decisions


def test_the_log_goes_on_behind_the_past(past, listener):
    offsets = [record.offset for record, _ in listener.given]
    assert offsets == sorted(offsets) and len(set(offsets)) == len(offsets)
    after = [r.offset for r, event in listener.given if event.event_time >= SMALL.start_ms]
    assert after[0] == past.offsets[0]


def test_the_core_knows_its_users_from_the_past(past):
    made: list[CorePolicy] = []

    def make(world: World) -> CorePolicy:
        made.append(CorePolicy(lambda place: Bench().shard(place.partition, place.slice)))
        return made[0]

    run_policy(SMALL, make, 1, past=past)
    (shard,) = made[0].shards.values()
    seen = {event.user_id for _, event in past.delivered if isinstance(event, View)}
    assert all(shard.profiles.history.count[shard.rows.row(user)] > 0 for user in seen)
    assert shard.counts["late"] == 0


def test_no_past_is_an_empty_log_that_starts_at_offset_0():
    assert record_past(SMALL, 0) == NO_PAST
    assert NO_PAST.logbook(2, 5).offsets == [0, 0]


def test_every_policy_of_a_comparison_has_the_past_of_its_own_seed():
    asked: list[int] = []

    def past_of(config: WorldConfig) -> Past:
        asked.append(config.seed)
        return NO_PAST

    run_policies(SMALL, {"random": BASELINES["random"]}, 1, seeds=(3, 4), past_of=past_of)
    assert asked == [3, 4]


def test_the_same_past_comes_of_the_same_world(past):
    again = record_past(SMALL, 6)
    assert msgspec.json.encode(again.decisions) == msgspec.json.encode(past.decisions)
    assert again.offsets == past.offsets


def test_vowpal_wabbit_learns_from_the_propensities_of_the_past(past):
    pytest.importorskip("vowpalwabbit", reason="needs the extra `bench`")
    fresh, told = (VowpalWabbitPolicy(World(SMALL).state) for _ in range(2))
    told.recall(past.decisions)
    for batch in past.batches():
        told.decide_batch(batch)
    told._learn_until(SMALL.start_ms + 60_000)
    line = [fresh._shared(0), *(fresh._action(row) for row in range(10))]
    assert not np.allclose(fresh._model.predict(line), told._model.predict(line))
