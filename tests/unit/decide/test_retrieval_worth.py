"""What bids are worth to retrieval: with one candidate per decision, it alone decides what is shown."""

import pytest
from support.shards import bodies, run

from models.domain import events
from models.domain.catalogue import Ad
from models.domain.decision import Decision
from models.domain.policy import Exploration, Policy

ONE_CANDIDATE = Policy(candidates=1, slots=1, exploration=Exploration(thompson_nu=0.0, randomized_share=0.0))


def shown(bench, log, ads, conversions):
    log.add(events.PolicyChange, policy=ONE_CANDIDATE)
    log.add(events.AdUpsert, ads=ads)
    if conversions:
        log.add(events.Adjustments, version=1, conversions=conversions)
    log.request()
    (decision,) = bodies(run(bench.shard(), log.records), Decision)
    return [slot.ad_id for slot in decision.ads]


def ad(name: str, bid_type: str, bid_micros: int) -> Ad:
    return Ad(ad_id=name, campaign_id=f"of-{name}", bid_type=bid_type, bid_micros=bid_micros)


@pytest.mark.parametrize(("conversions", "expected"), [({}, "a"), ({"of-b": (0.5, 0.1)}, "b")])
def test_of_equal_bids_per_conversion_the_one_that_converts_more_is_retrieved(
    bench, log, conversions, expected
):
    ads = (ad("a", "cpa", 1_000_000), ad("b", "cpa", 1_000_000))
    assert shown(bench, log, ads, conversions) == [expected]


@pytest.mark.parametrize(
    ("conversions", "expected"),
    [({}, "conversion"), ({"of-conversion": (-1.0, 0.1)}, "click"), ({"of-click": (9.0, 0.1)}, "conversion")],
)
def test_a_bid_per_conversion_meets_one_per_click_by_what_is_known_of_its_conversions(
    bench, log, conversions, expected
):
    ads = (ad("click", "cpc", 95_000), ad("conversion", "cpa", 1_000_000))
    assert shown(bench, log, ads, conversions) == [expected]
