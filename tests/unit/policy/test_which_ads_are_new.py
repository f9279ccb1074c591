"""New ads: which ones count, who owes one, and what that leaves for the last slot."""

import math

import numpy as np
import pytest

from models.domain.ids import key64
from models.domain.policy import Policy
from models.policy.bitsets import pack
from models.policy.new_ads import (
    ASSUMED_PCTR,
    STOCK_MS,
    eligible_new,
    favor_new,
    new_ads_of,
    owes_new_ad,
    with_new,
)

V0 = 0.045
HOUR_MS = 3_600_000


def new_rows(first_ms, variance=V0, **policy):
    times = np.array(first_ms, np.int64)
    return new_ads_of(times, np.broadcast_to(variance, times.shape), V0, Policy(**policy)).row.tolist()


def flags(words, ads):
    return [bool(words[a >> 6] >> np.uint64(a & 63) & np.uint64(1)) for a in range(ads)]


def test_ads_that_came_after_the_stock_may_be_new_youngest_first():
    assert new_rows([0, STOCK_MS - 1, STOCK_MS, 2 * HOUR_MS, HOUR_MS]) == [3, 4, 2]


def test_a_first_catalogue_holds_no_new_ads_in_however_many_records_it_comes():
    assert new_rows([HOUR_MS + n for n in range(50)]) == []
    assert new_rows([]) == []


def test_an_ad_whose_variance_tells_of_enough_impressions_is_not_new():
    def left(n):
        return V0 / (1 + n * ASSUMED_PCTR * (1 - ASSUMED_PCTR) * V0)

    variance = np.array([V0, V0, left(99), left(101)])
    assert new_rows([0, HOUR_MS, HOUR_MS, HOUR_MS], variance, new_ad_impressions=100) == [1, 2]
    assert new_rows([0, HOUR_MS, HOUR_MS, HOUR_MS], new_ad_impressions=0) == []


def test_only_eligible_ads_younger_than_the_limit_of_their_decision_count():
    new = new_ads_of(np.array([0, 10, 20, 30, 40]) * HOUR_MS, np.full(5, V0), V0, Policy())
    eligible = np.stack([pack(np.array([True, True, False, True, True]))] * 2)
    words = eligible_new(new, np.array([5, 30]) * HOUR_MS, eligible)
    assert flags(words[0], 5) == [False, True, False, True, True]
    assert flags(words[1], 5) == [False, False, False, False, True]


def test_new_ads_join_the_candidates_of_those_who_owe_one_once_each():
    found = np.array([[3, 1], [3, 1], [0, -1]], np.int32)
    extra = np.array([[4, 3, -1], [5, -1, -1]], np.int32)
    words = np.stack([pack(np.isin(np.arange(6), rows)) for rows in ([3, 4], [5])])
    rows, new = with_new(found, np.array([True, False, True]), extra, words)
    assert rows.tolist() == [[3, 1, 4, -1, -1], [3, 1, -1, -1, -1], [0, -1, 5, -1, -1]]
    assert [np.flatnonzero(row).tolist() for row in new] == [[0, 2], [], [2]]


@pytest.mark.parametrize(
    ("is_new", "picked", "left"),
    [
        ([False, True, False], [2, -1], [-math.inf, 0.0, -math.inf]),
        ([False, True, True], [2, -1], [0.0, 0.0, -math.inf]),
        ([False, False, False], [2, -1], [0.0, 0.0, -math.inf]),
    ],
    ids=["one is left", "one is in the slate", "none is left"],
)
def test_the_last_slot_is_for_new_ads_unless_one_is_in_the_slate_or_none_is_left(is_new, picked, left):
    log_rank = np.array([0.0, 0.0, -math.inf])
    told = favor_new(log_rank, np.array(is_new), np.array(picked))
    assert log_rank.tolist() == left
    assert told == (left[0] == -math.inf)


def test_the_share_of_decisions_that_owe_a_new_ad_is_the_policys():
    seeds = np.array([key64(f"ads.events.v1-3-{n}") for n in range(20_000)], np.uint64)
    assert owes_new_ad(seeds, 0.2).mean() == pytest.approx(0.2, abs=0.0114)  # four standard errors
    assert not owes_new_ad(seeds, 0.0).any()
    assert owes_new_ad(seeds, 1.0).all()
    assert (owes_new_ad(seeds, 0.2) == owes_new_ad(seeds[::-1], 0.2)[::-1]).all()
