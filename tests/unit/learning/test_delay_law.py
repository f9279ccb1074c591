"""The law of delays: what of a click has arrived by now, and which law is the most likely."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.learning.delay_law import (
    _PSEUDO_CONVERSIONS,
    Arrived,
    Clicks,
    Fit,
    Prior,
    clicks_of,
    faded_arrivals,
    fit,
)

DAY_S = 86_400.0
SHAPES = (0.5, 0.7, 1.0, 1.4)


def log_rate(mean_s: float, shape: float) -> float:
    """Log b of the Weibull law with this mean."""
    return -shape * math.log(mean_s / math.gamma(1 + 1 / shape))


def faded_by_hand(age_s: float, rate: float, shape: float, fading_s: float) -> float:
    """The integral of the density of the delay, faded by the time since, in small steps from 0 on."""
    u = np.linspace(0.0, 1.0, 20_001) ** 4 * age_s
    mass = np.diff(-np.expm1(-np.exp(rate) * u**shape))
    return float((mass * np.exp(-(age_s - (u[1:] + u[:-1]) / 2) / fading_s)).sum())


ages = st.lists(st.floats(1.0, 7 * DAY_S), min_size=1, max_size=20, unique=True).map(sorted)


@given(ages, st.floats(60.0, 5 * DAY_S), st.sampled_from(SHAPES), st.floats(3600.0, 1e7))
@settings(max_examples=60, deadline=None)
def test_what_has_arrived_is_the_density_of_the_delay_faded_by_the_time_since(age, mean_s, shape, fading_s):
    exposure = np.ones(len(age))
    clicks, rate = clicks_of(np.array(age), exposure, fading_s), log_rate(mean_s, shape)
    found = faded_arrivals(rate, shape, clicks)[clicks.exposure > 0]
    expected = [faded_by_hand(one, rate, shape, fading_s) for one in age]
    assert found == pytest.approx(expected, rel=0.04, abs=1e-6)


def test_without_forgetting_what_has_arrived_is_the_share_of_delays_that_have_passed():
    clicks = clicks_of(np.array([600.0, 3600.0]), np.ones(2), 1e12)
    found = faded_arrivals(log_rate(600.0, 1.0), 1.0, clicks)
    assert found == pytest.approx(1 - np.exp([-1.0, -6.0]), rel=1e-6)


def test_no_clicks_bring_nothing():
    clicks = clicks_of(np.zeros(0), np.zeros(0), DAY_S)
    found = Fit(*fit(-8.0, 1.0, clicks, Arrived(0.0, 0.0, 0.0), Prior(-8.0, 1.0)))
    assert (found.exposure, found.log_rate) == (0.0, pytest.approx(-8.0, abs=1e-3))


def posterior(x: float, shape: float, clicks: Clicks, arrived: Arrived, prior: Prior) -> float:
    """The formula of the module, written out."""
    n, a = arrived.conversions, _PSEUDO_CONVERSIONS
    exposure = arrived.mature + float((clicks.exposure * faded_arrivals(x, shape, clicks)).sum())
    likely = n * x - math.exp(x) * arrived.sum_power - (n + a) * math.log(exposure + a)
    return likely - ((x - prior.mean) / prior.sd) ** 2 / 2


@given(
    st.lists(st.floats(30.0, 2 * DAY_S), min_size=0, max_size=60),
    st.integers(0, 400),
    st.sampled_from(SHAPES),
    st.floats(0.3, 3.0),
)
@settings(max_examples=60, deadline=None)
def test_the_law_that_is_found_is_more_likely_than_its_neighbours(delays, clicked, shape, spread):
    age = np.linspace(60.0, 3 * DAY_S, clicked)
    clicks = clicks_of(age, np.full(clicked, 0.3), DAY_S)
    arrived = Arrived(float(len(delays)), float((np.array(delays) ** shape).sum()), 0.0)
    prior = Prior(log_rate(3600.0, shape), shape * spread)
    x = prior.mean
    for _ in range(10):
        x = fit(x, shape, clicks, arrived, prior)[0]
    best = posterior(x, shape, clicks, arrived, prior)
    assert all(best >= posterior(x + d, shape, clicks, arrived, prior) - 1e-3 for d in (-0.2, 0.2))
