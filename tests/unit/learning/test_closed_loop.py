"""The loop closed in a small drifting world: learning pays."""

from __future__ import annotations

import numpy as np
import pytest
from closed_loop_world import World, run

from models.learning.engines import ENGINES
from models.learning.learner import Learner
from models.learning.settings import LearnerSettings

QUICK = World(seed=1, seconds=120, shift_every_s=30, requests_per_step=30)


def test_adjusted_decisions_lose_less_to_the_oracle_than_static_ones():
    static, adjusted = run(QUICK, None), run(QUICK, Learner())
    assert adjusted.regret < static.regret - 0.02
    assert adjusted.ece < static.ece / 2
    assert adjusted.learner.counts["roll_backs"] == 0


def test_the_same_seed_plays_the_same_game_to_the_bit():
    short = World(seconds=20, requests_per_step=10)
    one, two = run(short, Learner()), run(short, Learner())
    assert one.regret_by_second == two.regret_by_second
    assert one.learner.to_bytes() == two.learner.to_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_beats_the_static_model_after_shifts(engine):
    static, adjusted = [], []
    for seed in range(3):
        world = World(seed=seed, seconds=300)
        static.append(run(world, None).regret)
        adjusted.append(run(world, Learner(LearnerSettings(engine=engine))).regret)
    assert np.mean(adjusted) < 0.85 * np.mean(static)


@pytest.mark.slow
def test_regret_falls_again_after_a_shift():
    world = World(seed=1, seconds=200, shift_every_s=100)
    result = run(world, Learner())
    after = np.array(result.regret_by_second[100:])
    assert after[-20:].mean() < 0.8 * after[:10].mean()
