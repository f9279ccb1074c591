"""Budgets as ads bring and change them, and as they go."""

from itertools import permutations

import pytest
from campaigns import BUDGET, CENT, campaign, pacer_of, spend_per_minute

from models.domain.errors import BadRecord
from models.policy.accounts import DAY_MS, KEPT_DAYS
from models.policy.ends import MAX_ENDS, Ends
from models.policy.pacing import MINUTE_MS, Pacer


def test_a_raised_budget_reopens_the_campaign():
    pacer = pacer_of(campaign(daily=10 * CENT))
    pacer.observe("c", 10 * CENT, 0)
    pacer.follow([campaign(daily=1000 * CENT)])
    assert not pacer.account("c").exhausted


def test_a_raised_budget_is_told_though_no_time_has_passed_since_the_last_record():
    """A campaign that is stopped is shown no more, so its outcomes move no clock."""
    pacer = pacer_of(campaign(daily=10 * CENT))
    pacer.observe("c", 10 * CENT, 5_000)
    assert pacer.emit().exhausted == ("c",)
    pacer.follow([campaign(daily=1000 * CENT)])
    assert pacer.emit().exhausted == ()
    pacer.follow([campaign(daily=1000 * CENT)])
    assert pacer.emit() is None, "nothing changed"


@pytest.mark.parametrize("ad", [campaign(daily=None), campaign(daily=None, lifetime=2 * BUDGET)])
def test_a_campaign_without_a_budget_of_the_day_any_more_is_slowed_no_more(ad):
    pacer = pacer_of()
    spend_per_minute(pacer, 10, 10 * CENT)
    assert pacer.emit().multipliers["c"] > 1.0
    pacer.follow([ad])
    assert pacer.emit().multipliers == {"c": 0.0}


def test_a_day_of_a_budget_that_was_taken_away_pays_no_more_than_it_left():
    pacer = pacer_of(campaign(daily=10 * CENT))
    pacer.observe("c", 4 * CENT, DAY_MS // 2, impressions=1)
    pacer.advance(DAY_MS + 1)
    pacer.follow([campaign(daily=None)])
    for charge in range(3):
        pacer.observe("c", 4 * CENT, DAY_MS // 2 + charge)
    assert (pacer.account("c").spent, pacer.account("c").waived) == (10 * CENT, 6 * CENT)


def test_a_budget_that_is_away_over_midnight_is_the_old_days_budget_all_the_same():
    pacer = pacer_of(campaign(daily=10 * CENT))
    pacer.observe("c", 10 * CENT, DAY_MS // 2)
    pacer.follow([campaign(daily=None)])
    pacer.advance(DAY_MS)
    pacer.follow([campaign(daily=10 * CENT)])
    pacer.observe("c", 10 * CENT, DAY_MS // 2)
    assert (pacer.account("c").spent, pacer.account("c").waived) == (10 * CENT, 10 * CENT)


def test_a_day_without_a_budget_after_one_that_had_some_is_not_held_to_that():
    pacer = pacer_of(campaign(daily=10 * CENT))
    pacer.observe("c", 10 * CENT, DAY_MS // 2)
    pacer.follow([campaign(daily=None)])
    for day in (1, 2):
        pacer.observe("c", 30 * CENT, day * DAY_MS)
    pacer.observe("c", 30 * CENT, DAY_MS)
    assert (pacer.account("c").spent, pacer.account("c").waived) == (100 * CENT, 0)


def ending(days, ad_id="a", campaign_id="c"):
    end = None if days is None else days * DAY_MS
    return campaign(campaign_id, daily=None, lifetime=10 * BUDGET, end=end, ad_id=ad_id)


@pytest.mark.parametrize("ads", list(permutations([ending(10, "a"), ending(2, "b"), ending(None, "x")])))
def test_a_lifetime_budget_is_spread_to_the_latest_end_of_the_campaigns_ads(ads):
    together, one_by_one = pacer_of(*ads), pacer_of(ads[0])
    for ad in ads[1:]:
        one_by_one.follow([ad])
    assert together.account("c").day_budget == one_by_one.account("c").day_budget == BUDGET


def test_an_ads_new_record_changes_its_end():
    pacer = pacer_of(ending(10, "a"), ending(2, "b"))
    pacer.follow([ending(5, "a")])
    assert pacer.account("c").day_budget == 2 * BUDGET
    pacer.follow([ending(None, "a"), ending(None, "b")])
    assert pacer.account("c").day_budget is None


def test_an_ad_that_is_withdrawn_or_goes_to_another_campaign_keeps_its_own_open_no_longer():
    pacer = pacer_of(ending(10, "a"), ending(5, "b"), ending(2, "x"))
    pacer.withdraw(["a", "unknown"])
    assert pacer.account("c").day_budget == 2 * BUDGET
    pacer.follow([ending(5, "b", campaign_id="d")])
    assert pacer.account("c").day_budget == 5 * BUDGET
    assert pacer.account("d").day_budget == 2 * BUDGET


def test_a_whole_catalogue_brings_the_ends_of_its_ads_alone():
    pacer = pacer_of(ending(10, "a"), ending(2, "b"))
    pacer.replace([ending(2, "b")])
    assert pacer.account("c").day_budget == 5 * BUDGET


def test_a_restored_pacer_knows_the_ends():
    pacer = Pacer.restore(pacer_of(ending(10, "a"), ending(2, "b")).snapshot())
    pacer.withdraw(["a"])
    assert pacer.account("c").day_budget == 5 * BUDGET


def test_of_many_ends_of_a_campaign_the_latest_are_kept():
    ends = Ends()
    ends.follow([ending(n, f"a{n}") for n in range(1, 2 * MAX_ENDS + 1)])
    ends.trim("c")
    assert len(ends.of_ads["c"]) == len(ends.campaign_of) == MAX_ENDS
    assert ends.latest("c") == 2 * MAX_ENDS * DAY_MS


def test_no_ends_are_kept_of_a_campaign_without_a_lifetime_budget():
    ends = Ends()
    ends.follow([ending(10, "a")])
    ends.follow([campaign(end=5 * DAY_MS, ad_id="b")])
    assert ends == Ends()


def test_of_a_campaigns_ads_the_last_budget_wins():
    pacer = pacer_of(campaign(daily=5), campaign(daily=7))
    assert pacer.account("c").daily == 7


def test_a_catalogue_without_a_campaign_lifts_its_pacing_and_remembers_spend_and_budget():
    pacer = pacer_of(campaign("kept"), campaign("gone"))
    for name in ("kept", "gone"):
        spend_per_minute(pacer, 5, 10 * CENT, campaign_id=name)
    pacer.emit()
    pacer.replace([campaign("kept")])
    pacer.advance(9 * MINUTE_MS)
    assert pacer.emit().multipliers["gone"] == 0.0
    account = pacer.account("gone")
    assert (account.daily, account.spent, account.day_budget) == (BUDGET, 50 * CENT, None)
    assert pacer.account("kept").daily == BUDGET
    pacer.replace([campaign("kept"), campaign("gone")])
    assert pacer.account("gone").day_budget == BUDGET


@pytest.mark.parametrize("budgets", [{"daily": 10 * CENT}, {"daily": None, "lifetime": 10 * CENT}])
@pytest.mark.parametrize("days_late", [0, 1, 30])
def test_what_comes_late_of_a_campaign_that_a_whole_catalogue_leaves_out_keeps_to_its_budgets(
    budgets, days_late
):
    """Clicks and conversions follow for as long as attribution reaches back."""
    pacer = pacer_of(campaign("gone", **budgets), campaign("kept"))
    pacer.observe("gone", 4 * CENT, 0)
    pacer.replace([campaign("kept")])
    pacer.advance(days_late * DAY_MS)
    for charge in range(3):
        pacer.observe("gone", 4 * CENT, charge)
    assert (pacer.account("gone").spent, pacer.account("gone").waived) == (10 * CENT, 6 * CENT)
    said = pacer.emit()
    assert (said.exhausted, said.waived) == ((), {"gone": 6 * CENT})


def test_a_campaign_that_comes_back_into_the_catalogue_with_its_budget_spent_is_stopped():
    pacer = pacer_of(campaign(daily=10 * CENT))
    pacer.observe("c", 10 * CENT, 0)
    pacer.replace([])
    assert pacer.emit().exhausted == ()
    pacer.follow([campaign(daily=10 * CENT)])
    assert pacer.emit().exhausted == ("c",)
    pacer.observe("c", CENT, 0)
    assert (pacer.account("c").spent, pacer.account("c").waived) == (10 * CENT, CENT)


def test_a_restored_pacer_knows_the_budgets_of_campaigns_that_are_gone():
    whole = pacer_of(campaign(daily=10 * CENT))
    whole.observe("c", 4 * CENT, 0)
    whole.replace([])
    restored = Pacer.restore(whole.snapshot())
    for pacer in (whole, restored):
        pacer.observe("c", 10 * CENT, 1)
    assert restored.account("c").waived == 4 * CENT
    assert restored.snapshot() == whole.snapshot()


def test_campaigns_that_are_gone_make_room_after_those_that_never_had_a_budget():
    pacer = pacer_of(campaign("gone"), campaign("kept"), max_campaigns=3)
    pacer.observe("free", CENT, 1)
    pacer.replace([campaign("kept")])
    pacer.follow([campaign("new")])
    assert (pacer.account("free").spent, pacer.account("gone").daily) == (0, BUDGET)
    pacer.follow([campaign("newer")])
    assert pacer.account("gone").daily is None
    assert {pacer.account(name).daily for name in ("kept", "new", "newer")} == {BUDGET}


def test_campaigns_that_were_silent_for_longer_than_charges_come_make_room_and_others_do_not():
    pacer = pacer_of(campaign("over"), campaign("new"), max_campaigns=2)
    pacer.observe("over", CENT, 1)
    pacer.advance((KEPT_DAYS + 1) * DAY_MS)
    pacer.follow([campaign("next")])
    assert [pacer.account(name).daily for name in ("over", "new", "next")] == [None, BUDGET, BUDGET]
    pacer.observe("new", CENT, (KEPT_DAYS + 1) * DAY_MS)
    with pytest.raises(BadRecord, match="raise max_campaigns"):
        pacer.follow([campaign("one more")])


def test_an_end_of_a_campaign_that_made_room_may_be_withdrawn():
    pacer = pacer_of(ending(200, "a"), max_campaigns=1)
    pacer.observe("c", CENT, 1)
    pacer.advance((KEPT_DAYS + 1) * DAY_MS)
    pacer.follow([campaign("next")])
    pacer.withdraw(["a"])
    pacer.follow([campaign("next", daily=2 * BUDGET)])
    assert (pacer.account("c").lifetime, pacer.account("next").daily) == (None, 2 * BUDGET)


def test_a_campaign_whose_budgets_are_sent_again_is_not_silent():
    pacer = pacer_of(campaign("again"), campaign("over"), max_campaigns=2)
    for name in ("again", "over"):
        pacer.observe(name, CENT, 1)
    pacer.advance((KEPT_DAYS + 1) * DAY_MS)
    pacer.follow([campaign("again")])
    pacer.follow([campaign("next")])
    assert [pacer.account(name).daily for name in ("again", "over", "next")] == [BUDGET, None, BUDGET]


def test_an_exhausted_campaign_that_leaves_the_catalogue_is_named_no_more():
    pacer = pacer_of(campaign(daily=10 * CENT))
    pacer.observe("c", 10 * CENT, 0)
    assert pacer.emit().exhausted == ("c",)
    pacer.replace([])
    pacer.advance(2_000)
    assert pacer.emit().exhausted == ()
