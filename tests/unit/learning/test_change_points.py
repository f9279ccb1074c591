"""Change points: the beliefs are those of Adams & MacKay, computed by scipy, and stay beliefs for ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nbinom

from models.learning.change_points import RUNS, begin_run, fresh_runs, observe

CHANGE_S = 100.0
COUNTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=40)


def followed(counts, memory=1.0, seconds=2.0, cells=2.0):
    """Follow one cell through (its events, the group's other events); return runs, usual log share, shift."""
    runs, usual, shift = fresh_runs(1), np.full(1, np.nan), np.zeros(1)
    for events, others in counts:
        begin_run(runs, seconds, CHANGE_S)
        new, total = np.array([float(events)]), np.array([float(events + others)])
        shift = observe(*runs, usual, new, total, np.array([cells]), memory)
    return runs, usual, shift


def exact(counts, seconds=2.0, cells=2.0):
    """Return the beliefs in the runs, oldest first, where none is ever given up."""
    hazard = 1.0 - np.exp(-seconds / CHANGE_S)
    belief, events, exposure = np.ones(1), np.zeros(1), np.zeros(1)
    for new, others in counts:
        belief = np.append(belief * (1 - hazard), hazard)
        events, exposure = np.append(events, 0.0), np.append(exposure, 0.0)
        shape, rate, total = 1.0 + events, cells + exposure, new + others
        if total:
            belief = belief * nbinom.pmf(new, shape, rate / (rate + total))
        belief, events, exposure = belief / belief.sum(), events + new, exposure + total
    return belief


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=RUNS - 1))
def test_the_beliefs_are_those_of_the_exact_recursion(counts):
    runs, _, _ = followed(counts)
    found = np.exp(runs.belief[:, 0])
    expected = exact(counts)
    later = len(expected) - 1
    assert found[0] == pytest.approx(expected[0], abs=1e-9)
    assert found[RUNS - later :] == pytest.approx(expected[1:], abs=1e-9)


@given(COUNTS)
def test_the_beliefs_in_all_runs_add_up_to_one(counts):
    runs, _, _ = followed(counts, memory=0.98)
    assert np.exp(runs.belief).sum() == pytest.approx(1.0)


@given(COUNTS)
def test_no_run_has_seen_more_of_the_cell_than_of_its_group(counts):
    runs, usual, shift = followed(counts, memory=0.98)
    assert (runs.events <= runs.exposure + 1e-9).all()
    assert np.isfinite(usual).all() and np.isfinite(shift).all()


def test_a_change_that_is_long_past_is_still_believed_in():
    before, after = [(5, 45)] * 60, [(25, 25)] * 60
    runs, usual, shift = followed(before + after)
    assert np.exp(runs.belief[0, 0]) < 1e-6
    assert usual[0] == pytest.approx(np.log(0.1), abs=0.05)
    assert shift[0] == pytest.approx(np.log(5.0), abs=0.05)


def test_a_group_without_events_says_nothing_of_its_cells():
    _, usual, shift = followed([(5, 45)] * 30 + [(0, 0)] * 200)
    assert shift[0] == pytest.approx(0.0, abs=0.02)
    assert usual[0] == pytest.approx(np.log(0.1), abs=0.05)


def test_two_cells_are_followed_each_by_its_own_counts():
    runs, usual = fresh_runs(2), np.full(2, np.nan)
    for turned in [False] * 40 + [True] * 40:
        begin_run(runs, 2.0, CHANGE_S)
        new = np.array([20.0 if turned else 5.0, 5.0])
        shift = observe(*runs, usual, new, np.full(2, 60.0), np.full(2, 4.0), 1.0)
    assert shift[0] == pytest.approx(np.log(4.0), abs=0.05)
    assert shift[1] == pytest.approx(0.0, abs=0.02)
