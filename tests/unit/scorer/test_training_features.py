import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.scorer.features import (
    NO_TIME,
    category_bucket,
    dwell_bucket,
    event_rows,
    gap_bucket,
    log2_bucket,
    vocabulary_row,
    vocabulary_rows,
)

keys = st.integers(1, 2**64 - 1)


@settings(deadline=None)  # the first call compiles
@given(units=st.integers(0, 2**62), buckets=st.integers(2, 40))
def test_buckets_are_powers_of_two_capped_at_the_last(units, buckets):
    assert log2_bucket(units, buckets) == min(1 + units.bit_length(), buckets - 1)


def test_no_dwell_is_bucket_zero_and_any_dwell_is_not():
    assert dwell_bucket(0, 20) == 0
    assert dwell_bucket(-5, 20) == 0
    assert dwell_bucket(1, 20) == 1
    assert dwell_bucket(300, 20) == 2


def test_a_first_event_has_gap_zero_and_time_running_backwards_counts_as_no_gap():
    assert gap_bucket(1_000, NO_TIME, 24) == 0
    assert gap_bucket(1_000, 5_000, 24) == gap_bucket(5_000, 5_000, 24) == 1
    assert gap_bucket(60_000, 0, 24) == 1 + (60_000 // 1024).bit_length()


@settings(deadline=None)  # the first call compiles
@given(key=keys, buckets=st.integers(2, 5000))
def test_a_category_is_never_in_the_bucket_of_none(key, buckets):
    assert category_bucket(np.uint64(0), buckets) == 0
    assert category_bucket(np.uint64(key), buckets) == key % (buckets - 1) + 1


@settings(deadline=None)  # the first call compiles
@given(known=st.lists(keys, unique=True, max_size=30), asked=st.lists(keys, max_size=10))
def test_one_key_and_many_keys_find_the_same_rows(known, asked):
    vocabulary = np.array(sorted(known), np.uint64)
    wanted = np.array(asked + known[:3], np.uint64)
    rows = vocabulary_rows(vocabulary, wanted)
    assert rows.tolist() == [vocabulary_row(vocabulary, key) for key in wanted]
    assert all((row == 0) == (key not in known) for row, key in zip(rows, wanted.tolist(), strict=True))
    assert all(vocabulary[row - 1] == key for row, key in zip(rows, wanted, strict=True) if row)


def test_gaps_do_not_reach_across_users():
    time_ms = np.array([1_000, 9_000, 50, 60])
    none = np.zeros(4, np.int64)
    _, _, gap = event_rows(none.astype(np.uint64), none, time_ms, np.array([0, 2]), 10, 20, 24)
    assert gap.tolist() == [0, gap_bucket(9_000, 1_000, 24), 0, 1]
