"""River's models and our adjustments on one stream, test then learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.learning.baselines import RATERS, adjusted_in_turn, rate_in_turn, river_clicks_in_turn

DAY_MS = 86_400_000


@pytest.mark.parametrize("name", RATERS)
def test_a_rater_learns_whose_ratings_are_high_and_stays_within_the_scale(name):
    users, ratings = [n % 2 for n in range(400)], [5.0 if n % 2 else 1.0 for n in range(400)]
    foreseen = rate_in_turn(name, users, [0] * 400, ratings)
    assert np.abs(foreseen[-20:] - ratings[-20:]).mean() < 0.5
    assert foreseen.min() >= 1 and foreseen.max() <= 5


@pytest.mark.parametrize("name", RATERS)
def test_what_is_foreseen_does_not_depend_on_what_comes_later(name):
    users, items = [0, 1, 0, 1], [0, 0, 1, 1]
    low = rate_in_turn(name, users, items, [1.0, 5.0, 3.0, 1.0])
    high = rate_in_turn(name, users, items, [1.0, 5.0, 3.0, 5.0])
    np.testing.assert_array_equal(low, high)


def test_adjustments_start_from_the_offset_and_move_to_the_truth():
    labels = [n % 10 != 0 for n in range(500)]
    x = [{"bias": 1.0, "ad:1": 1.0}] * 500
    foreseen = adjusted_in_turn(x, labels, np.full(500, -2.0), list(range(500)), time_constant_s=1e9)
    assert foreseen[0] == pytest.approx(1 / (1 + np.exp(2)))
    assert foreseen[-50:].mean() == pytest.approx(0.9, abs=0.07)


def test_a_short_time_constant_forgets_between_days():
    labels, x = [True] * 60, [{"ad:1": 1.0}] * 60
    times = [n * DAY_MS for n in range(60)]
    slow, fast = (
        adjusted_in_turn(x, labels, np.zeros(60), times, time_constant_s=t)[-1] for t in (1e9, 60.0)
    )
    assert slow > 0.8
    assert fast == pytest.approx(0.5, abs=1e-6)


def test_a_wider_prior_moves_faster():
    labels, x, zeros = [True] * 3, [{"ad:1": 1.0}] * 3, np.zeros(3)
    narrow, wide = (
        adjusted_in_turn(x, labels, zeros, [0, 1, 2], time_constant_s=1e9, prior_variances={"ad": v})[-1]
        for v in (0.01, 1.0)
    )
    assert wide > narrow > 0.5


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_probabilities_are_probabilities(labels):
    x = [{"user:1": 1.0, "ad:2": 1.0}] * len(labels)
    for p in (
        river_clicks_in_turn(x, labels),
        adjusted_in_turn(x, labels, np.zeros(len(labels)), list(range(len(labels))), time_constant_s=60.0),
    ):
        assert ((p > 0) & (p < 1)).all()
