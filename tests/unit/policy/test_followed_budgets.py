"""Budgets as ads bring and change them, and as they go."""

from campaigns import BUDGET, CENT, campaign, pacer_of, spend_per_minute

from models.policy.pacing import MINUTE_MS


def test_a_raised_budget_reopens_the_campaign():
    pacer = pacer_of(campaign(daily=10 * CENT))
    pacer.observe("c", 10 * CENT, 0)
    pacer.follow([campaign(daily=1000 * CENT)])
    assert not pacer.account("c").exhausted


def test_of_a_campaigns_ads_the_last_budget_wins():
    pacer = pacer_of(campaign(daily=5), campaign(daily=7))
    assert pacer.account("c").daily == 7


def test_a_catalogue_without_a_campaign_lifts_its_pacing_and_remembers_its_spend():
    pacer = pacer_of(campaign("kept"), campaign("gone"))
    for name in ("kept", "gone"):
        spend_per_minute(pacer, 5, 10 * CENT, campaign_id=name)
    pacer.emit()
    pacer.replace([campaign("kept")])
    pacer.advance(9 * MINUTE_MS)
    assert pacer.emit().multipliers["gone"] == 0.0
    assert (pacer.account("gone").daily, pacer.account("gone").spent) == (None, 50 * CENT)
    assert pacer.account("kept").daily == BUDGET
    pacer.replace([campaign("kept"), campaign("gone")])
    assert pacer.account("gone").daily == BUDGET


def test_an_exhausted_campaign_that_leaves_the_catalogue_is_named_no_more():
    pacer = pacer_of(campaign(daily=10 * CENT))
    pacer.observe("c", 10 * CENT, 0)
    assert pacer.emit().exhausted == ("c",)
    pacer.replace([])
    pacer.advance(2_000)
    assert pacer.emit().exhausted == ()
