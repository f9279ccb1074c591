"""Next items in the order of time."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.next_item import (
    OnlineMarkov,
    OnlinePopularity,
    hit_figures,
    ranks_along,
    ranks_in_turn,
)


def test_a_users_first_event_is_not_ranked():
    ranks = ranks_in_turn(OnlineMarkov, np.array([0, 1, 0]), np.array([0, 1, 1]), 2)
    assert ranks.tolist()[:2] == [-1, -1]
    assert ranks[2] >= 0


def test_what_followed_an_item_before_ranks_first_after_it():
    user, item = np.repeat(np.arange(5), 2), np.tile([3, 7], 5)
    ranks = ranks_in_turn(OnlineMarkov, user, item, 10)
    assert ranks[3::2].tolist() == [0, 0, 0, 0]


def test_an_event_is_ranked_before_it_is_learned():
    ranks = ranks_in_turn(OnlineMarkov, np.array([0, 0]), np.array([1, 4]), 5)
    assert ranks[1] == 3  # nothing is known but that item 1 came, which is left out; ties by index


def test_items_that_the_user_met_are_left_out_unless_kept():
    user, item = np.zeros(4, np.int64), np.array([0, 0, 0, 1])
    assert ranks_in_turn(OnlinePopularity, user, item, 2)[3] == 0
    assert ranks_in_turn(OnlinePopularity, user, item, 2, seen="keep")[3] == 1


def test_later_followers_count_less():
    model = OnlineMarkov(4, order=2, decay=0.5)
    model.learn(deque([0]), 1)
    model.learn(deque([2, 0]), 3)
    scores = model.scores(deque([0], maxlen=2))
    assert scores[1] > scores[3] > scores[2]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=60))
def test_a_rank_never_depends_on_what_comes_later(events):
    user, item = (np.array(column) for column in zip(*events, strict=True))
    whole = ranks_in_turn(OnlineMarkov, user, item, 6)
    half = len(events) // 2
    assert ranks_in_turn(OnlineMarkov, user[:half], item[:half], 6).tolist() == whole[:half].tolist()
    assert (whole < 6).all()


class DenseMarkov(OnlineMarkov):
    """The reference: the counts of all pairs in one table."""

    def __init__(self, items):
        super().__init__(items)
        self.follows = np.zeros((items, items), np.float32)

    def scores(self, recent):
        scores = 1e-3 * (self._seen / (self._seen.sum() + 1.0)).astype(np.float64)
        for age, item in enumerate(recent):
            scores += self._weights[age] * self.follows[item] / (self._sum[item] + 1.0)
        return scores

    def learn(self, recent, item):
        super().learn(recent, item)
        for age, before in enumerate(recent):
            self.follows[before, item] += self._weights[age]


EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=60)


@given(EVENTS)
def test_counts_of_pairs_that_came_rank_as_a_table_of_all_pairs_does(events):
    user, item = (np.array(column) for column in zip(*events, strict=True))
    found, expected = (ranks_in_turn(make, user, item, 6) for make in (OnlineMarkov, DenseMarkov))
    assert found.tolist() == expected.tolist()


def test_many_items_take_no_room_for_pairs_that_never_came():
    user, item = np.zeros(3, np.int64), np.array([0, 199_999, 5])
    assert ranks_in_turn(OnlineMarkov, user, item, 200_000)[2] == 4  # all pairs would take 160 GB


class Fixed(OnlineMarkov):
    """A model that does not learn, for both protocols."""

    def scores(self, recent):
        return (np.arange(6) * 7 % 5).astype(np.float64)


@given(EVENTS, st.integers(0, 60), st.sampled_from(["drop", "keep"]))
def test_a_model_that_does_not_learn_is_ranked_by_the_protocol_of_those_that_do(events, since, seen):
    user, item = (np.array(column) for column in zip(*events, strict=True))
    expected = ranks_in_turn(Fixed, user, item, 6, seen=seen)
    expected[:since] = -1
    found = ranks_along(
        lambda _, places: np.tile(np.arange(6) * 7 % 5, (len(places), 1)), user, item, since, seen=seen
    )
    assert found.tolist() == expected.tolist()


def test_a_long_history_is_scored_in_parts_of_bounded_size():
    sizes = []

    def scores(_, places):
        sizes.append(len(places))
        return np.zeros((len(places), 2))

    ranks = ranks_along(scores, np.zeros(1000, np.int64), np.ones(1000, np.int64), 100)
    assert (sum(sizes), (ranks >= 0).sum()) == (900, 900)
    assert max(sizes) <= 256


def test_hit_figures_count_ranked_events_alone():
    told = hit_figures(np.array([-1, 0, 9, 10]), np.array([0, 0, 0, 1]))
    assert told["events"] == 3
    assert told["hr@10"] == pytest.approx(2 / 3)
    assert told["ndcg@10"] == pytest.approx((1 + 1 / np.log2(11)) / 3)
    assert hit_figures(np.array([-1]), np.array([0]))["hr@10"] is None


def test_more_events_of_the_same_users_that_say_the_same_are_no_more_certain():
    ranks, user = np.array([0, 20, 3, 40, 5]), np.arange(5)
    once, often = (hit_figures(np.repeat(ranks, n), np.repeat(user, n)) for n in (1, 50))
    assert often["hr@10_se"] == pytest.approx(once["hr@10_se"])
    assert once["hr@10_se"] == pytest.approx(np.std([1, 0, 1, 0, 1], ddof=1) / np.sqrt(5))
