"""How late conversions come is read from a log that has ended, for every campaign of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.scorer.delays import Clicks, arrived_shares
from models.scorer.rates import shrunk_log_ratios

LOG_S = 600.0


def log_of(campaign, scale_s, rate=0.12, shape=1.0, seed=4):
    """Return clicks over ten minutes whose conversions come ``scale_s`` `[C]` later on average."""
    rng = np.random.default_rng(seed)
    age_s = rng.uniform(0, LOG_S, len(campaign))
    delay_s = scale_s[campaign] * rng.weibull(shape, len(campaign))
    seen = (rng.random(len(campaign)) < rate) & (delay_s < age_s)
    return Clicks(campaign, age_s, np.where(seen, delay_s, np.inf))


@pytest.mark.parametrize(("shape", "scale_s"), [(1.0, 120.0), (0.7, 200.0)])
def test_the_law_of_delays_is_found_although_the_log_ended(shape, scale_s):
    clicks = log_of(np.zeros(100_000, np.int64), np.array([scale_s]), shape=shape)
    ages = np.array([30.0, 120.0, 500.0])
    found = arrived_shares(clicks, np.zeros(3, np.int64), ages)
    assert found == pytest.approx(1 - np.exp(-((ages / scale_s) ** shape)), rel=0.12)


def test_a_slow_campaign_is_given_time_that_a_quick_one_does_not_need():
    rng = np.random.default_rng(1)
    scale_s = 120 * np.exp(rng.normal(0, 0.8, 100))
    clicks = log_of(rng.integers(0, 100, 20_000), scale_s)
    found = arrived_shares(clicks, np.arange(100), np.full(100, 120.0))
    true = 1 - np.exp(-120 / scale_s)
    assert np.corrcoef(found, true)[0, 1] > 0.75
    assert np.abs(found - true).mean() < 0.8 * np.abs(true - true.mean()).mean()


def test_rates_of_campaigns_no_longer_follow_how_late_their_conversions_come():
    rng = np.random.default_rng(2)
    scale_s, campaign = 120 * np.exp(rng.normal(0, 0.8, 100)), rng.integers(0, 100, 40_000)
    clicks = log_of(campaign, scale_s)
    seen = np.bincount(campaign, np.isfinite(clicks.delay_s), 100)

    def leaning(share):
        due = np.bincount(campaign, share, 100)
        found = shrunk_log_ratios(seen, due * seen.sum() / due.sum(), [np.arange(100)])
        return np.corrcoef(found, np.log(scale_s))[0, 1]

    one_law = arrived_shares(clicks._replace(campaign=np.zeros_like(campaign)), campaign * 0, clicks.age_s)
    assert leaning(one_law) < -0.6  # all campaigns are equally good
    assert abs(leaning(arrived_shares(clicks, campaign, clicks.age_s))) < 0.4


def test_few_delays_say_nothing_and_count_as_none():
    clicks = Clicks(np.zeros(40, np.int64), np.full(40, 5.0), np.ones(40))
    assert arrived_shares(clicks, np.zeros(3, np.int64), np.array([0.0, 1e-9, 3.0])).tolist() == [1.0] * 3


def test_a_campaign_without_clicks_is_like_any():
    rng = np.random.default_rng(3)
    clicks = log_of(rng.integers(0, 50, 20_000), np.full(50, 100.0))
    unknown = arrived_shares(clicks, np.array([50, 999]), np.full(2, 100.0))
    assert unknown == pytest.approx([1 - np.exp(-1)] * 2, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e7), st.sampled_from([0.0, 0.5, 3.0]))
def test_shares_are_probabilities_and_grow_with_age(seed, scale_s, sd):
    rng = np.random.default_rng(seed)
    campaign = rng.integers(0, 20, 4000)
    clicks = log_of(campaign, scale_s * np.exp(rng.normal(0, sd, 20)), rate=0.5, seed=seed)
    ages = np.geomspace(1e-3, 1e7, 40)
    for one in (0, 19, 20):
        shares = arrived_shares(clicks, np.full(40, one), ages)
        assert (shares > 0).all()
        assert (shares <= 1).all()
        assert (np.diff(shares) >= 0).all()
