"""The share of decisions that hold a new ad, from the log to the slate."""

import pytest
from support.markets import GREEDY, watched
from support.shards import Bench, LogBuilder, bodies, run

from models.decide.explain import fate_of
from models.decide.slate_trace import NEW_AD, Slate, follow
from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.domain.policy import Exploration, Policy

OLD, NEW, REQUESTS = 200, 10, 200


def ads(kind, count, bid_micros, **fields):
    return tuple(
        Ad(ad_id=f"{kind}{n}", campaign_id=f"{kind}-c{n}", bid_micros=bid_micros + n, **fields)
        for n in range(count)
    )


def market(share, *, new_bid=100_000, exploration=None, after_s=600, **policy):
    """A log in which cheap ads come to a stock of dear ones, and then users ask."""
    log = LogBuilder()
    chosen = exploration or Exploration(randomized_share=0.0)
    log.add(
        events.PolicyChange,
        policy=Policy(new_ad_share=share, caps=(), no_repeat_s=0, exploration=chosen, **policy),
    )
    log.add(events.AdUpsert, ads=ads("old", OLD, 1_000_000))
    log.add(events.AdUpsert, ads=ads("new", NEW, new_bid), after_s=after_s)
    return log


def asked(log, requests=REQUESTS):
    for n in range(requests):
        log.request(f"u{n}", after_s=0.01)
    return log


def decided(log):
    return bodies(run(Bench().shard(), log.records), Decision)


def with_new(decisions):
    return [d for d in decisions if any(slot.ad_id.startswith("new") for slot in d.ads)]


def test_every_decision_holds_a_new_ad_where_all_owe_one_however_cheap_new_ads_are():
    decisions = decided(asked(market(1.0)))
    assert len(with_new(decisions)) == REQUESTS
    assert {d.ads[-1].ad_id[:3] for d in decisions} == {"new"}
    assert {slot.ad_id[:3] for d in decisions for slot in d.ads[:-1]} == {"old"}


def test_about_the_share_of_decisions_holds_a_new_ad_and_says_that_it_owed_one():
    decisions = decided(asked(market(0.5)))
    assert len(with_new(decisions)) / REQUESTS == pytest.approx(0.5, abs=0.14)  # four standard errors
    for decision in decisions:
        assert decision.behavior_policy.endswith("+new_ad") == (decision in with_new(decisions))


@pytest.mark.parametrize(
    "log",
    [
        market(0.0),
        market(1.0, after_s=30),
        market(1.0, new_ad_impressions=0),
        market(1.0, reserve_micros=20_000_000),
        market(1.0, exploration=Exploration(randomized_share=1.0)),
    ],
    ids=["no share", "they are stock", "none counts as new", "below the reserve", "randomised users"],
)
def test_no_decision_owes_its_last_slot_to_an_ad(log):
    assert with_new(decided(asked(log, 40))) == []


def test_an_ad_is_new_for_so_long_and_no_longer():
    log = market(1.0, new_ad_s=3600)
    log.request("early", after_s=3500)
    log.request("late", after_s=200)
    early, late = decided(log)
    assert (with_new([early]), with_new([late])) == ([early], [])


def test_an_ad_that_is_sent_again_or_withdrawn_in_between_is_no_new_one():
    log = market(1.0, new_ad_s=3600)
    log.add(events.AdWithdraw, ad_ids=tuple(f"new{n}" for n in range(NEW)))
    log.add(events.AdUpsert, ads=ads("new", NEW, 100_000, title="again"), after_s=4000)
    assert with_new(decided(asked(log, 5))) == []


def test_an_ad_that_was_shown_often_enough_is_no_new_one():
    log = market(1.0)
    log.add(events.Adjustments, version=1, ads={f"new{n}": (0.0, 0.01) for n in range(1, NEW)})
    decisions = decided(asked(log, 20))
    assert {d.ads[-1].ad_id for d in decisions} == {"new0"}


def test_a_greedy_owed_slot_is_certain_and_a_drawn_one_has_the_chance_among_new_ads():
    greedy = decided(asked(market(1.0, exploration=GREEDY), 5))
    assert {(d.ads[-1].ad_id, d.ads[-1].propensity) for d in greedy} == {(f"new{NEW - 1}", 1.0)}
    drawn = decided(asked(market(1.0)))
    chances = {}
    for decision in drawn:
        slot = decision.ads[-1]
        chances.setdefault(slot.ad_id, slot.propensity)
        assert slot.propensity == chances[slot.ad_id]
    counts = [sum(d.ads[-1].ad_id == ad for d in drawn) for ad in chances]
    assert sum(chances.values()) <= 1.0 + 1e-6
    for ad, count in zip(chances, counts, strict=True):
        assert count / REQUESTS == pytest.approx(chances[ad], abs=0.12)


def test_a_new_ad_pays_what_the_auction_asks():
    log = market(1.0, exploration=GREEDY)
    (decision,) = decided(asked(log, 1))
    last = decision.ads[-1]
    assert (last.bid_micros, last.price_micros) == (100_009, 100_008)


@pytest.mark.parametrize("sizes", [(1,), (3, 1, 7), (64,)])
def test_decisions_do_not_depend_on_the_batch_nor_on_a_snapshot_in_between(sizes):
    log = asked(market(0.5), 60)
    log.add(events.AdUpsert, ads=ads("new", NEW + 3, 90_000), after_s=60)
    log = asked(log, 20)
    whole = decided(log)
    assert bodies(run(Bench().shard(), log.records, sizes), Decision) == whole
    bench, half = Bench(), len(log.records) // 2
    first, second = bench.shard(), bench.shard()
    before = run(first, log.records[:half], sizes)
    second.load(first.dump())
    assert bodies([*before, *run(second, log.records[half:], sizes)], Decision) == whole


def test_a_trace_fills_the_slots_as_the_decision_did():
    traced = {}

    def look(job):
        traced[job.job.decision_id] = Slate.of(job, job.scored(job.eligible())).ads

    for decision in watched(asked(market(0.5), 30).records, look):
        assert traced[decision.decision_id] == [slot.ad_id for slot in decision.ads]


def test_a_greedy_decision_that_owed_a_new_ad_is_followed_to_its_last_slot():
    log = asked(market(1.0, exploration=GREEDY), 5)
    made = {d.decision_id: d for d in decided(log)}
    logged = []

    def look(job):
        shown = [slot.ad_id for slot in made[job.job.decision_id].ads]
        logged.append([each.logged for each in follow(job, shown, randomized=False)])

    watched(log.records, look, made)
    assert logged == [[1.0] * 5] * 5


def test_an_old_ad_is_told_that_the_last_slot_was_owed_to_a_new_one():
    log = asked(market(0.5, exploration=GREEDY), 30)
    fates = {}

    def look(job):
        fates[job.job.decision_id] = fate_of(job, f"old{OLD - 30}")

    decisions = watched(log.records, look)
    owing = with_new(decisions)
    assert 0 < len(owing) < len(decisions)
    for decision in decisions:
        told = fates[decision.decision_id]
        assert told.behavior_policy == decision.behavior_policy
        last = NEW_AD if decision in owing else ""
        assert [contest.ruled_out for contest in told.contests] == ["", "", "", "", last]
