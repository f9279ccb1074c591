"""Conversions: which click or view of a decision they belong to, by the policy's windows and the ad's own."""

from __future__ import annotations

import pytest
from support.shards import Bench, LogBuilder, bodies, run

from models.decide.attribution import windows_of
from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision, Outcome
from models.domain.log import Rejected
from models.domain.policy import Attribution, Policy
from models.state.ledger import Windows

HOUR = 3600.0
DAY = 86_400.0
BID = 1_000_000


class Journey:
    """One user's way through one decision for the ad `a0`."""

    def __init__(self, **ad: object) -> None:
        self.log = LogBuilder()
        self.log.ads(1, floor_micros=BID // 2, **ad)
        self.decision = self.log.request()
        self.log.add(events.Impression, **self._about())

    def click(self, after_s: float = 1.0) -> Journey:
        self.log.add(events.Click, after_s=after_s, **self._about())
        return self

    def convert(self, after_s: float, **fields: object) -> Journey:
        self.log.add(events.Conversion, after_s=after_s, value_micros=7, **self._about(), **fields)
        return self

    def _about(self) -> dict[str, str]:
        return {"user_id": "u", "ad_id": "a0", "decision_id": self.decision}

    def conversions(self) -> list[Outcome]:
        outcomes = bodies(run(Bench().shard(), self.log.records), Outcome)
        return [outcome for outcome in outcomes if outcome.kind == "conversion"]

    def through(self) -> list[str]:
        return [outcome.through for outcome in self.conversions()]


def test_a_conversion_belongs_to_the_click_within_its_window():
    assert Journey().click().convert(7 * DAY).through() == ["click"]
    assert Journey().click().convert(7 * DAY + 1).through() == []


def test_a_conversion_without_a_click_belongs_to_the_view_within_its_window():
    assert Journey().convert(DAY).through() == ["view"]
    assert Journey().convert(DAY + 1).through() == []


def test_an_ad_may_narrow_its_windows():
    narrow = {"click_through_s": 3600, "view_through_s": 60}
    assert Journey(**narrow).click().convert(HOUR).through() == ["click"]
    assert Journey(**narrow).click().convert(HOUR + 1).through() == []
    assert Journey(**narrow).convert(60).through() == ["view"]
    assert Journey(**narrow).convert(61).through() == []


def test_an_ad_may_widen_its_windows_beyond_the_policys():
    assert Journey(click_through_s=30 * 86_400).click().convert(30 * DAY).through() == ["click"]
    assert Journey(view_through_s=30 * 86_400).convert(30 * DAY).through() == ["view"]
    assert Journey(click_through_s=30 * 86_400).click().convert(30 * DAY + 1).through() == []


def test_a_wide_window_outlives_a_policy_with_a_narrow_one_and_a_snapshot():
    journey = Journey(click_through_s=30 * 86_400).click()
    narrow = Policy(attribution=Attribution(click_through_s=60, view_through_s=0))
    journey.log.add(events.PolicyChange, policy=narrow)
    bench = Bench()
    shard, again = bench.shard(), bench.shard()
    run(shard, journey.log.records)
    again.load(shard.dump())
    known = len(journey.log.records)
    journey.convert(20 * DAY)
    (conversion,) = bodies(run(again, journey.log.records[known:]), Outcome)
    assert conversion.through == "click"


def test_a_window_beyond_ninety_days_is_a_dead_letter_and_the_other_ads_are_taken():
    log = LogBuilder()
    ads = [Ad(ad_id=f"a{n}", campaign_id="c", click_through_s=n * 86_400) for n in (90, 91)]
    log.add(events.AdUpsert, ads=tuple(ads))
    shard = Bench().shard()
    (letter,) = bodies(run(shard, log.records), Rejected)
    assert "click_through_s of ad 'a91'" in str(letter.error)
    assert [ad.ad_id for ad in shard.view.catalogue.ads] == ["a90"]


def test_each_conversion_of_a_click_counts_and_is_paid():
    journey = Journey(bid_type="cpa", bid_micros=BID).click().convert(60).convert(60).convert(DAY)
    found = journey.conversions()
    assert [(each.through, each.value_micros) for each in found] == [("click", 7)] * 3
    assert all(each.charge_micros == each.price_micros > 0 for each in found)


def test_the_same_conversion_sent_twice_counts_once():
    assert len(Journey().click().convert(60, id="sale").convert(60, id="sale").conversions()) == 1


def test_a_conversion_that_arrives_late_is_judged_by_its_own_time():
    """It happened within the hour and was written two hours later."""
    journey = Journey(click_through_s=3600).click()
    happened = journey.log.now + 1_800_000
    assert journey.convert(2 * HOUR, event_time=happened).through() == ["click"]


@pytest.mark.parametrize("clicked", [True, False])
def test_a_bid_per_conversion_pays_for_one_through_a_view_as_for_one_through_a_click(clicked):
    journey = Journey(bid_type="cpa", bid_micros=BID)
    (conversion,) = (journey.click() if clicked else journey).convert(60).conversions()
    assert conversion.through == ("click" if clicked else "view")
    assert conversion.charge_micros == conversion.price_micros >= BID // 2


def test_a_conversion_of_the_windows_last_day_may_be_told_a_day_late():
    journey = Journey().click(after_s=HOUR)
    happened = journey.log.now + int(7 * DAY * 1000)
    journey.log.add(events.View, after_s=7 * DAY + 20 * HOUR, user_id="someone", ad_id="a0")
    assert journey.convert(1, event_time=happened).through() == ["click"]


def test_a_conversion_before_its_click_and_view_belongs_to_nothing():
    journey = Journey().click()
    assert journey.convert(1, event_time=journey.log.now - 60_000).through() == []


class Reader:
    """One user who is shown the ad `a0` again and again; what follows may name no decision."""

    def __init__(self, **ad: object) -> None:
        self.log, self.bench = LogBuilder(), Bench()
        self.log.ads(1, **ad)

    def sees(self, *, clicks: bool = False) -> str:
        decision = self.log.request(after_s=100)
        self.tells(events.Click if clicks else events.Impression, decision)
        return decision

    def tells(self, kind: type, by: str | None = None, **fields: object) -> None:
        self.log.add(kind, user_id="u", ad_id="a0", decision_id=by, **fields)

    def conversions(self) -> list[tuple[str, str]]:
        outcomes = bodies(run(self.bench.shard(), self.log.records), Outcome)
        return [(each.through, each.decision_id) for each in outcomes if each.kind == "conversion"]


def test_a_conversion_without_a_decision_belongs_to_the_click_though_the_ad_was_seen_again():
    reader = Reader()
    clicked = reader.sees(clicks=True)
    reader.sees()
    reader.tells(events.Conversion)
    reader.tells(events.Conversion, after_s=2 * DAY)
    assert reader.conversions() == [("click", clicked)] * 2


def test_of_two_clicks_a_conversion_without_a_decision_belongs_to_the_latest_decisions():
    reader = Reader()
    reader.sees(clicks=True)
    latest = reader.sees(clicks=True)
    reader.tells(events.Conversion)
    assert reader.conversions() == [("click", latest)]


def test_a_conversion_without_a_decision_belongs_to_the_latest_view_where_nothing_was_clicked():
    reader = Reader()
    reader.sees()
    latest = reader.sees()
    reader.tells(events.Conversion)
    assert reader.conversions() == [("view", latest)]


def test_a_conversion_without_a_decision_belongs_to_an_earlier_view_that_it_came_after():
    reader = Reader()
    earlier = reader.sees()
    between = reader.log.now + 1000
    reader.log.now += 5000
    reader.sees()
    reader.tells(events.Conversion, event_time=between)
    assert reader.conversions() == [("view", earlier)]


@pytest.mark.parametrize(("waits", "through"), [(20 * DAY, ["click"]), (30 * DAY + 1, [])])
def test_a_new_catalogue_without_the_ad_leaves_its_click_the_window_it_had(waits, through):
    reader = Reader(click_through_s=30 * 86_400)
    clicked = reader.sees(clicks=True)
    reader.bench.resources.catalogues["next"] = (Ad(ad_id="other", campaign_id="c"),)
    reader.log.add(events.CatalogueSnapshot, artifact="next")
    reader.tells(events.Conversion, clicked, after_s=waits - 1)
    assert [each for each, _ in reader.conversions()] == through


def test_a_new_catalogue_without_the_ad_makes_nobody_pay_beyond_the_window_it_had():
    reader = Reader(bid_type="cpa", click_through_s=3600, view_through_s=0)
    clicked = reader.sees(clicks=True)
    reader.bench.resources.catalogues["next"] = (Ad(ad_id="other", campaign_id="c"),)
    reader.log.add(events.CatalogueSnapshot, artifact="next")
    reader.tells(events.Conversion, clicked, after_s=3 * DAY)
    assert reader.conversions() == []


def test_a_change_of_the_ad_or_of_the_policy_holds_for_decisions_made_after_it():
    reader = Reader()
    before = reader.sees(clicks=True)
    reader.log.ads(1, click_through_s=3600)
    reader.log.add(events.PolicyChange, policy=Policy(attribution=Attribution(view_through_s=0)))
    after = reader.sees(clicks=True)
    for decision in (before, after):
        reader.tells(events.Conversion, decision, after_s=HOUR)
    assert reader.conversions() == [("click", before)]


def test_the_windows_of_a_decision_that_waits_in_a_batch_are_those_it_was_asked_under():
    reader = Reader()
    asked = reader.log.request()
    reader.log.ads(1, click_through_s=3600)
    reader.tells(events.Click, asked)
    reader.tells(events.Conversion, asked, after_s=DAY)
    assert reader.conversions() == [("click", asked)]


def test_a_recorded_decision_for_an_ad_that_is_unknown_here_has_the_policys_windows():
    log = LogBuilder()
    log.ads(1)
    log.request()
    (decision,) = bodies(run(Bench().shard(), log.records), Decision)
    assert windows_of(Bench().views.first(), decision) == [Windows(7 * 86_400_000, 86_400_000)]


def test_a_click_long_after_the_decision_still_has_its_whole_window():
    reader = Reader()
    reader.log.add(events.PolicyChange, policy=Policy(lateness_s=0))
    asked = reader.log.request()
    reader.tells(events.Click, asked, after_s=5 * DAY)
    reader.log.add(events.View, user_id="someone", ad_id="a0", after_s=7 * DAY - 1)
    reader.tells(events.Conversion, asked, after_s=1)
    assert reader.conversions() == [("click", asked)]
