"""The compiled appraisal of candidates says what the auction and the exploration define on arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decide.arithmetic import Ads, Logits, Offers, appraise, sigmoid
from models.learning.compiled import CandidateParts
from models.learning.exploration import log_rank_sd
from models.policy.auction import CPM, Bids, admitted, rank_value, value_micros
from models.policy.standing import reason_of

ADS = 40


def some_ads(rng: np.random.Generator) -> Ads:
    return Ads(
        keys=rng.integers(1, 2**63, ADS).astype(np.uint64),
        bid_type=rng.integers(0, 3, ADS).astype(np.int8),
        bid_micros=rng.integers(0, 3_000_000, ADS),
        quality=rng.uniform(0.1, 3, ADS),
        floor_micros=rng.integers(0, 200_000, ADS),
        campaign=rng.integers(0, 7, ADS).astype(np.int32),
        mu=rng.uniform(0, 2, ADS),
    )


def some_logits(rng: np.random.Generator, rows: np.ndarray) -> Logits:
    def part() -> np.ndarray:
        return rng.normal(0, 0.5, rows.shape)

    click = np.where(rows >= 0, rng.normal(-3, 2, rows.shape), -np.inf).astype(np.float32)
    conversion = np.where(rows >= 0, rng.normal(-3, 2, rows.shape), -np.inf).astype(np.float32)
    learned = CandidateParts(part(), part(), part(), part() ** 2, part())
    return Logits(click, conversion, 0.3, part(), part() ** 2, learned, 0.4, (0.9, -2.0))


def some_batch(seed: int, decisions: int = 5) -> tuple[np.ndarray, Logits, Ads]:
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, ADS, (decisions, 12)).astype(np.int32)
    return rows, some_logits(rng, rows), some_ads(rng)


def appraised(
    rows: np.ndarray, logits: Logits, ads: Ads, reserve: int = 0, least: int | None = None
) -> Offers:
    most = reserve if least is None else least
    return appraise(rows, logits, ads, 0.25, reserve, np.full(len(rows), most))


def bids_of(ads: Ads, rows: np.ndarray) -> Bids:
    return Bids(
        ads.bid_type[rows],
        ads.bid_micros[rows],
        ads.quality[rows],
        ads.floor_micros[rows],
        ads.campaign[rows],
        ads.mu[rows],
    )


@given(st.integers(0, 2**32), st.sampled_from([0, 5_000_000, 10**9]))
@settings(max_examples=40, deadline=None)
def test_offers_are_those_of_the_auction_and_the_exploration_to_the_last_bit(seed, reserve):
    rows, logits, ads = some_batch(seed)
    offers = appraised(rows, logits, ads, reserve)
    bids, there = bids_of(ads, rows), rows >= 0
    value = value_micros(bids, offers.pctr, offers.pcvr)
    allowed = there & admitted(bids, value, reserve)
    sd = log_rank_sd(logits.learned.variance + logits.taste_variance, offers.pctr, 0.25, bids.bid_type == CPM)
    assert (offers.value == np.where(there, value, 0.0)).all()
    assert (offers.rank == np.where(allowed, rank_value(bids, value), -np.inf)).all()
    assert (offers.deviation == np.where(there, sd, 0.0)).all()


def test_the_click_probability_is_the_sigmoid_of_the_sum_of_the_parts():
    rows, logits, ads = some_batch(1)
    offers = appraised(rows, logits, ads, 0)
    learned = logits.learned
    total = logits.click.astype(np.float64) + logits.bias + learned.ad + learned.campaign
    total += learned.segment_category + logits.taste
    total = -2.0 + 0.9 * (total + 2.0)
    expected = 1 / (1 + np.exp(-np.clip(total, -30, 30)))
    np.testing.assert_allclose(offers.pctr[rows >= 0], expected[rows >= 0], rtol=1e-12)


def test_the_conversion_probability_takes_its_share_of_what_segment_and_user_say_of_clicks():
    rows, logits, ads = some_batch(1)
    learned = logits.learned
    told = logits.slope * (learned.segment_category + logits.taste)
    expected = 1 / (1 + np.exp(-np.clip(logits.conversion + learned.conversion + told, -30, 30)))
    offers = appraised(rows, logits, ads, 0)
    np.testing.assert_allclose(offers.pcvr[rows >= 0], expected[rows >= 0], rtol=1e-12)


def test_log_ranks_are_minus_infinity_for_what_earns_nothing_or_is_not_admitted():
    rows, logits, ads = some_batch(2)
    free = ads._replace(bid_micros=np.zeros(ADS, np.int64), floor_micros=np.zeros(ADS, np.int64))
    assert (appraised(rows, logits, free, 0).log_rank == -np.inf).all()
    assert (appraised(rows, logits, ads, 10**15).log_rank == -np.inf).all()
    offers = appraised(rows, logits, ads, 0)
    earning = offers.rank > 0
    np.testing.assert_allclose(offers.log_rank[earning], np.log(offers.rank[earning]), rtol=1e-15)


def test_no_candidate_offers_nothing():
    rows, logits, ads = some_batch(3)
    offers = appraised(rows, logits, ads, 0)
    for values in (offers.keys, offers.pctr, offers.pcvr, offers.bid_micros, offers.value):
        assert (values[rows < 0] == 0).all()
    assert (offers.rank[rows < 0] == -np.inf).all()


def test_an_offer_does_not_depend_on_the_other_rows_of_the_batch():
    rows, logits, ads = some_batch(4)
    whole = appraised(rows, logits, ads, 0)
    for b in range(len(rows)):
        one = slice(b, b + 1)
        learned = CandidateParts(*(part[one] for part in logits.learned))
        own = Logits(
            logits.click[one],
            logits.conversion[one],
            logits.bias,
            logits.taste[one],
            logits.taste_variance[one],
            learned,
            logits.slope,
            logits.calibration,
        )
        alone = appraised(rows[one], own, ads, 0)
        for one_row, all_rows in zip(alone, whole, strict=True):
            assert (one_row[0] == all_rows[b]).all()


@pytest.mark.parametrize(("logit", "expected"), [(-np.inf, 0.0), (0.0, 0.5)])
def test_the_sigmoid_of_minus_infinity_is_zero(logit, expected):
    assert sigmoid(logit) == expected
    assert 0.0 < sigmoid(-1000.0) < sigmoid(1000.0) < 1.0


def test_a_placement_may_ask_for_more_than_the_policy_in_each_decision_of_its_own():
    rows, logits, ads = some_batch(5)
    ads = ads._replace(floor_micros=np.zeros(ADS, np.int64))
    least = np.array([0, 10**6, 10**7, 10**8, 10**15])
    offers = appraise(rows, logits, ads, 0.25, 10**6, np.maximum(least, 10**6))
    for b, micros in enumerate(least.tolist()):
        value, there = offers.value[b] / (1.0 + ads.mu[rows[b]]), rows[b] >= 0
        assert ((offers.rank[b] > -np.inf) == (there & (value >= max(micros, 10**6)))).all()
        reasons = np.array([reason_of(code) for code in offers.standing[b].tolist()])
        assert ((reasons == "reserve") == (there & (value < 10**6))).all()
        assert ((reasons == "placement_floor") == (there & (value >= 10**6) & (value < micros))).all()


def test_a_bid_below_the_ads_own_floor_and_a_bid_of_nothing_are_told_apart():
    rng, rows = np.random.default_rng(0), np.zeros((1, 2), np.int32)
    logits, ads = some_logits(rng, rows), some_ads(rng)
    mu = np.ones(ADS)
    for bid, floor, reason in ((11, 6, "floor"), (0, 0, "worthless"), (12, 6, "")):
        offered = ads._replace(bid_micros=np.full(ADS, bid), floor_micros=np.full(ADS, floor), mu=mu)
        offers = appraised(rows, logits, offered)
        assert [reason_of(code) for code in offers.standing[0].tolist()] == [reason, reason]
