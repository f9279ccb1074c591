"""A campaign's first minutes as functions: when it starts, and how its multiplier falls."""

import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st

from models.policy.slow_start import (
    FAR_OFF,
    first_multiplier,
    first_starts,
    lowered,
    start_step_ms,
    taken_back,
)


def test_a_campaign_starts_with_the_first_of_its_ads_and_one_without_a_start_at_once():
    ads = [campaign("c", start=50), campaign("c", start=20), campaign("d", start=90), campaign("d")]
    assert first_starts(ads) == {"c": 20, "d": 0}
    assert max(first_starts(ads).values()) < FAR_OFF


@given(st.floats(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_bid_is_raised_to_the_full_one_alike_in_many_steps_and_in_one(mu, first, second):
    assert 0.0 <= lowered(mu, first) <= mu + 1e-9
    assert lowered(lowered(mu, first), second) == pytest.approx(lowered(mu, first + second), abs=1e-9)


@pytest.mark.parametrize(("delay_s", "part"), [(5.0, 3.75), (60.0, 17.5), (0.0, 2.5)])
def test_a_first_bid_risks_as_much_however_late_its_cost_is_seen(delay_s, part):
    assert 1.0 + first_multiplier(delay_s) == part


def test_the_slower_the_reports_the_slower_a_start():
    assert [start_step_ms(delay_s) for delay_s in (0.0, 60.0, 3600.0)] == [2_500, 17_500, 902_500]


@given(st.floats(0, 1000))
def test_four_steps_double_a_bid_and_can_be_taken_back(mu):
    assert 1.0 + lowered(taken_back(mu), 4) == pytest.approx(1.0 + mu)
