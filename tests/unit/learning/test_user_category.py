"""User x category weights in a shard's arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.ids import NO_KEY, key64
from models.learning.priors import Priors
from models.learning.user_category import UserCategoryTable

SHOES, CARS, FOOD = (key64(name) for name in ("shoes", "cars", "food"))
PRIORS = Priors(user_category=0.3, user_time_constant_s=100.0)
COLUMNS = ("category_key", "mean", "variance", "time_ms")


def table(users=4, slots=2) -> UserCategoryTable:
    return UserCategoryTable.empty(users, slots, PRIORS)


def learn(t, labels):
    """labels: (row, key, offset, label, time_ms)."""
    row, key, offset, label, time = zip(*labels, strict=True) if labels else ((),) * 5
    return t.learn(
        np.array(row, np.int64),
        np.array(key, np.uint64),
        np.array(offset, float),
        np.array(label, float),
        np.array(time, np.int64),
    )


def read_one(t, row, key, time):
    mean, variance = t.read(np.array([row]), np.array([[key]], np.uint64), np.array([time]))
    return mean[0, 0], variance[0, 0]


def test_an_unknown_category_reads_as_the_prior():
    assert read_one(table(), 0, SHOES, 0) == (0.0, 0.3)


def test_no_category_reads_as_nothing_to_add():
    assert read_one(table(), 0, NO_KEY, 0) == (0.0, 0.0)


def test_a_click_raises_and_a_no_click_lowers_the_weight_by_the_bayes_step():
    t = table()
    learn(t, [(0, SHOES, -2.0, 1.0, 0), (1, SHOES, -2.0, 0.0, 0)])
    p = 1 / (1 + np.exp(2.0))
    gain = 0.3 / (1 + 0.3 * p * (1 - p))
    assert read_one(t, 0, SHOES, 0) == pytest.approx((gain * (1 - p), gain))
    assert read_one(t, 1, SHOES, 0) == pytest.approx((-gain * p, gain))


def test_an_idle_weight_returns_to_the_prior():
    t = table()
    learn(t, [(0, SHOES, 0.0, 1.0, 0)])
    mean, variance = read_one(t, 0, SHOES, 0)
    assert read_one(t, 0, SHOES, 100_000) == pytest.approx(
        (mean * np.exp(-1), 0.3 + (variance - 0.3) * np.exp(-2))
    )
    assert read_one(t, 0, SHOES, 10**9) == pytest.approx((0.0, 0.3))


def test_a_time_before_the_last_update_decays_nothing():
    t = table()
    learn(t, [(0, SHOES, 0.0, 1.0, 50_000)])
    assert read_one(t, 0, SHOES, 10) == read_one(t, 0, SHOES, 50_000)
    learn(t, [(0, SHOES, 0.0, 1.0, 10)])
    assert t.time_ms[0, 0] == 50_000


def test_the_category_idle_longest_makes_way_for_a_new_one():
    t = table(slots=2)
    learn(t, [(0, SHOES, 0.0, 1.0, 1), (0, CARS, 0.0, 1.0, 2), (0, SHOES, 0.0, 1.0, 3)])
    learn(t, [(0, FOOD, 0.0, 1.0, 4)])
    assert set(t.category_key[0].tolist()) == {SHOES, FOOD}
    assert read_one(t, 0, CARS, 4) == (0.0, 0.3)


def test_users_do_not_share_weights():
    t = table()
    learn(t, [(0, SHOES, 0.0, 1.0, 0)])
    assert read_one(t, 1, SHOES, 0) == (0.0, 0.3)


def test_clearing_a_row_forgets_the_user():
    t = table()
    learn(t, [(0, SHOES, 0.0, 1.0, 0), (1, SHOES, 0.0, 1.0, 0)])
    t.clear(np.array([0]))
    assert read_one(t, 0, SHOES, 0) == (0.0, 0.3) and read_one(t, 1, SHOES, 0)[0] > 0


def test_a_late_click_undoes_its_no_click():
    wrong, right = table(), table()
    learn(wrong, [(0, SHOES, -2.0, 0.0, 0)])
    refused = wrong.correct(np.array([0]), np.array([SHOES], np.uint64), np.array([1.0]), np.array([0]))
    learn(right, [(0, SHOES, -2.0, 1.0, 0)])
    assert refused == 0
    assert read_one(wrong, 0, SHOES, 0) == pytest.approx(read_one(right, 0, SHOES, 0), rel=1e-6)


def test_a_correction_of_a_forgotten_category_is_refused():
    refused = table().correct(np.array([0]), np.array([SHOES], np.uint64), np.array([1.0]), np.array([0]))
    assert refused == 1


@pytest.mark.parametrize(
    ("key", "offset", "label"),
    [
        (SHOES, np.nan, 1.0),
        (SHOES, np.inf, 1.0),
        (SHOES, 0.0, np.nan),
        (SHOES, 0.0, 1.5),
        (SHOES, 0.0, -0.1),
        (NO_KEY, 0.0, 1.0),
    ],
)
def test_a_label_that_cannot_be_learned_from_changes_nothing_and_is_counted(key, offset, label):
    t = table()
    assert learn(t, [(0, key, offset, label, 0)]) == 1
    assert not t.category_key.any() and not t.mean.any()


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_not_positive_is_refused(weight):
    t = table()
    args = (np.array([0]), np.array([SHOES], np.uint64), np.zeros(1), np.ones(1), np.zeros(1, np.int64))
    assert t.learn(*args, np.array([weight])) == 1 and not t.mean.any()


def test_a_stream_of_one_sided_labels_stays_finite():
    t = table()
    learn(t, [(0, SHOES, -40.0, 1.0, n) for n in range(2000)])
    mean, variance = read_one(t, 0, SHOES, 2000)
    assert 0 < mean <= 6.0 and 0 < variance <= 0.31


labels = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([SHOES, CARS, FOOD]),
        st.floats(-6, 2),
        st.sampled_from([0.0, 1.0, 0.5]),
        st.integers(0, 10**6),
    ),
    max_size=40,
)


@given(labels, st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_splitting_a_batch_changes_no_bit(batch, cut):
    whole, parts = table(), table()
    learn(whole, batch)
    learn(parts, batch[:cut])
    learn(parts, batch[cut:])
    for name in COLUMNS:
        assert (getattr(whole, name) == getattr(parts, name)).all()


@given(labels)
@settings(max_examples=40, deadline=None)
def test_a_users_weights_do_not_depend_on_other_users_labels(batch):
    together, alone = table(), table()
    learn(together, batch)
    learn(alone, [one for one in batch if one[0] == 2])
    for name in COLUMNS:
        assert (getattr(together, name)[2] == getattr(alone, name)[2]).all()


@given(labels)
@settings(max_examples=40, deadline=None)
def test_variances_stay_within_zero_and_the_prior(batch):
    t = table()
    learn(t, batch)
    used = t.category_key != NO_KEY
    assert (t.variance[used] > 0).all() and (t.variance[used] <= 0.3 + 1e-6).all()


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([SHOES, NO_KEY]), st.booleans()), max_size=20))
def test_answers_in_one_batch_are_the_same_as_label_by_label(drawn):
    batch, single = table(), table()
    rows, keys, clicked = (np.array(c) for c in zip(*drawn, strict=True)) if drawn else ([], [], [])
    rows, keys = np.array(rows, np.int64), np.array(keys, np.uint64)
    times, offsets = np.arange(len(drawn)) * 1000, np.linspace(-2.0, 1.0, len(drawn))
    refused = batch.answer(rows, keys, np.array(clicked, np.bool_), offsets, times)
    expected = 0
    for n, (_, _, click) in enumerate(drawn):
        one = slice(n, n + 1)
        if click:
            expected += single.correct(rows[one], keys[one], np.ones(1), times[one])
        else:
            expected += single.learn(rows[one], keys[one], offsets[one], np.zeros(1), times[one])
    assert refused == expected
    for name in ("category_key", "mean", "variance", "time_ms"):
        assert (getattr(batch, name) == getattr(single, name)).all()
