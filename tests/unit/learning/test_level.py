"""The level: by how much the predictions that decisions were made by were off."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.learning.calibration import Calibration
from models.learning.level import MOST, REMEMBERED, Level

EXAMINATIONS = np.array([1.0, 0.8, 0.5])


def fed(off: float, labels: int = 60_000, delay: int = 3_000, seed: int = 0) -> Level:
    """Return a level that is told every second and learns from decisions 5 s old, 600 of them a second.

    Their logits are around -2 and too high by ``-off``, as told with the level in force then.
    """
    rng, level = np.random.default_rng(seed), Level()
    shown: list[tuple[int, float, float, float]] = []
    for n in range(labels):
        version = 1 + n // 600
        if n % 600 == 0:
            level.tell(version, level.mean)
        logit, examination = rng.normal(-2.0, 0.5), float(rng.choice(EXAMINATIONS))
        click = rng.random() < examination / (1 + math.exp(-logit))
        shown.append((version, logit - off + level.told, examination, float(click)))
        if n >= delay:
            version, logit, examination, label = shown[n - delay]
            level.learn(version, logit, examination, label, 1000 * n // 600)
    return level


@pytest.mark.parametrize("off", [-0.1, 0.05])
def test_most_of_what_predictions_are_off_by_is_found(off):
    assert 0.5 < fed(off).mean / off < 1.1


def test_where_predictions_are_right_there_is_nothing_to_find():
    assert fed(0.0).mean == pytest.approx(0.0, abs=0.015)


def test_labels_that_come_a_minute_late_find_no_more_and_no_less():
    soon, late = (fed(-0.1, labels=90_000, delay=delay).mean for delay in (0, 36_000))
    assert late == pytest.approx(soon, abs=0.02)


def test_decisions_by_weights_that_nobody_told_of_late_say_nothing():
    level = Level()
    level.learn(0, 3.0, 1.0, 0.0, 0)
    assert level.mean == 0.0
    for version in range(1, REMEMBERED + 2):
        level.tell(version, 0.0)
    level.learn(1, 3.0, 1.0, 0.0, 0)
    assert level.mean == 0.0
    level.learn(2, 3.0, 1.0, 0.0, 0)
    assert level.mean < 0.0


def test_a_label_that_is_put_right_counts_as_the_click_it_was():
    known, late = Level(), Level()
    for level, label in ((known, 1.0), (late, 0.0)):
        level.tell(1, 0.0)
        level.learn(1, -1.0, 0.8, label, 0)
    late.correct(1, -1.0, 0.8)
    assert late.mean == pytest.approx(known.mean, rel=0.01)


def test_it_is_due_where_it_has_moved_since_it_was_told():
    level = fed(-0.1)
    level.tell(1_000, level.mean)
    assert not level.due()
    level.tell(1_001, 0.0)
    assert level.due()


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-50, 50), st.floats(0.01, 1), st.floats(0, 1))))
def test_it_stays_bounded_whatever_comes(labels):
    level = Level()
    level.tell(1, 0.0)
    level.tell(2, 0.3)
    for n, (version, logit, examination, label) in enumerate(labels):
        level.learn(version, logit, examination, label, 1000 * n)
        level.correct(version, logit, examination)
    assert -MOST <= level.mean <= MOST


def test_it_survives_as_plain_values():
    level, again = fed(0.05, labels=10_000), Level()
    again.restore(level.values())
    for one in (level, again):
        one.learn(10, -1.0, 0.7, 1.0, 70_000)
    assert again.mean == level.mean and again.told == level.told


def test_a_restart_tells_the_bias_once_more_where_there_is_a_level_in_it():
    calibration = Calibration(prior=0.01)
    calibration.announce_again()
    assert calibration.bias(None) is None, "nothing was told"
    calibration.level = fed(-0.1)
    calibration.told(1_000, bias=True)
    assert calibration.bias(None) is None, "nothing has moved"
    calibration.announce_again()
    assert calibration.bias(None) == (pytest.approx(calibration.level.mean, abs=1e-5), 0.01)
    assert calibration.bias(None) is None
