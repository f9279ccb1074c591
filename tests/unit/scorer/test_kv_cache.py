"""The cache of hot users: evictions, rebuilds and batch splits change no bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.catalogue import Ad, Catalogue
from models.domain.errors import ImpulseError, SettingError
from models.scorer.config import ModelConfig
from models.scorer.interface import HistoryTable
from models.scorer.kv_cache import GROUP, ring_length, seat_bytes
from models.scorer.serving import TransformerScorer
from models.scorer.simd import LANES
from models.scorer.weights import blank_tensors

CONFIG = ModelConfig(vocabulary=20, d_model=16, heads=1, window=4, rotary_length=16, head_width=16)
USERS = 6
CATALOGUE = Catalogue().upsert([Ad(ad_id=f"ad-{i}", campaign_id="c") for i in range(9)])
SEEDS = st.integers(0, 2**32 - 1)


def random_tensors(config, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: value + (0.5 * rng.standard_normal(value.shape)).astype(np.float32)
        if value.dtype == np.float32
        else value
        for name, value in blank_tensors(config).items()
    }


TENSORS = random_tensors(CONFIG)


def scorer(hot_users):
    return TransformerScorer(CONFIG, TENSORS, "test", hot_users=hot_users)


class Log:
    """A history table that fills event by event, the same for the same seed."""

    def __init__(self, seed, length=CONFIG.history_length):
        self.rng = np.random.default_rng(seed)
        self.history = HistoryTable.empty(USERS, length)

    def append(self, row):
        history = self.history
        slot = history.count[row] % history.ad_key.shape[1]
        history.ad_key[row, slot] = self.rng.integers(1, 25)
        history.category_key[row, slot] = self.rng.integers(0, 5)
        history.kind[row, slot] = self.rng.integers(0, 8)
        history.dwell_ms[row, slot] = self.rng.integers(0, 5000)
        history.time_ms[row, slot] = 10**9 + int(history.count[row]) * 1000 + self.rng.integers(0, 900)
        history.count[row] += 1

    def copy(self):
        """A history table with the same content and another identity."""
        names = ("ad_key", "category_key", "kind", "dwell_ms", "time_ms", "count", "generation")
        return HistoryTable(**{name: getattr(self.history, name).copy() for name in names})


def answers(one, history, rows):
    """Everything the scorer says of some users."""
    index = one.index(CATALOGUE)
    users = one.encode(history, rows, rows * 0)
    candidates = np.tile(np.arange(9, dtype=np.int32), (len(rows), 1))
    return users, *one.rank(history, rows, users, index, candidates)


def assert_same_bits(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


@given(SEEDS, st.integers(1, 4 * CONFIG.history_length))
@settings(max_examples=40, deadline=None)
def test_a_rebuild_has_the_bits_of_having_stepped_all_along(seed, events):
    log, stepping, rows = Log(seed), scorer(1), np.zeros(1, np.int64)
    for _ in range(events):
        log.append(0)
        stepping.encode(log.history, rows, rows * 0)
    assert_same_bits(answers(scorer(1), log.copy(), rows), answers(stepping, log.history, rows))


def test_one_event_less_than_the_stated_history_is_not_enough_for_a_rebuild():
    log, stepping, rows = Log(5), scorer(1), np.zeros(1, np.int64)
    for _ in range(60):
        log.append(0)
        expected = answers(stepping, log.history, rows)
    oldest = int(log.history.count[0] - CONFIG.history_length) % CONFIG.history_length
    touched = log.copy()
    touched.time_ms[0, oldest] -= 10**8  # of this event only the time counts, in the next one's gap
    assert any((a != b).any() for a, b in zip(answers(scorer(1), touched, rows), expected, strict=True))
    unread = log.copy()
    unread.ad_key[0, oldest] = 3
    assert_same_bits(answers(scorer(1), unread, rows), expected)


@given(SEEDS, st.integers(1, USERS))
@settings(max_examples=40, deadline=None)
def test_evictions_and_batch_splits_change_no_bit(seed, hot_users):
    rng, log = np.random.default_rng(seed), Log(seed)
    small, large = scorer(hot_users), scorer(USERS)
    for _ in range(25):
        for row in rng.integers(0, USERS, rng.integers(0, 12)):
            log.append(row)
        rows = rng.permutation(USERS)[: rng.integers(1, USERS + 1)]
        whole = answers(large, log.history, rows)
        assert_same_bits(answers(small, log.history, rows), whole)
        for b, row in enumerate(rows):
            assert_same_bits(answers(small, log.history, np.array([row])), [w[b : b + 1] for w in whole])


@given(SEEDS, st.integers(0, 3 * CONFIG.history_length))
@settings(max_examples=30, deadline=None)
def test_a_user_who_fell_behind_by_any_number_of_events_catches_up_exactly(seed, missed):
    log, one, rows = Log(seed), scorer(2), np.zeros(1, np.int64)
    for _ in range(20):
        log.append(0)
    one.encode(log.history, rows, rows * 0)
    for _ in range(missed):
        log.append(0)
    assert_same_bits(answers(one, log.history, rows), answers(scorer(1), log.copy(), rows))


def test_a_row_given_to_another_user_starts_anew():
    log, one, rows = Log(7), scorer(2), np.zeros(1, np.int64)
    for _ in range(10):
        log.append(0)
    one.encode(log.history, rows, rows * 0)
    log.history.count[0], log.history.generation[0] = 0, 1
    for _ in range(10):
        log.append(0)
    assert_same_bits(answers(one, log.history, rows), answers(scorer(1), log.copy(), rows))


def test_two_tables_with_the_same_rows_are_kept_apart():
    first, second, one, rows = Log(8), Log(9), scorer(8), np.array([0, 1])
    for _ in range(5):
        first.append(0)
        second.append(1)
    one.encode(first.history, rows, rows * 0)
    assert_same_bits(answers(one, second.history, rows), answers(scorer(8), second.copy(), rows))
    assert_same_bits(answers(one, first.history, rows), answers(scorer(8), first.copy(), rows))


def test_a_table_longer_than_needed_changes_no_bit():
    short, long, rows = Log(10), Log(10, length=CONFIG.history_length + 13), np.zeros(1, np.int64)
    for _ in range(80):
        short.append(0)
        long.append(0)
    assert_same_bits(answers(scorer(1), short.history, rows), answers(scorer(1), long.history, rows))


def test_a_user_without_events_has_the_start_vector_and_finite_logits():
    users, click, conversion = answers(scorer(1), HistoryTable.empty(1, CONFIG.history_length), np.array([0]))
    np.testing.assert_array_equal(users[0], TENSORS["start"])
    assert np.isfinite([click, conversion]).all()


def test_an_erased_user_has_the_start_vector_again():
    log, one, rows = Log(11), scorer(1), np.zeros(1, np.int64)
    log.append(0)
    one.encode(log.history, rows, rows * 0)
    log.history.count[0] = 0
    np.testing.assert_array_equal(one.encode(log.history, rows, rows * 0)[0], TENSORS["start"])


def test_a_row_asked_for_twice_gets_the_same_answer_twice():
    log = Log(12)
    for _ in range(15):
        log.append(2)
    users, _, _ = answers(scorer(3), log.history, np.array([2, 0, 2]))
    np.testing.assert_array_equal(users[0], users[2])


def test_a_history_shorter_than_a_rebuild_needs_is_refused():
    with pytest.raises(ImpulseError, match="events kept per user"):
        none = np.zeros(1, np.int64)
        scorer(1).encode(HistoryTable.empty(1, CONFIG.history_length - 1), none, none)


def test_a_cache_without_seats_is_refused():
    with pytest.raises(SettingError, match="hot users"):
        scorer(0)


@pytest.mark.parametrize("window", [1, 5, 50, 100])
def test_a_ring_has_room_for_the_band_and_a_group_of_later_events(window):
    assert ring_length(window) >= window + GROUP - 1
    assert ring_length(window) % LANES == 0


def test_the_stated_memory_of_a_seat_is_that_of_its_arrays():
    arrays = sum(array.nbytes for array in scorer(3)._hot.seats)
    assert arrays == 3 * seat_bytes(CONFIG) + 16  # and the two ends of the list of use
