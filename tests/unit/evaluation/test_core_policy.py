"""The product's own core in the closed loop: it learns, obeys, and its log decides the same again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from support.shards import Bench

from flows.simulated import GREEDY, POLICIES, Models, installed_policies, makers
from models.decide.shard import Place
from models.domain.decision import Decision
from models.domain.errors import SettingError
from models.domain.log import Emission, Received
from models.evaluation.core_policy import CorePolicy
from models.evaluation.past import record_past
from models.evaluation.simulate import BASELINES, judged_run, run_policies, run_policy
from models.evaluation.simulation_report import simulation_report
from models.evaluation.world import World
from models.evaluation.world_config import Drift, Inventory, Sizes, Tastes, Traffic, WorldConfig
from models.learning.learner import Learner
from models.policy.pacing import Pacer

TINY = WorldConfig(
    sizes=Sizes(users=200, ads=60, categories=6, segments=3),
    tastes=Tastes(base_logit=-2.0),
    traffic=Traffic(requests_per_s=40, views_per_s=4),
    inventory=Inventory(burst_every_s=0, cpm_share=0.0, cpa_share=0.0, targeted_share=0.0),
    drift=Drift(shift_every_s=0),
)


class Recorded(CorePolicy):
    """Keeps what its shards were given, in order, and the decisions that came of it."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.given: list[Received] = []
        self.decided: list[Decision] = []

    def _process(self, items: Sequence[Received]) -> list[Emission]:
        out = super()._process(items)
        self.given += items
        self.decided += [e.body for e in out if isinstance(e.body, Decision)]
        return out


def learning_core(world: World, kind: type[CorePolicy] = CorePolicy) -> CorePolicy:
    return kind(lambda place: Bench().shard(place.partition, place.slice), learner=Learner(), pacer=Pacer())


def static_core(world: World) -> CorePolicy:
    return CorePolicy(lambda place: Bench().shard(place.partition, place.slice), policy=GREEDY)


@pytest.fixture(scope="module")
def comparison():
    policies = {"random": BASELINES["random"], "static": static_core, "impulse": learning_core}
    return simulation_report(run_policies(TINY, policies, 80, seeds=(0,), tick_ms=500))["policies"]


def test_the_core_that_learns_beats_the_static_one_and_random(comparison):
    regret = {name: figures["regret"]["value"] for name, figures in comparison.items()}
    assert regret["impulse"] < regret["static"]
    assert regret["impulse"] < 0.7 * regret["random"]


def test_the_core_that_learns_knows_better_what_it_will_be_clicked(comparison):
    assert comparison["impulse"]["ece"]["value"] < comparison["static"]["ece"]["value"]


def test_calibration_of_a_short_run_counts_from_its_middle():
    report = simulation_report(run_policies(TINY, {}, 3))
    assert report["ece_from_s"] == 1
    assert report["policies"]["oracle"]["ece"]["value"] == 0.0


def test_the_log_of_the_closed_loop_decides_the_same_again_record_by_record():
    made: list[Recorded] = []

    def make(world: World) -> Recorded:
        made.append(learning_core(world, Recorded))
        return made[0]

    run_policy(TINY, make, 12, tick_ms=500)
    (recorded,) = made
    assert len(recorded.decided) > 200
    again = Bench().shard()
    out = [emission for item in recorded.given for emission in again.process([item])]
    replayed = [e.body for e in out if isinstance(e.body, Decision)]
    assert [msgspec.json.encode(d) for d in replayed] == [msgspec.json.encode(d) for d in recorded.decided]


def test_a_policy_given_is_in_force_from_the_first_decision():
    made: list[CorePolicy] = []

    def make(world: World) -> CorePolicy:
        made.append(static_core(world))
        return made[0]

    run_policy(TINY, make, 3)
    (shard,) = made[0].shards.values()
    assert shard.view.policy.exploration.thompson_nu == 0.0 and not shard.view.policy.personal_adjustments


def test_every_name_of_the_command_makes_a_policy(tmp_path):
    pytest.importorskip("vowpalwabbit")
    assert list(makers(POLICIES, Models(tmp_path, 0.1, 1.0))) == list(POLICIES)


def test_a_world_that_runs_out_of_ads_leaves_slots_empty():
    few = msgspec.structs.replace(TINY, sizes=Sizes(users=3, ads=4, categories=2, segments=1))
    world = run_policy(few, BASELINES["oracle"], 10)
    totals = world.ledger.totals()
    assert 0 < totals["slots"] < 5 * 10 * 40


def test_an_unknown_policy_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(SettingError, match="wonder"):
        makers(["static", "wonder"], Models(tmp_path, 0.1, 1.0))
    assert not list(tmp_path.iterdir())


def test_a_missing_vowpal_wabbit_is_told_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vowpalwabbit", None)
    with pytest.raises(SettingError, match="bench"):
        makers(["static", "vw"], Models(tmp_path, 0.1, 1.0))


def test_all_policies_run_by_default_and_vowpal_wabbit_where_it_is_installed(monkeypatch):
    monkeypatch.setattr("flows.simulated.find_spec", lambda name: None)
    assert installed_policies() == [name for name in POLICIES if name != "vw"]
    monkeypatch.setattr("flows.simulated.find_spec", lambda name: object())
    assert installed_policies() == list(POLICIES)


@pytest.mark.slow
def test_a_place_of_its_own_for_each_slice_changes_no_regret_much():
    def regret(slices: int) -> float:
        def make(world: World) -> CorePolicy:
            bench = Bench()

            def shard(place: Place):
                return bench.shard(place.partition, place.slice)

            return CorePolicy(shard, slices, learner=Learner(), pacer=Pacer())

        run = run_policies(TINY, {"impulse": make}, 60, seeds=(0,), tick_ms=500)
        return simulation_report(run)["policies"]["impulse"]["regret"]["value"]

    assert regret(4) == pytest.approx(regret(1), abs=0.05)


def test_events_that_come_twice_do_not_change_what_the_core_decides_and_how_it_is_judged():
    told = []
    for share in (0.0, 0.5):
        twice = msgspec.structs.replace(
            TINY, traffic=Traffic(requests_per_s=40, views_per_s=4, duplicate_share=share)
        )
        world, referee = judged_run(twice, static_core, 10, past=record_past(twice, 10))
        told.append((world.ledger.totals(), *(x.tolist() for x in referee.series(0, 10))))
    assert told[0] == told[1]
