"""Off-policy estimates against what the simulator knows to be true: no bias, and intervals that cover.

A log is what a disjoint group of 100 users did in a closed loop whose policy logs exact propensities; the
truth is the evaluation policy's expected click rate over all users of that world.
"""

import numpy as np
import pytest
from support.bandit_worlds import logged_world, world_config

from models.evaluation.offpolicy import METHODS, estimate, support

UNBIASED = ("ips", "snips", "dr")
LOGS_PER_WORLD = 20


@pytest.fixture(scope="module")
def world():
    return logged_world(world_config(seed=1, users=1000), seconds=10)


def intervals(worlds, method, logs=LOGS_PER_WORLD):
    """Return every log's interval with the truth of its world."""
    return [
        (estimate(world.log(i, logs), method, replicates=500).interval, world.value)
        for world in worlds
        for i in range(logs)
    ]


def test_the_propensities_of_the_loop_are_right(world):
    """Their weights average to one for a policy that chooses among the same candidates."""
    found = support(world.log(0, 1))
    assert found.mean_weight == pytest.approx(1, abs=0.05)
    assert found.effective > 1000


def test_clicks_come_as_often_as_the_simulator_says(world):
    assert world.reward.mean() == pytest.approx(world.value, rel=0.25)


@pytest.mark.parametrize("method", UNBIASED)
def test_estimates_are_unbiased_over_the_logs_of_a_world(world, method):
    found = [interval.value for interval, _ in intervals([world], method, logs=10)]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - world.value) < 3 * error


@pytest.mark.parametrize("method", UNBIASED)
def test_nearly_every_interval_holds_the_truth(world, method):
    covered = [interval.covers(truth) for interval, truth in intervals([world], method, logs=10)]
    assert sum(covered) >= 8


def test_dms_interval_ignores_the_bias_of_its_model(world):
    """Its interval is a fraction of the others' and says nothing of how wrong the model is."""
    told = {m: estimate(world.log(0, 1), m, replicates=200).interval for m in METHODS}
    widths = {m: found.high - found.low for m, found in told.items()}
    assert widths["dm"] < 0.3 * min(widths[m] for m in UNBIASED)


@pytest.fixture(scope="module")
def ten_worlds():
    return [logged_world(world_config(seed), seconds=100) for seed in range(10)]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("method", UNBIASED)
def test_95_per_cent_intervals_cover_the_simulators_truth_in_200_logs(ten_worlds, method):
    covered = [interval.covers(truth) for interval, truth in intervals(ten_worlds, method)]
    assert len(covered) == 200
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_dms_intervals_do_not_cover(ten_worlds):
    assert np.mean([interval.covers(truth) for interval, truth in intervals(ten_worlds, "dm")]) < 0.5
