"""What users were shown: pages that hold all that a cap looks at, and not much more."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.state.shown import PAGE, Impressions, Shown

WINDOW_MS = 60_000


def show(shown: Shown, row: int, times: list[int], window_ms: int = WINDOW_MS, unseen_ms: int = 0) -> None:
    """Impressions of ads 1, 2, ... at these times, or decisions that wait so long for theirs."""
    n = len(times)
    keys = np.arange(1, n + 1, dtype=np.uint64)
    columns = np.full(n, row), keys, keys + np.uint64(100), keys + np.uint64(200)
    waits = np.full(n, window_ms), np.full(n, unseen_ms), np.full(n, -1)
    shown.append(Impressions(*columns, np.array(times, np.int64), *waits, np.full(n, row, np.uint16)))


def times_of(shown: Shown, row: int, used: int) -> list[int]:
    """All times that are kept of a user, oldest first."""
    dumped = shown.dump(used)["impressions"]
    length, times = (np.frombuffer(dumped[name][2], np.int64) for name in ("length", "time_ms"))
    begin = int(length[:row].sum())
    return times[begin : begin + int(length[row])].tolist()


def pages_in_use(shown: Shown) -> int:
    return len(shown.pages.older) - int(shown._free[1])


def test_a_user_who_saw_nothing_takes_no_page():
    shown = Shown(1000)
    show(shown, 7, [1])
    assert pages_in_use(shown) == 1


def test_impressions_come_back_in_the_order_of_the_log_whoever_came_between():
    shown = Shown(2)
    for n in range(100):
        show(shown, n % 2, [n])
    assert times_of(shown, 0, 2) == list(range(0, 100, 2))
    assert times_of(shown, 1, 2) == list(range(1, 100, 2))


appended = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=40)


@given(appended, st.integers(0, 100_000))
@settings(max_examples=60, deadline=None)
def test_everything_inside_the_widest_window_is_kept(batches, window_ms):
    shown, now, told = Shown(3), 0, {row: [] for row in range(3)}
    for row, count in batches:
        times = [now + 5000 * n for n in range(count)]
        now = times[-1] if times else now
        show(shown, row, times, window_ms)
        told[row] += times
    for row, times in told.items():
        kept, newest = times_of(shown, row, 3), max(times, default=0)
        assert kept == times[len(times) - len(kept) :]
        assert {t for t in times if t > newest - window_ms} <= set(kept)
        assert shown.is_exact(row, newest - window_ms)


@pytest.mark.parametrize("seed", range(5))
def test_everything_inside_the_widest_window_is_kept_of_impressions_told_out_of_order(seed):
    """The clock goes on evenly; every second impression happened up to 20 windows before it was told."""
    shown, rng, step = Shown(1), np.random.default_rng(seed), WINDOW_MS // (seed + 1)
    now = 20 * WINDOW_MS + step * np.arange(10 * PAGE)
    late = rng.integers(0, 20 * WINDOW_MS, len(now)) * rng.integers(0, 2, len(now))
    times = (now - late).tolist()
    for n, time in enumerate(times, 1):
        show(shown, 0, [time])
        kept, since = times_of(shown, 0, 1), now[n - 1] - WINDOW_MS
        assert kept == times[n - len(kept) : n]
        assert all(t <= since for t in times[: n - len(kept)])
        assert shown.is_exact(0, since)
    assert len(kept) < len(times)


def test_steady_traffic_takes_a_steady_number_of_pages():
    shown, most = Shown(4), []
    for n in range(40_000):
        show(shown, n % 4, [n * 1000])
        most.append(pages_in_use(shown))
    assert max(most[20_000:]) == max(most[5_000:10_000]) < 40


def test_a_user_who_asks_and_never_sees_takes_no_more_room_than_one_page_of_decisions():
    shown = Shown(1)
    for n in range(1_000):
        show(shown, 0, [n * 1000] * 5, unseen_ms=5000)
    assert pages_in_use(shown) == 1
    assert len(times_of(shown, 0, 1)) <= PAGE


def test_impressions_take_the_place_of_the_ads_that_waited_for_them():
    shown = Shown(1)
    for n in range(50):
        show(shown, 0, [n * 60_000] * 5, unseen_ms=5000)
        show(shown, 0, [n * 60_000 + 1000] * 5)
    assert len(times_of(shown, 0, 1)) <= 5 * PAGE
    assert min(times_of(shown, 0, 1)) >= 0


def test_many_impressions_at_once_take_no_more_room_than_one_by_one():
    at_once, one_by_one = Shown(2), Shown(2)
    for row in (0, 1):
        show(at_once, row, list(range(100 * PAGE)))
        for n in range(100 * PAGE):
            show(one_by_one, row, [n])
    assert pages_in_use(at_once) == pages_in_use(one_by_one) == 200
    assert len(at_once.pages.older) < 2 * 200


def test_of_a_robot_the_oldest_impressions_go():
    shown = Shown(1, kept=3 * PAGE)
    for n in range(1000):
        show(shown, 0, [n])
        kept = times_of(shown, 0, 1)
        assert kept[-1] == n and min(n + 1, 3 * PAGE) <= len(kept) <= 4 * PAGE
    assert not shown.is_exact(0, 1000 - WINDOW_MS)


def test_pages_of_a_user_who_is_forgotten_serve_others():
    shown = Shown(2)
    show(shown, 0, list(range(100)))
    size = len(shown.pages.older)
    for _ in range(50):
        shown.clear(0)
        assert (times_of(shown, 0, 2), pages_in_use(shown)) == ([], 0)
        show(shown, 0, list(range(100)))
    assert len(shown.pages.older) == size


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, 5 * PAGE])
def test_a_restored_shard_goes_on_as_the_original_would(count):
    shown, restored = Shown(3), Shown(1)
    show(shown, 2, list(range(count)))
    show(shown, 2, list(range(7)), unseen_ms=1000)
    shown.hide(1, 77)
    restored.grow(3)
    restored.load(shown.dump(3))
    for one in (shown, restored):
        for n in range(100):
            show(one, 2, [1000 + n] * 3, window_ms=n)
            show(one, 2, [1000 + n] * 2, window_ms=n, unseen_ms=n)
    assert restored.dump(3) == shown.dump(3)
