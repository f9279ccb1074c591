"""Change points: the beliefs are those of Adams & MacKay, computed by scipy, and stay beliefs for ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nbinom

from models.learning.change_points import OWN, RUNS, begin_run, fresh_law, fresh_runs, observe, pool, weigh

CHANGE_S = 100.0
COUNTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=40)


def followed(counts, memory=1.0, seconds=2.0, cells=2.0):
    """Follow one cell through (its events, the group's other events); return runs, usual log share, shift."""
    runs, law, usual, shift = fresh_runs(1), fresh_law(), np.full(1, np.nan), np.zeros(1)
    for events, others in counts:
        begin_run(runs, law, seconds, CHANGE_S)
        new, total = np.array([float(events)]), np.array([float(events + others)])
        shift = observe(runs, law, usual, new, total, np.array([cells]), memory)
    return runs, usual, shift


def by_hazard(counts, seconds=2.0, cells=2.0):
    """Return the beliefs of a cell that others tell nothing about."""
    runs, law = fresh_runs(1), fresh_law()
    for events, others in counts:
        begin_run(runs, law, seconds, CHANGE_S)
        weigh(*runs, np.array([float(events)]), np.array([float(events + others)]), np.array([cells]), 1.0)
    return np.exp(runs.belief[:, 0])


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
    found = by_hazard(counts)
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


def together(turning, looks=40, cells=12, after=6):
    """Return the shift of the last of the cells, which always turns, some looks after the first ones do."""
    runs, law, usual = fresh_runs(cells), fresh_law(), np.full(cells, np.nan)
    for look in range(looks + after):
        begin_run(runs, law, 2.0, CHANGE_S)
        new = np.full(cells, 2.0)
        if look >= looks:
            new[:turning] = 8.0
            new[-1] = 4.0
        shift = observe(runs, law, usual, new, np.full(cells, 50.0), np.full(cells, 25.0), 1.0)
    return shift


def test_two_cells_are_followed_each_by_its_own_counts():
    shift = together(turning=1, cells=3, after=40)
    assert shift[0] == pytest.approx(np.log(4.0), abs=0.1)
    assert shift[1] == pytest.approx(0.0, abs=0.05)


def test_a_weak_sign_is_believed_sooner_where_many_cells_change():
    alone, among_others = together(turning=0)[-1], together(turning=8)[-1]
    assert 0 < alone < 0.6 * among_others < 0.6 * np.log(2.0)


def test_cells_that_do_not_change_stay_though_most_others_do():
    assert np.abs(together(turning=8, after=40)[8:-1]).max() < 0.1


def test_what_no_cell_shows_is_taken_for_rarer_than_the_hazard_says():
    runs, law = fresh_runs(200), fresh_law()
    rng = np.random.default_rng(0)
    for _ in range(30):
        begin_run(runs, law, 2.0, CHANGE_S)
        new = rng.poisson(3.0, 200).astype(np.float64)
        observe(runs, law, np.full(200, np.nan), new, np.full(200, 600.0), np.full(200, 200.0), 1.0)
    assert law.learned[1:].sum() < 0.3 * law.hazard[1:].sum()


@given(COUNTS)
def test_the_laws_of_the_runs_add_up_to_one_and_deny_no_run(counts):
    runs, law = fresh_runs(2), fresh_law()
    for events, others in counts:
        begin_run(runs, law, 2.0, CHANGE_S)
        new = np.array([float(events), float(others)])
        observe(runs, law, np.full(2, np.nan), new, np.full(2, new.sum()), np.full(2, 2.0), 0.98)
        assert law.learned.sum() == pytest.approx(1.0)
        assert law.hazard.sum() == pytest.approx(1.0)
        assert (law.learned[law.hazard > 0] > 0).all()


def test_pooling_is_a_step_of_em_for_the_weights_of_a_mixture():
    runs, law = fresh_runs(2, 4), fresh_law(4)
    law.learned[:] = law.hazard[:] = [0.7, 0.1, 0.1, 0.1]
    shown = np.array([[0.9, 0.05, 0.03, 0.02], [0.2, 0.1, 0.6, 0.1]])
    runs.belief[:] = np.log(shown).T
    pool(runs.belief, *law)
    found = (OWN * law.hazard + shown.sum(axis=0)) / (OWN + 2)
    assert law.learned == pytest.approx(found)
    expected = (shown * found / law.hazard).T
    assert np.exp(runs.belief) == pytest.approx(expected / expected.sum(axis=0))
