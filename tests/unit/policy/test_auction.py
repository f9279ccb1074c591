"""The auction: what ranks first, what the winner pays, and that no price breaks its promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.policy.auction import (
    CPA,
    CPC,
    CPM,
    MAX_BID_MICROS,
    Bids,
    admitted,
    ecpm_micros,
    gsp_prices,
    rank_value,
    value_micros,
)
from models.policy.validation import MAX_RESERVE_MICROS


def bids(bid_micros, bid_type=CPC, quality=1.0, floor=0, campaign=None, mu=0.0):
    bid = np.atleast_2d(np.array(bid_micros, np.int64))
    ones = np.ones(bid.shape)
    codes = np.arange(bid.size, dtype=np.int32).reshape(bid.shape) if campaign is None else campaign
    return Bids(
        bid_type=(ones * bid_type).astype(np.int8),
        bid_micros=bid,
        quality=ones * quality,
        floor_micros=(ones * floor).astype(np.int64),
        campaign=np.atleast_2d(np.array(codes, np.int32)),
        mu=ones * mu,
    )


def auction(offers, pctr, pcvr=0.1, reserve=0, slots=3):
    """Return columns, prices, values and ranks of one greedy auction."""
    shape = offers.bid_micros.shape
    value = value_micros(offers, np.broadcast_to(np.atleast_2d(pctr), shape), np.full(shape, pcvr))
    rank = np.where(admitted(offers, value, reserve), rank_value(offers, value), -np.inf)
    order = np.argsort(-rank, axis=1, kind="stable")[:, :slots]
    column = np.where(np.take_along_axis(rank, order, 1) > -np.inf, order, -1)
    return column[0], gsp_prices(offers, value, rank, column, reserve)[0], value[0], rank[0]


@pytest.mark.parametrize(("bid_type", "expected"), [(CPM, 2_000_000), (CPC, 100_000_000), (CPA, 10_000_000)])
def test_a_bid_is_worth_what_a_thousand_impressions_bring(bid_type, expected):
    value = value_micros(bids([2_000_000], bid_type), np.array([[0.05]]), np.array([[0.1]]))
    assert value[0, 0] == pytest.approx(expected)


def test_quality_raises_and_pacing_lowers_the_rank():
    value = np.array([[100.0]])
    assert rank_value(bids([1], quality=2.0), value)[0, 0] == 200.0
    assert rank_value(bids([1], mu=1.0), value)[0, 0] == 50.0


def test_the_winner_pays_the_least_bid_that_keeps_its_rank():
    column, prices, _, _ = auction(bids([2_000_000, 1_000_000, 500_000]), 0.1)
    assert column.tolist() == [0, 1, 2]
    assert prices.tolist() == [1_000_000, 500_000, 0]


def test_an_ad_that_is_clicked_more_pays_less_per_click():
    column, prices, _, _ = auction(bids([1_000_000, 1_000_000]), [0.2, 0.1])
    assert column.tolist() == [0, 1]
    assert prices.tolist() == [500_000, 0]


def test_nobody_bids_against_their_own_campaign():
    _, prices, _, _ = auction(bids([900_000, 800_000, 300_000], campaign=[0, 0, 1]), 0.1)
    assert prices.tolist() == [300_000, 300_000, 0]


def test_the_last_ad_pays_the_reserve():
    _, prices, _, _ = auction(bids([2_000_000]), 0.1, reserve=30_000_000)
    assert prices.tolist() == [300_000]


def test_a_reserve_in_a_currency_of_small_units_prices_as_any_other():
    """20,000 rupiah of a thousand impressions at 500 of a click: the product does not fit 64 bits."""
    _, prices, _, _ = auction(bids([500_000_000]), 0.1, reserve=20_000_000_000)
    assert prices.tolist() == [200_000_000]


def test_an_ads_own_floor_is_its_least_price():
    _, prices, _, _ = auction(bids([2_000_000, 100], floor=100), 0.1)
    assert prices.tolist() == [100, 100]


def test_an_ad_below_the_reserve_or_its_own_floor_is_not_sold():
    assert admitted(bids([100]), np.array([[99.0]]), 100).tolist() == [[False]]
    assert admitted(bids([100]), np.array([[100.0]]), 100).tolist() == [[True]]
    assert admitted(bids([100], floor=101), np.array([[100.0]]), 0).tolist() == [[False]]


def test_a_campaign_that_holds_back_pays_as_if_it_bid_less():
    column, prices, _, _ = auction(bids([2_000_000, 600_000], mu=[[1.0, 0.0]]), 0.1)
    assert column.tolist() == [0, 1]
    assert prices.tolist() == [600_000, 0]


def test_a_campaign_that_holds_back_is_not_sold_where_so_small_a_bid_would_not_be():
    value = np.array([[200.0]])
    assert admitted(bids([100], mu=1.0), value, 100).tolist() == [[True]]
    assert admitted(bids([100], mu=1.1), value, 100).tolist() == [[False]]
    assert admitted(bids([100], mu=1.1, floor=48), value, 0).tolist() == [[False]]


def test_a_fraction_of_a_micro_is_charged_as_a_whole_one():
    _, prices, _, _ = auction(bids([3, 1], CPM, quality=[[1.0, 0.5]]), 0.1)
    assert prices.tolist() == [1, 0]


def test_pacing_does_not_lower_what_the_seller_gets_at_the_reserve():
    _, prices, _, _ = auction(bids([2_000_000], mu=1.0), 0.1, reserve=30_000_000)
    assert prices.tolist() == [300_000]


def test_a_free_ad_pays_nothing_and_an_empty_slot_costs_nothing():
    offers, value = bids([0, 0]), np.zeros((1, 2))
    assert gsp_prices(offers, value, value, np.array([[0, -1]]), 0).tolist() == [[0, 0]]


def test_the_price_does_not_depend_on_who_else_is_in_the_slate():
    offers = bids([3_000_000, 2_000_000, 1_000_000])
    value = value_micros(offers, np.full((1, 3), 0.1), np.zeros((1, 3)))
    alone = gsp_prices(offers, value, value, np.array([[0]]), 0)
    among = gsp_prices(offers, value, value, np.array([[2, 0, 1]]), 0)
    assert alone[0, 0] == among[0, 1] == 2_000_000


def test_the_logged_rank_value_is_the_nearest_whole_micro():
    assert ecpm_micros(np.array([1.4, 1.6, 2.5, -np.inf, np.nan])).tolist() == [1, 2, 2, 0, 0]


candidates = st.lists(
    st.tuples(
        st.integers(1, MAX_BID_MICROS),
        st.integers(0, 2),
        st.floats(1e-4, 0.5),
        st.floats(0.1, 10.0),
        st.floats(0.0, 20.0),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=8,
)


def offers_of(drawn):
    bid, kind, pctr, quality, mu, campaign = (np.array([column]) for column in zip(*drawn, strict=True))
    floor = bid // 7
    return Bids(kind.astype(np.int8), bid, quality, floor, campaign.astype(np.int32), mu), pctr


@given(candidates, st.integers(0, MAX_RESERVE_MICROS))
def test_a_price_lies_between_floor_and_paced_bid_and_brings_the_reserve(drawn, reserve):
    offers, pctr = offers_of(drawn)
    column, prices, value, _ = auction(offers, pctr, reserve=reserve, slots=len(drawn))
    for k, price in zip(column, prices.tolist(), strict=True):
        if k >= 0:
            bid = offers.bid_micros[0, k]
            assert offers.floor_micros[0, k] <= price <= np.ceil(bid / (1.0 + offers.mu[0, k]))
            assert price * value[k] / bid >= reserve * (1 - 1e-9)


@given(candidates)
def test_bidding_the_price_instead_of_the_bid_keeps_the_rank(drawn):
    offers, pctr = offers_of(drawn)
    column, prices, _, rank = auction(offers, pctr, slots=len(drawn))
    rivals_code = offers.campaign[0]
    for k, price in zip(column, prices.tolist(), strict=True):
        others = [r for j, r in enumerate(rank) if rivals_code[j] != rivals_code[k] and r <= rank[k]]
        if k >= 0 and others:
            at_price = rank[k] / offers.bid_micros[0, k] * price * (1.0 + offers.mu[0, k])
            assert at_price >= max(others) * (1 - 1e-9)


@given(candidates, st.integers(1, 10**9))
def test_a_higher_bid_never_ranks_lower_nor_pays_less(drawn, more):
    offers, pctr = offers_of(drawn)
    raised = offers._replace(bid_micros=offers.bid_micros.copy())
    raised.bid_micros[0, 0] += more
    slots = len(drawn)
    before, paid, *_ = auction(offers._replace(floor_micros=offers.floor_micros * 0), pctr, slots=slots)
    after, pays, *_ = auction(raised._replace(floor_micros=offers.floor_micros * 0), pctr, slots=slots)
    place, later = before.tolist().index(0), after.tolist().index(0)
    assert later <= place
    assert pays[later] >= paid[place] - 1


@given(candidates, candidates)
def test_a_row_of_a_batch_is_priced_as_it_is_alone(one, two):
    k = max(len(one), len(two))
    padded = [drawn + [(1, 0, 0.1, 1.0, 0.0, 9)] * (k - len(drawn)) for drawn in (one, two)]
    parts = [offers_of(drawn) for drawn in padded]
    both = Bids(*(np.concatenate(pair) for pair in zip(parts[0][0], parts[1][0], strict=True)))
    pctr = np.concatenate([parts[0][1], parts[1][1]])
    value = value_micros(both, pctr, np.full(pctr.shape, 0.1))
    rank, column = rank_value(both, value), np.tile(np.arange(k), (2, 1))
    together = gsp_prices(both, value, rank, column, 1000)
    for b, (offers, p) in enumerate(parts):
        alone = value_micros(offers, p, np.full(p.shape, 0.1))
        prices = gsp_prices(offers, alone, rank_value(offers, alone), column[:1], 1000)
        assert prices.tobytes() == together[b : b + 1].tobytes()
