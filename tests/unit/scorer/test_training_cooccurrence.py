import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.scorer.cooccurrence import GraphOptions, ItemGraph, Steps, build, recent_events, steps_of


def laid_out(sequences):
    lengths = [len(s) for s in sequences]
    return np.concatenate(([0], np.cumsum(lengths))), np.array([i for s in sequences for i in s], np.int64)


def graph_of(sequences, size, options=None):
    offsets, ad = laid_out(sequences)
    return build(ad, steps_of(offsets, ad), size, options)


def plain_weight(sequences, i, j, options):
    total = sum(
        options.lag_decay ** (lag - 1)
        for s in sequences
        for at, item in enumerate(s)
        for lag in range(1, options.lags + 1)
        if item == i and at + lag < len(s) and s[at + lag] == j
    )
    return total / (sum(s.count(i) for s in sequences) + options.shrinkage)


@given(st.lists(st.lists(st.integers(1, 6), max_size=9), min_size=1, max_size=6))
def test_weights_are_decayed_counts_of_followers(sequences):
    if sum(map(len, sequences)) < 2:
        return
    options = GraphOptions(lags=3)
    graph = graph_of(sequences, 7, options)
    dense = graph.matrix.toarray()
    for i in range(1, 7):
        for j in range(1, 7):
            assert dense[i, j] == pytest.approx(plain_weight(sequences, i, j, options), abs=1e-6)


def test_the_unknown_ad_neither_follows_nor_is_followed():
    graph = graph_of([[0, 1, 0, 2]], 3)
    dense = graph.matrix.toarray()
    assert not dense[0].any()
    assert not dense[:, 0].any()
    assert dense[1, 2] > 0


def test_neighbours_stand_strongest_first():
    graph = graph_of([[1, 2], [1, 2], [1, 3]], 4)
    assert graph.rows[1, :2].tolist() == [2, 3]
    assert graph.weights[1, 0] > graph.weights[1, 1] > graph.weights[1, 2] == 0


def test_newer_events_count_more_in_a_users_score():
    graph = graph_of([[1, 3], [2, 4]], 5, GraphOptions(recent_decay=0.5))
    scores = graph.scores(np.array([[1, 2]]))
    assert scores[0, 3] == pytest.approx(2 * scores[0, 4])


def test_scoring_leaves_the_graph_as_it_is():
    graph = graph_of([[1, 2, 3, 1, 3]], 4)
    rows, weights = graph.rows.copy(), graph.weights.copy()
    first = graph.scores(np.array([[1, 2, 0]]))
    np.testing.assert_array_equal(graph.scores(np.array([[1, 2, 0]])), first)
    np.testing.assert_array_equal(graph.rows, rows)
    np.testing.assert_array_equal(graph.weights, weights)


def test_a_user_without_events_has_score_zero():
    graph = graph_of([[1, 2]], 3)
    assert not graph.scores(np.zeros((1, 5), np.int64)).any()


def test_recent_events_are_newest_first_with_zeros_for_none():
    offsets, ad = laid_out([[1, 2, 3], [], [4]])
    assert recent_events(offsets, ad, np.array([0, 1, 2]), 2).tolist() == [[3, 2], [0, 0], [4, 0]]


def test_the_manifest_brings_options_and_blend():
    graph = ItemGraph(np.zeros((2, 1), np.int32), np.zeros((2, 1), np.float32), GraphOptions(lags=7), 4.0)
    assert graph.manifest()["lags"] == 7
    assert graph.manifest()["blend"] == 4.0


def test_a_step_may_lead_from_a_decision_to_what_was_clicked():
    ad = np.array([1, 2, 2, 3])  # the user saw 1 and 2, then an impression of 2 and a click on 3
    graph = build(ad, Steps(np.array([0]), np.array([1]), np.array([3])), 4)
    dense = graph.matrix.toarray()
    assert dense[2, 3] > dense[1, 3] > 0
    assert not dense[3].any()
    assert dense[2, 2] == 0


@given(
    st.lists(st.lists(st.integers(1, 6), min_size=2, max_size=9), min_size=1, max_size=6),
    st.lists(st.tuples(st.lists(st.integers(0, 6), min_size=3, max_size=3), st.integers(0, 6)), max_size=8),
)
def test_the_score_of_one_ad_is_its_column_of_all_scores(sequences, asked):
    graph = graph_of(sequences, 7)
    recent = np.array([events for events, _ in asked], np.int64).reshape(len(asked), 3)
    ad = np.array([one for _, one in asked], np.int64)
    whole = graph.scores(recent)[np.arange(len(ad)), ad]
    np.testing.assert_allclose(graph.scores_of(recent, ad), whole, atol=1e-6)
