"""The law of clicks' delays: any shape, from the first seconds of a stream on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.learning.click_delays import LONGEST_MS, ClickDelays

FOREVER = 10 * LONGEST_MS
DELAYS = st.lists(st.tuples(st.floats(-1e6, 1e9), st.floats(1, 1e6)), max_size=50)


def learned(delays: np.ndarray, longest_ms: float = FOREVER) -> ClickDelays:
    law = ClickDelays()
    for delay in delays.tolist():
        law.learn(delay, longest_ms)
    return law


def test_until_clicks_say_otherwise_delays_are_exponential_of_three_seconds():
    law = ClickDelays()
    assert law.mean_ms == pytest.approx(3_000, rel=0.02)
    assert law.quantile(0.5) == pytest.approx(3_000 * np.log(2), rel=0.02)


def test_a_law_of_any_shape_is_found():
    delays = 20_000 * np.exp(np.random.default_rng(0).normal(0, 0.3, 5_000))
    law = learned(delays)
    for share in (0.1, 0.5, 0.9):
        assert law.quantile(share) == pytest.approx(np.quantile(delays, share), rel=0.1)


def test_the_first_clicks_of_a_stream_do_not_pass_for_all():
    """Delays are .8 s and an exponential part of 3 s; after 12 s of a stream no longer ones can be known."""
    rng, law = np.random.default_rng(0), ClickDelays()
    made = rng.uniform(0, 12_000, 12_000)
    came = made + 800 + rng.exponential(3_000, len(made))
    for n in np.argsort(came).tolist():
        if came[n] < 12_000:
            law.learn(came[n] - made[n], came[n])
            law.trust_at_most(300)
    assert law.mean_ms == pytest.approx(3_800, rel=0.1)
    assert law.quantile(0.1) == pytest.approx(800 + 3_000 * -np.log(0.9), rel=0.2)


@given(DELAYS)
def test_it_stays_a_law_whatever_comes(told):
    law = ClickDelays()
    for delay, longest in told:
        law.learn(delay, longest)
    found = [law.quantile(share) for share in np.linspace(0, 1, 30)]
    assert found == sorted(found)
    assert found[0] >= 0 and found[-1] <= LONGEST_MS
    assert 0 < law.mean_ms <= LONGEST_MS


@given(DELAYS)
def test_it_survives_as_plain_values(told):
    law, again = ClickDelays(), ClickDelays()
    for delay, longest in told:
        law.learn(delay, longest)
    again.restore(law.values())
    assert [again.quantile(share) for share in (0.1, 0.9)] == [law.quantile(share) for share in (0.1, 0.9)]


def test_one_endless_delay_moves_the_mean_by_a_bounded_step():
    law = ClickDelays()
    law.learn(1e12, FOREVER)
    assert law.mean_ms < 10_000
