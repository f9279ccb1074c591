"""The traffic plan: flat at first, then the shape of the days that were seen whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.errors import SettingError
from models.policy.traffic import BUCKETS, MINUTES, TrafficPlan

QUARTER_MS = 900_000


def day_of(plan, counts):
    for bucket, count in enumerate(counts):
        plan.count(bucket * QUARTER_MS, count)
    plan.close_day()


def test_a_new_plan_is_flat():
    assert TrafficPlan().share_of_rest(0) == pytest.approx(1 / MINUTES)


def test_the_last_minute_takes_all_that_is_left():
    assert TrafficPlan().share_of_rest(MINUTES - 1) == pytest.approx(1.0)


def test_a_day_seen_whole_becomes_the_plan():
    plan = TrafficPlan()
    plan.start(0)
    day_of(plan, [3] * 48 + [1] * 48)
    assert plan.weights[0] / plan.weights[95] == pytest.approx((0.1 + 0.9 * 1.5) / (0.1 + 0.9 * 0.5))


def test_a_day_seen_from_noon_is_not_learned():
    plan = TrafficPlan()
    plan.start(48 * QUARTER_MS)
    day_of(plan, [0] * 48 + [1] * 48)
    assert plan == TrafficPlan(whole_day=True)


def test_a_day_without_traffic_changes_nothing():
    plan = TrafficPlan(whole_day=True)
    plan.close_day()
    assert plan.weights == TrafficPlan().weights


counts = st.lists(st.integers(0, 1000), min_size=BUCKETS, max_size=BUCKETS)


@settings(max_examples=20)
@given(st.lists(counts, min_size=1, max_size=4))
def test_the_shares_of_the_rest_spend_a_day_exactly(days):
    plan = TrafficPlan(whole_day=True)
    for day in days:
        day_of(plan, day)
    assert sum(plan.weights) == pytest.approx(1.0)
    left = 1.0
    for minute in range(MINUTES):
        left -= left * plan.share_of_rest(minute)
    assert left == pytest.approx(0.0, abs=1e-9)
    assert min(plan.weights) > 0.0


def test_a_plan_may_begin_with_known_hours_and_keeps_a_tenth_flat():
    plan = TrafficPlan.of([3.0] * 12 + [1.0] * 12)
    assert sum(plan.weights) == pytest.approx(1.0)
    assert plan.weights[0] / plan.weights[95] == pytest.approx((0.1 + 0.9 * 1.5) / (0.1 + 0.9 * 0.5))
    assert TrafficPlan.of(()) == TrafficPlan()


@pytest.mark.parametrize("weights", [[1.0] * 25, [0.0] * 24, [-1.0, *[1.0] * 23], [float("nan")] * 24])
def test_a_plan_that_is_none_is_refused(weights):
    with pytest.raises(SettingError, match="24 or 96"):
        TrafficPlan.of(weights)
