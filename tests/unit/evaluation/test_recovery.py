"""Recovery after a shift on curves whose recovery is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.recovery import SMOOTH_S, back_after, cut, recovery

LEVEL, SHIFT_S, TOTAL_S = 0.1, 100, 300


def run(jump=0.4, tau=15.0, total=TOTAL_S, shifts=(SHIFT_S,), noise=0.0, seed=0):
    """Value and oracle's value per second: after each shift the regret decays exponentially."""
    seconds, rng = np.arange(total), np.random.default_rng(seed)
    regret = np.full(total, LEVEL)
    for shift in shifts:
        after = seconds >= shift
        regret[after] = LEVEL + jump * np.exp(-(seconds[after] - shift) / tau)
    oracle = 10 + rng.normal(size=total)
    return oracle * (1 - regret - noise * rng.normal(size=total)), oracle


def recovered(*runs, shifts=(SHIFT_S,), **options):
    values, oracles = zip(*runs, strict=True)
    return recovery(cut(values, oracles, shifts), **options)


def test_recovery_is_the_time_until_the_regret_is_within_a_tenth_of_the_jump():
    """An exponential of time constant 15 s, smoothed over 10 s behind: 2.3 time constants and a bit."""
    found = recovered(run())
    assert found.seconds.value == pytest.approx(15 * np.log(10) + SMOOTH_S, abs=2)
    assert found.half == pytest.approx(15 * np.log(2) + SMOOTH_S, abs=2)
    assert found.level == pytest.approx(LEVEL, abs=0.001)
    assert 0.25 < found.jump < 0.4
    assert found.says == ""


@given(st.floats(5, 30), st.floats(5, 30))
@settings(max_examples=20, deadline=None)
def test_who_comes_back_more_slowly_recovers_later(one, other):
    slow, fast = max(one, other), min(one, other)
    assert recovered(run(tau=slow)).seconds.value >= recovered(run(tau=fast)).seconds.value


def test_a_regret_that_stays_up_never_recovers():
    found = recovered(run(tau=1e9))
    assert found.seconds.value == np.inf
    assert found.says == "not back within 200 s"


def test_a_policy_that_a_shift_does_not_hurt_has_nothing_to_recover_from():
    found = recovered(run(jump=0.0))
    assert found.says.startswith("no jump")
    assert np.isnan(found.seconds.value)


def test_a_shift_whose_regret_falls_has_no_jump_either():
    assert recovered(run(jump=-0.05)).says.startswith("no jump")


def test_noise_of_single_seconds_goes_in_the_mean_over_shifts_and_seeds():
    shifts = (100, 250, 400)
    runs = [run(total=550, shifts=shifts, noise=0.1, seed=s) for s in range(6)]
    found = recovered(*runs, shifts=shifts)
    assert found.cuts == 18
    assert found.seconds.low <= found.seconds.value <= found.seconds.high
    assert found.seconds.low - 1 <= 15 * np.log(10) + SMOOTH_S <= found.seconds.high + 12


def test_one_shift_of_one_seed_has_a_recovery_but_no_interval():
    seconds = recovered(run()).seconds
    assert np.isfinite(seconds.value)
    assert np.isnan([seconds.low, seconds.high]).all()


def test_a_shift_without_a_minute_after_it_is_left_out_where_another_has_one():
    shifts = (100, 270)
    assert recovered(run(shifts=shifts), shifts=shifts).cuts == 1


def test_the_level_is_not_taken_from_the_jump_of_the_shift_before():
    """Shifts every 20 s: the level comes from the half of the gap that is nearest to the next shift."""
    shifts = tuple(range(20, 200, 20))
    found = cut(*([series] for series in run(total=200, shifts=shifts)), shifts)
    assert (found.before, found.horizon_s) == (10, 20)


def test_no_shift_and_no_time_have_no_recovery():
    for shifts in ((), (TOTAL_S - 3,)):
        found = recovered(run(), shifts=shifts)
        assert np.isnan(found.seconds.value)
        assert found.says.startswith("no shift")


def test_a_world_in_which_the_oracle_earns_nothing_has_no_regret():
    nothing = np.zeros(TOTAL_S)
    assert recovered((nothing, nothing)).jump == 0


def test_being_back_is_counted_from_the_peak_on():
    excess = np.array([0.0, 0.2, 0.4, 0.2, 0.03, 0.0])
    assert back_after(excess, 0.1) == SMOOTH_S + 4
    assert back_after(excess, 0.5) == SMOOTH_S + 3
    assert back_after(excess[:4], 0.1) == np.inf
