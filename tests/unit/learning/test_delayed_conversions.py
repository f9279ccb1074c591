"""Delayed conversions: the rate without waiting for the labels."""

from __future__ import annotations

import numpy as np
import pytest
from support.outcomes import MINUTE, outcome

from models.domain.events import Weight
from models.learning.conversions import Conversions, _Campaign
from models.learning.delay import CampaignDelay, DelaySettings, logit_change

SETTINGS = DelaySettings(mean_delay_s=300.0, time_constant_s=86_400.0, horizon_s=6 * 3600.0)


def campaign_after(
    seconds=3600, rate=0.2, pcvr=0.1, delay=lambda rng: rng.exponential(600.0), seed=0, clicks_per_s=1.0
) -> CampaignDelay:
    """Clicks of one campaign, each converting with ``rate`` after a random delay; refitted every minute."""
    rng, campaign = np.random.default_rng(seed), CampaignDelay()
    events = [(t, None) for t in np.arange(0, seconds, 1 / clicks_per_s)]
    events += [(t + (d := delay(rng)), d) for t, _ in list(events) if rng.random() < rate]
    next_fit = 60.0
    for time, waited in sorted(events, key=lambda e: e[0]):
        if time > seconds:
            break
        if waited is None:
            campaign.click(time, pcvr, SETTINGS)
        else:
            campaign.conversion(time, waited, SETTINGS)
        if time > next_fit:
            campaign.refit(time, SETTINGS)
            next_fit += 60.0
    campaign.refit(seconds, SETTINGS)
    return campaign


def naive_rate(rate, seconds, mean_delay) -> float:
    """Conversions by now over clicks by now."""
    age = np.arange(seconds)
    return float(rate * (1 - np.exp(-age / mean_delay)).mean())


def test_the_factor_finds_the_rate_while_many_conversions_are_still_to_come():
    campaign = campaign_after(seconds=1200, clicks_per_s=2.0)
    assert naive_rate(0.2, 1200, 600.0) < 0.12
    assert 0.1 * campaign.factor == pytest.approx(0.2, rel=0.25)


def test_from_the_first_minutes_on_it_is_nearer_the_rate_than_counting():
    campaign = campaign_after(seconds=900)
    assert naive_rate(0.2, 900, 600.0) < 0.1 * campaign.factor < 0.25


def test_the_mean_delay_is_fitted_with_censoring():
    campaign = campaign_after(seconds=3600)
    assert campaign.matured(600.0) == pytest.approx(1 - np.exp(-1), abs=0.06)
    assert 0.1 * campaign.factor == pytest.approx(0.2, rel=0.12)


def test_a_long_tail_is_recognised_by_its_shape():
    campaign = campaign_after(seconds=6000, delay=lambda rng: 300.0 * rng.weibull(0.5))
    assert campaign.shape == 0
    assert 0.1 * campaign.factor == pytest.approx(0.2, rel=0.2)


def test_an_exponential_delay_keeps_the_exponential():
    assert campaign_after(seconds=3600).shape == 2


def test_a_campaign_of_few_conversions_waits_as_long_as_all_others_did():
    """Six of ten conversions have come; by the guess of an hour there should be many more to come."""
    hours = DelaySettings(mean_delay_s=3600.0)
    together, alone, few = CampaignDelay(), CampaignDelay(), CampaignDelay()
    rng = np.random.default_rng(0)
    for second in range(600):
        together.click(float(second), 0.1, hours)
        delay = rng.exponential(60.0)
        if rng.random() < 0.1 and second + delay < 600:
            together.conversion(second + delay, delay, hours)
    for campaign in (alone, few):
        for _ in range(100):
            campaign.click(540.0, 0.1, hours)
        for delay in (5.0, 12.0, 21.0, 31.0, 42.0, 54.0):
            campaign.conversion(540.0 + delay, delay, hours)
    for _ in range(30):
        together.refit(600.0, hours)
        few.refit(600.0, hours, like=together)
        alone.refit(600.0, hours)
    assert few.matured(60.0) == pytest.approx(1 - np.exp(-1), abs=0.12) and alone.matured(60.0) < 0.5
    assert few.factor < alone.factor - 0.03


def test_a_new_campaign_stays_at_the_models_rate():
    campaign = CampaignDelay()
    campaign.click(0.0, 0.1, SETTINGS)
    campaign.refit(1.0, SETTINGS)
    assert campaign.factor == pytest.approx(1.0, abs=0.01) and campaign.log_factor[1] == pytest.approx(0.1)


def test_a_model_that_is_right_keeps_a_factor_of_one():
    campaign = campaign_after(seconds=4000, rate=0.1)
    assert campaign.factor == pytest.approx(1.0, abs=0.15)


def test_the_pending_clicks_stay_bounded_and_keep_their_exposure():
    campaign = CampaignDelay()
    for second in range(20_000):
        campaign.click(float(second), 0.1, SETTINGS)
        if second % 50 == 0:
            campaign.refit(float(second), SETTINGS)
    campaign.refit(20_000.0, SETTINGS)
    assert len(campaign.bins) < 200
    assert sum(e for _, e in campaign.bins) == pytest.approx(2000.0, rel=1e-9)


def test_clicks_past_the_horizon_count_with_what_they_brought_which_fades():
    campaign, day = CampaignDelay(), SETTINGS.time_constant_s
    for _ in range(100):
        campaign.click(0.0, 0.1, SETTINGS)
    for hours in (1, 6, 7):
        campaign.refit(hours * 3600.0, SETTINGS)
    assert campaign.bins == [] and campaign.mature == pytest.approx(10 * np.exp(-7 * 3600 / day), rel=0.05)
    campaign.refit(7 * 3600 + day, SETTINGS)
    assert campaign.mature == pytest.approx(10 * np.exp(-7 * 3600 / day - 1), rel=0.05)


def test_conversions_that_come_late_count_as_much_as_others_that_came_then():
    campaign = CampaignDelay()
    campaign.conversion(1000.0, 10.0, SETTINGS)
    campaign.conversion(1000.0, 5 * 3600.0, SETTINGS)
    assert campaign.conversions == 2.0


def test_old_conversions_fade_so_that_the_rate_follows_drift():
    campaign = campaign_after(seconds=2000)
    before = campaign.conversions
    campaign.refit(2000 + SETTINGS.time_constant_s, SETTINGS)
    assert campaign.conversions == pytest.approx(before * np.exp(-1), rel=1e-9)


def test_times_in_the_past_and_zero_delays_stay_finite():
    campaign = CampaignDelay()
    campaign.click(100.0, 0.1, SETTINGS)
    campaign.click(50.0, 0.1, SETTINGS)
    campaign.conversion(60.0, 0.0, SETTINGS)
    campaign.refit(10.0, SETTINGS)
    assert np.isfinite(campaign.factor) and campaign.time_s == 100.0


def test_the_state_survives_as_plain_values():
    campaign = campaign_after(seconds=600)
    back = CampaignDelay(**campaign.values())
    back.refit(700.0, SETTINGS)
    campaign.refit(700.0, SETTINGS)
    assert back == campaign


def test_the_logit_change_multiplies_the_probability():
    change = logit_change(0.1, np.log(2.0))
    assert 1 / (1 + np.exp(-(np.log(0.1 / 0.9) + change))) == pytest.approx(0.2)
    assert np.isfinite(logit_change(0.9, 10.0))


def versions_of(count: int) -> _Campaign:
    """Return a campaign that said the adjustment n / 10 in version 10 n, so many times."""
    campaign = _Campaign()
    for n in range(1, count + 1):
        campaign.note(10 * n, n / 10)
    return campaign


def test_a_decision_finds_the_adjustment_of_its_version():
    campaign = versions_of(5)
    assert [campaign.in_force(v) for v in (9, 10, 19, 20, 99)] == [0.0, 0.1, 0.1, 0.2, 0.5]


def test_a_decision_older_than_all_versions_kept_finds_the_nearest_one():
    campaign = versions_of(40)
    assert len(campaign.emitted) == 16
    assert campaign.in_force(15) == campaign.in_force(240) == pytest.approx(2.4)


def test_a_decision_older_than_the_first_version_carried_nothing_however_many_are_forgotten():
    assert versions_of(40).in_force(9) == 0.0


def test_what_was_in_force_survives_a_restart():
    learned = Conversions(DelaySettings())
    learned._campaigns["c"] = versions_of(40)
    again = Conversions(DelaySettings())
    again.restore(learned.values())
    assert [again._campaigns["c"].in_force(v) for v in (9, 15)] == pytest.approx([0.0, 2.4])


def beside_a_good_one(learned: Conversions, campaign: str, seconds: int) -> dict[str, Weight]:
    """Let a campaign's clicks come, one a second, and none convert, beside one of the model's rate.

    Returns what was told.
    """
    rng, told = np.random.default_rng(0), {}
    arrivals: dict[int, list[int]] = {}
    for second in range(seconds):
        for name in ("good", campaign):
            learned.click(outcome("click", second, campaign_id=name))
        if rng.random() < 0.1:
            arrivals.setdefault(second + int(rng.exponential(120.0)), []).append(second)
        for clicked in arrivals.get(second, ()):
            at = MINUTE + 1000 * second
            learned.conversion(outcome("conversion", clicked, campaign_id="good", event_time=at))
        if second % 5 == 0:
            told |= learned.changed(MINUTE + 1000 * second, 1)
    return told


def test_a_campaign_of_which_nothing_is_heard_returns_to_the_models_rate():
    learned = Conversions(DelaySettings(mean_delay_s=60.0))
    told = beside_a_good_one(learned, "poor", 1800)["poor"][0]
    days = [learned.changed(MINUTE + 86_400_000 * day, 1 + day) for day in range(1, 12)]
    assert told < -0.5 and [day["poor"][0] for day in days if "poor" in day][-1] > -0.1


def test_those_of_which_nothing_is_heard_take_turns():
    learned = Conversions(DelaySettings())
    learned._campaigns |= {f"c{campaign}": versions_of(1) for campaign in range(100)}
    told = [set(learned.changed(MINUTE + 5000 * call, 11 + call)) for call in range(4)]
    assert [len(some) for some in told] == [32, 32, 32, 4] and len(set.union(*told)) == 100


def test_a_forgotten_campaign_is_told_of_after_a_restart_too():
    learned = Conversions(DelaySettings(), capacity=2)
    beside_a_good_one(learned, "old", 600)
    for name in ("good", "new"):
        learned.click(outcome("click", 600, campaign_id=name))
    again = Conversions(DelaySettings(), capacity=2)
    again.restore(learned.values())
    told = [one.changed(MINUTE + 601_000, 2)["old"] for one in (again, learned)]
    assert told == [(0.0, 0.0)] * 2


def test_a_campaign_that_never_converts_is_not_held_up_by_endless_delays():
    learned = Conversions(DelaySettings())
    beside_a_good_one(learned, "dead", 3600)
    factor = {name: campaign.delay.factor for name, campaign in learned._campaigns.items()}
    assert factor["dead"] < 0.1 and factor["good"] == pytest.approx(1.0, abs=0.2)


def test_the_first_conversion_of_a_campaign_taken_for_dead_brings_it_back():
    learned = Conversions(DelaySettings())
    told = beside_a_good_one(learned, "dead", 900)
    learned.conversion(outcome("conversion", 899, campaign_id="dead", event_time=MINUTE + 900_000))
    again = learned.changed(MINUTE + 901_000, 2)
    assert told["dead"][0] == -4.0 and -3.5 < again["dead"][0] < -1.0
