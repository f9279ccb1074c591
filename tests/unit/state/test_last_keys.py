"""What is remembered of keys that came lately, at a cost that does not grow with their number."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.shards import START

from models.learning.vocabulary import Vocabulary
from models.state.ledger import Ledger
from models.state.seen import LastKeys, SeenIds


def remembered(capacity: int, keys: list[int]) -> LastKeys[int]:
    last: LastKeys[int] = LastKeys(capacity)
    for key in keys:
        last.add(key)
    return last


@given(st.integers(1, 5), st.lists(st.integers(0, 8)))
def test_it_knows_the_last_keys_in_the_order_in_which_they_came_first(capacity, keys):
    expected: list[int] = []
    for key in keys:
        if key not in expected:
            expected = [*expected, key][-capacity:]
    assert remembered(capacity, keys).keys() == expected


@given(st.integers(1, 5), st.lists(st.integers(0, 8)), st.lists(st.integers(0, 8)))
def test_restored_it_answers_as_it_would_have(capacity, keys, more):
    last, again = remembered(capacity, keys), remembered(capacity, [])
    again.replace(last.keys())
    assert [again.add(key) for key in more] == [last.add(key) for key in more]


def seen_ids(capacity: int) -> Callable[[int], object]:
    seen = SeenIds(capacity)
    return lambda n: seen.first_time(str(n))


def ledger(capacity: int) -> Callable[[int], object]:
    kept = Ledger(capacity)

    def step(n: int) -> None:
        kept.reserve(n, START)
        kept.expire(START)

    return step


def vocabulary(capacity: int) -> Callable[[int], object]:
    names = Vocabulary(capacity)

    def step(n: int) -> None:
        names.slot(1, str(n))
        names.evicted.clear()

    return step


@pytest.mark.parametrize("memory", [seen_ids, ledger, vocabulary])
def test_forgetting_the_oldest_costs_as_much_in_a_large_memory_as_in_a_small_one(memory):
    """No bound on seconds: a ratio of 3 or so is caches', the walk this guards against makes it 100."""

    def cost(capacity: int) -> float:
        step = memory(capacity)
        for n in range(capacity):
            step(n)
        began = time.process_time()
        for n in range(capacity, 2 * capacity):
            step(n)
        return (time.process_time() - began) / capacity

    assert cost(1 << 17) < 12 * min(cost(1 << 8) for _ in range(20))
